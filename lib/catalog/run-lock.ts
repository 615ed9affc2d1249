import { existsSync, mkdirSync, rmSync } from 'node:fs';
import path from 'node:path';
import Database from 'better-sqlite3';
import { errnoOf } from '../domain/errors.ts';
import { catalogError } from './database.ts';
import { fileIdentity } from './file-identity.ts';

/** A lock that the kernel frees when its process dies: `BEGIN EXCLUSIVE` on an SQLite file without tables. */
export interface FileLock {
  /** Tells its file from a copy. */
  readonly identity: string;
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
  const directory = path.dirname(file);
  try {
    mkdirSync(directory, { recursive: true, mode: 0o750 });
  } catch (error) {
    throw catalogError(directory, error);
  }
  return lock(file, { mustExist: false });
}

/**
 * Takes a dead process's lock without making its file: `held` when its process
 * lives, `missing` when there is no file, or but a copy, which proves nothing
 * (design, section 5). Without an `identity` any file will do.
 */
export function takeDeadLock(file: string, identity: string | null): FileLock | 'held' | 'missing' {
  const found = fileIdentity(file);
  if (found === undefined || (identity !== null && found !== identity)) return 'missing';
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
    const identity = fileIdentity(file);
    if (identity === undefined) {
      opened.close();
      return undefined;
    }
    return {
      identity,
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
