import { statSync } from 'node:fs';
import path from 'node:path';
import { errnoOf, messageOf, TombstonedError } from '../domain/errors.ts';

declare global {
  namespace NodeJS {
    interface Process {
      /** Missing in Node's types. Throws for a user that passwd does not know. */
      initgroups?(user: number, extraGroup: number): void;
    }
  }
}

/**
 * As root, becomes the owner of a file, the catalog, so that nothing is left
 * behind that its owner can't use (design, section 7); of one that is yet to be made,
 * the owner of its directory. Called before anything is opened.
 */
export function becomeOwnerOf(file: string): void {
  if (process.geteuid?.() !== 0) return;
  const stats = statOf(file) ?? statOf(path.dirname(file));
  if (stats === undefined || stats.uid === 0) return;
  const { uid, gid } = stats;
  try {
    takeGroups(uid, gid);
    process.setgid?.(gid);
    process.setuid?.(uid);
  } catch (error) {
    throw new TombstonedError(
      'failed',
      `can't act as the owner of ${file} (uid ${uid}): ${messageOf(error)}`,
      {
        key: file,
        hint: 'run it as that user',
        cause: error,
      },
    );
  }
}

function statOf(file: string): { uid: number; gid: number } | undefined {
  try {
    return statSync(file, { throwIfNoEntry: false });
  } catch (error) {
    if (errnoOf(error) === 'ENOTDIR') return undefined;
    throw error;
  }
}

function takeGroups(uid: number, gid: number): void {
  try {
    process.initgroups?.(uid, gid);
  } catch {
    // A user without an entry in passwd has no groups but the file's.
    process.setgroups?.([gid]);
  }
}
