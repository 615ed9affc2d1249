import fs from 'node:fs';
import { setImmediate } from 'node:timers/promises';
import { promisify } from 'node:util';
import Database from 'better-sqlite3';
import type { Key } from '../domain/key.ts';
import { type Revision, revisionText } from '../domain/revision.ts';
import { SortedRows } from './sorted-rows.ts';
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
  readonly #sql = openScratch();

  constructor() {
    this.#sql.db.exec(
      'CREATE TABLE keys (key TEXT PRIMARY KEY, size INTEGER NOT NULL, id TEXT) STRICT, WITHOUT ROWID',
    );
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

  async close(): Promise<void> {
    await closeScratch(this.#sql);
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
  readonly #sql = openScratch();
  readonly #rows = new SortedRows(this.#sql, ['key'], { size: 'INTEGER', revision: 'TEXT' });

  add(rows: readonly ViewedKey[]): void {
    this.#rows.add(rows.map(({ key, size, revision }) => [key, size, revisionText(revision)]));
  }

  /** Sorts what was added; after this nothing is. Gives how many keys and bytes there are. */
  async finish(): Promise<{ count: number; bytes: number }> {
    await this.#rows.finish();
    let [count, bytes] = [0, 0];
    for (let after = ''; ; await setImmediate()) {
      const part = this.#sql.all(
        `SELECT count(*) AS count, sum(size) AS bytes, max(key) AS last
         FROM (SELECT key, size FROM sorted WHERE key > ? ORDER BY key LIMIT 10000)`,
        after,
      )[0];
      if (part === undefined || part['last'] === null) return { count, bytes };
      count += asNumber(part['count']);
      bytes += asNumber(part['bytes']);
      after = asText(part['last']);
    }
  }

  get(key: string): ViewedKey | undefined {
    return this.#sql.all(`SELECT key, size, revision FROM sorted WHERE key = ?`, key).map(viewed)[0];
  }

  /** Everything, in key order. */
  *pages(): Generator<ViewedKey[]> {
    let after = '';
    for (;;) {
      const page = this.#sql
        .all(`SELECT key, size, revision FROM sorted WHERE key > ? ORDER BY key LIMIT 500`, after)
        .map(viewed);
      if (page.length === 0) return;
      yield page;
      after = page.at(-1)?.key ?? '';
    }
  }

  async close(): Promise<void> {
    await closeScratch(this.#sql);
  }
}

/** A private table on disk, gone when it is closed: the pending copies that were listed, and what is none. */
export class ScratchCopies {
  readonly #sql = openScratch();
  readonly #copies = new SortedRows(this.#sql, ['id', 'key']);

  constructor() {
    this.#sql.db.exec(`CREATE TABLE refused (path TEXT PRIMARY KEY) STRICT, WITHOUT ROWID`);
  }

  add(copies: readonly { id: string; key: string }[]): void {
    this.#copies.add(copies.map(({ id, key }) => [id, key]));
  }

  /** Sorts what was added; after this nothing is. */
  async finish(): Promise<void> {
    await this.#copies.finish();
  }

  /** Those that were not listed, by their place in the list. */
  unlisted(rows: readonly { id: string; key: string }[]): number[] {
    return this.#sql
      .all(
        `SELECT j.key AS i FROM json_each(?) j
         WHERE NOT EXISTS (SELECT 1 FROM sorted c WHERE c.id = j.value->>0 AND c.key = j.value->>1)`,
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

  async close(): Promise<void> {
    await closeScratch(this.#sql);
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
  readonly #sql = openScratch();
  readonly #found = new SortedRows(this.#sql, ['id', 'key'], { revision: 'TEXT', since: 'INTEGER' });

  add(copies: readonly FoundCopy[]): void {
    this.#found.add(copies.map(({ id, key, revision, since }) => [id, key, revisionText(revision), since]));
  }

  /** Sorts what was added; after this nothing is. */
  async finish(): Promise<void> {
    await this.#found.finish();
  }

  /** At most so many, after one, in the order of their ids. */
  page(after: Pick<FoundCopy, 'id' | 'key'> | undefined, limit: number): FoundCopy[] {
    return this.#sql
      .all(
        `SELECT id, key, revision, since FROM sorted WHERE (id, key) > (?, ?) ORDER BY id, key LIMIT ?`,
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

  async close(): Promise<void> {
    await closeScratch(this.#sql);
  }
}

function openScratch(): Sql {
  const db = new Database('');
  db.pragma('journal_mode = OFF');
  db.pragma('synchronous = OFF');
  db.pragma('cache_size = -8000');
  return new Sql(db, 'scratch table');
}

const OPEN_FILES = '/proc/self/fd';
/** How Linux shows the file of such a table: SQLite takes its name as soon as it is made. */
const NAMELESS = /\/etilqs_[^/]* \(deleted\)$/;
/** Opens a file only to keep it: to close another one by mistake takes no locks of this process from it, and no pipe is waited for. */
const O_PATH = 0o10000000;
const closeFile = promisify(fs.close);

/**
 * Closes a private table. Who closes its file last waits until its space is freed, which takes 30 ms
 * and more where it had a million rows: that is a thread for files, not this one.
 */
async function closeScratch({ db }: Sql): Promise<void> {
  const files = keptFiles();
  try {
    db.close();
  } finally {
    // Nothing was written through these.
    await Promise.allSettled(files.map(async (file) => closeFile(file)));
  }
}

/** The files of this process's private tables, opened once more. Where that can't be, a file is freed by who closes its table. */
function keptFiles(): number[] {
  const paths = orNothing(() => fs.readdirSync(OPEN_FILES).map((name) => `${OPEN_FILES}/${name}`)) ?? [];
  return paths
    .filter((path) => NAMELESS.test(orNothing(() => fs.readlinkSync(path)) ?? ''))
    .flatMap((path) => orNothing(() => fs.openSync(path, O_PATH)) ?? []);
}

/** Looks at files that may be closed meanwhile. */
function orNothing<T>(look: () => T): T | undefined {
  try {
    return look();
  } catch {
    return undefined;
  }
}

function viewed(row: Row): ViewedKey {
  return {
    key: keyOf(row['key']),
    size: asNumber(row['size']),
    revision: revisionOf(row['revision']),
  };
}
