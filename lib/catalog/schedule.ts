import { asNumber, asNumberOrNull, type Sql } from './sql.ts';

/** When what waits is due: both its recorded time and today's window must have passed (design, section 4). */
const AT = 'max(purge_after, gone_at + :window)';
const WAITING = `FROM tombstones INDEXED BY tombstones_due WHERE store = :store AND state IN ('pending', 'restored')`;

/** Statements about when a store's tombstones go; each is one pass over the index of what waits. */
export class Schedule {
  readonly #sql: Sql;

  constructor(sql: Sql) {
    this.#sql = sql;
  }

  /**
   * How many tombstones are due before the first edge, between it and the
   * second, and so on; the last number counts those after the last edge. Edges
   * are ms since 1970 and grow; `window` is today's, ms.
   */
  counts(store: number, window: number, edges: readonly number[]): number[] {
    const bins = edges.map((edge, i) => `WHEN ${AT} < ${Math.trunc(edge)} THEN ${i}`).join(' ');
    const counts = [...edges, 0].map(() => 0);
    const rows = this.#sql.all(
      `SELECT CASE ${bins} ELSE ${edges.length} END AS bin, count(*) AS count ${WAITING} GROUP BY bin`,
      { store, window },
    );
    for (const row of rows) counts[asNumber(row['bin'])] = asNumber(row['count']);
    return counts;
  }

  /** When the first of them is due, ms since 1970; null when nothing waits. */
  first(store: number, window: number): number | null {
    const row = this.#sql.all(`SELECT min(${AT}) AS at ${WAITING}`, { store, window })[0];
    return asNumberOrNull(row?.['at'] ?? null);
  }
}
