import type { Catalog } from '../catalog/catalog.ts';
import type { Tombstone } from '../catalog/tombstones.ts';

/** Something that happened to a tombstone. `at` in ms since 1970, `by` as `user@host`. */
export interface HistoryLine {
  readonly at: number;
  readonly what: string;
  readonly by: string | null;
  readonly detail: string | null;
}

/** A tombstone's history, oldest first: its own events, and those of the batches it was in. */
export function historyOf(catalog: Catalog, tombstone: Tombstone): HistoryLine[] {
  const lines = catalog.events.of(tombstone).map((event): HistoryLine => {
    const { at, what, by, count } = event;
    const inBatch = count === null ? null : `in a batch of ${count}`;
    // Why it went early; of the others the cause is its policy, which the tombstone says.
    const cause = what === 'purged' ? event.cause : null;
    const said = [event.detail ?? inBatch, cause].filter((part) => part !== null);
    return { at, what, by, detail: said.length === 0 ? null : said.join(': ') };
  });
  const { state, endedAt } = tombstone;
  if (endedAt === null || lines.some(({ what }) => what === state)) return lines;
  // A batch's purge is one event that names no tombstone: the row knows when and by whom.
  const by = catalog.runs.get(tombstone.run)?.by ?? null;
  return [...lines, { at: endedAt, what: state, by, detail: null }];
}
