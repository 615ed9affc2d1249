import type { Catalog, StoreRow } from '../catalog/catalog.ts';
import type { PageFilter, Tombstone } from '../catalog/tombstones.ts';
import type { State } from '../domain/state.ts';

const PAGE = 500;

/** States of tombstones that are at their end. */
const ENDED: readonly State[] = ['purged', 'abandoned'];

/**
 * The tombstone of a key that a restore takes: the newest that is not at its
 * end, else the newest of any kind. Undefined when the key never had one.
 */
export function newestOfKey(catalog: Catalog, row: StoreRow, key: string): Tombstone | undefined {
  // Those at their end may be many, and the one that is wanted is seldom far.
  for (let limit = 8; ; limit *= 8) {
    const newest = catalog.tombstones.ofKey(row.n, key, limit);
    const found = newest.find(({ state }) => !ENDED.includes(state));
    if (found !== undefined || newest.length < limit) return found ?? newest[0];
  }
}

/** What one sweep moved, in pages. */
export function* pagesOfSweep(catalog: Catalog, row: StoreRow, sweep: string): Generator<Tombstone[]> {
  for (const page of pages(catalog, { store: row.n, sweep })) {
    yield* withoutRepeats(page.filter(({ state }) => state !== 'abandoned'));
  }
}

/**
 * What can be brought back below a prefix, moved at or after a time, in pages:
 * of each key only its newest.
 */
export function* pagesBelow(
  catalog: Catalog,
  row: StoreRow,
  { prefix, since }: { prefix: string; since: number | undefined },
): Generator<Tombstone[]> {
  for (const page of pages(catalog, { store: row.n, prefix, since })) {
    yield page.filter(({ id, key, state }) => {
      return !ENDED.includes(state) && newestOfKey(catalog, row, key)?.id === id;
    });
  }
}

function* pages(catalog: Catalog, filter: Omit<PageFilter, 'limit' | 'after'>): Generator<Tombstone[]> {
  for (let after = ''; ; ) {
    const page = catalog.tombstones.page({ ...filter, after, limit: PAGE });
    const last = page.at(-1);
    if (last === undefined) return;
    yield page;
    after = last.id;
  }
}

/** Splits a page so that a key occurs once in each part. */
export function* withoutRepeats(page: readonly Tombstone[]): Generator<Tombstone[]> {
  let part = new Map<string, Tombstone>();
  for (const tombstone of page) {
    if (part.has(tombstone.key)) {
      yield [...part.values()];
      part = new Map();
    }
    part.set(tombstone.key, tombstone);
  }
  if (part.size > 0) yield [...part.values()];
}
