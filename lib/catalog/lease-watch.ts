import { asNumber, type Sql } from './sql.ts';

/** Since when each lease's number stands still, as all processes that use this catalog have seen it. */
export class LeaseWatch {
  readonly #sql: Sql;

  constructor(sql: Sql) {
    this.#sql = sql;
  }

  /**
   * Notes a look at a lease, which began at `began` and was done at `done`, ms of
   * this boot's monotonic clock. Gives for how long its number is known to have
   * stood still: from when it was first seen to when this look began, so that a
   * process that was frozen meanwhile counts nothing as seen.
   */
  seen(look: {
    store: number;
    name: string;
    renewal: number;
    boot: string;
    began: number;
    done: number;
  }): number {
    const { store, name, renewal, boot, began, done } = look;
    const row = this.#sql.all(
      `SELECT since FROM lease_watch WHERE store = ? AND name = ? AND renewal = ? AND boot = ? AND since <= ?`,
      store,
      name,
      renewal,
      boot,
      done,
    )[0];
    if (row !== undefined) return Math.max(0, began - asNumber(row['since']));
    this.#sql.run(
      `INSERT INTO lease_watch (store, name, renewal, boot, since) VALUES (?, ?, ?, ?, ?)
       ON CONFLICT DO UPDATE SET renewal = excluded.renewal, boot = excluded.boot, since = excluded.since`,
      store,
      name,
      renewal,
      boot,
      done,
    );
    return 0;
  }

  count(store: number): number {
    return this.#sql.number(`SELECT count(*) FROM lease_watch WHERE store = ?`, store);
  }

  /** Forgets all but these. */
  keepOnly(store: number, names: readonly string[]): void {
    this.#sql.run(
      `DELETE FROM lease_watch WHERE store = ? AND name NOT IN (SELECT value FROM json_each(?))`,
      store,
      JSON.stringify(names),
    );
  }
}
