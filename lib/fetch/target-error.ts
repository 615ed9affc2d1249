import { errnoOf, TombstonedError } from '../domain/errors.ts';
import { printable } from '../domain/key.ts';
import { systemMessage } from '../store/local/local-fs.ts';

const HINTS: Readonly<Record<string, string>> = {
  ENOSPC: 'free some space there and run it again: it goes on from here',
  EDQUOT: 'free some space there and run it again: it goes on from here',
  EROFS: 'fetch into a directory that can be written',
  EACCES: 'fetch into a directory that this user can write',
  EPERM: 'fetch into a directory that this user can write',
  EXDEV: 'fetch into a directory without other file systems in it',
};

/** What the system said about the target, as an error. Throws what it has not said: that is a fault of ours. */
export function targetError(where: string, cause: unknown): TombstonedError {
  if (cause instanceof TombstonedError) return cause;
  if (errnoOf(cause) === undefined) throw cause;
  return new TombstonedError('failed', `${printable(where)} can't be written: ${systemMessage(cause)}`, {
    key: where,
    hint: HINTS[errnoOf(cause) ?? ''],
    cause,
  });
}
