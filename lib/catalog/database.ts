import {
  chmodSync,
  closeSync,
  existsSync,
  fsyncSync,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  readSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs';
import path from 'node:path';
import Database from 'better-sqlite3';
import { errnoOf, messageWithCode, TombstonedError } from '../domain/errors.ts';
import { hashOfValues } from './log-chain.ts';
import { MIGRATIONS } from './migrations.ts';

/** `PRAGMA application_id` of a catalog: "TMBS". */
const APPLICATION_ID = 0x54_4d_42_53;
/** What every SQLite database begins with. Bytes. */
const HEADER_BYTES = 100;
/** How long a statement waits for another process's transaction, ms. */
const BUSY_TIMEOUT_MS = 30_000;
/** The same of who only looks, and waits for nobody but at the very start. ms. */
const LOOK_TIMEOUT_MS = 5000;
/** Room kept beside the catalog, so that a purge can commit when the disk is full. Bytes. */
export const RESERVE_BYTES = 8 * 1024 * 1024;

/** What a catalog that is made is called, and when it is made (ms). */
export interface NewCatalog {
  readonly uuid: string;
  readonly now: number;
}

/**
 * Opens a catalog's database: WAL, `synchronous=FULL`, foreign keys, migrated to
 * the newest schema. `fresh` makes one where there is none; without it that is an
 * error. Throws `failed`, with the file as key, and leaves the file as it is, for
 * anything that is no catalog of ours or of a newer program.
 */
export function openDatabase(
  file: string,
  fresh?: NewCatalog,
  patience = BUSY_TIMEOUT_MS,
): Database.Database {
  try {
    return open(file, fresh, patience);
  } catch (error) {
    throw catalogError(file, error);
  }
}

/**
 * Opens a catalog's database to look at it: nothing is written, and the schema stays
 * as it is, be it older or newer. Throws as `openDatabase` does.
 */
export function openToLook(file: string): Database.Database {
  try {
    if (!isThere(file)) throw noCatalog(file);
    refuseLeftWal(file, 'it is a backup');
    const db = new Database(file, { fileMustExist: true, timeout: LOOK_TIMEOUT_MS });
    try {
      db.pragma('query_only = ON');
      keepSettings(db);
      checkId(db, file);
      return db;
    } catch (error) {
      db.close();
      throw error;
    }
  } catch (error) {
    throw catalogError(file, error);
  }
}

/** Throws `failed` unless a catalog has the schema of this program. */
export function requireNewest(db: Database.Database, file: string): void {
  check(db, file);
  if (versionOf(db) === MIGRATIONS.length) return;
  throw new TombstonedError(
    'failed',
    `the catalog ${file} has schema ${versionOf(db)}, and this program writes ${MIGRATIONS.length}`,
    { key: file, hint: 'the next sweep or purge brings it up to date; keep a copy of it first' },
  );
}

/** Whether there is a file for `openDatabase`. Throws as it does for what can be no database. */
export function databaseExists(file: string): boolean {
  try {
    return isThere(file);
  } catch (error) {
    throw catalogError(file, error);
  }
}

function open(file: string, fresh: NewCatalog | undefined, patience: number): Database.Database {
  if (!isThere(file)) {
    if (fresh === undefined) throw noCatalog(file);
    refuseLeftWal(file, 'there is none');
    make(file, fresh);
  }
  refuseLeftWal(file, 'it is a backup');
  const db = new Database(file, { fileMustExist: true, timeout: patience });
  try {
    check(db, file);
    configure(db);
    if (versionOf(db) !== MIGRATIONS.length) db.transaction(() => migrate(db, file)).immediate();
    return db;
  } catch (error) {
    db.close();
    throw error;
  }
}

function noCatalog(file: string): TombstonedError {
  return new TombstonedError('failed', `there is no catalog at ${file}`, {
    key: file,
    hint: 'run `tombstonectl init --store NAME`, or set `catalog` in the config; if it was lost: `tombstonectl rebuild --take-over`',
  });
}

/**
 * Throws where a write-ahead log is beside no catalog, or beside a backup that was brought back:
 * SQLite would take what it says for this one's. Ours have their log from the first moment
 * on, as their header says; a backup says that it has none.
 */
export function refuseLeftWal(file: string, why: 'there is none' | 'it is a backup'): void {
  if (!existsSync(`${file}-wal`)) return;
  const isSo = why === 'there is none' ? !isThere(file) : readVersion(file) === 1;
  if (!isSo) return;
  const what = why === 'there is none' ? `there is no catalog at ${file}` : `the catalog ${file} is a backup`;
  throw new TombstonedError('failed', `${what}, and ${file}-wal is left of another one`, {
    key: `${file}-wal`,
    hint: `end whatever still uses that, and move it away: mv ${file}-wal ${file}-shm /some/other/place/`,
  });
}

/** What a database's header says of how it is read: 1, or 2 with a write-ahead log. */
function readVersion(file: string): number | undefined {
  const fd = openSync(file, 'r');
  try {
    const header = Buffer.alloc(HEADER_BYTES);
    readSync(fd, header, 0, HEADER_BYTES, 0);
    return header[19];
  } finally {
    closeSync(fd);
  }
}

/** Makes a catalog under another name, whole, and links it into place where there is still none. */
function make(file: string, { uuid, now }: NewCatalog): void {
  const directory = path.dirname(file);
  mkdirSync(directory, { recursive: true, mode: 0o750 });
  const temporary = `${file}.${process.pid}.new`;
  const clear = (): void => {
    for (const suffix of ['', '-wal', '-shm']) rmSync(temporary + suffix, { force: true });
  };
  clear();
  try {
    const db = new Database(temporary);
    try {
      chmodSync(temporary, 0o640);
      configure(db);
      db.transaction(() => {
        migrate(db, temporary);
        db.prepare('INSERT INTO catalog (uuid, created_at) VALUES (?, ?)').run(uuid, now);
      }).immediate();
    } finally {
      db.close();
    }
    linkSync(temporary, file);
    const fd = openSync(directory, 'r');
    fsyncSync(fd);
    closeSync(fd);
  } catch (error) {
    if (errnoOf(error) !== 'EEXIST' || !isThere(file)) throw error; // another process was first
  } finally {
    clear();
  }
}

function configure(db: Database.Database): void {
  db.pragma('journal_mode = WAL');
  keepSettings(db);
  db.pragma('cache_size = -16384');
  db.pragma('journal_size_limit = 67108864');
}

/** What is no part of the file, and so is said on each connection. */
function keepSettings(db: Database.Database): void {
  db.pragma('synchronous = FULL');
  db.pragma('foreign_keys = ON');
  db.pragma('trusted_schema = OFF');
}

/** Whether there is a file; throws for what can't be a database: SQLite would take a file of no bytes as a new one. */
function isThere(file: string): boolean {
  const refused = (message: string, hint: string): TombstonedError =>
    new TombstonedError('failed', message, { key: file, hint });
  const stats = statSync(file, { throwIfNoEntry: false });
  if (stats === undefined) {
    if (lstatSync(file, { throwIfNoEntry: false }) === undefined) return false;
    throw refused(
      `the catalog ${file} is a symbolic link to nothing`,
      'is the disk that it leads to mounted?',
    );
  }
  if (!stats.isFile()) {
    throw refused(
      `${file} is not a file, so it is no catalog`,
      'set `catalog` in the config to the path of a file',
    );
  }
  if (stats.size < HEADER_BYTES) {
    throw refused(
      `the catalog ${file} is ${stats.size === 0 ? 'empty' : 'cut short'}`,
      'bring it back from a backup; move the file away before `tombstonectl init`, or `rebuild --take-over`',
    );
  }
  return true;
}

/** Throws unless it is a catalog that this program knows; reads only. */
function check(db: Database.Database, file: string): void {
  checkId(db, file);
  const version = versionOf(db);
  if (version > MIGRATIONS.length) {
    throw new TombstonedError(
      'failed',
      `the catalog ${file} has schema ${version}, and this program knows up to ${MIGRATIONS.length}`,
      { key: file, hint: 'use the newer tombstoned that wrote it' },
    );
  }
}

function checkId(db: Database.Database, file: string): void {
  if (numberOf(db, 'application_id') === APPLICATION_ID) return;
  throw new TombstonedError('failed', `${file} is an SQLite database, but not a tombstoned catalog`, {
    key: file,
    hint: 'set `catalog` in the config to another path',
  });
}

/** Does the steps that are left; in a transaction, for another process may be at it. */
function migrate(db: Database.Database, file: string): void {
  const from = versionOf(db);
  if (from > 0) check(db, file);
  // What a step asks for that SQL alone can't do.
  db.function('log_hash', { varargs: true }, hashOfValues);
  for (const sql of MIGRATIONS.slice(from)) db.exec(sql);
  db.pragma(`application_id = ${APPLICATION_ID}`);
  db.pragma(`user_version = ${MIGRATIONS.length}`);
}

function versionOf(db: Database.Database): number {
  return numberOf(db, 'user_version');
}

function numberOf(db: Database.Database, pragma: 'application_id' | 'user_version'): number {
  const value = db.pragma(pragma, { simple: true });
  if (typeof value !== 'number') throw new TypeError(`not a number: ${String(value)}`);
  return value;
}

/** Does `work`; where the disk is full, gives the reserve's room to it and does it once more. */
export function withReserve<T>(file: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (!isFull(error) || !releaseReserve(file)) throw error;
  }
  return work();
}

/** Whether an error says that the disk is full. */
function isFull(error: unknown): boolean {
  const code = errnoOf(error instanceof TombstonedError ? error.cause : error) ?? '';
  return code === 'SQLITE_FULL' || code === 'ENOSPC' || code === 'EDQUOT' || code === 'SQLITE_IOERR_SHMSIZE';
}

/**
 * Makes the reserve beside the catalog where it is missing or not whole, on a
 * full disk as much of it as there is room for; says whether it is whole.
 */
export function keepReserve(file: string): boolean {
  const reserve = `${file}.reserve`;
  const size = statSync(reserve, { throwIfNoEntry: false })?.size ?? 0;
  if (size >= RESERVE_BYTES) return true;
  let fd: number | undefined;
  try {
    fd = openSync(reserve, 'a', 0o600);
    const block = Buffer.alloc(256 * 1024, 0x20);
    for (let written = size; written < RESERVE_BYTES; ) written += writeSync(fd, block);
    fsyncSync(fd);
    return true;
  } catch (error) {
    if (isFull(error)) return false;
    throw catalogError(file, error);
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
}

/** Gives the reserve's room back to the disk; false when there was none. */
function releaseReserve(file: string): boolean {
  const reserve = `${file}.reserve`;
  if (!existsSync(reserve)) return false;
  rmSync(reserve);
  return true;
}

/** What to do about a catalog that is damaged. */
export const BRING_BACK =
  'bring the catalog back from a backup, or move it away and `tombstonectl rebuild --take-over`; the store is untouched';

const AS_OWNER =
  "run as the catalog's owner; a new one can be elsewhere: `catalog` in the config, or `init --catalog FILE`";

const HINTS: Readonly<Record<string, string>> = {
  SQLITE_NOTADB: `it is no SQLite database; ${BRING_BACK}`,
  SQLITE_CORRUPT: BRING_BACK,
  SQLITE_CONSTRAINT: `its rows contradict each other; ${BRING_BACK}`,
  SQLITE_BUSY: 'another process holds the catalog; try again',
  SQLITE_FULL: 'the disk with the catalog is full; free some space there',
  SQLITE_READONLY: "the catalog or its directory can't be written; run as its owner",
  SQLITE_CANTOPEN: "check that its directory is there and can be written; run as the catalog's owner",
  SQLITE_IOERR_SHMSIZE: 'the disk with the catalog is full; free some space there',
  SQLITE_IOERR: "the disk with the catalog fails; look at the kernel's log",
  ENOSPC: 'the disk with the catalog is full; free some space there',
  EDQUOT: "the quota of the catalog's owner is used up; free some space there",
  EROFS: 'the file system of the catalog is mounted read-only',
  EACCES: AS_OWNER,
  EPERM: AS_OWNER,
  ELOOP: 'set `catalog` in the config to the path of a file',
  ENOTDIR: 'a file stands where one of its directories should be; set `catalog` in the config',
  EEXIST: 'a file stands where one of its directories should be; set `catalog` in the config',
};

/** Translates what SQLite or the file system threw, at the catalog's edge. */
export function catalogError(file: string, error: unknown): unknown {
  if (error instanceof TombstonedError) return error;
  const code = errnoOf(error);
  if (code === undefined) return error;
  const family = Object.keys(HINTS).find((name) => code === name || code.startsWith(`${name}_`));
  const what = code === 'SQLITE_IOERR_SHMSIZE' ? `the disk is full (${code})` : messageWithCode(error);
  return new TombstonedError('failed', `the catalog ${file}: ${what}`, {
    key: file,
    hint: family === undefined ? undefined : HINTS[family],
    cause: error,
  });
}
