import { setImmediate } from 'node:timers/promises';
import type { NewEvent, Who } from '../catalog/events.ts';
import type { PlanItem } from '../catalog/sweeps.ts';
import {
  type Intent,
  type IntentRow,
  type OpenBatch,
  type OpenRows,
  openBatchOf,
  openRowsOf,
  type Settled,
} from '../catalog/tombstones.ts';
import { revisionText } from '../domain/revision.ts';
import type { Book } from '../run/book.ts';
import { type Keeper, keepersOf } from '../run/claims.ts';
import { firstOf } from '../run/pace.ts';
import type { Lease } from '../store/leases.ts';

/** The next objects of a plan, as they are taken. */
export interface Taken {
  /** The last key of the plan that was looked at, or null: there is no more. */
  readonly last: string | null;
  /** How many of the plan were looked at. */
  readonly count: number;
  /** What a claim keeps: it gets no intent. */
  readonly held: readonly { readonly key: string; readonly size: number; readonly by: Keeper }[];
  /** The others, as intents that are committed; undefined when there are none. */
  readonly open: OpenBatch | undefined;
}

/** The same, as the catalog keeps it. */
export interface TakenRows extends Omit<Taken, 'open'> {
  readonly open: OpenRows | undefined;
}

export interface Take {
  readonly sweep: number;
  /** Where in the plan to go on. */
  readonly after: string;
  readonly most: number;
  /** Null is no bound; one object may be larger. */
  readonly mostBytes: number | null;
  readonly asker: 'policy' | 'hand';
  /** Those that forbid moves, as they were seen after the fence. */
  readonly leases: readonly Lease[];
  /** Whether what a dead run has begun may still be so: recovery waits where requests take effect late. */
  readonly mayWait: boolean;
}

/**
 * What phase one writes into the catalog. Each call is one transaction; those of batches
 * that were planned are done in the order they are asked for.
 */
export interface Ledger {
  /** Adds objects to a sweep's plan. */
  plan(sweep: number, items: readonly PlanItem[]): Promise<void>;
  /** How many objects, and bytes, a sweep's plan has of one cause. */
  plannedOf(sweep: number, cause: number): Promise<Planned>;
  /** Drops a plan that is done with. */
  dropPlan(sweep: number): Promise<void>;
  /** Takes the next of a plan: looks at holds and exemptions, and writes intents, in one transaction (R7). */
  take(take: Take): Promise<Taken>;
  /** Writes intents for objects that are no plan's: what a move has swept along. */
  intend(sweep: number, items: readonly Intent[]): Promise<OpenBatch>;
  /** Records how the intents of a batch ended; those without an entry in `exceptions` were moved. */
  record(open: OpenBatch, exceptions: ReadonlyMap<string, Settled>): Promise<void>;
  /** Both in one transaction: where it fails neither is done. */
  recordAndTake(open: OpenBatch, exceptions: ReadonlyMap<string, Settled>, take: Take): Promise<Taken>;
}

export interface Planned {
  readonly count: number;
  readonly bytes: number;
}

function takenOf({ open, ...rest }: TakenRows): Taken {
  return { ...rest, open: open === undefined ? undefined : openBatchOf(open) };
}

/** How many objects of a plan one transaction drops. */
const DROPPED_AT_ONCE = 20_000;

/** The ledger of a run, in this thread. */
export class CatalogLedger implements Ledger {
  readonly #book: Book;
  readonly #run: number;
  readonly #who: Who | undefined;
  readonly #causes = new Map<number, string>();

  /** `who`: whoever acts for the run, where that is not the run's own process. */
  constructor(book: Book, run: number, who?: Who) {
    this.#book = book;
    this.#run = run;
    this.#who = who;
  }

  async plan(sweep: number, items: readonly PlanItem[]): Promise<void> {
    this.#book.catalog.sweeps.plan(sweep, items);
  }

  async plannedOf(sweep: number, cause: number): Promise<Planned> {
    return this.#book.catalog.sweeps.plannedOf(sweep, cause);
  }

  async dropPlan(sweep: number): Promise<void> {
    while (this.#book.catalog.sweeps.dropPlan(sweep, DROPPED_AT_ONCE)) await setImmediate();
  }

  async take(take: Take): Promise<Taken> {
    return takenOf(this.takeRows(take));
  }

  /** The same, as the catalog keeps it: whoever only records it reads no revisions. */
  takeRows({ sweep, after, most, mostBytes, asker, leases, mayWait }: Take): TakenRows {
    const { catalog } = this.#book;
    const items = firstOf(catalog.sweeps.planRows(sweep, after, most), most, mostBytes);
    const last = items.at(-1)?.key ?? null;
    return catalog.transaction(() => {
      const keepers = keepersOf(this.#book, leases, items, asker);
      if (mayWait) this.#keepMoving(keepers, items);
      const held = items.flatMap(({ key, size }, i) => {
        const by = keepers.get(i);
        return by === undefined ? [] : [{ key, size, by }];
      });
      const free = keepers.size === 0 ? items : items.filter((_, i) => !keepers.has(i));
      const open =
        free.length === 0 ? undefined : catalog.tombstones.intendRows({ ...this.#batch(sweep), items: free });
      return { last, count: items.length, held, open };
    });
  }

  /** What a dead run has begun is for recovery, which waits here: moved again, it would be pending twice. */
  #keepMoving(keepers: Map<number, Keeper>, items: readonly { readonly key: string }[]): void {
    const { catalog, row } = this.#book;
    const keys = items.map(({ key }) => key);
    for (const [index, run] of catalog.tombstones.movingElsewhere(row.n, this.#run, keys))
      keepers.set(index, { as: 'run', run });
  }

  async intend(sweep: number, items: readonly Intent[]): Promise<OpenBatch> {
    const { catalog } = this.#book;
    return catalog.transaction(() => catalog.tombstones.intend({ ...this.#batch(sweep), items }));
  }

  /** What a new batch of a sweep is recorded as. */
  #batch(sweep: number) {
    const { catalog, row, clock, random } = this.#book;
    // Ids grow: one from a clock that is ahead would put all later ones there too.
    return { store: row.n, run: this.#run, sweep, now: catalog.clock.likelyTime(clock), random };
  }

  async record(open: OpenBatch, exceptions: ReadonlyMap<string, Settled>): Promise<void> {
    this.recordRows(openRowsOf(open), exceptions);
  }

  async recordAndTake(open: OpenBatch, exceptions: ReadonlyMap<string, Settled>, take: Take): Promise<Taken> {
    return takenOf(this.recordAndTakeRows(openRowsOf(open), exceptions, take));
  }

  /** The same of a batch as the catalog keeps it. */
  recordAndTakeRows(open: OpenRows, exceptions: ReadonlyMap<string, Settled>, take: Take): TakenRows {
    return this.#book.catalog.transaction(() => {
      this.recordRows(open, exceptions);
      return this.takeRows(take);
    });
  }

  /** The same of a batch as the catalog keeps it. */
  recordRows({ rows: taken, ...batch }: OpenRows, exceptions: ReadonlyMap<string, Settled>): void {
    const { catalog, row, clock, safetyWindow: window } = this.#book;
    const { batchAt, sweep } = batch;
    const moves = taken.toSorted((a, b) => (a.id < b.id ? -1 : 1)); // as they are digested, and best written
    const open = { ...batch, rows: moves };
    const run = this.#run;
    const moved = exceptions.size === 0 ? moves : moves.filter(({ id }) => !exceptions.has(id));
    const bytes = moved.reduce((sum, move) => sum + move.size, 0);
    const ends = [...exceptions.values()];
    const failed = ends.filter(({ to }) => to === 'dropped').length;
    const left = ends.filter(({ to }) => to === 'open').length;
    const untried = ends.filter(({ to }) => to === 'untried').length;
    const abandoned = ends.length - failed - left - untried;
    const counts = { moved: moved.length, abandoned, failed, bytes };
    const at = clock.now();
    catalog.transaction(() => {
      const now = catalog.clock.count(clock);
      catalog.tombstones.settleRows({ store: row.n, run, open, exceptions, now, at, window });
      catalog.sweeps.count(sweep, counts);
      const event = { store: row.n, run, who: this.#who, now: at };
      const events: NewEvent[] = [];
      const about = (move: IntentRow): Pick<NewEvent, 'tombstone' | 'cause'> => ({
        tombstone: move.id,
        cause: this.#causeOf([move]),
      });
      if (left > 0) {
        // The batch's own line will tell of those that are left.
        for (const move of moved) events.push({ ...event, what: 'moved', ...about(move), rows: [move] });
      } else if (moved.length > 0) {
        const cause = this.#causeOf(moved);
        events.push({ ...event, what: 'moved', batchAt, count: moved.length, bytes, cause, rows: moved });
      }
      for (const move of exceptions.size === 0 ? [] : moves) {
        const end = exceptions.get(move.id);
        if (end === undefined || end.to === 'open' || end.to === 'dropped' || end.to === 'untried') continue;
        const what = end.to === 'restored' ? 'put-back' : end.to === 'pending' ? 'moved-other' : 'abandoned';
        const detail = end.to === 'abandoned' ? end.why : 'another revision than planned was at the key';
        const other = 'revision' in end ? end.revision : undefined;
        const rows = [
          other === undefined ? move : { ...move, size: other.size, revision: revisionText(other) },
        ];
        events.push({ ...event, what, ...about(move), detail, rows });
      }
      catalog.events.addAll(events);
    });
  }

  /** Why objects go, in words. */
  #causeOf(moves: readonly IntentRow[]): string {
    const texts = new Set<string>();
    for (const cause of new Set(moves.map((move) => move.cause))) {
      let text = this.#causes.get(cause);
      if (text === undefined) {
        const { policy, reason } = this.#book.catalog.sweeps.causeOf(cause);
        const why = reason === null ? 'by hand' : `by hand: ${reason}`;
        text = policy === null ? why : `policy ${policy}`;
        this.#causes.set(cause, text);
      }
      texts.add(text);
    }
    return [...texts].join(', ');
  }
}
