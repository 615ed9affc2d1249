import Database from 'better-sqlite3';
import type { Key } from '../domain/key.ts';
import { type Revision, revisionText } from '../domain/revision.ts';
import { asNumber, asText, asTextOrNull, keyOf, type Row, revisionOf, Sql } from './sql.ts';

/** A key as a listing saw it; `id` is that of a pending copy, or null of a live object. */
export interface ScratchKey {
  readonly key: string;
  readonly size: number;
  readonly id: string | null;
}

/**
 * A private table on disk, gone when it is closed: it sorts and joins listings
 * that may not fit into memory. A live object hides pending copies of its key,
 * and a newer pending copy hides an older one.
 */
export class ScratchKeys {
  readonly #sql: Sql;

  constructor() {
    const db = new Database('');
    db.pragma('journal_mode = OFF');
    db.pragma('synchronous = OFF');
    db.exec('CREATE TABLE keys (key TEXT PRIMARY KEY, size INTEGER NOT NULL, id TEXT) STRICT, WITHOUT ROWID');
    this.#sql = new Sql(db, 'scratch table');
  }

  add(rows: readonly ScratchKey[]): void {
    this.#sql.run(
      `INSERT INTO keys (key, size, id) SELECT value->>0, value->>1, value->>2 FROM json_each(?) WHERE true
       ON CONFLICT DO UPDATE SET size = excluded.size, id = excluded.id
       WHERE keys.id IS NOT NULL AND (excluded.id IS NULL OR excluded.id > keys.id)`,
      JSON.stringify(rows.map((row) => [row.key, row.size, row.id])),
    );
  }

  /** Everything, in key order. */
  *pages(): Generator<ScratchKey[]> {
    let after = '';
    for (;;) {
      const page = this.#sql
        .all(`SELECT key, size, id FROM keys WHERE key > ? ORDER BY key LIMIT 1000`, after)
        .map((row) => ({
          key: asText(row['key']),
          size: asNumber(row['size']),
          id: asTextOrNull(row['id']),
        }));
      if (page.length === 0) return;
      yield page;
      after = page.at(-1)?.key ?? '';
    }
  }

  close(): void {
    this.#sql.db.close();
  }
}

/** A key of a session's view. */
export interface ViewedKey {
  readonly key: Key;
  /** Bytes. */
  readonly size: number;
  readonly revision: Revision;
}

/** A private table on disk, gone when it is closed: what a session has listed. Memory does not grow with it. */
export class ScratchView {
  readonly #sql: Sql;

  constructor() {
    const db = new Database('');
    db.pragma('journal_mode = OFF');
    db.pragma('synchronous = OFF');
    db.exec(`CREATE TABLE listed (key TEXT NOT NULL, size INTEGER NOT NULL, revision TEXT NOT NULL) STRICT;
             CREATE TABLE view (key TEXT PRIMARY KEY, size INTEGER NOT NULL, revision TEXT NOT NULL) STRICT, WITHOUT ROWID`);
    this.#sql = new Sql(db, 'scratch table');
  }

  add(rows: readonly ViewedKey[]): void {
    this.#sql.run(
      `INSERT INTO listed (key, size, revision) SELECT value->>0, value->>1, value->>2 FROM json_each(?)`,
      JSON.stringify(rows.map(({ key, size, revision }) => [key, size, revisionText(revision)])),
    );
  }

  /** Sorts what was added; after this nothing is. Gives how many keys and bytes there are. */
  finish(): { count: number; bytes: number } {
    // Sorted first, it is written in order: far quicker than each key into its place.
    this.#sql.run(`INSERT OR REPLACE INTO view SELECT key, size, revision FROM listed ORDER BY key, rowid`);
    this.#sql.run(`DELETE FROM listed`);
    return {
      count: this.#sql.number(`SELECT count(*) FROM view`),
      bytes: this.#sql.number(`SELECT coalesce(sum(size), 0) FROM view`),
    };
  }

  get(key: string): ViewedKey | undefined {
    return this.#sql.all(`SELECT key, size, revision FROM view WHERE key = ?`, key).map(viewed)[0];
  }

  /** Everything, in key order. */
  *pages(): Generator<ViewedKey[]> {
    let after = '';
    for (;;) {
      const page = this.#sql
        .all(`SELECT key, size, revision FROM view WHERE key > ? ORDER BY key LIMIT 1000`, after)
        .map(viewed);
      if (page.length === 0) return;
      yield page;
      after = page.at(-1)?.key ?? '';
    }
  }

  close(): void {
    this.#sql.db.close();
  }
}

/** A private table on disk, gone when it is closed: the pending copies that were listed, and what is none. */
export class ScratchCopies {
  readonly #sql: Sql;

  constructor() {
    const db = new Database('');
    db.pragma('journal_mode = OFF');
    db.pragma('synchronous = OFF');
    db.exec(`CREATE TABLE copies (id TEXT NOT NULL, key TEXT NOT NULL) STRICT;
             CREATE TABLE refused (path TEXT PRIMARY KEY) STRICT, WITHOUT ROWID`);
    this.#sql = new Sql(db, 'scratch table');
  }

  add(copies: readonly { id: string; key: string }[]): void {
    this.#sql.run(
      `INSERT INTO copies (id, key) SELECT value->>0, value->>1 FROM json_each(?)`,
      JSON.stringify(copies.map(({ id, key }) => [id, key])),
    );
  }

  /** Sorts what was added; after this nothing is. */
  finish(): void {
    this.#sql.run(`CREATE INDEX copies_by_id ON copies (id, key)`);
  }

  /** Those that were not listed, by their place in the list. */
  unlisted(rows: readonly { id: string; key: string }[]): number[] {
    return this.#sql
      .all(
        `SELECT j.key AS i FROM json_each(?) j
         WHERE NOT EXISTS (SELECT 1 FROM copies c WHERE c.id = j.value->>0 AND c.key = j.value->>1)`,
        JSON.stringify(rows.map(({ id, key }) => [id, key])),
      )
      .map((row) => asNumber(row['i']));
  }

  addRefused(paths: readonly string[]): void {
    this.#sql.run(
      `INSERT OR IGNORE INTO refused (path) SELECT value FROM json_each(?)`,
      JSON.stringify(paths),
    );
  }

  /** Those of the paths that were refused before. */
  refusedOf(paths: readonly string[]): ReadonlySet<string> {
    const rows = this.#sql.all(
      `SELECT path FROM refused WHERE path IN (SELECT value FROM json_each(?))`,
      JSON.stringify(paths),
    );
    return new Set(rows.map((row) => asText(row['path'])));
  }

  hasRefused(): boolean {
    return this.#sql.all(`SELECT 1 FROM refused LIMIT 1`).length > 0;
  }

  close(): void {
    this.#sql.db.close();
  }
}

/** A pending copy as a listing found it. */
export interface FoundCopy {
  readonly id: string;
  readonly key: Key;
  readonly revision: Revision;
  /** By the store's own time, ms since 1970. */
  readonly since: number;
}

/** A private table on disk, gone when it is closed: pending copies as they were listed, to be read in the order of their ids. */
export class ScratchFound {
  readonly #sql: Sql;

  constructor() {
    const db = new Database('');
    db.pragma('journal_mode = OFF');
    db.pragma('synchronous = OFF');
    db.exec(`CREATE TABLE listed (id TEXT NOT NULL, key TEXT NOT NULL, revision TEXT NOT NULL, since INTEGER NOT NULL) STRICT;
             CREATE TABLE found (id TEXT NOT NULL, key TEXT NOT NULL, revision TEXT NOT NULL, since INTEGER NOT NULL,
               PRIMARY KEY (id, key)) STRICT, WITHOUT ROWID`);
    this.#sql = new Sql(db, 'scratch table');
  }

  add(copies: readonly FoundCopy[]): void {
    this.#sql.run(
      `INSERT INTO listed (id, key, revision, since) SELECT value->>0, value->>1, value->>2, value->>3 FROM json_each(?)`,
      JSON.stringify(copies.map(({ id, key, revision, since }) => [id, key, revisionText(revision), since])),
    );
  }

  /** Sorts what was added; after this nothing is. */
  finish(): void {
    this.#sql.run(`INSERT OR REPLACE INTO found SELECT * FROM listed ORDER BY id, key`);
    this.#sql.run(`DELETE FROM listed`);
  }

  /** At most so many, after one, in the order of their ids. */
  page(after: Pick<FoundCopy, 'id' | 'key'> | undefined, limit: number): FoundCopy[] {
    return this.#sql
      .all(
        `SELECT id, key, revision, since FROM found WHERE (id, key) > (?, ?) ORDER BY id, key LIMIT ?`,
        after?.id ?? '',
        after?.key ?? '',
        limit,
      )
      .map((row) => ({
        id: asText(row['id']),
        key: keyOf(row['key']),
        revision: revisionOf(row['revision']),
        since: asNumber(row['since']),
      }));
  }

  close(): void {
    this.#sql.db.close();
  }
}

function viewed(row: Row): ViewedKey {
  return {
    key: keyOf(row['key']),
    size: asNumber(row['size']),
    revision: revisionOf(row['revision']),
  };
}
