import { chmodSync, closeSync, fsyncSync, linkSync, openSync, renameSync, rmSync, statSync } from 'node:fs';
import path from 'node:path';
import Database from 'better-sqlite3';
import { errnoOf, messageWithCode, TombstonedError } from '../domain/errors.ts';
import { catalogError } from './database.ts';

/** How many pages of the database are copied before others get a turn. */
const PAGES = 2000;

export interface BackupOptions {
  /** What the copy is called: it owns no store until it is made the owner. */
  readonly uuid: string;
  /** Whether it may replace a file. */
  readonly force: boolean;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: (done: number, total: number) => void;
}

/**
 * Writes a copy of a catalog, as it is at one moment, while others write to it: under another
 * name, checked and durable before it gets its own. Throws `conflict` where there is a file and
 * it may not be replaced. Gives its size, bytes; undefined where the signal ended it before.
 */
export async function backupDatabase(
  file: string,
  target: string,
  options: BackupOptions,
): Promise<number | undefined> {
  refuseTarget(file, target, options.force);
  const temporary = `${target}.${process.pid}.new`;
  try {
    await copy(file, temporary, options);
    if (options.signal?.aborted === true) return undefined;
    makeIndependent(temporary, options.uuid);
    const { size } = statSync(temporary);
    put(temporary, target, options.force);
    return size;
  } catch (error) {
    if (error instanceof CopyStopped) return undefined;
    throw errnoOf(error) === undefined ? error : unwritten(target, error);
  } finally {
    for (const suffix of ['', '-wal', '-shm', '-journal']) rmSync(temporary + suffix, { force: true });
  }
}

function unwritten(target: string, error: unknown): unknown {
  if (error instanceof TombstonedError) return error;
  const code = errnoOf(error) ?? '';
  return new TombstonedError('failed', `the backup ${target} can't be written: ${messageWithCode(error)}`, {
    key: target,
    hint: HINTS[code] ?? 'look at the disk; the catalog itself is not touched',
    cause: error,
  });
}

const HINTS: Readonly<Record<string, string>> = {
  ENOENT: 'its directory is not there',
  EACCES: "the catalog's owner, as whom this runs, must be able to write there",
  EPERM: "the catalog's owner, as whom this runs, must be able to write there",
  EROFS: 'that file system is mounted read-only',
  ENOSPC: 'that disk is full',
  SQLITE_FULL: 'that disk is full',
};

class CopyStopped extends Error {}

async function copy(file: string, temporary: string, { signal, onProgress }: BackupOptions): Promise<void> {
  closeSync(openSync(temporary, 'wx', 0o640));
  const db = new Database(file, { readonly: true, fileMustExist: true });
  try {
    // One moment, whoever writes meanwhile: without it the copy would begin anew with each commit.
    db.exec('BEGIN');
    db.prepare('SELECT uuid FROM catalog').get();
    await db.backup(temporary, {
      progress: ({ totalPages, remainingPages }) => {
        if (signal?.aborted === true) throw new CopyStopped();
        if (totalPages > 0) onProgress?.(totalPages - remainingPages, totalPages);
        return PAGES;
      },
    });
  } finally {
    db.close();
  }
}

/** Gives the copy a name of its own, and makes sure that it is whole, in one file, on the disk. */
function makeIndependent(temporary: string, uuid: string): void {
  const db = new Database(temporary, { fileMustExist: true });
  try {
    db.pragma('journal_mode = DELETE');
    db.pragma('synchronous = FULL');
    db.prepare('UPDATE catalog SET uuid = ?').run(uuid);
    const found = db.pragma('integrity_check(1)', { simple: true });
    if (found !== 'ok') {
      throw new TombstonedError('failed', `the catalog is damaged, and was not backed up: ${String(found)}`, {
        key: temporary,
        hint: 'keep older backups; bring the catalog back from one, or from the store with `tombstonectl rebuild`',
      });
    }
  } finally {
    db.close();
  }
  chmodSync(temporary, 0o640);
  sync(temporary);
}

function put(temporary: string, target: string, force: boolean): void {
  if (force) renameSync(temporary, target);
  else {
    try {
      linkSync(temporary, target);
    } catch (error) {
      if (errnoOf(error) === 'EEXIST') throw isThere(target);
      throw error;
    }
  }
  sync(path.dirname(target));
}

function sync(file: string): void {
  const fd = openSync(file, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

function refuseTarget(file: string, target: string, force: boolean): void {
  const there = lookAt(target);
  if (there === undefined) return;
  const own = lookAt(file);
  if (there.ino === own?.ino && there.dev === own.dev) {
    throw new TombstonedError('usage', `${target} is the catalog itself`, {
      key: target,
      hint: 'name another file, on another disk if there is one',
    });
  }
  if (!there.isFile()) {
    throw new TombstonedError('usage', `${target} is not a file`, { key: target, hint: 'name a file' });
  }
  if (!force) throw isThere(target);
}

function lookAt(file: string): ReturnType<typeof statSync> {
  try {
    return statSync(file, { bigint: true, throwIfNoEntry: false });
  } catch (error) {
    throw catalogError(file, error);
  }
}

function isThere(target: string): TombstonedError {
  return new TombstonedError('conflict', `${target} is there already`, {
    key: target,
    hint: 'name another file, or add --force to replace it',
  });
}
