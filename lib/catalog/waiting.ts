import type { Key } from '../domain/key.ts';
import type { Revision } from '../domain/revision.ts';
import { dropItems } from './drop-items.ts';
import {
  asNumber,
  asNumberOrNull,
  asText,
  asTextOrNull,
  keyOf,
  type Row,
  revisionOf,
  type Sql,
} from './sql.ts';

export type WaitingState = 'waiting' | 'approved' | 'rejected' | 'expired';

/** A policy's plan that is over a limit (design, section 6). Times in ms since 1970, sizes in bytes. */
export interface WaitingPlan {
  /** Row number of its sweep. */
  readonly n: number;
  /** Its sweep's id, under which it moves. */
  readonly sweep: string;
  readonly policy: string;
  /** Why the policy named what it has, for people. */
  readonly cause: string | null;
  readonly state: WaitingState;
  /** Which limit it is over, in words. */
  readonly over: string;
  readonly objects: number;
  readonly bytes: number;
  readonly filedAt: number;
  /** When nobody can approve it any more. */
  readonly expiresAt: number;
  readonly endedAt: number | null;
  /** Why it was rejected. */
  readonly reason: string | null;
  /** The run that is moving it just now, or has died so. */
  readonly movedBy: string | null;
}

export interface WaitingKey {
  readonly key: Key;
  readonly size: number;
  readonly revision: Revision;
}

const PLAN = `q.sweep AS n, w.id AS sweep, q.policy, c.reason AS cause, q.state, q.over, q.objects, q.bytes,
  q.filed_at AS filedAt, q.expires_at AS expiresAt, q.ended_at AS endedAt, q.reason,
  CASE WHEN w.state IN ('planning', 'moving') THEN r.id END AS movedBy`;
const JOINS = `waiting_plans q JOIN sweeps w ON w.n = q.sweep JOIN causes c ON c.n = q.cause JOIN runs r ON r.n = w.run`;

/** Whether nobody is moving it: then it may be taken, rejected or given up. */
const AT_REST = `state = 'waiting' AND EXISTS (SELECT 1 FROM sweeps w WHERE w.n = sweep AND w.state = 'blocked')`;

/** All statements about plans that wait for approval. Every change of state is a compare-and-set (R7). */
export class Waiting {
  readonly #sql: Sql;

  constructor(sql: Sql) {
    this.#sql = sql;
  }

  /**
   * Takes some of what a sweep has planned for one cause out of its plan: into the
   * plan that is being filed as sweep `to`, or, where that is null, for good. Gives
   * the last key of it, or null: there is no more.
   */
  takeOut(page: {
    from: number;
    cause: number;
    to: number | null;
    after: string;
    limit: number;
  }): string | null {
    const { from, cause, to, after, limit } = page;
    return this.#sql.transaction(() => {
      const last = asTextOrNull(
        this.#sql.all(
          `SELECT max(key) AS last FROM (
             SELECT key FROM plan_items WHERE sweep = ? AND cause = ? AND key > ? ORDER BY key LIMIT ?)`,
          from,
          cause,
          after,
          limit,
        )[0]?.['last'] ?? null,
      );
      if (last === null) return null;
      const range = { from, cause, after, last };
      if (to !== null) {
        this.#sql.run(
          `INSERT INTO waiting_items (sweep, key, size, revision)
           SELECT @to, key, size, revision FROM plan_items
           WHERE sweep = @from AND cause = @cause AND key > @after AND key <= @last`,
          { ...range, to },
        );
      }
      this.#sql.run(
        `DELETE FROM plan_items WHERE sweep = @from AND cause = @cause AND key > @after AND key <= @last`,
        range,
      );
      return last;
    });
  }

  /** Lets a plan wait whose keys are all there; false, and nothing changes, where one of that policy waits already. */
  file(plan: {
    sweep: number;
    store: number;
    policy: string;
    cause: number;
    over: string;
    objects: number;
    bytes: number;
    now: number;
    expiresAt: number;
  }): boolean {
    const { sweep, store, policy, cause, over, objects, bytes, now, expiresAt } = plan;
    const filed = this.#sql.change(
      `INSERT INTO waiting_plans (sweep, store, policy, cause, state, over, objects, bytes, filed_at, expires_at)
       VALUES (?, ?, ?, ?, 'waiting', ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
      sweep,
      store,
      policy,
      cause,
      over,
      objects,
      bytes,
      now,
      expiresAt,
    );
    if (filed !== 1) return false;
    this.#sql.run(`UPDATE sweeps SET state = 'blocked', dry = 0, planned = ? WHERE n = ?`, objects, sweep);
    return true;
  }

  /** The plan of a sweep, however it stands; undefined of a sweep that never waited. */
  get(sweep: string): WaitingPlan | undefined {
    return this.#sql.all(`SELECT ${PLAN} FROM ${JOINS} WHERE w.id = ?`, sweep).map(toPlan)[0];
  }

  /** What waits in a store, oldest first: at most one plan a policy. */
  ofStore(store: number, now: number): WaitingPlan[] {
    return this.#sql
      .all(
        `SELECT ${PLAN} FROM ${JOINS}
         WHERE q.store = @store AND q.state = 'waiting' AND (q.expires_at > @now OR w.state != 'blocked')`,
        { store, now },
      )
      .map(toPlan)
      .toSorted((a, b) => a.n - b.n);
  }

  /** A page of what a plan names, in key order, after a key. */
  page(plan: number, after: string, limit: number): WaitingKey[] {
    return this.#sql
      .all(
        `SELECT key, size, revision FROM waiting_items WHERE sweep = ? AND key > ? ORDER BY key LIMIT ?`,
        plan,
        after,
        limit,
      )
      .map((row) => ({
        key: keyOf(row['key']),
        size: asNumber(row['size']),
        revision: revisionOf(row['revision']),
      }));
  }

  /** As what a plan has planned some keys; those that it does not name are left out. */
  revisions(plan: number, keys: readonly string[]): Map<string, Revision> {
    const rows = this.#sql.all(
      `SELECT key, revision FROM waiting_items WHERE sweep = ? AND key IN (SELECT value FROM json_each(?))`,
      plan,
      JSON.stringify(keys),
    );
    return new Map(rows.map((row) => [asText(row['key']), revisionOf(row['revision'])]));
  }

  /** Takes a waiting plan for a run that moves it; false when it does not wait, or another run has it. */
  take(take: { plan: number; run: number; now: number }): boolean {
    const { plan, run, now } = take;
    const taken = this.#sql.change(
      `UPDATE sweeps SET state = 'planning', run = @run
       WHERE n = @plan AND state = 'blocked' AND EXISTS (
         SELECT 1 FROM waiting_plans q WHERE q.sweep = @plan AND q.state = 'waiting' AND q.expires_at > @now)`,
      { plan, run, now },
    );
    return taken === 1;
  }

  /** Gives a plan back that a run has taken and not finished: it waits on. */
  giveBack(plan: number, run: number): void {
    this.#sql.run(
      `UPDATE sweeps SET state = 'blocked', ended_at = NULL
       WHERE n = ? AND run = ? AND state IN ('planning', 'moving')`,
      plan,
      run,
    );
  }

  /** Ends a plan that a run has taken and moved. Throws nothing: false when it was not that run's. */
  approved(plan: number, run: number, now: number): boolean {
    const done = this.#sql.change(
      `UPDATE sweeps SET state = 'done', ended_at = ? WHERE n = ? AND run = ? AND state IN ('planning', 'moving')`,
      now,
      plan,
      run,
    );
    if (done !== 1) return false;
    this.#sql.run(`UPDATE waiting_plans SET state = 'approved', ended_at = ? WHERE sweep = ?`, now, plan);
    return true;
  }

  /** Rejects a waiting plan; false when it does not wait, or a run is moving it. */
  reject(plan: number, reason: string, now: number): boolean {
    const rejected = this.#sql.change(
      `UPDATE waiting_plans SET state = 'rejected', ended_at = @now, reason = @reason
       WHERE sweep = @plan AND expires_at > @now AND ${AT_REST}`,
      { plan, reason, now },
    );
    if (rejected === 1) this.#end(plan, now);
    return rejected === 1;
  }

  /** Gives up the plans of a store whose time is over; gives what they were. */
  expire(store: number, now: number): WaitingPlan[] {
    const late = this.#sql
      .all(
        `UPDATE waiting_plans SET state = 'expired', ended_at = @now
         WHERE store = @store AND expires_at <= @now AND ${AT_REST} RETURNING sweep`,
        { store, now },
      )
      .map((row) => asNumber(row['sweep']));
    return late.flatMap((plan) => {
      this.#end(plan, now);
      return this.#sql.all(`SELECT ${PLAN} FROM ${JOINS} WHERE q.sweep = ?`, plan).map(toPlan);
    });
  }

  #end(plan: number, now: number): void {
    this.#sql.run(`UPDATE sweeps SET ended_at = ? WHERE n = ?`, now, plan);
  }

  /** Plans whose keys nobody needs: those that wait no longer, and those that were never filed whole. */
  leftovers(): number[] {
    const found: number[] = [];
    for (let after = -1; ; ) {
      const next = this.#sql.all(`SELECT min(sweep) AS next FROM waiting_items WHERE sweep > ?`, after)[0]?.[
        'next'
      ];
      if (next === null || next === undefined) return found;
      after = asNumber(next);
      const needed = this.#sql.all(
        `SELECT 1 FROM sweeps w LEFT JOIN waiting_plans q ON q.sweep = w.n
         WHERE w.n = ? AND (w.state IN ('planning', 'moving') OR q.state = 'waiting')`,
        after,
      );
      if (needed.length === 0) found.push(after);
    }
  }

  /** Drops some of the keys of a plan that is done with; says whether there are more. */
  dropKeys(plan: number, limit: number): boolean {
    return dropItems(this.#sql, 'waiting_items', plan, limit);
  }
}

const STATES = ['waiting', 'approved', 'rejected', 'expired'] as const satisfies WaitingState[];

/** A state as it is in a row; null where there is none. What nobody knows is not to be approved. */
export function waitingStateOf(value: unknown): WaitingState | null {
  if (value === null) return null;
  return STATES.find((state) => state === value) ?? 'expired';
}

function toPlan(row: Row): WaitingPlan {
  return {
    n: asNumber(row['n']),
    sweep: asText(row['sweep']),
    policy: asText(row['policy']),
    cause: asTextOrNull(row['cause']),
    state: waitingStateOf(row['state']) ?? 'expired',
    over: asText(row['over']),
    objects: asNumber(row['objects']),
    bytes: asNumber(row['bytes']),
    filedAt: asNumber(row['filedAt']),
    expiresAt: asNumber(row['expiresAt']),
    endedAt: asNumberOrNull(row['endedAt']),
    reason: asTextOrNull(row['reason']),
    movedBy: asTextOrNull(row['movedBy']),
  };
}

/** How a plan stands at a time: nobody may have noted yet that its time is over. */
export function waitingStateAt(plan: WaitingPlan, now: number): WaitingState {
  const isLate = plan.state === 'waiting' && plan.movedBy === null && plan.expiresAt <= now;
  return isLate ? 'expired' : plan.state;
}
