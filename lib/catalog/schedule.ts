import { asNumber, asNumberOrNull, type Sql } from './sql.ts';

/** How much is due within one span of time. */
export interface ScheduleBin {
  readonly count: number;
  /** Bytes. */
  readonly bytes: number;
}

export interface ScheduleOf {
  /** What is due before the first edge, between it and the second, and so on; last, after the last edge. */
  readonly bins: readonly ScheduleBin[];
  /** When the first of it is due, ms since 1970; null when nothing waits. */
  readonly first: number | null;
}

/** When something is due: both its recorded time and today's window must have passed (design, section 4). */
const AT = 'max(purge_after, gone_at + @window)';

/** Statements about when tombstones go. */
export class Schedule {
  readonly #sql: Sql;

  constructor(sql: Sql) {
    this.#sql = sql;
  }

  /**
   * What of a store goes when, in one pass over the index of what waits. Edges
   * are ms since 1970 and grow; `window` is today's, ms.
   */
  of(store: number, window: number, edges: readonly number[]): ScheduleOf {
    const before = edges.map((edge, i) => {
      const filter = `FILTER (WHERE ${AT} < ${Math.trunc(edge)})`;
      return `count(*) ${filter} AS count${i}, coalesce(sum(size) ${filter}, 0) AS bytes${i}`;
    });
    const all = `count(*) AS count${edges.length}, coalesce(sum(size), 0) AS bytes${edges.length}`;
    const row = this.#sql.all(
      `SELECT ${[...before, all].join(', ')}, min(${AT}) AS first FROM tombstones INDEXED BY tombstones_due
       WHERE store = @store AND state IN ('pending', 'restored')`,
      { store, window },
    )[0];
    const bins: ScheduleBin[] = [];
    const below = { count: 0, bytes: 0 };
    for (let i = 0; i <= edges.length; i++) {
      const count = asNumber(row?.[`count${i}`]);
      const bytes = asNumber(row?.[`bytes${i}`]);
      bins.push({ count: count - below.count, bytes: bytes - below.bytes });
      Object.assign(below, { count, bytes });
    }
    return { bins, first: asNumberOrNull(row?.['first'] ?? null) };
  }
}
