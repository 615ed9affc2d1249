import type { NewEvent } from '../catalog/events.ts';
import { type Copy, type CopyRow, copyOf, type DueRow } from '../catalog/tombstones.ts';
import { commonPrefix } from '../domain/key.ts';
import type { Book } from '../run/book.ts';
import { type Keeper, keepersOf } from '../run/claims.ts';
import { firstOf } from '../run/pace.ts';
import type { Lease } from '../store/leases.ts';

/** How long what the store keeps without saying until when is left alone, at the least, before it is tried again. ms. */
const LEAST_LOCK_MS = 3_600_000;

/** Which page of what is due is asked for. */
export interface Find {
  /** What it is called from now on: a number that is used once. */
  readonly page: number;
  /** Counted time. */
  readonly now: number;
  readonly after: Pick<DueRow, 'id' | 'purgeAfter'> | undefined;
  readonly most: number;
  /** Null is no bound; one may be larger. */
  readonly mostBytes: number | null;
  /** Whether its rows are to be told, for who looks at them before they are taken. */
  readonly isTold: boolean;
}

/** A page of tombstones, of which nothing is taken yet. */
export interface Found {
  readonly page: number;
  readonly count: number;
  /** A byte prefix of all its keys. */
  readonly prefix: string;
  readonly last: Pick<DueRow, 'id' | 'purgeAfter'>;
  /** Empty where they are not told. */
  readonly rows: readonly CopyRow[];
}

export interface Take {
  readonly page: number;
  /** Counted time. */
  readonly now: number;
  /** As they were seen after the fence. */
  readonly leases: readonly Lease[];
  /** What metadata keeps, and why: by the place in the page. */
  readonly uncovered: ReadonlyMap<number, string>;
}

/** One that stays, and what keeps it. */
export interface Kept {
  readonly copy: Pick<CopyRow, 'id' | 'key' | 'size'>;
  readonly by: Keeper;
}

/** A page as it was taken. */
export interface Taken {
  readonly page: number;
  readonly copies: readonly Copy[];
  readonly kept: readonly Kept[];
  /** Those that another run was faster to take, or that are due no more. */
  readonly missed: readonly Kept['copy'][];
}

/** The same, as the catalog keeps it. */
export interface TakenRows extends Omit<Taken, 'copies'> {
  readonly rows: readonly CopyRow[];
}

/** How a purge of one has ended, where there is something to say of it. */
export interface End {
  readonly to: 'purged' | 'prior' | 'pending';
  readonly detail: string | null;
  /** Of one that the store itself keeps: until when, ms since 1970; null: until somebody lets it go. */
  readonly lock?: { readonly until: number | null } | undefined;
}

/** How a page that was taken has ended. */
export interface Record {
  readonly page: number;
  /** By the place among what was taken; those without an entry are purged. */
  readonly ends: ReadonlyMap<number, End>;
}

type Now<T> = T | Promise<T>;

/** What phase two finds in the catalog, and writes there. Each call is at most one transaction, done in the order they are asked for. */
export interface Ledger {
  /** A page of what is due; undefined where there is no more. */
  find(find: Find): Now<Found | undefined>;
  /** Looks at claims, and takes what none of them keeps, in one transaction (R7). */
  take(take: Take): Now<Taken>;
  /** Records how a page has ended. */
  record(record: Record): Now<void>;
  /** Both in one transaction. Throws where one fails, and then nothing of either is done. */
  recordAndTake(record: Record, take: Take): Now<Taken>;
}

/** The ledger of a run, in this thread. */
export class CatalogLedger implements Ledger {
  readonly #book: Book;
  readonly #run: number;
  readonly #erasing: string | null;
  readonly #pages = new Map<number, readonly CopyRow[]>();

  /** `erasing`: why what is named goes before its window is over; null where what is due goes. */
  constructor(book: Book, run: number, erasing: string | null) {
    this.#book = book;
    this.#run = run;
    this.#erasing = erasing;
  }

  find({ page, now, after, most, mostBytes, isTold }: Find): Found | undefined {
    const { catalog, row, safetyWindow: window } = this.#book;
    const due = catalog.tombstones.dueRows({ store: row.n, now, window, after, limit: most });
    const rows = firstOf(due, most, mostBytes);
    const last = rows.at(-1);
    if (last === undefined) return undefined;
    const { id, purgeAfter } = last;
    return { ...this.adopt(page, rows), last: { id, purgeAfter }, ...(isTold ? {} : { rows: [] }) };
  }

  /** Makes a page of what is named. */
  adopt(page: number, rows: readonly CopyRow[]): Omit<Found, 'last'> {
    this.#pages.set(page, rows);
    const prefix = rows.reduce((common, { key }) => commonPrefix(common, key), rows[0]?.key ?? '');
    return { page, count: rows.length, prefix, rows };
  }

  take(take: Take): Taken {
    return takenOf(this.takeRows(take));
  }

  /** The same, as the catalog keeps it. */
  takeRows(take: Take): TakenRows {
    return this.#keep(this.#book.catalog.transaction(() => this.#take(take)));
  }

  record(record: Record): void {
    if (this.#rows(record.page).length > 0) this.#book.catalog.transaction(() => this.#record(record));
    this.#pages.delete(record.page);
  }

  recordAndTake(record: Record, take: Take): Taken {
    return takenOf(this.recordAndTakeRows(record, take));
  }

  /** The same, as the catalog keeps it. */
  recordAndTakeRows(record: Record, take: Take): TakenRows {
    const taken = this.#book.catalog.transaction(() => {
      this.#record(record);
      return this.#take(take);
    });
    this.#pages.delete(record.page);
    return this.#keep(taken);
  }

  #keep(taken: TakenRows): TakenRows {
    this.#pages.set(taken.page, taken.rows);
    return taken;
  }

  #rows(page: number): readonly CopyRow[] {
    const rows = this.#pages.get(page);
    if (rows === undefined) throw new TypeError(`there is no page ${page}`);
    return rows;
  }

  #take({ page, now, leases, uncovered }: Take): TakenRows {
    const found = this.#rows(page);
    const keepers = keepersOf(this.#book, leases, found, 'purge');
    for (const [i, detail] of uncovered) if (!keepers.has(i)) keepers.set(i, { as: 'coverage', detail });
    const free = keepers.size === 0 ? found : found.filter((_, i) => !keepers.has(i));
    const got = new Map(this.#takeFree(free, now).map(({ id, prior }) => [id, prior]));
    const rows = free.flatMap((row) => {
      const prior = got.get(row.id);
      return prior === undefined ? [] : [prior === row.prior ? row : { ...row, prior }];
    });
    const missed = rows.length === free.length ? [] : free.filter(({ id }) => !got.has(id)).map(toldOf);
    const kept = [...keepers].flatMap(([i, by]) => {
      const row = found[i];
      return row === undefined ? [] : [{ copy: toldOf(row), by }];
    });
    this.#note(kept);
    return { page, rows, kept, missed };
  }

  /** Takes what is due still; of what is named, what still is as it was when it was looked at. */
  #takeFree(free: readonly CopyRow[], now: number): Pick<CopyRow, 'id' | 'prior'>[] {
    const { catalog, row, safetyWindow: window } = this.#book;
    const { tombstones } = catalog;
    const take = { store: row.n, run: this.#run };
    if (this.#erasing === null) {
      if (free.length === 0) return [];
      return tombstones.takeForPurge({ ...take, ids: free.map(({ id }) => id), now, window });
    }
    return (['pending', 'restored'] as const).flatMap((from) => {
      const ids = free.filter(({ prior }) => prior === from).map(({ id }) => id);
      const named = ids.length === 0 ? [] : tombstones.takeNamed({ ...take, ids, from: [from] });
      return named.map(({ id }) => ({ id, prior: from }));
    });
  }

  /** Writes down what metadata keeps: once, and again when that is something else. */
  #note(kept: readonly Kept[]): void {
    const { catalog, row, clock } = this.#book;
    const event = { store: row.n, run: this.#run, now: clock.now(), what: 'purge-kept' } as const;
    const events = kept.flatMap(({ copy: { id: tombstone }, by }): NewEvent[] => {
      if (by.as !== 'coverage') return [];
      const detail = `${by.as}: ${by.detail}`;
      const isKnown = catalog.events.lastDetail(tombstone, event.what) === detail;
      return isKnown ? [] : [{ ...event, tombstone, detail }];
    });
    catalog.events.addAll(events);
  }

  #record({ page, ends }: Record): void {
    const rows = this.#rows(page);
    const { catalog, row, safetyWindow: window, clock } = this.#book;
    const at = clock.now();
    const now = catalog.clock.count(clock);
    const settled = rows.map((tombstone, i) => {
      const { to, lock } = ends.get(i) ?? PURGED;
      if (lock === undefined) return { tombstone, to };
      return { tombstone, to, lockedUntil: lock.until ?? at + Math.max(window, LEAST_LOCK_MS) };
    });
    catalog.tombstones.settlePurges({ store: row.n, run: this.#run, now, at, window, ends: settled });
    const purged = ends.size === 0 ? rows : rows.filter((_, i) => (ends.get(i) ?? PURGED).to === 'purged');
    const cause = this.#erasing ?? undefined;
    const event = { store: row.n, run: this.#run, now: at };
    const events: NewEvent[] = [];
    if (purged.length > 0) {
      const bytes = purged.reduce((sum, { size }) => sum + size, 0);
      events.push({ ...event, what: 'purged', count: purged.length, bytes, rows: purged, cause });
    }
    for (const [i, { id: tombstone }] of ends.size === 0 && cause === undefined ? [] : rows.entries()) {
      const { to, detail: why } = ends.get(i) ?? PURGED;
      const what = to === 'purged' ? 'purged' : 'purge-kept';
      const early = what === 'purged' && cause !== undefined ? 'before its window was over' : null;
      const detail = [early, why].filter((part) => part !== null).join('; ');
      if (detail === '') continue;
      // Said once, not at every purge; a new window is said each time.
      if (to === 'prior' && catalog.events.lastDetail(tombstone, what) === detail) continue;
      events.push({ ...event, what, tombstone, detail, cause });
    }
    catalog.events.addAll(events);
  }
}

const PURGED: End = { to: 'purged', detail: null };

function takenOf({ rows, ...taken }: TakenRows): Taken {
  return { ...taken, copies: rows.map(copyOf) };
}

function toldOf({ id, key, size }: CopyRow): Kept['copy'] {
  return { id, key, size };
}
