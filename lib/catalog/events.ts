import { type Chained, type DigestRow, entryHash, hex, kept, rowsDigest } from './log-chain.ts';
import {
  asBytes,
  asBytesOrNull,
  asNumber,
  asNumberOrNull,
  asText,
  asTextOrNull,
  type Row,
  type Sql,
} from './sql.ts';
import type { Tombstone } from './tombstones.ts';

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
  | 'clock-accepted'
  | 'held'
  | 'store-added'
  | 'adopted'
  | 'rebuilt'
  | 'run-failed'
  | 'log-removed';

/** Who does something: what a run's row says, or somebody without a run. */
export interface Who {
  /** As `user@host`. */
  readonly by: string;
  /** The user that started the process; undefined where nobody has said. */
  readonly uid?: number | undefined;
  /** The program and its command. */
  readonly via?: string | undefined;
}

/** What is to be written. */
export interface NewEvent {
  /** Row number; null of what is about the whole catalog. */
  readonly store: number | null;
  /** Null of what somebody does by hand, without a run. */
  readonly run: number | null;
  readonly what: EventWhat;
  readonly now: number;
  /** Who does it, where it is not whoever began the run. */
  readonly who?: Who | undefined;
  /** The tombstone it is about; without one, it is about a batch. */
  readonly tombstone?: string | undefined;
  /** The key it is about, where it is about no tombstone. */
  readonly key?: string | undefined;
  readonly batchAt?: number | undefined;
  readonly count?: number | undefined;
  readonly bytes?: number | undefined;
  /** The policies, or why by hand. */
  readonly cause?: string | undefined;
  readonly detail?: string | undefined;
  /** The tombstones that are made, or end, by it. */
  readonly rows?: readonly DigestRow[] | undefined;
}

/** An entry of the append-only log: about one tombstone, about a whole batch, or about what somebody did. */
export interface Event {
  /** Its place in the chain: entries have no gaps, and follow one another as they were committed. */
  readonly n: number;
  readonly at: number;
  readonly what: string;
  readonly store: string | null;
  /** The run that did it. */
  readonly run: string | null;
  /** Who ran it, as `user@host`; the user's number; the program and its command. */
  readonly by: string | null;
  readonly uid: number | null;
  readonly via: string | null;
  readonly tombstone: string | null;
  readonly key: string | null;
  readonly count: number | null;
  readonly bytes: number | null;
  readonly cause: string | null;
  readonly detail: string | null;
  /** In hex: the digest over its tombstones, the hash of the entry before, its own. */
  readonly rows: string | null;
  readonly prev: string;
  readonly hash: string;
}

/** Which entries are asked for. Times in ms since 1970: from `since` on, before `until`. */
export interface EventFilter {
  readonly store?: number | undefined;
  readonly since?: number | undefined;
  readonly until?: number | undefined;
}

/** A place among entries in the order of their times. */
export interface EventPlace {
  readonly at: number;
  readonly n: number;
}

/** Where the chain ends, and what retention has removed of its beginning. */
export interface LogEnds {
  readonly head: { readonly n: number; readonly hash: Buffer };
  readonly removed: { readonly n: number; readonly hash: Buffer };
  /** Tombstones that ended before are forgotten, ms. */
  readonly forgottenBefore: number;
}

/** An entry as it was hashed, and its hash. */
export type ChainedEvent = Chained & { readonly hash: Buffer };

const ENTRY = `e.n, e.at, e.what, s.name AS store, r.id AS run, e.by, e.uid, e.via, e.tombstone,
  coalesce(e.key, t.key) AS key, e.count, e.bytes, e.cause, e.detail, e.rows, e.prev, e.hash`;
const JOINS = `LEFT JOIN stores s ON s.n = e.store LEFT JOIN runs r ON r.n = e.run
  LEFT JOIN tombstones t ON t.id = e.tombstone`;
/** An entry of its own says how such a tombstone began: its batch's line is not about it. */
const OWN_BEGINNING = `('moved', 'moved-other', 'put-back', 'abandoned')`;

/** All statements about events. */
export class Events {
  readonly #sql: Sql;
  #runner: { run: number; who: Who | undefined } | undefined;

  constructor(sql: Sql) {
    this.#sql = sql;
  }

  /** Adds an entry to the chain, in the transaction of what it is about (R7): so their order is that of commits. */
  add(event: NewEvent): void {
    this.addAll([event]);
  }

  /** Adds entries in one go. */
  addAll(events: readonly NewEvent[]): void {
    if (events.length === 0) return;
    if (this.#sql.db.inTransaction) this.#append(events);
    else this.#sql.transaction(() => this.#append(events));
  }

  #append(events: readonly NewEvent[]): void {
    let { n, hash: prev } = this.ends().head;
    for (const event of events) {
      n++;
      const entry = this.#entry(event, n, prev);
      const hash = entryHash(entry);
      this.#sql.run(
        `INSERT INTO events (n, at, store, run, by, uid, via, what, tombstone, key, batch_at, count, bytes,
           cause, detail, rows, prev, hash)
         VALUES (@n, @at, @store, @run, @by, @uid, @via, @what, @tombstone, @key, @batchAt, @count, @bytes,
           @cause, @detail, @rows, @prev, @hash)`,
        { ...entry, hash },
      );
      this.#sql.run(`UPDATE log_ends SET head_n = ?, head_hash = ?`, n, hash);
      prev = hash;
    }
  }

  #entry(event: NewEvent, n: number, prev: Buffer): Chained {
    const who = event.who ?? this.#whoRuns(event.run);
    return {
      n,
      at: event.now,
      store: event.store,
      run: event.run,
      by: kept(who?.by),
      uid: who?.uid ?? null,
      via: kept(who?.via),
      what: event.what,
      tombstone: kept(event.tombstone),
      key: kept(event.key),
      batchAt: event.batchAt ?? null,
      count: event.count ?? null,
      bytes: event.bytes ?? null,
      cause: kept(event.cause),
      detail: kept(event.detail),
      rows: event.rows === undefined ? null : rowsDigest(event.rows),
      prev,
    };
  }

  #whoRuns(run: number | null): Who | undefined {
    if (run === null) return undefined;
    if (this.#runner?.run === run) return this.#runner.who;
    const row = this.#sql.all(`SELECT by, uid, via FROM runs WHERE n = ?`, run)[0];
    const who = row && {
      by: asText(row['by']),
      uid: asNumberOrNull(row['uid']) ?? undefined,
      via: asTextOrNull(row['via']) ?? undefined,
    };
    this.#runner = { run, who };
    return who;
  }

  /** Where the chain ends, and where it begins. */
  ends(): LogEnds {
    const row = this.#sql.all(
      `SELECT head_n, head_hash, removed_n, removed_hash, forgotten_before FROM log_ends`,
    )[0];
    return {
      head: { n: asNumber(row?.['head_n']), hash: asBytes(row?.['head_hash']) },
      removed: { n: asNumber(row?.['removed_n']), hash: asBytes(row?.['removed_hash']) },
      forgottenBefore: asNumber(row?.['forgotten_before']),
    };
  }

  /** The newest entry, as `log --check --seen` takes it. */
  headText(): string {
    const { n, hash } = this.ends().head;
    return `${n}:${hex(hash)}`;
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
        `SELECT ${ENTRY} FROM events e ${JOINS} WHERE e.tombstone = @id
         UNION ALL
         SELECT ${ENTRY} FROM events e ${JOINS}
         WHERE e.batch_at = @tombstonedAt AND e.tombstone IS NULL
           AND e.store = (SELECT n FROM stores WHERE name = @store)
           AND NOT EXISTS (SELECT 1 FROM events x WHERE x.tombstone = @id AND x.what IN ${OWN_BEGINNING})
         ORDER BY 1`,
        { id: tombstone.id, store: tombstone.store, tombstonedAt: tombstone.tombstonedAt },
      )
      .map(toEvent);
  }

  /**
   * Everything written about some tombstones of a store, about the batches that moved
   * and purged them, and about a key itself: at most `limit` entries after one, in order.
   */
  about(asked: {
    store: number;
    tombstones: readonly Pick<Tombstone, 'id' | 'tombstonedAt' | 'run' | 'endedAt' | 'state'>[];
    key: string | null;
    after: number;
    limit: number;
  }): Event[] {
    const members = asked.tombstones.map((t) => [
      t.id,
      t.tombstonedAt,
      t.run,
      t.state === 'purged' ? t.endedAt : null,
    ]);
    return this.#sql
      .all(
        `SELECT ${ENTRY} FROM events e ${JOINS} WHERE e.n IN (
           SELECT f.n FROM json_each(@members) m JOIN events f ON f.tombstone = m.value->>0
           UNION ALL
           SELECT f.n FROM json_each(@members) m JOIN events f ON f.batch_at = m.value->>1
           WHERE f.tombstone IS NULL AND f.store = @store
             AND NOT EXISTS (SELECT 1 FROM events x WHERE x.tombstone = m.value->>0 AND x.what IN ${OWN_BEGINNING})
           UNION ALL
           SELECT f.n FROM json_each(@members) m JOIN events f INDEXED BY events_by_store
             ON f.store = @store AND f.at = m.value->>3
           WHERE f.run = m.value->>2 AND f.what = 'purged' AND f.tombstone IS NULL
           UNION ALL
           SELECT f.n FROM events f WHERE f.key = @key AND +f.store = @store)
         AND e.n > @after ORDER BY e.n LIMIT @limit`,
        {
          store: asked.store,
          members: JSON.stringify(members),
          key: asked.key,
          after: asked.after,
          limit: asked.limit,
        },
      )
      .map(toEvent);
  }

  /** The place of the entry before the newest `count` in the order of time, of those up to a head; undefined: there are no more. */
  placeBefore(filter: EventFilter & { head: number }, count: number): EventPlace | undefined {
    const { table, where, values } = filtered(filter);
    const row = this.#sql.all(
      `SELECT e.at, e.n FROM ${table} WHERE ${where} AND e.at >= @since ORDER BY e.at DESC, e.n DESC LIMIT 1 OFFSET @count`,
      { ...values, since: filter.since ?? EVER, count },
    )[0];
    return row === undefined ? undefined : { at: asNumber(row['at']), n: asNumber(row['n']) };
  }

  /** A page of entries up to a head, in the order of time, after a place. */
  page(filter: EventFilter & { head: number; after: EventPlace | undefined; limit: number }): Event[] {
    const { table, where, values } = filtered(filter);
    const { at, n } = filter.after ?? { at: filter.since ?? EVER, n: 0 };
    return this.#sql
      .all(
        `SELECT ${ENTRY} FROM ${table} ${JOINS} WHERE ${where}
           AND (e.at, e.n) > (@at, @n) ORDER BY e.at, e.n LIMIT @limit`,
        { ...values, at, n, limit: filter.limit },
      )
      .map(toEvent);
  }

  /** The entries after one, as they were committed. */
  following(after: number, limit: number): Event[] {
    return this.#sql
      .all(`SELECT ${ENTRY} FROM events e ${JOINS} WHERE e.n > ? ORDER BY e.n LIMIT ?`, after, limit)
      .map(toEvent);
  }

  /** A part of the chain, as it was hashed. */
  chain(after: number, limit: number): ChainedEvent[] {
    return this.#sql
      .all(
        `SELECT n, at, store, run, by, uid, via, what, tombstone, key, batch_at, count, bytes, cause, detail,
           rows, prev, hash
         FROM events WHERE n > ? ORDER BY n LIMIT ?`,
        after,
        limit,
      )
      .map(toChained);
  }

  /** Whether there are entries beyond the end. */
  hasStrays(): boolean {
    return this.#sql.all(`SELECT n FROM events WHERE n > (SELECT head_n FROM log_ends) LIMIT 1`).length > 0;
  }

  /** Which of some tombstones have an entry of their own that says how they began. */
  begunApart(ids: readonly string[]): Set<string> {
    const rows = this.#sql.all(
      `SELECT tombstone FROM events WHERE tombstone IN (SELECT value FROM json_each(?)) AND what IN ${OWN_BEGINNING}`,
      JSON.stringify(ids),
    );
    return new Set(rows.map((row) => asText(row['tombstone'])));
  }

  /** Whether another batch of that run has an entry of that kind and time. */
  hasTwin({ n, at, store, run, what }: ChainedEvent): boolean {
    const found = this.#sql.all(
      `SELECT n FROM events INDEXED BY events_by_store
       WHERE store = @store AND at = @at AND run = @run AND what = @what AND tombstone IS NULL AND n != @n LIMIT 1`,
      { n, at, store, run, what },
    );
    return found.length > 0;
  }

  /**
   * Removes entries of before a time from the chain's beginning, at most `limit`, once the
   * oldest is older by `slack`, ms; what was last removed stays on record, and in an entry of its own.
   * Says how many. An entry from the future, by `now`, is as old as those around it.
   */
  forget(
    before: number,
    limit: number,
    { slack, ...about }: { store: number; run: number; now: number; slack: number },
  ): number {
    return this.#sql.transaction(() => {
      const { removed } = this.ends();
      const oldest = this.#sql.all(
        `SELECT n, at, hash FROM events WHERE n > ? ORDER BY n LIMIT ?`,
        removed.n,
        limit,
      );
      const first = oldest.find((row) => asNumber(row['at']) <= about.now);
      if (first === undefined || asNumber(first['at']) >= before - slack) return 0;
      let last = first;
      for (const row of oldest) {
        const at = asNumber(row['at']);
        if (at < before) last = row;
        else if (at <= about.now) break;
      }
      const n = asNumber(last['n']);
      const hash = asBytes(last['hash']);
      this.#sql.run(`UPDATE log_ends SET removed_n = ?, removed_hash = ?`, n, hash);
      this.#sql.run(`DELETE FROM events WHERE n <= ?`, n);
      this.forgotTombstones(before);
      const count = n - removed.n;
      this.add({ ...about, what: 'log-removed', count, detail: `up to ${n}, whose hash is ${hex(hash)}` });
      return count;
    });
  }

  /** Notes that tombstones which ended before a time may be forgotten: what tells of them can't be compared any more. */
  forgotTombstones(before: number): void {
    this.#sql.run(`UPDATE log_ends SET forgotten_before = max(forgotten_before, ?)`, before);
  }
}

/** Before all times. */
const EVER = -8.64e15;

function filtered({ store, until, head }: EventFilter & { head: number }): {
  table: string;
  where: string;
  values: Record<string, unknown>;
} {
  const values = { head, ...(until === undefined ? {} : { until }) };
  const where = until === undefined ? '+e.n <= @head' : '+e.n <= @head AND e.at < @until';
  if (store === undefined) return { table: 'events e INDEXED BY events_by_time', where, values };
  return {
    table: 'events e INDEXED BY events_by_store',
    where: `e.store = @store AND ${where}`,
    values: { ...values, store },
  };
}

function toEvent(row: Row): Event {
  const rows = asBytesOrNull(row['rows']);
  return {
    n: asNumber(row['n']),
    at: asNumber(row['at']),
    what: asText(row['what']),
    store: asTextOrNull(row['store']),
    run: asTextOrNull(row['run']),
    by: asTextOrNull(row['by']),
    uid: asNumberOrNull(row['uid']),
    via: asTextOrNull(row['via']),
    tombstone: asTextOrNull(row['tombstone']),
    key: asTextOrNull(row['key']),
    count: asNumberOrNull(row['count']),
    bytes: asNumberOrNull(row['bytes']),
    cause: asTextOrNull(row['cause']),
    detail: asTextOrNull(row['detail']),
    rows: rows === null ? null : hex(rows),
    prev: hex(asBytes(row['prev'])),
    hash: hex(asBytes(row['hash'])),
  };
}

function toChained(row: Row): ChainedEvent {
  return {
    n: asNumber(row['n']),
    at: asNumber(row['at']),
    store: asNumberOrNull(row['store']),
    run: asNumberOrNull(row['run']),
    by: asTextOrNull(row['by']),
    uid: asNumberOrNull(row['uid']),
    via: asTextOrNull(row['via']),
    what: asText(row['what']),
    tombstone: asTextOrNull(row['tombstone']),
    key: asTextOrNull(row['key']),
    batchAt: asNumberOrNull(row['batch_at']),
    count: asNumberOrNull(row['count']),
    bytes: asNumberOrNull(row['bytes']),
    cause: asTextOrNull(row['cause']),
    detail: asTextOrNull(row['detail']),
    rows: asBytesOrNull(row['rows']),
    prev: asBytes(row['prev']),
    hash: asBytes(row['hash']),
  };
}
