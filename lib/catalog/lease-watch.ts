import { asNumber, type Sql } from './sql.ts';

/** Since when each lease's number stands still, as all processes that use this catalog have seen it. */
export class LeaseWatch {
  readonly #sql: Sql;

  constructor(sql: Sql) {
    this.#sql = sql;
  }

  /**
   * Notes a look at a lease; gives since when its number is what it is now, in ms
   * of this boot's monotonic clock. `now` is that clock's, of before the look or after.
   */
  seen(look: { store: number; name: string; renewal: number; boot: string; now: number }): number {
    const { store, name, renewal, boot, now } = look;
    const row = this.#sql.all(
      `SELECT since FROM lease_watch WHERE store = ? AND name = ? AND renewal = ? AND boot = ? AND since <= ?`,
      store,
      name,
      renewal,
      boot,
      now,
    )[0];
    if (row !== undefined) return asNumber(row['since']);
    this.#sql.run(
      `INSERT INTO lease_watch (store, name, renewal, boot, since) VALUES (?, ?, ?, ?, ?)
       ON CONFLICT DO UPDATE SET renewal = excluded.renewal, boot = excluded.boot, since = excluded.since`,
      store,
      name,
      renewal,
      boot,
      now,
    );
    return now;
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
