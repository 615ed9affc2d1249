import { setImmediate as breathe } from 'node:timers/promises';
import type { Catalog } from '../catalog/catalog.ts';
import type { ChainedEvent, LogEnds } from '../catalog/events.ts';
import { type DigestRow, entryHash, GENESIS, hex, rowsDigest } from '../catalog/log-chain.ts';
import { isoTime } from '../domain/clock.ts';
import { TombstonedError } from '../domain/errors.ts';
import { MAX_BATCH } from '../domain/ids.ts';

/** How many entries are read at once. */
const PAGE = 500;

/** An entry that somebody has seen: its number, and its hash in hex. */
export interface SeenEntry {
  readonly n: number;
  readonly hash: string;
}

export interface LogCheck {
  /** How many entries were found to be whole. */
  readonly entries: number;
  /** How many retention has removed before them. */
  readonly removed: number;
  /** The newest entry. */
  readonly head: SeenEntry;
  /** How many of them were compared with the tombstones that they are about. */
  readonly compared: number;
  /** The first entry that is not as it was written, and how that shows; null when all are. */
  readonly broken: { readonly n: number; readonly problem: string } | null;
  /** Whether the signal ended it before all was looked at. */
  readonly isCut: boolean;
}

/**
 * Follows the log's chain up to the entry that is the newest when it begins, page by
 * page: each entry's hash is that of what it says and of the one before, and the last
 * one's is on record beside it. Tombstones that are not forgotten are compared with the
 * entries that made and ended them. `seen` is an entry that must be there.
 */
export async function checkLog(
  catalog: Catalog,
  options: {
    seen?: SeenEntry | undefined;
    signal?: AbortSignal | undefined;
    onProgress?: ((entries: number, head: number) => void) | undefined;
  } = {},
): Promise<LogCheck> {
  return new LogChecker(catalog, options.seen).check(options.signal, options.onProgress);
}

/** Where the chain was followed to. */
interface Link {
  readonly n: number;
  readonly hash: Buffer;
}

class LogChecker {
  readonly #catalog: Catalog;
  readonly #seen: SeenEntry | undefined;
  readonly #ends: LogEnds;
  #entries = 0;
  #compared = 0;

  constructor(catalog: Catalog, seen: SeenEntry | undefined) {
    this.#catalog = catalog;
    this.#seen = seen;
    this.#ends = catalog.events.ends();
  }

  async check(
    signal: AbortSignal | undefined,
    onProgress?: (entries: number, head: number) => void,
  ): Promise<LogCheck> {
    const { head } = this.#ends;
    let last: Link = this.#ends.removed;
    // What retention has removed is on record in an entry that is still there.
    let isTold = last.n === 0 && last.hash.equals(GENESIS);
    const told = removalText(last);
    let problem = this.#removedIsNotAsSeen(last);
    if (problem !== undefined) return this.#result(last.n, problem);
    while (last.n < head.n) {
      if (signal?.aborted === true) return this.#result(0, null, true);
      const { removed } = this.#catalog.events.ends();
      if (removed.n > last.n) {
        // Removed meanwhile: what is left follows the last of it, as it said itself.
        last = removed;
        isTold = true;
        continue;
      }
      const page = this.#catalog.events.chain(last.n, Math.min(PAGE, head.n - last.n));
      if (page.length === 0) return this.#result(last.n + 1, missing(last.n, head.n));
      for (const entry of page) {
        problem = brokenAfter(last, entry) ?? this.#isNotAsSeen(entry) ?? this.#differs(entry);
        if (problem !== undefined) return this.#result(last.n + 1, problem);
        if (entry.what === 'log-removed' && entry.detail === told) isTold = true;
        last = entry;
        this.#entries++;
      }
      onProgress?.(this.#entries, head.n);
      await breathe();
    }
    if (!last.hash.equals(head.hash))
      return this.#result(last.n, 'its hash is not the one on record beside the log');
    if (!isTold) {
      const { n } = this.#ends.removed;
      return this.#result(
        n + 1,
        `the entries up to ${n} are missing, and no entry says that they were removed`,
      );
    }
    if (this.#catalog.events.hasStrays())
      return this.#result(head.n + 1, 'it is beyond the end on record beside the log');
    if (this.#seen !== undefined && this.#seen.n > head.n)
      return this.#result(head.n + 1, missing(head.n, this.#seen.n));
    return this.#result(0, null);
  }

  #result(n: number, problem: string | null, isCut = false): LogCheck {
    const { head, removed } = this.#ends;
    return {
      entries: this.#entries,
      removed: removed.n,
      head: { n: head.n, hash: hex(head.hash) },
      compared: this.#compared,
      broken: problem === null ? null : { n, problem },
      isCut,
    };
  }

  #isNotAsSeen({ n, hash }: Link): string | undefined {
    if (this.#seen?.n !== n || this.#seen.hash === hex(hash)) return undefined;
    return `its hash is ${hex(hash)}, and was seen as ${this.#seen.hash}`;
  }

  #removedIsNotAsSeen(removed: Link): string | undefined {
    const seen = this.#seen?.n ?? Infinity;
    if (seen === removed.n) return this.#isNotAsSeen(removed);
    if (seen > removed.n) return undefined;
    throw new TombstonedError(
      'not-found',
      `entry ${seen} is no longer kept: the log begins after ${removed.n}`,
      {
        key: String(seen),
        hint: 'historyFor in the config says how long entries are kept; give one that was seen later',
      },
    );
  }

  /** How the tombstones of an entry differ from what it was written over. */
  #differs(entry: ChainedEvent): string | undefined {
    const { rows, batchAt, at } = entry;
    const since = batchAt ?? at;
    if (rows === null || since < this.#ends.forgottenBefore) return undefined;
    const found = this.#rowsOf(entry);
    if (found === undefined) return undefined;
    // Retention may have gone on meanwhile.
    if (!rowsDigest(found).equals(rows) && since >= this.#catalog.events.ends().forgottenBefore) {
      const was = entry.count ?? 1;
      const how = found.length === was ? 'are not those' : `are ${found.length} of ${was}`;
      return `the tombstones in the catalog ${how} that it was written over`;
    }
    this.#compared++;
    return undefined;
  }

  /** The tombstones that an entry is about, as they are now; undefined where that can't be told. */
  #rowsOf(entry: ChainedEvent): DigestRow[] | undefined {
    const { tombstones, events } = this.#catalog;
    const { what, tombstone, batchAt, store, run, at, count } = entry;
    if (tombstone !== null) return tombstones.rowsById([tombstone]);
    if (what === 'moved' && batchAt !== null && store !== null) {
      const rows = tombstones.rowsOfBatch(store, batchAt, MAX_BATCH);
      if (rows.length === count) return rows;
      const others = events.begunApart(rows.map(({ id }) => id));
      return rows.filter(({ id }) => !others.has(id));
    }
    if (what === 'rebuilt' && batchAt !== null && run !== null)
      return tombstones.rowsRebuilt(run, batchAt, MAX_BATCH);
    if (what === 'purged' && run !== null) {
      const rows = tombstones.rowsPurged(run, at, MAX_BATCH);
      // Batches of one time are not told apart.
      return rows.length === count || !events.hasTwin(entry) ? rows : undefined;
    }
    return undefined;
  }
}

/** What is wrong with the log's newest entries, as many as are read at once, and with the end on record; or null. */
export function problemOfLogTail({ events }: Pick<Catalog, 'events'>): string | null {
  const { head, removed } = events.ends();
  const from = Math.max(removed.n, head.n - PAGE);
  let last: Link = from === removed.n ? removed : (events.chain(from - 1, 1)[0] ?? removed);
  for (const entry of events.chain(last.n, head.n - last.n)) {
    const problem = brokenAfter(last, entry);
    if (problem !== undefined) return `entry ${last.n + 1}: ${problem}`;
    last = entry;
  }
  if (last.n < head.n) return `entry ${last.n + 1}: ${missing(last.n, head.n)}`;
  if (!last.hash.equals(head.hash))
    return `entry ${last.n}: its hash is not the one on record beside the log`;
  return events.hasStrays() ? `entry ${head.n + 1}: it is beyond the end on record beside the log` : null;
}

/** What is wrong with an entry that should follow another. */
function brokenAfter(last: Link, entry: ChainedEvent): string | undefined {
  if (entry.n !== last.n + 1) return missing(last.n, entry.n - 1);
  if (!entry.prev.equals(last.hash)) return `it does not follow entry ${last.n}, as that is now`;
  if (!entryHash(entry).equals(entry.hash)) return `it was changed: of ${isoTime(entry.at)}, ${entry.what}`;
  return undefined;
}

function missing(last: number, to: number): string {
  return to === last + 1 ? 'it is missing' : `it is missing, and so are those up to ${to}`;
}

/** How the log says what was removed of its beginning; as `Events.forget` writes it. */
function removalText({ n, hash }: Link): string {
  return `up to ${n}, whose hash is ${hex(hash)}`;
}
