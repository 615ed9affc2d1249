import { TombstonedError } from '../domain/errors.ts';
import { idTime, MAX_BATCH, makeTombstoneId, parseTombstoneId, type RandomSource } from '../domain/ids.ts';
import type { Key } from '../domain/key.ts';
import { type Revision, revisionText, revisionTextHash } from '../domain/revision.ts';
import { COPY_STATES, STATES, type State } from '../domain/state.ts';
import type { DigestRow } from './log-chain.ts';
import {
  asNumber,
  asNumberOrNull,
  asText,
  asTextOrNull,
  keyOf,
  keyRange,
  type Row,
  revisionOf,
  type Sql,
  stateOf,
} from './sql.ts';
import { addToTally } from './tallies.ts';

/** The record of one phase-one move. Times in ms since 1970, sizes in bytes. */
export interface Tombstone {
  readonly id: string;
  readonly store: string;
  readonly key: Key;
  readonly state: State;
  readonly size: number;
  readonly revision: Revision;
  readonly policy: string | null;
  readonly reason: string | null;
  readonly sweep: string;
  /** Row number of the last run that took it. */
  readonly run: number;
  /** When its batch moved: the time in its id. */
  readonly tombstonedAt: number;
  /** What its window counts from: when the live object was gone, or was back. Counted time (`ClockWatch`). */
  readonly goneAt: number | null;
  /** Counted time. */
  readonly purgeAfter: number | null;
  /** When it was purged or abandoned. */
  readonly endedAt: number | null;
  /** Where `purging` or `restoring` came from. */
  readonly prior: 'pending' | 'restored' | null;
  /** Until when the store itself keeps a version of it, as the last purge saw it; no purge tries it before. */
  readonly lockedUntil: number | null;
}

export interface Intent {
  readonly key: Key;
  readonly revision: Revision;
  readonly size: number;
  /** Row number of its cause. */
  readonly cause: number;
}

export interface IntendedMove extends Intent {
  readonly id: string;
}

/** Intents whose outcome is not yet recorded. */
export interface OpenBatch {
  /** The time in their ids, ms. */
  readonly batchAt: number;
  /** Row number of their sweep. */
  readonly sweep: number;
  readonly moves: IntendedMove[];
}

/** An intent as the catalog keeps it: the revision as text. */
export interface IntentRow {
  readonly id: string;
  readonly key: string;
  readonly size: number;
  readonly revision: string;
  /** Row number of its cause. */
  readonly cause: number;
}

/** An open batch as the catalog keeps it. */
export interface OpenRows extends Omit<OpenBatch, 'moves'> {
  readonly rows: readonly IntentRow[];
}

/** How one intent ended, as the store shows it. */
export type Settled =
  | { readonly id: string; readonly to: 'pending' }
  /** Another revision than was meant was moved: `pending` when its key is taken, `restored` when it is back. */
  | { readonly id: string; readonly to: 'pending' | 'restored'; readonly revision: Revision }
  | { readonly id: string; readonly to: 'abandoned'; readonly why: string }
  /** It was tried, and failed with nothing done: it leaves no record. */
  | { readonly id: string; readonly to: 'dropped' }
  /** It was never tried: it leaves no record, and counts as nothing. */
  | { readonly id: string; readonly to: 'untried' }
  /** How it stands can't be seen now: its intent stays. */
  | { readonly id: string; readonly to: 'open' };

/** What is to be known of a tombstone to purge it, as the catalog keeps it. */
export interface CopyRow {
  readonly id: string;
  readonly key: Key;
  readonly size: number;
  /** As text. */
  readonly revision: string;
  /** What it is, or was before it was taken. */
  readonly prior: 'pending' | 'restored';
  readonly policy: string | null;
  readonly reason: string | null;
}

/** The same, as a store is asked with it. */
export interface Copy extends Omit<CopyRow, 'revision' | 'policy' | 'reason'> {
  readonly revision: Revision;
}

/** One that is due, in counted time since then. */
export interface DueRow extends CopyRow {
  readonly purgeAfter: number;
}

/** What is due, after another, in order of that time. */
interface DueFilter {
  readonly store: number;
  readonly now: number;
  readonly window: number;
  readonly after: { readonly purgeAfter: number; readonly id: string } | undefined;
  readonly limit: number;
}

/** A tombstone that a run has taken, or had. */
type TakenCopy = Pick<CopyRow, 'id' | 'size' | 'prior'>;

/** A restored pending copy stays at least this long, whatever the window (R4). ms. */
export const LEAST_STAY_MS = 3_600_000;

/** Whose intents are to be recorded. */
interface NewBatch {
  readonly store: number;
  readonly run: number;
  readonly sweep: number;
  readonly now: number;
  readonly random: RandomSource;
}

/** How intents have ended. */
interface EndedBatch {
  readonly store: number;
  readonly run: number;
  readonly exceptions: ReadonlyMap<string, Settled>;
  readonly now: number;
  readonly at: number;
  readonly window: number;
}

export interface PageFilter {
  readonly store?: number | undefined;
  readonly state?: State | undefined;
  readonly prefix?: string | undefined;
  readonly sweep?: string | undefined;
  /** Only tombstones that are due before this counted time (`pending`, `restored`). */
  readonly dueBefore?: number | undefined;
  /** Only tombstones whose id is greater. */
  readonly after?: string | undefined;
  /** Only tombstones that were moved at or after this time. */
  readonly since?: number | undefined;
  readonly limit: number;
}

const COLUMNS = `t.id, s.name AS store, t.key, t.state, t.size, t.revision, c.policy, c.reason, w.id AS sweep,
  t.run, t.gone_at AS goneAt, t.purge_after AS purgeAfter, t.ended_at AS endedAt, t.prior, t.locked_until AS lockedUntil`;
const JOINS = `JOIN stores s ON s.n = t.store JOIN causes c ON c.n = t.cause JOIN sweeps w ON w.n = t.sweep`;

/** Below how many matches a page is found by what it asks for, and sorted. */
const FEW = 20_000;
const SETTLED = STATES.filter((state) => state !== 'moving');
const DUE = ['pending', 'restored'] as const satisfies State[];
const AS_TAKEN = `RETURNING id, size, prior`;

/**
 * All statements about tombstones. Every change of state is a compare-and-set (R7).
 * `now` is counted time (`ClockWatch`), got in the same transaction where it begins
 * or ends a window; `at` is wall time, for the record.
 */
export class Tombstones {
  readonly #sql: Sql;

  constructor(sql: Sql) {
    this.#sql = sql;
  }

  /**
   * Records the intents of a batch under ids of one new time (design, section 3).
   * Part of a transaction that has looked at holds and exemptions.
   */
  intend({ items, ...batch }: NewBatch & { readonly items: readonly Intent[] }): OpenBatch {
    const rows = items.map((item) => ({ ...item, revision: revisionText(item.revision) }));
    return openBatchOf(this.intendRows({ ...batch, items: rows }));
  }

  /** The same of what the catalog has as text. */
  intendRows(batch: NewBatch & { readonly items: readonly Omit<IntentRow, 'id'>[] }): OpenRows {
    const { store, run, sweep, items, now, random } = batch;
    if (items.length > MAX_BATCH) throw new RangeError(`a batch of ${items.length}`);
    const batchAt = this.#sql.number(
      `UPDATE stores SET last_batch_at = max(?, last_batch_at + 1) WHERE n = ? RETURNING last_batch_at`,
      now,
      store,
    );
    const time = idTime(batchAt);
    const rows = items.map(({ key, size, revision, cause }, i) => ({
      id: makeTombstoneId(time, revisionTextHash(revision), i, random),
      key,
      size,
      revision,
      cause,
    }));
    this.#sql.run(
      `INSERT INTO open_batches (run, batch_at, store, sweep, intents) VALUES (?, ?, ?, ?, ?)`,
      run,
      batchAt,
      store,
      sweep,
      intentsText(rows),
    );
    this.#sql.run(
      `UPDATE sweeps SET first_batch_at = coalesce(first_batch_at, @batchAt), last_batch_at = @batchAt WHERE n = @sweep`,
      { sweep, batchAt },
    );
    this.#tally(store, 'moving', rows.length, sum(rows));
    return { batchAt, sweep, rows };
  }

  /** Every key below a prefix that a batch has begun to move, and not ended, but for one batch. */
  movingBelow(store: number, prefix: string, but: { run: number; batchAt: number }): Set<string> {
    const rows = this.#sql.all(
      `SELECT b.intents AS intents FROM open_batches b WHERE b.store = ? AND NOT (b.run = ? AND b.batch_at = ?)`,
      store,
      but.run,
      but.batchAt,
    );
    const keys = rows.flatMap((row) => intentsOf(row['intents']).map(({ key }) => key));
    return new Set(keys.filter((key) => key.startsWith(prefix)));
  }

  /** Which of some keys other runs have begun to move, and not ended: the run's id by the place in the list. */
  movingElsewhere(store: number, run: number, keys: readonly string[]): Map<number, string> {
    const rows = this.#sql.all(
      `SELECT r.id AS run, b.intents AS intents FROM open_batches b JOIN runs r ON r.n = b.run
       WHERE b.store = ? AND b.run != ?`,
      store,
      run,
    );
    const moving = new Map<string, string>();
    for (const row of rows)
      for (const { key } of intentsOf(row['intents'])) moving.set(key, asText(row['run']));
    const found = new Map<number, string>();
    for (const [i, key] of keys.entries()) {
      const by = moving.get(key);
      if (by !== undefined) found.set(i, by);
    }
    return found;
  }

  /** The oldest open batch of a run, of those after a time, or undefined. */
  openBatch(run: number, after = 0): OpenBatch | undefined {
    const row = this.#sql.all(
      `SELECT batch_at AS batchAt, sweep, intents FROM open_batches
       WHERE run = ? AND batch_at > ? ORDER BY batch_at LIMIT 1`,
      run,
      after,
    )[0];
    if (row === undefined) return undefined;
    return {
      batchAt: asNumber(row['batchAt']),
      sweep: asNumber(row['sweep']),
      moves: intentsOf(row['intents']),
    };
  }

  /**
   * Records how the intents of one batch ended, and closes it, unless some stay
   * open. Throws, and changes nothing, when it is not open any more.
   */
  settleMoves({ open, ...batch }: EndedBatch & { readonly open: OpenBatch }): void {
    this.settleRows({ ...batch, open: openRowsOf(open) });
  }

  /** The same of what the catalog has as text; rows in the order of their ids cost a third less. */
  settleRows(batch: EndedBatch & { readonly open: OpenRows }): void {
    const { store, run, open, exceptions, now, at, window } = batch;
    const stay = exceptions.size === 0 ? [] : open.rows.filter(({ id }) => exceptions.get(id)?.to === 'open');
    const closed =
      stay.length > 0
        ? this.#sql.change(
            `UPDATE open_batches SET intents = ? WHERE run = ? AND batch_at = ?`,
            intentsText(stay),
            run,
            open.batchAt,
          )
        : this.#sql.change(`DELETE FROM open_batches WHERE run = ? AND batch_at = ?`, run, open.batchAt);
    if (closed !== 1) throw raced(open.rows[0]?.id ?? '');
    for (const [state, ofState] of endedRows(open.rows, exceptions)) {
      const isGone = state !== 'abandoned';
      const stays = state === 'restored' ? Math.max(window, LEAST_STAY_MS) : window;
      this.#sql.run(
        `INSERT INTO tombstones (id, store, key, state, size, revision, cause, sweep, run, gone_at, purge_after, ended_at)
         SELECT value->>0, @store, value->>1, @state, value->>2, value->>3, value->>4, @sweep, @run,
           @goneAt, @purgeAfter, @endedAt
         FROM json_each(@rows)`,
        {
          store,
          state,
          sweep: open.sweep,
          run,
          goneAt: isGone ? now : null,
          purgeAfter: isGone ? now + stays : null,
          endedAt: isGone ? null : at,
          rows: intentsText(ofState),
        },
      );
      this.#tally(store, state, ofState.length, sum(ofState));
    }
    this.#tally(store, 'moving', stay.length - open.rows.length, sum(stay) - sum(open.rows));
  }

  /**
   * A page of what is due: its recorded time has passed, and so has today's
   * window since the live object was gone (design, section 4), in order of that time.
   */
  duePage(page: DueFilter): Tombstone[] {
    const due = this.#tombstones(`FROM tombstones t ${JOINS} WHERE ${IS_DUE}`, ...dueValues(page));
    return due.toSorted((a, b) => (a.purgeAfter ?? 0) - (b.purgeAfter ?? 0) || (a.id < b.id ? -1 : 1));
  }

  /** The same, as the catalog keeps it. */
  dueRows(page: DueFilter): DueRow[] {
    const rows = this.#sql.lists(
      `SELECT t.id, t.key, t.size, t.revision, t.state, c.policy, c.reason, t.purge_after
       FROM tombstones t JOIN causes c ON c.n = t.cause WHERE ${IS_DUE}`,
      ...dueValues(page),
    );
    return rows.map(toDueRow).toSorted((a, b) => a.purgeAfter - b.purgeAfter || (a.id < b.id ? -1 : 1));
  }

  // A unary + keeps a condition from being what rows are found by: the ids are.

  /** Takes due tombstones as `purging`; gives those it got. */
  takeForPurge(take: {
    store: number;
    run: number;
    ids: readonly string[];
    now: number;
    window: number;
  }): TakenCopy[] {
    const { store, run, ids, now, window } = take;
    return this.#take(
      { to: 'purging', store },
      `UPDATE tombstones SET prior = state, state = 'purging', run = ?
       WHERE id IN (SELECT value FROM json_each(?)) AND +store = ? AND +state IN ('pending', 'restored')
         AND +purge_after <= ? AND gone_at <= ? ${AS_TAKEN}`,
      run,
      JSON.stringify(ids),
      store,
      now,
      now - window,
    );
  }

  /** Takes tombstones as `restoring`; gives those it got, with what they were. */
  takeForRestore(take: { store: number; run: number; ids: readonly string[] }): Tombstone[] {
    const { store, run, ids } = take;
    const taken = this.#take(
      { to: 'restoring', store },
      `UPDATE tombstones SET prior = state, state = 'restoring', run = ?
       WHERE id IN (SELECT value FROM json_each(?)) AND +store = ? AND +state IN ('pending', 'restored') ${AS_TAKEN}`,
      run,
      JSON.stringify(ids),
      store,
    );
    return this.getAll(taken.map(({ id }) => id));
  }

  #take(
    { to, store }: { to: 'purging' | 'restoring'; store: number },
    sql: string,
    ...values: unknown[]
  ): TakenCopy[] {
    const taken = this.#sql
      .lists(sql, ...values)
      .map(([id, size, prior]) => ({ id: asText(id), size: asNumber(size), prior: waitingOf(prior) }));
    for (const from of DUE) {
      const some = taken.filter(({ prior }) => prior === from);
      this.#tally(store, from, -some.length, -sum(some));
    }
    this.#tally(store, to, taken.length, sum(taken));
    return taken;
  }

  /** Notes where a restore will put its objects, and the exemption that covers them. */
  noteRestores(rows: readonly { id: string; target: string; exemption: string }[]): void {
    this.#sql.run(
      `INSERT INTO restores (tombstone, target, exemption)
       SELECT value->>0, value->>1, value->>2 FROM json_each(?)`,
      JSON.stringify(rows.map((row) => [row.id, row.target, row.exemption])),
    );
  }

  /** Where a begun restore puts its object. */
  restoreOf(id: string): { target: Key; exemption: string } | undefined {
    const row = this.#sql.all(`SELECT target, exemption FROM restores WHERE tombstone = ?`, id)[0];
    return row === undefined
      ? undefined
      : { target: keyOf(row['target']), exemption: asText(row['exemption']) };
  }

  /** Records how purges of a run ended. Throws, and changes nothing, when one is not `purging` by that run. */
  settlePurges(settle: {
    store: number;
    run: number;
    now: number;
    at: number;
    window: number;
    /** `lockedUntil`: no purge is to try that one before then, ms since 1970. */
    ends: readonly {
      tombstone: Pick<Tombstone, 'id' | 'size' | 'prior'>;
      to: 'purged' | 'prior' | 'pending';
      lockedUntil?: number | undefined;
    }[];
  }): void {
    const { store, run, now, at, window, ends } = settle;
    const purged = ends.filter((end) => end.to === 'purged').map((end) => end.tombstone);
    const changed = this.#sql.change(
      `UPDATE tombstones SET state = 'purged', ended_at = ?, prior = NULL
       WHERE id IN (SELECT value FROM json_each(?)) AND +run = ? AND +state = 'purging'`,
      at,
      JSON.stringify(purged.map((t) => t.id)),
      run,
    );
    if (changed !== purged.length) throw raced(purged[0]?.id ?? '');
    this.#tally(store, 'purging', -purged.length, -sum(purged));
    this.#tally(store, 'purged', purged.length, sum(purged));
    for (const { tombstone, to, lockedUntil } of ends) {
      if (to === 'purged') continue;
      if (lockedUntil !== undefined) {
        this.#sql.run(
          `UPDATE tombstones SET locked_until = @until, purge_after = max(purge_after, @counted) WHERE id = @id`,
          { id: tombstone.id, until: lockedUntil, counted: now + lockedUntil - at },
        );
      }
      const back = to === 'pending' ? { goneAt: now, purgeAfter: now + window } : undefined;
      this.#giveBack({
        store,
        run,
        tombstone,
        from: 'purging',
        to: to === 'prior' ? priorOf(tombstone) : to,
        back,
      });
    }
  }

  /** Records how one restore ended. Throws, and changes nothing, when it is not `restoring` by that run. */
  settleRestore(settle: {
    store: number;
    run: number;
    tombstone: Tombstone;
    to: 'restored' | 'prior';
    now: number;
    window: number;
  }): void {
    const { store, run, tombstone, to, now, window } = settle;
    const purgeAfter = now + Math.max(window, LEAST_STAY_MS);
    const back = to === 'restored' ? { goneAt: now, purgeAfter } : undefined;
    const state = to === 'restored' ? to : priorOf(tombstone);
    this.#giveBack({ store, run, tombstone, from: 'restoring', to: state, back });
    this.#sql.run(`DELETE FROM restores WHERE tombstone = ?`, tombstone.id);
  }

  #giveBack(give: {
    store: number;
    run: number;
    tombstone: Pick<Tombstone, 'id' | 'size'>;
    from: 'purging' | 'restoring';
    to: 'pending' | 'restored';
    back: { goneAt: number; purgeAfter: number } | undefined;
  }): void {
    const { store, run, tombstone, from, to, back } = give;
    const changed = this.#sql.change(
      `UPDATE tombstones SET state = ?, prior = NULL, gone_at = coalesce(?, gone_at), purge_after = coalesce(?, purge_after)
       WHERE id = ? AND run = ? AND state = ?`,
      to,
      back?.goneAt ?? null,
      back?.purgeAfter ?? null,
      tombstone.id,
      run,
      from,
    );
    if (changed !== 1) throw raced(tombstone.id);
    this.#tally(store, from, -1, -tombstone.size);
    this.#tally(store, to, 1, tombstone.size);
  }

  /** What a run has in `purging` or `restoring`, in id order, after an id. */
  taken(run: number, state: 'purging' | 'restoring', after: string, limit: number): Tombstone[] {
    return this.#tombstones(
      `FROM tombstones t INDEXED BY tombstones_taken ${JOINS}
       WHERE t.run = ? AND t.state = '${state}' AND t.state IN ('purging', 'restoring') AND t.id > ? ORDER BY t.id LIMIT ?`,
      run,
      after,
      limit,
    );
  }

  /** A page of those that should have a pending copy, whatever is under way with it, in id order. */
  copyPage(page: { store: number; prefix: string; after: string; limit: number }): Tombstone[] {
    const { store, prefix, after, limit } = page;
    const states = COPY_STATES.map((state) => `'${state}'`).join(', ');
    // Along all tombstones: one that changes its state meanwhile is neither missed nor seen twice.
    return this.#tombstones(
      `FROM tombstones t ${JOINS}
       WHERE t.id > @after AND +t.store = @store AND +t.state IN (${states})
         AND substr(CAST(t.key AS BLOB), 1, length(CAST(@prefix AS BLOB))) = CAST(@prefix AS BLOB)
       ORDER BY t.id LIMIT @limit`,
      { store, prefix, after, limit },
    );
  }

  /** What became of some keys, where their pending copies are not gone for good. */
  copiesOf(store: number, keys: readonly string[]): Tombstone[] {
    return this.#tombstones(
      `FROM json_each(?) o CROSS JOIN tombstones t INDEXED BY tombstones_by_key ON t.store = ? AND t.key = o.value
       ${JOINS} WHERE +t.state IN ('pending', 'restored')`,
      JSON.stringify(keys),
      store,
    );
  }

  /** Takes tombstones that are named, and still in one of these states, as `purging`, due or not; gives those it got, with what they were. */
  takeNamed(take: {
    store: number;
    run: number;
    ids: readonly string[];
    from: readonly ('pending' | 'restored')[];
  }): Tombstone[] {
    const { store, run, ids, from } = take;
    const taken = this.#take(
      { to: 'purging', store },
      `UPDATE tombstones SET prior = state, state = 'purging', run = ?
       WHERE id IN (SELECT value FROM json_each(?)) AND +store = ? AND +state IN ('pending', 'restored')
         AND +state IN (SELECT value FROM json_each(?)) ${AS_TAKEN}`,
      run,
      JSON.stringify(ids),
      store,
      JSON.stringify(from),
    );
    return this.getAll(taken.map(({ id }) => id));
  }

  /** A page of those that a run has taken which has ended, or was never there: nobody goes on with them. */
  stuckPage(store: number, after: string, limit: number): Tombstone[] {
    const stuck = (['purging', 'restoring'] as const).flatMap((state) =>
      this.#tombstones(
        `FROM tombstones t INDEXED BY tombstones_by_state ${JOINS}
         WHERE t.store = ? AND t.state = '${state}' AND t.id > ?
           AND NOT EXISTS (SELECT 1 FROM runs r WHERE r.n = t.run AND r.ended_at IS NULL)
         ORDER BY t.id LIMIT ?`,
        store,
        after,
        limit,
      ),
    );
    return stuck.toSorted((a, b) => (a.id < b.id ? -1 : 1)).slice(0, limit);
  }

  /** Intents that name a pending name which another row or intent has, and those of runs that have ended. */
  oddIntents(store: number): { id: string; key: string; isTwice: boolean }[] {
    return this.#sql.snapshot(() => {
      const open = this.#sql.all(
        `SELECT b.intents AS intents, r.ended_at AS endedAt FROM open_batches b JOIN runs r ON r.n = b.run
         WHERE b.store = ?`,
        store,
      );
      const seen = new Set<string>();
      return open.flatMap((row) => {
        const intents = intentsOf(row['intents']);
        const settled = new Set(this.getAll(intents.map(({ id }) => id)).map(({ id }) => id));
        return intents.flatMap(({ id, key }) => {
          const isTwice = settled.has(id) || seen.has(id);
          seen.add(id);
          return isTwice || row['endedAt'] !== null ? [{ id, key, isTwice }] : [];
        });
      });
    });
  }

  /** One tombstone, or undefined. */
  get(id: string): Tombstone | undefined {
    return this.#sql.snapshot(() => {
      const known = this.#tombstones(`FROM tombstones t ${JOINS} WHERE t.id = ?`, id)[0];
      return known ?? this.#moving({ limit: 1, batchAt: parseTombstoneId(id)?.at }).find((t) => t.id === id);
    });
  }

  /** Those of the ids that are known, in id order. */
  getAll(ids: readonly string[]): Tombstone[] {
    return this.#tombstones(
      `FROM tombstones t ${JOINS} WHERE t.id IN (SELECT value FROM json_each(?)) ORDER BY t.id`,
      JSON.stringify(ids),
    );
  }

  /** A key's tombstones, newest first. */
  ofKey(store: number, key: string, limit: number): Tombstone[] {
    return this.#sql.snapshot(() => {
      const settled = this.#tombstones(
        `FROM tombstones t INDEXED BY tombstones_by_key ${JOINS}
         WHERE t.store = ? AND t.key = ? ORDER BY t.id DESC LIMIT ?`,
        store,
        key,
        limit,
      );
      const moving = this.#moving({ store, key, limit });
      if (moving.length === 0) return settled;
      return [...settled, ...moving].toSorted((a, b) => (a.id > b.id ? -1 : 1)).slice(0, limit);
    });
  }

  /** A page of tombstones, oldest first: keyset paging by id. */
  page(filter: PageFilter): Tombstone[] {
    const { store, limit } = filter;
    // One snapshot: what is settled between two statements would show twice, or not at all.
    return this.#sql.snapshot(() => {
      const stores = store === undefined ? this.#stores() : [store];
      const ids = stores.flatMap((n) => this.#settledIds(n, filter));
      const settled = this.getAll(ids.toSorted().slice(0, limit));
      const moving = this.#moving(filter);
      if (moving.length === 0) return settled;
      return [...settled, ...moving].toSorted((a, b) => (a.id < b.id ? -1 : 1)).slice(0, limit);
    });
  }

  #stores(): number[] {
    return this.#sql.all(`SELECT n FROM stores`).map((row) => asNumber(row['n']));
  }

  /** Tombstones in `moving`: the intents of open batches, of which there are as many as runs. */
  #moving(filter: PageFilter & { batchAt?: number | undefined; key?: string | undefined }): Tombstone[] {
    if (filter.dueBefore !== undefined || (filter.state ?? 'moving') !== 'moving') return [];
    const rows = this.#sql.all(
      `SELECT i.value->>0 AS id, s.name AS store, i.value->>1 AS key, 'moving' AS state, i.value->>2 AS size,
         i.value->>3 AS revision, c.policy, c.reason, w.id AS sweep, b.run, NULL AS goneAt, NULL AS purgeAfter,
         NULL AS endedAt, NULL AS prior, NULL AS lockedUntil
       FROM open_batches b JOIN stores s ON s.n = b.store JOIN sweeps w ON w.n = b.sweep
         JOIN json_each(b.intents) i JOIN causes c ON c.n = i.value->>4
       WHERE (@batchAt IS NULL OR b.batch_at = @batchAt) AND (@store IS NULL OR b.store = @store)
         AND (@key IS NULL OR i.value->>1 = @key) AND (@sweep IS NULL OR w.id = @sweep) AND (@since IS NULL OR b.batch_at >= @since)
         AND i.value->>0 > @after AND substr(i.value->>1, 1, length(@prefix)) = @prefix`,
      {
        batchAt: filter.batchAt ?? null,
        key: filter.key ?? null,
        store: filter.store ?? null,
        sweep: filter.sweep ?? null,
        since: filter.since ?? null,
        after: filter.after ?? '',
        prefix: filter.prefix ?? '',
      },
    );
    return rows.map(toTombstone);
  }

  /**
   * The first ids of a store that a filter lets through, by the way that is
   * cheapest wherever the page begins: few keys or few due by their own index,
   * sorted; else in id order, along all tombstones or those of each state.
   */
  #settledIds(store: number, filter: PageFilter): string[] {
    const { state, sweep, prefix, dueBefore, since, limit } = filter;
    const states = (dueBefore === undefined ? SETTLED : DUE).filter((s) => s === (state ?? s));
    if (states.length === 0) return [];
    let from = filter.after ?? '';
    if (since !== undefined && idTime(since) > from) from = idTime(since);
    const where = ['id > @from'];
    const values: Record<string, unknown> = { store, limit };
    if (sweep !== undefined) {
      const { n, a, b } = this.#sweep(sweep) ?? {};
      if (typeof a !== 'number' || typeof b !== 'number') return [];
      if (idTime(a) > from) from = idTime(a);
      where.push('id < @to AND +sweep = @sweep');
      Object.assign(values, { sweep: n, to: `${idTime(b)}~` });
    }
    values['from'] = from; // one bound: SQLite would use but one of two
    const keys = prefix === undefined ? undefined : keyRange(prefix);
    if (keys !== undefined) {
      where.push(keys.sql);
      Object.assign(values, keys.values);
    }
    if (dueBefore !== undefined) {
      where.push('purge_after < @dueBefore');
      values['dueBefore'] = dueBefore;
    }
    const find = (how: string): string[] =>
      this.#sql
        .all(`SELECT id FROM tombstones ${how} AND ${where.join(' AND ')} ORDER BY id LIMIT @limit`, values)
        .map((row) => asText(row['id']));
    const among =
      states.length === SETTLED.length ? '' : ` AND +state IN (${states.map((s) => `'${s}'`).join(', ')})`;
    const byKey = 'INDEXED BY tombstones_by_key WHERE store = @store';
    if (keys !== undefined && this.#isFew(byKey, keys.sql, { store, ...keys.values })) {
      return find(`${byKey}${among}`);
    }
    const byDue = `INDEXED BY tombstones_due WHERE store = @store AND state IN ('pending', 'restored')`;
    if (dueBefore !== undefined && this.#isFew(byDue, 'purge_after < @dueBefore', { store, dueBefore })) {
      return find(`${byDue}${among}`);
    }
    if (among === '' && where.length > 1) return find('WHERE +store = @store');
    return states.flatMap((s) =>
      find(`INDEXED BY tombstones_by_state WHERE store = @store AND state = '${s}'`),
    );
  }

  #sweep(id: string): { n: unknown; a: unknown; b: unknown } | undefined {
    const row = this.#sql.all(
      `SELECT n, first_batch_at AS a, last_batch_at AS b FROM sweeps WHERE id = ?`,
      id,
    )[0];
    return row && { n: row['n'], a: row['a'], b: row['b'] };
  }

  /** Whether few rows meet a condition, found in a way. */
  #isFew(how: string, condition: string, values: Readonly<Record<string, unknown>>): boolean {
    const found = this.#sql.number(
      `SELECT count(*) FROM (SELECT 1 FROM tombstones ${how} AND ${condition} LIMIT ${FEW})`,
      values,
    );
    return found < FEW;
  }

  /** How many tombstones, and bytes, are in each state. */
  tallies(store: number): { state: State; count: number; bytes: number }[] {
    return this.#sql
      .all(`SELECT state, count, bytes FROM tallies WHERE store = ? AND count > 0`, store)
      .map((row) => ({
        state: stateOf(row['state']),
        count: asNumber(row['count']),
        bytes: asNumber(row['bytes']),
      }));
  }

  /** What never changes in tombstones, of those that are known. */
  rowsById(ids: readonly string[]): DigestRow[] {
    return this.#sql
      .all(
        `SELECT id, key, size, revision FROM tombstones WHERE id IN (SELECT value FROM json_each(?))`,
        JSON.stringify(ids),
      )
      .map(toDigestRow);
  }

  /** The same of a batch, by its time. */
  rowsOfBatch(store: number, batchAt: number, limit: number): DigestRow[] {
    const time = idTime(batchAt);
    return this.#sql
      .all(
        `SELECT id, key, size, revision FROM tombstones WHERE id > ? AND id < ? AND +store = ? ORDER BY id LIMIT ?`,
        time,
        `${time}~`,
        store,
        limit,
      )
      .map(toDigestRow);
  }

  /** The same of those of a batch that a rebuild, as that run, has added. */
  rowsRebuilt(run: number, batchAt: number, limit: number): DigestRow[] {
    const time = idTime(batchAt);
    return this.#sql
      .all(
        `SELECT id, key, size, revision FROM tombstones WHERE id > ? AND id < ?
           AND EXISTS (SELECT 1 FROM sweeps w WHERE w.n = sweep AND w.run = ?) ORDER BY id LIMIT ?`,
        time,
        `${time}~`,
        run,
        limit,
      )
      .map(toDigestRow);
  }

  /** The same of those that a run purged at a time. */
  rowsPurged(run: number, at: number, limit: number): DigestRow[] {
    return this.#sql
      .all(
        `SELECT id, key, size, revision FROM tombstones INDEXED BY tombstones_ended
         WHERE ended_at IS NOT NULL AND ended_at = ? AND run = ? AND state = 'purged' LIMIT ?`,
        at,
        run,
        limit,
      )
      .map(toDigestRow);
  }

  /**
   * Forgets tombstones that were moved, and purged or abandoned, before a time, at most
   * `limit`; says how many.
   */
  forget(before: number, limit: number): number {
    const rows = this.#sql.all(
      `DELETE FROM tombstones WHERE id IN
         (SELECT id FROM tombstones INDEXED BY tombstones_ended
          WHERE ended_at IS NOT NULL AND ended_at < ? AND +id < ? LIMIT ?)
       RETURNING store, state, size`,
      before,
      idTime(Math.max(before, 0)),
      limit,
    );
    for (const row of rows)
      this.#tally(asNumber(row['store']), stateOf(row['state']), -1, -asNumber(row['size']));
    return rows.length;
  }

  #tally(store: number, state: State, count: number, bytes: number): void {
    addToTally(this.#sql, store, state, { count, bytes });
  }

  #tombstones(rest: string, ...values: unknown[]): Tombstone[] {
    return this.#sql.all(`SELECT ${COLUMNS} ${rest}`, ...values).map((row) => toTombstone(row));
  }
}

function sum(items: readonly { size: number }[]): number {
  let total = 0;
  for (const item of items) total += item.size;
  return total;
}

/** Intents that have ended and leave a record, by their state. */
function endedRows(
  rows: readonly IntentRow[],
  exceptions: ReadonlyMap<string, Settled>,
): Map<State, readonly IntentRow[]> {
  if (exceptions.size === 0) return new Map([['pending', rows]]);
  const ended = new Map<State, IntentRow[]>();
  for (const row of rows) {
    const end = exceptions.get(row.id);
    const state = end?.to ?? 'pending';
    if (state === 'open' || state === 'dropped' || state === 'untried') continue;
    const ofState = ended.get(state) ?? [];
    ended.set(state, ofState);
    const other = end !== undefined && 'revision' in end ? end.revision : undefined;
    ofState.push(other === undefined ? row : { ...row, size: other.size, revision: revisionText(other) });
  }
  return ended;
}

function priorOf({ id, prior }: Pick<Tombstone, 'id' | 'prior'>): 'pending' | 'restored' {
  if (prior === null) throw new TypeError(`${id} was taken from nowhere`);
  return prior;
}

/** What never changes in a tombstone. */
export function digestRowOf(one: Pick<Tombstone, 'id' | 'key' | 'revision'>): DigestRow {
  const { id, key, revision } = one;
  return { id, key, size: revision.size, revision: revisionText(revision) };
}

/** A state in which a tombstone waits to be purged or restored. */
function waitingOf(value: unknown): 'pending' | 'restored' {
  const state = stateOf(value);
  if (state !== 'pending' && state !== 'restored')
    throw new TypeError(`${state} is no state to be taken from`);
  return state;
}

function toDueRow([id, key, size, revision, state, policy, reason, purgeAfter]: readonly unknown[]): DueRow {
  revisionOf(revision); // a damaged one is told before anything is taken
  return {
    id: asText(id),
    key: keyOf(key),
    size: asNumber(size),
    revision: asText(revision),
    prior: waitingOf(state),
    policy: asTextOrNull(policy),
    reason: asTextOrNull(reason),
    purgeAfter: asNumber(purgeAfter),
  };
}

/** A condition for what is due; the ids by the index alone: where today's window is longer, most of what it has is not due. */
const IS_DUE = `t.id IN (
  SELECT id FROM tombstones INDEXED BY tombstones_due
  WHERE store = ? AND state IN ('pending', 'restored') AND purge_after <= ? AND gone_at <= ?
    AND (purge_after, id) > (?, ?)
  ORDER BY purge_after, id LIMIT ?)`;

function dueValues({ store, now, window, after, limit }: DueFilter): unknown[] {
  return [store, now, now - window, after?.purgeAfter ?? -1, after?.id ?? '', limit];
}

function raced(id: string): TombstonedError {
  return new TombstonedError('failed', `tombstone ${id} was changed by another process`, {
    key: id,
    hint: 'run the command again',
  });
}

function toDigestRow(row: Row): DigestRow {
  return {
    id: asText(row['id']),
    key: asText(row['key']),
    size: asNumber(row['size']),
    revision: asText(row['revision']),
  };
}

function toTombstone(row: Row): Tombstone {
  const id = asText(row['id']);
  const { prior } = row;
  return {
    id,
    store: asText(row['store']),
    key: keyOf(row['key']),
    state: stateOf(row['state']),
    size: asNumber(row['size']),
    revision: revisionOf(row['revision']),
    policy: asTextOrNull(row['policy']),
    reason: asTextOrNull(row['reason']),
    sweep: asText(row['sweep']),
    run: asNumber(row['run']),
    tombstonedAt: parseTombstoneId(id)?.at ?? 0,
    goneAt: asNumberOrNull(row['goneAt']),
    purgeAfter: asNumberOrNull(row['purgeAfter']),
    endedAt: asNumberOrNull(row['endedAt']),
    prior: prior === 'pending' || prior === 'restored' ? prior : null,
    lockedUntil: asNumberOrNull(row['lockedUntil']),
  };
}

/** What is to be removed, of rows that the catalog keeps. Throws what a damaged catalog throws. */
export function copyOf({ id, key, size, revision, prior }: Omit<CopyRow, 'policy' | 'reason'>): Copy {
  return { id, key, size, revision: revisionOf(revision), prior };
}

/** Rows as one text, which is the least to hand to another thread. */
export function copiesText(rows: readonly CopyRow[]): string {
  return JSON.stringify(rows.map(({ id, key, size, revision, prior }) => [id, key, size, revision, prior]));
}

/** Reads what `copiesText` made. */
export function copiesOf(text: string): Copy[] {
  const rows: unknown = JSON.parse(text);
  if (!Array.isArray(rows)) throw new TypeError('no copies');
  return rows.map((row: unknown) => {
    const [id, key, size, revision, prior] = Array.isArray(row) ? row : [];
    return {
      id: asText(id),
      key: keyOf(key),
      size: asNumber(size),
      revision: revisionOf(revision),
      prior: waitingOf(prior),
    };
  });
}

/** Intents as one text, as the catalog keeps them. */
export function intentsText(rows: readonly IntentRow[]): string {
  return JSON.stringify(rows.map(({ id, key, size, revision, cause }) => [id, key, size, revision, cause]));
}

/** What is to be moved, of rows that the catalog keeps. Throws what a damaged catalog throws. */
export function openBatchOf({ rows, ...open }: OpenRows): OpenBatch {
  const moves = rows.map(({ id, key, size, revision, cause }) => ({
    id,
    key: keyOf(key),
    size,
    revision: revisionOf(revision),
    cause,
  }));
  return { ...open, moves };
}

/** The other way round. */
export function openRowsOf({ moves, ...open }: OpenBatch): OpenRows {
  return { ...open, rows: moves.map((move) => ({ ...move, revision: revisionText(move.revision) })) };
}

/** Reads what `intentsText` made. Throws what a damaged catalog throws. */
export function intentsOf(value: unknown): IntendedMove[] {
  const rows: unknown = JSON.parse(asText(value));
  if (!Array.isArray(rows)) throw new TypeError('no intents');
  return rows.map((row: unknown) => {
    const [id, key, size, revision, cause] = Array.isArray(row) ? row : [];
    return {
      id: asText(id),
      key: keyOf(key),
      size: asNumber(size),
      revision: revisionOf(revision),
      cause: asNumber(cause),
    };
  });
}
