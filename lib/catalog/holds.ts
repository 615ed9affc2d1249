import { asNumberOrNull, asText, asTextOrNull, type Row, type Sql } from './sql.ts';

/** A hold or exemption as the cache has it: the control object without its members. */
export interface CachedHold {
  /** Its name in `holds/`. */
  readonly name: string;
  readonly kind: 'hold' | 'exempt';
  readonly blocks: 'purge' | 'sweep';
  readonly scope: 'keys' | 'prefix' | 'ids';
  readonly prefix: string | null;
  readonly until: number | null;
  readonly reason: string;
  readonly by: string;
  readonly host: string;
  readonly createdAt: string;
  readonly problem: string | null;
}

/** What keeps one object: the hold, by its place in the list that was asked about. */
export interface Claim {
  readonly hold: CachedHold;
  readonly index: number;
}

/** Whether it keeps everything from something: a pause. */
export function isPause({ kind, scope, prefix }: CachedHold): boolean {
  return kind === 'hold' && scope === 'prefix' && prefix === '';
}

const COLUMNS = `h.name, h.kind, h.blocks, h.scope, h.prefix, h.until, h.reason, h.by, h.host,
  h.created_at AS createdAt, h.problem`;

/** The cache of a store's holds and exemptions. Holds never change once written. */
export class Holds {
  readonly #sql: Sql;

  constructor(sql: Sql) {
    this.#sql = sql;
  }

  /** The names that are cached. */
  names(store: number): string[] {
    return this.#sql
      .all(`SELECT name FROM holds WHERE store = ? ORDER BY name`, store)
      .map((row) => asText(row['name']));
  }

  /** Those that could not be understood when they were read, and why. */
  unclear(store: number): { name: string; problem: string }[] {
    return this.#sql
      .all(`SELECT name, problem FROM holds WHERE store = ? AND problem IS NOT NULL`, store)
      .map((row) => ({ name: asText(row['name']), problem: asText(row['problem']) }));
  }

  /** Adds one that the store has; members are its keys or ids. */
  add(store: number, hold: CachedHold, members: readonly string[]): void {
    this.#sql.run(
      `INSERT OR IGNORE INTO holds (store, name, kind, blocks, scope, prefix, until, reason, by, host, created_at, problem)
       VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
      store,
      hold.name,
      hold.kind,
      hold.blocks,
      hold.scope,
      hold.prefix,
      hold.until,
      hold.reason,
      hold.by,
      hold.host,
      hold.createdAt,
      hold.problem,
    );
    this.#sql.run(
      `INSERT OR IGNORE INTO hold_members (store, member, name) SELECT ?, value, ? FROM json_each(?)`,
      store,
      hold.name,
      JSON.stringify(members),
    );
  }

  /** Drops one that the store no longer has. */
  drop(store: number, name: string): void {
    this.#sql.run(`DELETE FROM holds WHERE store = ? AND name = ?`, store, name);
  }

  /** Names of exemptions that had ended before a time, and that no restore under way is about. */
  endedExemptions(store: number, before: number, limit: number): string[] {
    return this.#sql
      .all(
        `SELECT h.name FROM holds h WHERE h.store = ? AND h.kind = 'exempt' AND h.until < ? AND h.problem IS NULL
           AND NOT EXISTS (SELECT 1 FROM restores s WHERE s.exemption = h.name) ORDER BY h.name LIMIT ?`,
        store,
        before,
        limit,
      )
      .map((row) => asText(row['name']));
  }

  /** Those that are in force. */
  inForce(store: number, now: number): CachedHold[] {
    return this.#sql
      .all(
        `SELECT ${COLUMNS} FROM holds h WHERE h.store = ? AND (h.until IS NULL OR h.until > ?) ORDER BY name`,
        store,
        now,
      )
      .map(toHold);
  }

  /** Which of the objects are covered, and by what. `index` is an object's place in the list. */
  covering(
    store: number,
    now: number,
    objects: readonly { key: string; id?: string | undefined }[],
  ): Claim[] {
    if (this.#sql.all(`SELECT 1 FROM holds WHERE store = ? LIMIT 1`, store).length === 0) return [];
    // CROSS JOIN: each object looks for its holds. A large restore makes a million members.
    const rows = this.#sql.all(
      `WITH o AS MATERIALIZED (SELECT key AS i, value->>0 AS k, value->>1 AS id FROM json_each(@objects))
       SELECT o.i AS i, ${COLUMNS} FROM o
         CROSS JOIN hold_members m ON m.store = @store AND m.member = o.k
         JOIN holds h ON h.store = @store AND h.name = m.name AND h.scope = 'keys'
         WHERE h.until IS NULL OR h.until > @now
       UNION ALL
       SELECT o.i, ${COLUMNS} FROM o
         CROSS JOIN hold_members m ON m.store = @store AND m.member = o.id
         JOIN holds h ON h.store = @store AND h.name = m.name AND h.scope = 'ids'
         WHERE h.until IS NULL OR h.until > @now
       UNION ALL
       SELECT o.i, ${COLUMNS} FROM holds h
         JOIN o ON substr(CAST(o.k AS BLOB), 1, length(CAST(h.prefix AS BLOB))) = CAST(h.prefix AS BLOB)
         WHERE h.store = @store AND h.scope = 'prefix' AND (h.until IS NULL OR h.until > @now)`,
      { objects: JSON.stringify(objects.map((o) => [o.key, o.id ?? null])), store, now },
    );
    return rows.map((row) => ({ hold: toHold(row), index: Number(row['i']) }));
  }
}

function toHold(row: Row): CachedHold {
  const { scope } = row;
  return {
    name: asText(row['name']),
    kind: row['kind'] === 'exempt' ? 'exempt' : 'hold',
    blocks: row['blocks'] === 'purge' ? 'purge' : 'sweep',
    scope: scope === 'keys' || scope === 'ids' ? scope : 'prefix',
    prefix: asTextOrNull(row['prefix']),
    until: asNumberOrNull(row['until']),
    reason: asText(row['reason']),
    by: asText(row['by']),
    host: asText(row['host']),
    createdAt: asText(row['createdAt']),
    problem: asTextOrNull(row['problem']),
  };
}
