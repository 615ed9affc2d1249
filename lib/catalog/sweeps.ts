import type { Key } from '../domain/key.ts';
import type { Revision } from '../domain/revision.ts';
import { revisionText } from '../domain/revision.ts';
import { dropItems } from './drop-items.ts';
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
} from './sql.ts';

export type SweepState = 'planning' | 'moving' | 'done' | 'failed' | 'interrupted' | 'blocked';

/** One run of phase one. Times in ms since 1970, sizes in bytes. */
export interface Sweep {
  readonly id: string;
  readonly store: string;
  readonly state: SweepState;
  readonly reason: string | null;
  readonly startedAt: number;
  readonly endedAt: number | null;
  readonly planned: number;
  readonly moved: number;
  readonly abandoned: number;
  readonly failed: number;
  readonly bytes: number;
  /** When it began its last batch, or null. */
  readonly lastBatchAt: number | null;
}

export interface PlanItem {
  readonly key: Key;
  readonly size: number;
  readonly revision: Revision;
  readonly modifiedAt: number;
  readonly cause: number;
  /** What expires as one, or null: the object by itself. */
  readonly unit: string | null;
  /** Whether it only counts for keepLast: a guard keeps it. */
  readonly isKept: boolean;
}

/** What is planned, as the catalog keeps it: the revision as text. */
export interface PlanRow {
  readonly key: string;
  readonly size: number;
  readonly revision: string;
  readonly cause: number;
}

export interface SweepCounts {
  readonly planned: number;
  readonly moved: number;
  readonly abandoned: number;
  readonly failed: number;
  readonly bytes: number;
}

const SWEEP = `w.id, s.name AS store, w.state, w.reason, w.started_at AS startedAt, w.ended_at AS endedAt,
  w.planned, w.moved, w.abandoned, w.failed, w.bytes, w.last_batch_at AS lastBatchAt`;

/** What a sweep's batch in flight has moved is not counted yet. */
const HAS_MOVED = `w.first_batch_at IS NOT NULL
  AND (w.moved > 0 OR EXISTS (SELECT 1 FROM open_batches b WHERE b.run = w.run AND b.sweep = w.n))`;

/** All statements about sweeps and their plans. */
export class Sweeps {
  readonly #sql: Sql;

  constructor(sql: Sql) {
    this.#sql = sql;
  }

  /** Begins a sweep; gives its row number. A dry one is never listed. */
  begin(sweep: {
    id: string;
    store: number;
    run: number;
    reason: string | null;
    isDry?: boolean;
    now: number;
  }): number {
    return this.#sql.number(
      `INSERT INTO sweeps (id, store, run, state, reason, dry, started_at)
       VALUES (?, ?, ?, 'planning', ?, ?, ?) RETURNING n`,
      sweep.id,
      sweep.store,
      sweep.run,
      sweep.reason,
      sweep.isDry === true ? 1 : 0,
      sweep.now,
    );
  }

  /** The row number of a cause; made where it is new. */
  cause(policy: string | null, reason: string | null): number {
    const known = this.#sql.all(
      `SELECT n FROM causes
       WHERE coalesce(policy, char(0)) = coalesce(?, char(0)) AND coalesce(reason, char(0)) = coalesce(?, char(0))`,
      policy,
      reason,
    )[0];
    if (known !== undefined) return asNumber(known['n']);
    return this.#sql.number(
      `INSERT INTO causes (policy, reason) VALUES (?, ?)
       ON CONFLICT DO UPDATE SET policy = excluded.policy RETURNING n`,
      policy,
      reason,
    );
  }

  /** Adds objects to a sweep's plan; a key that another policy has named already stays as it is. */
  plan(sweep: number, items: readonly PlanItem[]): void {
    this.planFromText(sweep, planText(items));
  }

  /** The same, from what `planText` made. */
  planFromText(sweep: number, items: string): void {
    this.#sql.run(
      `INSERT OR IGNORE INTO plan_items (sweep, key, size, revision, modified_at, cause, unit, kept)
       SELECT ?, value->>0, value->>1, value->>2, value->>3, value->>4, value->>5, value->>6 FROM json_each(?)`,
      sweep,
      items,
    );
  }

  /** Takes everything of one unit out of a plan. */
  unplanUnit(sweep: number, cause: number, unit: string): void {
    const keys = keyRange(unit);
    this.#sql.run(
      `DELETE FROM plan_items WHERE sweep = @sweep AND ${keys.sql} AND cause = @cause AND unit = @unit`,
      { sweep, cause, unit, ...keys.values },
    );
  }

  /** Keeps everything of one unit, which still counts for keepLast. */
  keepUnit(sweep: number, cause: number, unit: string): void {
    const keys = keyRange(unit);
    this.#sql.run(
      `UPDATE plan_items SET kept = 1 WHERE sweep = @sweep AND ${keys.sql} AND cause = @cause AND unit = @unit`,
      { sweep, cause, unit, ...keys.values },
    );
  }

  /** Takes out of a plan what only counted for keepLast. */
  unplanKept(sweep: number, cause: number): void {
    this.#sql.run(`DELETE FROM plan_items WHERE sweep = ? AND cause = ? AND kept = 1`, sweep, cause);
  }

  /** Takes the newest `count` units of a cause out of a plan. */
  unplanNewest(sweep: number, cause: number, count: number): void {
    this.#sql.run(
      `DELETE FROM plan_items WHERE sweep = @sweep AND cause = @cause AND coalesce(unit, key) IN (
         SELECT coalesce(unit, key) AS u FROM plan_items WHERE sweep = @sweep AND cause = @cause
         GROUP BY u ORDER BY max(modified_at) DESC, u DESC LIMIT @count)`,
      { sweep, cause, count },
    );
  }

  /** How many objects, and bytes, a plan has of one cause. */
  plannedOf(sweep: number, cause: number): { count: number; bytes: number } {
    const row = this.#sql.all(
      `SELECT count(*) AS count, coalesce(sum(size), 0) AS bytes FROM plan_items
       WHERE sweep = ? AND cause = ? AND kept = 0`,
      sweep,
      cause,
    )[0];
    return { count: asNumber(row?.['count']), bytes: asNumber(row?.['bytes']) };
  }

  /** A page of what is planned for a cause, in key order, after a key. */
  plannedPage(
    sweep: number,
    cause: number,
    after: string,
    limit: number,
  ): Pick<PlanItem, 'key' | 'revision' | 'unit'>[] {
    return this.#sql
      .all(
        `SELECT key, revision, unit FROM plan_items
         WHERE sweep = ? AND cause = ? AND kept = 0 AND key > ? ORDER BY key LIMIT ?`,
        sweep,
        cause,
        after,
        limit,
      )
      .map((row) => ({
        key: keyOf(row['key']),
        revision: revisionOf(row['revision']),
        unit: asTextOrNull(row['unit']),
      }));
  }

  /** All that is planned below a prefix. */
  plannedBelow(sweep: number, prefix: string): string[] {
    const keys = keyRange(prefix);
    return this.#sql
      .all(`SELECT key FROM plan_items WHERE sweep = @sweep AND kept = 0 AND ${keys.sql}`, {
        sweep,
        ...keys.values,
      })
      .map((row) => asText(row['key']));
  }

  /** Takes keys out of a plan. */
  unplan(sweep: number, keys: readonly string[]): void {
    this.#sql.run(
      `DELETE FROM plan_items WHERE sweep = ? AND key IN (SELECT value FROM json_each(?))`,
      sweep,
      JSON.stringify(keys),
    );
  }

  /** Takes out of a plan all that is there for a cause. */
  unplanCause(sweep: number, cause: number): void {
    this.#sql.run(`DELETE FROM plan_items WHERE sweep = ? AND cause = ?`, sweep, cause);
  }

  /** A page of a plan in key order, after a key. */
  planPage(sweep: number, after: string, limit: number): PlanItem[] {
    return this.#sql
      .all(
        `SELECT key, size, revision, modified_at AS at, cause, unit, kept FROM plan_items
         WHERE sweep = ? AND key > ? ORDER BY key LIMIT ?`,
        sweep,
        after,
        limit,
      )
      .map((row) => ({
        key: keyOf(row['key']),
        size: asNumber(row['size']),
        revision: revisionOf(row['revision']),
        modifiedAt: asNumber(row['at']),
        cause: asNumber(row['cause']),
        unit: asTextOrNull(row['unit']),
        isKept: row['kept'] === 1,
      }));
  }

  /** The same, as the catalog keeps them: what is to become intents. */
  planRows(sweep: number, after: string, limit: number): PlanRow[] {
    return this.#sql
      .lists(
        `SELECT key, size, revision, cause FROM plan_items WHERE sweep = ? AND key > ? ORDER BY key LIMIT ?`,
        sweep,
        after,
        limit,
      )
      .map(([key, size, revision, cause]) => ({
        key: asText(key),
        size: asNumber(size),
        revision: asText(revision),
        cause: asNumber(cause),
      }));
  }

  /** The policy and reason of a cause. */
  causeOf(n: number): { policy: string | null; reason: string | null } {
    const row = this.#sql.all(`SELECT policy, reason FROM causes WHERE n = ?`, n)[0];
    return { policy: asTextOrNull(row?.['policy'] ?? null), reason: asTextOrNull(row?.['reason'] ?? null) };
  }

  /** Says how far a sweep has come, and how much it has planned. */
  progress(sweep: number, state: SweepState, planned: number, endedAt: number | null): void {
    this.#sql.run(
      `UPDATE sweeps SET state = ?, planned = ?, ended_at = ? WHERE n = ?`,
      state,
      planned,
      endedAt,
      sweep,
    );
  }

  /** Adds how a batch ended to its sweep's counts; part of the transaction that records it. */
  count(sweep: number, ended: Omit<SweepCounts, 'planned'>): void {
    this.#sql.run(
      `UPDATE sweeps SET moved = moved + ?, abandoned = abandoned + ?, failed = failed + ?, bytes = bytes + ?
       WHERE n = ?`,
      ended.moved,
      ended.abandoned,
      ended.failed,
      ended.bytes,
      sweep,
    );
  }

  /** Drops some of a plan that is done with; says whether there is more. */
  dropPlan(sweep: number, limit: number): boolean {
    return dropItems(this.#sql, 'plan_items', sweep, limit);
  }

  /** Row numbers of sweeps that a run has left open. */
  openOf(run: number): number[] {
    return this.#sql
      .all(`SELECT n FROM sweeps WHERE run = ? AND state IN ('planning', 'moving')`, run)
      .map((row) => asNumber(row['n']));
  }

  /** Ends a sweep whose run died; an approved plan waits on, for somebody to approve what is left of it. */
  interrupt(sweep: number, now: number): void {
    const isWaiting = `EXISTS (SELECT 1 FROM waiting_plans q WHERE q.sweep = n AND q.state = 'waiting')`;
    this.#sql.run(
      `UPDATE sweeps SET state = iif(${isWaiting}, 'blocked', 'interrupted'), ended_at = iif(${isWaiting}, NULL, ?)
       WHERE n = ? AND state IN ('planning', 'moving')`,
      now,
      sweep,
    );
  }

  get(id: string): Sweep | undefined {
    return this.#sql
      .all(`SELECT ${SWEEP} FROM sweeps w JOIN stores s ON s.n = w.store WHERE w.id = ?`, id)
      .map(toSweep)[0];
  }

  /** A store's sweeps, newest first, without plans that wait. */
  latest(store: number, limit: number): Sweep[] {
    return this.#sql
      .all(
        `SELECT ${SWEEP} FROM sweeps w JOIN stores s ON s.n = w.store
         WHERE w.store = ? AND w.dry = 0
           AND NOT EXISTS (SELECT 1 FROM waiting_plans q WHERE q.sweep = w.n AND q.state = 'waiting')
         ORDER BY w.n DESC LIMIT ?`,
        store,
        limit,
      )
      .map(toSweep);
  }

  /** A store's newest sweep that ran, or runs: no plan that waits or waited in vain. */
  last(store: number): Sweep | undefined {
    return this.#sql
      .all(
        `SELECT ${SWEEP} FROM sweeps w JOIN stores s ON s.n = w.store
         WHERE w.store = ? AND w.dry = 0
           AND NOT EXISTS (SELECT 1 FROM waiting_plans q WHERE q.sweep = w.n AND q.state != 'approved')
         ORDER BY w.n DESC LIMIT 1`,
        store,
      )
      .map(toSweep)[0];
  }

  /** The sweep of a store that moved something, or may have, last. */
  lastMoving(store: number): Sweep | undefined {
    return this.#sql
      .all(
        `SELECT ${SWEEP} FROM sweeps w JOIN stores s ON s.n = w.store
         WHERE w.store = ? AND w.dry = 0 AND ${HAS_MOVED} ORDER BY w.last_batch_at DESC, w.n DESC LIMIT 1`,
        store,
      )
      .map(toSweep)[0];
  }
}

/** Planned objects as one text, for `planFromText`. */
export function planText(items: readonly PlanItem[]): string {
  return JSON.stringify(
    items.map((i) => [
      i.key,
      i.size,
      revisionText(i.revision),
      Math.trunc(i.modifiedAt),
      i.cause,
      i.unit,
      i.isKept ? 1 : 0,
    ]),
  );
}

const SWEEP_STATES = [
  'planning',
  'moving',
  'done',
  'failed',
  'interrupted',
  'blocked',
] as const satisfies SweepState[];

function toSweep(row: Row): Sweep {
  return {
    id: asText(row['id']),
    store: asText(row['store']),
    state: SWEEP_STATES.find((state) => state === row['state']) ?? 'failed',
    reason: asTextOrNull(row['reason']),
    startedAt: asNumber(row['startedAt']),
    endedAt: asNumberOrNull(row['endedAt']),
    planned: asNumber(row['planned']),
    moved: asNumber(row['moved']),
    abandoned: asNumber(row['abandoned']),
    failed: asNumber(row['failed']),
    bytes: asNumber(row['bytes']),
    lastBatchAt: asNumberOrNull(row['lastBatchAt']),
  };
}
