import { asNumber, asTextOrNull, type Sql } from './sql.ts';

/** Row numbers that tombstones refer to. */
interface Referenced {
  readonly runs: Set<number>;
  readonly sweeps: Set<number>;
  readonly causes: Set<number>;
}

const DAY_MS = 86_400_000;
const HOUR_MS = 3_600_000;
/** How many tombstones are looked at, in one statement. */
const PAGE = 20_000;

/** How far beyond its time history may go before some of it is removed: not each purge removes a little. ms. */
export function slackOf(historyFor: number): number {
  return Math.min(DAY_MS, Math.max(HOUR_MS, historyFor / 10));
}

/** What goes of runs and sweeps that ended long ago and that nothing refers to any more. */
export class Retention {
  readonly #sql: Sql;

  constructor(sql: Sql) {
    this.#sql = sql;
  }

  /** Whether there are runs that ended before a time, and it is `slack` later than when there were none to remove. */
  isTime(before: number, slack: number): boolean {
    if (before - this.#sql.number(`SELECT runs_before FROM retention`) < slack) return false;
    // Any of them: the oldest may have ended by a clock that was ahead.
    return this.#sql.all(`SELECT 1 FROM runs WHERE ended_at < ? LIMIT 1`, before).length > 0;
  }

  /** Notes that there are none left of before a time. */
  note(before: number): void {
    this.#sql.run(`UPDATE retention SET runs_before = ?`, before);
  }

  /** The earliest time of an entry of the log, ms; Infinity where there is none: entries name runs. */
  oldestEntry(): number {
    // Not the first one's: it may have been made by a clock that was ahead.
    const found = this.#sql.all(`SELECT at FROM events ORDER BY at LIMIT 1`)[0];
    return found === undefined ? Infinity : asNumber(found['at']);
  }

  /**
   * Adds what a page of tombstones refers to; gives the page's last id, or null: there are no
   * more. What is found of runs and sweeps stays enough: nothing comes to refer to one that has ended.
   */
  lookAtReferences(found: Referenced, after: string): string | null {
    const row = this.#sql.all(
      `SELECT max(id) AS last, json_group_array(DISTINCT run) AS runs, json_group_array(DISTINCT sweep) AS sweeps,
         json_group_array(DISTINCT cause) AS causes
       FROM (SELECT id, run, sweep, cause FROM tombstones WHERE id > ? ORDER BY id LIMIT ${PAGE})`,
      after,
    )[0];
    for (const [into, text] of [
      [found.runs, row?.['runs']],
      [found.sweeps, row?.['sweeps']],
      [found.causes, row?.['causes']],
    ] as const) {
      const numbers: unknown = JSON.parse(asTextOrNull(text ?? null) ?? '[]');
      if (Array.isArray(numbers)) for (const number of numbers) into.add(asNumber(number));
    }
    return asTextOrNull(row?.['last'] ?? null);
  }

  /**
   * Removes sweeps, then runs, that ended before a time and are not referred to; at most
   * `limit` of each. Says how many: none when all are gone. The newest stay, whatever their
   * age: they are what is shown as the last, and their numbers are not given again.
   */
  remove(before: number, { runs, sweeps }: Referenced, limit: number): number {
    return this.#sql.transaction(() => {
      const of = { before, limit, sweeps: JSON.stringify([...sweeps]), runs: JSON.stringify([...runs]) };
      const old = this.#sql
        .all(
          `SELECT w.n FROM sweeps w
           WHERE w.ended_at < @before AND w.n NOT IN (SELECT value FROM json_each(@sweeps))
             AND w.n NOT IN (SELECT max(n) FROM sweeps UNION ALL
               SELECT max(l.n) FROM sweeps l WHERE l.dry = 0
                 AND NOT EXISTS (SELECT 1 FROM waiting_plans q WHERE q.sweep = l.n AND q.state != 'approved')
               GROUP BY l.store)
             AND NOT EXISTS (SELECT 1 FROM waiting_plans q WHERE q.sweep = w.n AND q.state = 'waiting')
             AND NOT EXISTS (SELECT 1 FROM plan_items i WHERE i.sweep = w.n)
             AND NOT EXISTS (SELECT 1 FROM waiting_items i WHERE i.sweep = w.n)
             AND NOT EXISTS (SELECT 1 FROM open_batches b WHERE b.sweep = w.n)
             AND NOT EXISTS (SELECT 1 FROM requests r WHERE r.sweep = w.n)
           LIMIT @limit`,
          of,
        )
        .map((row) => asNumber(row['n']));
      for (const n of old) {
        this.#sql.run(`DELETE FROM waiting_plans WHERE sweep = ?`, n);
        this.#sql.run(`DELETE FROM sweeps WHERE n = ?`, n);
      }
      const removed = this.#sql.change(
        `DELETE FROM runs WHERE n IN (
           SELECT r.n FROM runs r
           WHERE r.ended_at < @before AND r.n NOT IN (SELECT value FROM json_each(@runs))
             AND r.n NOT IN (SELECT max(n) FROM runs UNION ALL
               SELECT max(l.n) FROM runs l WHERE l.ended_at IS NOT NULL GROUP BY l.store, l.kind UNION ALL
               SELECT max(l.n) FROM runs l WHERE l.outcome = 'done' GROUP BY l.store, l.kind)
             AND NOT EXISTS (SELECT 1 FROM sweeps w WHERE w.run = r.n)
             AND NOT EXISTS (SELECT 1 FROM requests q WHERE q.run = r.n)
             AND NOT EXISTS (SELECT 1 FROM open_batches b WHERE b.run = r.n)
           LIMIT @limit)`,
        of,
      );
      return old.length + removed;
    });
  }

  /** Whether no run but one is under way, and none has begun since: what was found of causes is all that there is. */
  isAlone(run: number): boolean {
    return (
      this.#sql.all(`SELECT 1 FROM runs WHERE n > ? OR (ended_at IS NULL AND n != ?) LIMIT 1`, run, run)
        .length === 0
    );
  }

  /**
   * Removes causes that nothing refers to; says how many. Only while a run is alone, and has
   * been since it looked at what is referred to: others find a cause first, and use it later.
   */
  removeCauses(run: number, { causes }: Referenced): number {
    return this.#sql.transaction(() => {
      if (!this.isAlone(run)) return 0;
      return this.#sql.change(
        `DELETE FROM causes WHERE n NOT IN (SELECT value FROM json_each(?))
           AND n NOT IN (SELECT cause FROM plan_items)
           AND n NOT IN (SELECT cause FROM waiting_plans)
           AND n NOT IN (SELECT cause FROM request_keys WHERE cause IS NOT NULL)`,
        JSON.stringify([...causes]),
      );
    });
  }
}
