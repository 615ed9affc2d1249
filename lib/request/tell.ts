import type { KeyOutcome, RequestRow } from '../catalog/requests.ts';
import type { WaitingPlan } from '../catalog/waiting.ts';
import { isoTime } from '../domain/clock.ts';
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
      'done',
    );
    const told = some.filter((row) => {
      if (row.state === 'told' || inbox.tell(row.name, row.id, 'done')) return true;
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

/**
 * Says beside each request of a plan over a limit that it waits, in `NAME.waiting`,
 * unless something else has that name.
 */
export async function tellWaiting(
  inbox: Inbox,
  plan: WaitingPlan,
  rows: readonly RequestRow[],
): Promise<void> {
  const { sweep, policy, over, objects, bytes, filedAt, expiresAt } = plan;
  const since = { filedAt: isoTime(filedAt), expiresAt: isoTime(expiresAt) };
  const line = `${JSON.stringify({ type: 'waiting', sweep, policy, over, objects, bytes, ...since })}\n`;
  for (let from = 0; from < rows.length; from += FILES) {
    const some = rows.slice(from, from + FILES);
    await inbox.prepare(
      some.map(({ name, id }) => ({ name, id, pages: () => [line] })),
      'waiting',
    );
    for (const { name, id } of some) inbox.tell(name, id, 'waiting');
    inbox.sync();
  }
}

function* resultOf({ catalog }: Place, { n, sweepId, plan }: RequestRow): Generator<string> {
  const decision = plan === 'waiting' ? null : plan;
  const refusal = decision === null || sweepId === null ? undefined : refusalOf(catalog.waiting.get(sweepId));
  for (let after = 0; ; ) {
    const page = catalog.requests.results(n, after, LINES);
    const last = page.at(-1);
    if (last === undefined) return;
    yield page
      .map(({ key, outcome, ...of }) => {
        const end = outcome === null ? refusal : { ...of, outcome };
        if (end === undefined) throw new TypeError(`what became of ${key} is not known`);
        const { id, detail, reason } = end;
        const result = { type: 'tombstoned', key, id, outcome: end.outcome, detail, reason };
        return `${JSON.stringify({ ...result, sweep: sweepId, decision })}\n`;
      })
      .join('');
    after = last.line;
  }
}

/** What became of a key that nobody has moved because its request's plan was not approved. */
function refusalOf(plan: WaitingPlan | undefined): KeyOutcome {
  const how = plan?.state === 'rejected' ? `was rejected: ${plan.reason ?? ''}` : 'was not approved in time';
  return { outcome: 'blocked', id: null, detail: `the plan ${plan?.sweep ?? ''} ${how}`, reason: 'limit' };
}

function inTheWay({ policy, directory, name }: RequestRow): TombstonedError {
  const file = printable(`${directory}/${name}.done`);
  return new TombstonedError('failed', `policy ${policy}: ${file} is in the way of a result`, {
    key: `${directory}/${name}.done`,
    hint: 'move it away: the next sweep puts the result there',
  });
}
