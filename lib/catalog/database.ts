import { closeSync, existsSync, fsyncSync, openSync, rmSync, statSync, writeSync } from 'node:fs';
import Database from 'better-sqlite3';
import { errnoOf, messageOf, TombstonedError } from '../domain/errors.ts';
import { MIGRATIONS } from './migrations.ts';

/** `PRAGMA application_id` of a catalog: "TMBS". */
const APPLICATION_ID = 0x54_4d_42_53;
/** How long a statement waits for another process's transaction, ms. */
const BUSY_TIMEOUT_MS = 30_000;
/** Room kept beside the catalog, so that a purge can commit when the disk is full. Bytes. */
const RESERVE_BYTES = 8 * 1024 * 1024;

/**
 * Opens a catalog's database: WAL, `synchronous=FULL`, foreign keys, migrated to
 * the newest schema. `create` makes one where there is none; without it a
 * missing or empty file is an error, never a new catalog. Throws `failed`, with
 * the file as key, for anything that is no catalog of ours or of a newer program.
 */
export function openDatabase(file: string, options: { create: boolean }): Database.Database {
  try {
    return open(file, options);
  } catch (error) {
    if (!isFull(error) || !releaseReserve(file)) throw catalogError(file, error);
  }
  try {
    return open(file, options);
  } catch (error) {
    throw catalogError(file, error);
  }
}

function open(file: string, { create }: { create: boolean }): Database.Database {
  const stats = statSync(file, { throwIfNoEntry: false });
  if (stats === undefined && !create) {
    throw new TombstonedError('failed', `there is no catalog at ${file}`, {
      key: file,
      hint: 'run `tombstonectl init --store NAME`, or set `catalog` in the config',
    });
  }
  if (stats !== undefined && !stats.isFile()) {
    throw new TombstonedError('failed', `${file} is not a file, so it is no catalog`, {
      key: file,
      hint: 'set `catalog` in the config to the path of a file',
    });
  }
  if (stats?.size === 0 && !create) {
    throw new TombstonedError('failed', `the catalog ${file} is empty`, {
      key: file,
      hint: 'bring it back from a backup; move the empty file away before `tombstonectl init`',
    });
  }
  const db = new Database(file, { fileMustExist: !create, timeout: BUSY_TIMEOUT_MS });
  try {
    check(db, file);
    db.pragma('journal_mode = WAL');
    db.pragma('synchronous = FULL');
    db.pragma('foreign_keys = ON');
    db.pragma('trusted_schema = OFF');
    db.pragma('cache_size = -16384');
    db.pragma('journal_size_limit = 67108864');
    migrate(db, file);
    return db;
  } catch (error) {
    db.close();
    throw error;
  }
}

function check(db: Database.Database, file: string): void {
  const id = number(db.pragma('application_id', { simple: true }));
  const version = number(db.pragma('user_version', { simple: true }));
  const isNew =
    version === 0 && id === 0 && db.prepare('SELECT 1 FROM sqlite_schema LIMIT 1').get() === undefined;
  if (id !== APPLICATION_ID && !isNew) {
    throw new TombstonedError('failed', `${file} is an SQLite database, but not a tombstoned catalog`, {
      key: file,
      hint: 'set `catalog` in the config to another path',
    });
  }
  if (version > MIGRATIONS.length) {
    throw new TombstonedError(
      'failed',
      `the catalog ${file} has schema ${version}, and this program knows up to ${MIGRATIONS.length}`,
      { key: file, hint: 'use the newer tombstoned that wrote it' },
    );
  }
}

function migrate(db: Database.Database, file: string): void {
  if (number(db.pragma('user_version', { simple: true })) === MIGRATIONS.length) return;
  db.transaction(() => {
    check(db, file);
    const from = number(db.pragma('user_version', { simple: true }));
    for (const sql of MIGRATIONS.slice(from)) db.exec(sql);
    db.pragma(`application_id = ${APPLICATION_ID}`);
    db.pragma(`user_version = ${MIGRATIONS.length}`);
  }).immediate();
}

function number(value: unknown): number {
  if (typeof value !== 'number') throw new TypeError(`not a number: ${String(value)}`);
  return value;
}

/** Whether an error says that the disk is full. */
export function isFull(error: unknown): boolean {
  const code = errnoOf(error) ?? '';
  return code === 'SQLITE_FULL' || code === 'ENOSPC' || code === 'EDQUOT' || code === 'SQLITE_IOERR_SHMSIZE';
}

/** Makes the reserve beside the catalog where it is missing; says whether it is there. */
export function keepReserve(file: string): boolean {
  const reserve = `${file}.reserve`;
  if (statSync(reserve, { throwIfNoEntry: false })?.size === RESERVE_BYTES) return true;
  let fd: number | undefined;
  try {
    fd = openSync(reserve, 'w', 0o600);
    const block = Buffer.alloc(1024 * 1024, 0x20);
    for (let written = 0; written < RESERVE_BYTES; written += block.length) writeSync(fd, block);
    fsyncSync(fd);
    return true;
  } catch (error) {
    rmSync(reserve, { force: true });
    if (isFull(error)) return false;
    throw catalogError(file, error);
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
}

/** Gives the reserve's room back to the disk; false when there was none. */
export function releaseReserve(file: string): boolean {
  const reserve = `${file}.reserve`;
  if (!existsSync(reserve)) return false;
  rmSync(reserve);
  return true;
}

const HINTS: Readonly<Record<string, string>> = {
  SQLITE_NOTADB: 'it is no SQLite database; bring the catalog back from a backup',
  SQLITE_CORRUPT: 'bring the catalog back from a backup; the store is untouched',
  SQLITE_BUSY: 'another process holds the catalog; try again',
  SQLITE_FULL: 'the disk with the catalog is full; free some space there',
  SQLITE_READONLY: 'the catalog or its directory can’t be written; run as its owner',
  SQLITE_CANTOPEN: 'check that its directory exists and can be written',
  SQLITE_IOERR: 'the disk with the catalog fails; look at the kernel’s log',
};

/** Translates what SQLite or the file system threw, at the catalog's edge. */
export function catalogError(file: string, error: unknown): unknown {
  if (error instanceof TombstonedError) return error;
  const code = errnoOf(error);
  if (code === undefined) return error;
  const family = Object.keys(HINTS).find((name) => code === name || code.startsWith(`${name}_`));
  return new TombstonedError('failed', `the catalog ${file}: ${messageOf(error)} (${code})`, {
    key: file,
    hint: family === undefined ? undefined : HINTS[family],
    cause: error,
  });
}
