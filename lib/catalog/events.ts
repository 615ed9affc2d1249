import { asNumber, asNumberOrNull, asText, asTextOrNull, type Sql } from './sql.ts';

/** What can be written into the audit log. */
export type EventWhat =
  | 'moved'
  | 'put-back'
  | 'moved-other'
  | 'abandoned'
  | 'purged'
  | 'purge-kept'
  | 'copy-missing'
  | 'restoring'
  | 'restored'
  | 'restore-failed'
  | 'recovered'
  | 'hold-released'
  | 'lease-broken'
  | 'fence-broken'
  | 'plan-waits'
  | 'plan-approved'
  | 'plan-rejected'
  | 'plan-expired'
  | 'clock-wrong'
  | 'clock-right'
  | 'clock-accepted';

/** A line of the append-only audit log: about one tombstone, or about a whole batch. */
export interface Event {
  readonly at: number;
  readonly what: string;
  /** The run that did it. */
  readonly run: string | null;
  /** Who ran it, as `user@host`. */
  readonly by: string | null;
  readonly count: number | null;
  readonly bytes: number | null;
  readonly detail: string | null;
}

/** All statements about events. */
export class Events {
  readonly #sql: Sql;

  constructor(sql: Sql) {
    this.#sql = sql;
  }

  add(event: {
    store: number;
    /** Null of what somebody does by hand, without a run. */
    run: number | null;
    what: EventWhat;
    now: number;
    /** The tombstone it is about; without one, it is about a batch. */
    tombstone?: string | undefined;
    batchAt?: number | undefined;
    count?: number | undefined;
    bytes?: number | undefined;
    detail?: string | undefined;
  }): void {
    this.#sql.run(
      `INSERT INTO events (at, store, run, what, tombstone, batch_at, count, bytes, detail)
       VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
      event.now,
      event.store,
      event.run,
      event.what,
      event.tombstone ?? null,
      event.batchAt ?? null,
      event.count ?? null,
      event.bytes ?? null,
      event.detail ?? null,
    );
  }

  /** What the newest event of a kind about a tombstone says, or undefined when there is none. */
  lastDetail(tombstone: string, what: EventWhat): string | null | undefined {
    const row = this.#sql.all(
      `SELECT detail FROM events WHERE tombstone = ? AND what = ? ORDER BY n DESC LIMIT 1`,
      tombstone,
      what,
    )[0];
    return row === undefined ? undefined : asTextOrNull(row['detail']);
  }

  /**
   * Everything written about one tombstone, and about the batch that its id
   * names unless it ended otherwise than its batch, oldest first.
   */
  of(tombstone: { id: string; store: string; tombstonedAt: number }): Event[] {
    return this.#sql
      .all(
        `SELECT e.n, e.at, e.what, r.id AS run, r.by, e.count, e.bytes, e.detail
         FROM events e LEFT JOIN runs r ON r.n = e.run WHERE e.tombstone = @id
         UNION ALL
         SELECT e.n, e.at, e.what, r.id AS run, r.by, e.count, e.bytes, e.detail
         FROM events e LEFT JOIN runs r ON r.n = e.run
         WHERE e.batch_at = @tombstonedAt AND e.tombstone IS NULL
           AND e.store = (SELECT n FROM stores WHERE name = @store)
           AND NOT EXISTS (SELECT 1 FROM events x
             WHERE x.tombstone = @id AND x.what IN ('moved', 'moved-other', 'put-back', 'abandoned'))
         ORDER BY 1`,
        { id: tombstone.id, store: tombstone.store, tombstonedAt: tombstone.tombstonedAt },
      )
      .map((row) => ({
        at: asNumber(row['at']),
        what: asText(row['what']),
        run: asTextOrNull(row['run']),
        by: asTextOrNull(row['by']),
        count: asNumberOrNull(row['count']),
        bytes: asNumberOrNull(row['bytes']),
        detail: asTextOrNull(row['detail']),
      }));
  }
}
