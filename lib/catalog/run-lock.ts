import { existsSync, mkdirSync, rmSync } from 'node:fs';
import path from 'node:path';
import Database from 'better-sqlite3';
import { errnoOf } from '../domain/errors.ts';
import { catalogError } from './database.ts';

/** A lock that the kernel frees when its process dies: `BEGIN EXCLUSIVE` on an SQLite file without tables. */
export interface FileLock {
  /** Frees the lock and leaves its file. */
  release(): void;
  /** Removes the file under the lock, then frees the lock. */
  remove(): void;
}

/** The lock file of a run (design, section 5). */
export function runLockFile(catalogFile: string, runId: string): string {
  return path.join(`${catalogFile}.runs`, `${runId}.lock`);
}

/** Takes a lock, and makes its file; undefined when another process has it. */
export function takeLock(file: string): FileLock | undefined {
  mkdirSync(path.dirname(file), { recursive: true, mode: 0o750 });
  return lock(file, { mustExist: false });
}

/**
 * Takes a dead process's lock without making its file: `held` when its process
 * lives, `missing` when there is no file, which proves nothing (design, section 5).
 */
export function takeDeadLock(file: string): FileLock | 'held' | 'missing' {
  if (!existsSync(file)) return 'missing';
  try {
    return lock(file, { mustExist: true }) ?? 'held';
  } catch (error) {
    if (!existsSync(file)) return 'missing';
    throw error;
  }
}

function lock(file: string, { mustExist }: { mustExist: boolean }): FileLock | undefined {
  let db: Database.Database | undefined;
  try {
    const opened = new Database(file, { fileMustExist: mustExist, timeout: 0 });
    db = opened;
    opened.exec('BEGIN EXCLUSIVE');
    // Whoever had it before may have removed the file while this one was opened.
    if (!existsSync(file)) {
      opened.close();
      return undefined;
    }
    return {
      release: () => opened.close(),
      remove: () => {
        rmSync(file, { force: true });
        opened.close();
      },
    };
  } catch (error) {
    db?.close();
    if (errnoOf(error)?.startsWith('SQLITE_BUSY') === true) return undefined;
    throw catalogError(file, error);
  }
}
