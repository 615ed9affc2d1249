import Database from 'better-sqlite3';
import { errnoOf, messageWithCode, TombstonedError } from '../domain/errors.ts';
import { asNumber, asText, type Row } from './sql.ts';

/** `PRAGMA application_id` of a manifest: "TMBF". */
const APPLICATION_ID = 0x54_4d_42_46;
const VERSION = 2;

/** A file that a fetch has put into its target, and that is whole while it stays so. */
export interface FetchedFile {
  readonly key: string;
  /** As `revisionText` writes it: what the store had. */
  readonly revision: string;
  /** Bytes. */
  readonly size: number;
  /** Of the file in the target, ns since 1970; it may have been rounded there. */
  readonly mtimeNs: bigint;
  /** Of the file in the target: tells it from another of the same size and time. */
  readonly inode: bigint;
}

/**
 * What a fetch knows about its target, in a database there. A file's bytes are
 * durable before it is noted as `placing`, and its name is before it counts as
 * whole: what a killed fetch left is told apart by that. One process at a time
 * has it open.
 */
export class FetchManifest {
  readonly #db: Database.Database;
  readonly #file: string;
  readonly #statements = new Map<string, Database.Statement>();

  /** Opens it, or makes it. Throws `conflict` when another process has it open. */
  static open(file: string): FetchManifest {
    let db: Database.Database | undefined;
    try {
      db = new Database(file, { timeout: 0 });
      prepare(db, file);
      return new FetchManifest(db, file);
    } catch (error) {
      db?.close();
      throw manifestError(file, error);
    }
  }

  private constructor(db: Database.Database, file: string) {
    this.#db = db;
    this.#file = file;
  }

  /** Whether nothing is known as whole. */
  isEmpty(): boolean {
    return this.#all(`SELECT 1 FROM files LIMIT 1`).length === 0;
  }

  /** What is known as whole, of these keys. */
  find(keys: readonly string[]): Map<string, FetchedFile> {
    const rows = this.#all(
      `SELECT f.* FROM json_each(?) AS asked JOIN files AS f ON f.key = asked.value`,
      JSON.stringify(keys),
    );
    return new Map(rows.map((row) => [asText(row['key']), fileOf(row)]));
  }

  /** Files of which it is not known whether their names were made, or are durable. */
  placing(): FetchedFile[] {
    // One row a batch: it is read after a kill only, and written for each file.
    return this.#all(`SELECT ${MEMBERS} FROM placing, json_each(placing.files) AS file ORDER BY key`).map(
      fileOf,
    );
  }

  /** Notes that `settled` are whole, and that `next` are about to get their names: in one commit, durable. */
  advance(settled: readonly FetchedFile[], next: readonly FetchedFile[]): void {
    this.advanceTo(filesText(settled), filesText(next));
  }

  /** The same of files as `filesText` writes them. */
  advanceTo(settled: string, next: string): void {
    this.#guard(() =>
      this.#db
        .transaction(() => {
          this.#run(
            `INSERT OR REPLACE INTO files (key, revision, size, mtime, inode)
             SELECT ${MEMBERS} FROM json_each(?) AS file`,
            settled,
          );
          this.#run(`DELETE FROM placing`);
          this.#run(`INSERT INTO placing (files) VALUES (?)`, next);
        })
        .immediate(),
    );
  }

  /** Forgets files that are no longer there. */
  forget(keys: readonly string[]): void {
    this.#run(`DELETE FROM files WHERE key IN (SELECT value FROM json_each(?))`, JSON.stringify(keys));
  }

  /** The next keys that are known as whole, in key order: after one, and up to another where that is given. */
  keysBetween(after: string, upTo: string | undefined, most: number): string[] {
    const rows =
      upTo === undefined
        ? this.#all(`SELECT key FROM files WHERE key > ? ORDER BY key LIMIT ?`, after, most)
        : this.#all(
            `SELECT key FROM files WHERE key > ? AND key <= ? ORDER BY key LIMIT ?`,
            after,
            upTo,
            most,
          );
    return rows.map((row) => asText(row['key']));
  }

  close(): void {
    this.#db.close();
  }

  #run(sql: string, ...values: unknown[]): void {
    this.#guard(() => this.#statement(sql).run(...values));
  }

  #all(sql: string, ...values: unknown[]): Row[] {
    return this.#guard(() =>
      this.#statement(sql)
        .all(...values)
        .filter((row): row is Row => typeof row === 'object' && row !== null),
    );
  }

  #statement(sql: string): Database.Statement {
    const known = this.#statements.get(sql);
    if (known !== undefined) return known;
    const statement = this.#db.prepare(sql);
    this.#statements.set(sql, statement);
    return statement;
  }

  #guard<T>(work: () => T): T {
    try {
      return work();
    } catch (error) {
      throw manifestError(this.#file, error);
    }
  }
}

/** How SQL reads a file of those in a text. */
const MEMBERS = `value->>0 AS key, value->>1 AS revision, value->>2 AS size, value->>3 AS mtime, value->>4 AS inode`;

/** Files as JSON text. */
export function filesText(files: readonly FetchedFile[]): string {
  return JSON.stringify(
    files.map(({ key, revision, size, mtimeNs, inode }) => [key, revision, size, `${mtimeNs}`, `${inode}`]),
  );
}

function prepare(db: Database.Database, file: string): void {
  db.pragma('locking_mode = EXCLUSIVE');
  db.exec('BEGIN EXCLUSIVE; COMMIT'); // takes the lock, for as long as this is open
  const id = db.pragma('application_id', { simple: true });
  const version = db.pragma('user_version', { simple: true });
  const isNew = id === 0 && version === 0 && db.prepare('SELECT 1 FROM sqlite_schema').get() === undefined;
  if (!isNew && (id !== APPLICATION_ID || version !== VERSION)) {
    throw new TombstonedError('failed', `${file} is no manifest of a fetch that this version knows`, {
      key: file,
      hint: 'fetch into another directory, or with the program that made it',
    });
  }
  db.pragma('journal_mode = WAL');
  db.pragma('synchronous = FULL');
  if (!isNew) return;
  db.transaction(() => {
    db.exec(`CREATE TABLE files (key TEXT PRIMARY KEY, revision TEXT NOT NULL, size INTEGER NOT NULL,
               mtime TEXT NOT NULL, inode TEXT NOT NULL) STRICT, WITHOUT ROWID`);
    db.exec(`CREATE TABLE placing (files TEXT NOT NULL) STRICT`);
    db.pragma(`application_id = ${APPLICATION_ID}`);
    db.pragma(`user_version = ${VERSION}`);
  }).immediate();
}

function fileOf(row: Row): FetchedFile {
  return {
    key: asText(row['key']),
    revision: asText(row['revision']),
    size: asNumber(row['size']),
    mtimeNs: BigInt(asText(row['mtime'])),
    inode: BigInt(asText(row['inode'])),
  };
}

function manifestError(file: string, error: unknown): unknown {
  const code = errnoOf(error);
  if (error instanceof TombstonedError || code === undefined) return error;
  if (code.startsWith('SQLITE_BUSY')) {
    return new TombstonedError('conflict', `another fetch into this directory is under way (${file})`, {
      key: file,
      hint: 'wait for it, or fetch into another directory',
      cause: error,
    });
  }
  const isDamaged = code.startsWith('SQLITE_CORRUPT') || code.startsWith('SQLITE_NOTADB');
  return new TombstonedError('failed', `the fetch's manifest ${file}: ${messageWithCode(error)}`, {
    key: file,
    hint: isDamaged
      ? 'fetch into another directory: what is whole in this one can no longer be told'
      : 'check the free space and the permissions there, and run it again: it goes on from here',
    cause: error,
  });
}
