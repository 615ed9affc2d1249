import { asNumber, asNumberOrNull, asText, type Sql } from './sql.ts';

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

/** How much one part of a count found, and where the next begins; null: there is no more. */
export interface Part extends ScheduleBin {
  /** When the first of it was due, ms since 1970; null where none of it is. */
  readonly first: number | null;
  readonly next: PartStart | null;
}

/** Where a part of a count begins: after this time and id. */
export interface PartStart {
  readonly at: number;
  readonly id: string;
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
   * What of a store goes when. Edges are ms since 1970 and grow; `window` is today's, ms.
   */
  of(store: number, window: number, edges: readonly number[]): ScheduleOf {
    return this.#sql.snapshot(
      () => this.#asRecorded(store, window, edges) ?? this.#oneByOne(store, window, edges),
    );
  }

  /** The same by the recorded times alone; undefined where today's window lets something go in a later span. */
  #asRecorded(store: number, window: number, edges: readonly number[]): ScheduleOf | undefined {
    const bins: ScheduleBin[] = [];
    let first: number | null = null;
    for (const [i, to] of [...edges, Number.MAX_SAFE_INTEGER].entries()) {
      const row = this.#sql.all(
        `SELECT count(*) AS count, coalesce(sum(size), 0) AS bytes, min(${AT}) AS first, max(gone_at) AS lastGone
         FROM tombstones INDEXED BY tombstones_due
         WHERE store = @store AND state IN ('pending', 'restored') AND purge_after >= @from AND purge_after < @to`,
        { store, window, from: Math.trunc(edges[i - 1] ?? Number.MIN_SAFE_INTEGER), to: Math.trunc(to) },
      )[0];
      const lastGone = asNumberOrNull(row?.['lastGone'] ?? null);
      if (lastGone !== null && lastGone + window >= Math.trunc(to)) return undefined;
      bins.push({ count: asNumber(row?.['count']), bytes: asNumber(row?.['bytes']) });
      first ??= asNumberOrNull(row?.['first'] ?? null);
    }
    return { bins, first };
  }

  /** The same, looking at each: three times as long. */
  #oneByOne(store: number, window: number, edges: readonly number[]): ScheduleOf {
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

  /** Counts what of a store is due, of so many tombstones whose recorded time has passed: a scrape must not wait for all. */
  duePart(part: {
    store: number;
    now: number;
    window: number;
    after: PartStart | null;
    limit: number;
  }): Part {
    const { store, now, window, after, limit } = part;
    return this.#part({
      index: 'tombstones_due',
      at: 'purge_after',
      among: `purge_after <= @now`,
      counts: `gone_at <= @now - @window`,
      values: { store, now, window },
      after,
      limit,
    });
  }

  /** The same of what the store itself keeps (object lock). */
  lockedPart(part: { store: number; now: number; after: PartStart | null; limit: number }): Part {
    const { store, now, after, limit } = part;
    return this.#part({
      index: 'tombstones_locked',
      at: 'locked_until',
      among: `locked_until > @now`,
      counts: `locked_until IS NOT NULL`,
      values: { store, now, window: 0 },
      after,
      limit,
    });
  }

  #part(of: {
    index: string;
    at: string;
    among: string;
    counts: string;
    values: Readonly<Record<string, number>>;
    after: PartStart | null;
    limit: number;
  }): Part {
    const { index, at, among, counts, after, limit } = of;
    const values = { ...of.values, at: after?.at ?? -1, id: after?.id ?? '', limit };
    const page = `SELECT ${at} AS at, id, size, ${counts} AS counts, ${AT} AS due
      FROM tombstones INDEXED BY ${index}
      WHERE store = @store AND state IN ('pending', 'restored') AND ${among} AND (${at}, id) > (@at, @id)
      ORDER BY ${at}, id LIMIT @limit`;
    const row = this.#sql.all(
      `SELECT count(*) AS rows, count(*) FILTER (WHERE counts) AS count,
         coalesce(sum(size) FILTER (WHERE counts), 0) AS bytes, min(due) FILTER (WHERE counts) AS first
       FROM (${page})`,
      values,
    )[0];
    const last =
      asNumber(row?.['rows']) < limit
        ? undefined
        : this.#sql.all(`SELECT at, id FROM (${page}) LIMIT 1 OFFSET @limit - 1`, values)[0];
    return {
      count: asNumber(row?.['count']),
      bytes: asNumber(row?.['bytes']),
      first: asNumberOrNull(row?.['first'] ?? null),
      next: last === undefined ? null : { at: asNumber(last['at']), id: asText(last['id']) },
    };
  }
}
