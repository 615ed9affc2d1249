import type { KeyOutcome, RequestRow } from '../catalog/requests.ts';
import { TombstonedError } from '../domain/errors.ts';
import { printable } from '../domain/key.ts';
import type { Place } from '../run/place.ts';
import type { Inbox } from './inbox.ts';

/** How many results are made durable at once, and how many lines are read at once. */
const FILES = 500;
const LINES = 1000;

/**
 * Puts the results of requests in place, `NAME.done` each. Whatever happens
 * between, it may be called again: a result is `told` in the catalog before the
 * request's file goes, and the request is forgotten after that.
 */
export async function tellRequests(
  place: Place,
  inbox: Inbox,
  rows: readonly RequestRow[],
  onProblem: (problem: TombstonedError) => void,
): Promise<void> {
  const { requests } = place.catalog;
  for (let from = 0; from < rows.length; from += FILES) {
    const some = rows.slice(from, from + FILES);
    await inbox.prepare(
      some
        .filter(({ state }) => state !== 'told')
        .map((row) => ({ name: row.name, id: row.id, pages: () => resultOf(place, row) })),
    );
    const told = some.filter((row) => {
      if (row.state === 'told' || inbox.tell(row.name, row.id)) return true;
      onProblem(inTheWay(row));
      return false;
    });
    if (told.length === 0) continue;
    inbox.sync();
    const all = told.map(({ n }) => n);
    requests.setState(all, 'told');
    for (const { name, id } of told) inbox.clear(name, id);
    while (requests.drop(all, LINES * 5)) continue;
  }
}

function* resultOf({ catalog }: Place, { n }: RequestRow): Generator<string> {
  for (let after = 0; ; ) {
    const page = catalog.requests.results(n, after, LINES);
    const last = page.at(-1);
    if (last === undefined) return;
    yield page.map((one) => resultLine(one.key, one)).join('');
    after = last.line;
  }
}

function resultLine(key: string, { id, outcome, detail, reason }: KeyOutcome): string {
  return `${JSON.stringify({ type: 'tombstoned', key, id, outcome, detail, reason })}\n`;
}

function inTheWay({ policy, directory, name }: RequestRow): TombstonedError {
  const file = printable(`${directory}/${name}.done`);
  return new TombstonedError('failed', `policy ${policy}: ${file} is in the way of a result`, {
    key: `${directory}/${name}.done`,
    hint: 'move it away: the next sweep puts the result there',
  });
}
