import { type BigIntStats, constants, readFileSync } from 'node:fs';
import { errnoOf } from '../../domain/errors.ts';
import { PENDING_SUFFIX_BYTES } from '../../domain/ids.ts';
import { at } from './directories.ts';
import type { LocalFs } from './local-fs.ts';

const MAX_NAME_BYTES = 255;
const STICKY = 0o1000n;
const SETUID = 0o4000n;
const SETGID_EXECUTABLE = 0o2010n;
const CAP_FOWNER = 3n;

/** What this process may do with other owners' files. */
export interface Rights {
  readonly uid: number;
  /** Whether it has CAP_FOWNER. */
  readonly foreign: boolean;
  /** Whether the kernel protects hard links to other owners' files. */
  readonly protectedLinks: boolean;
}

/** This process's rights, as the kernel tells them. */
export function currentRights(): Rights {
  const status = readFileSync('/proc/self/status', 'utf8');
  const effective = /^CapEff:\s*([0-9a-f]+)$/m.exec(status)?.[1] ?? '0';
  return {
    uid: process.geteuid?.() ?? -1,
    foreign: ((BigInt(`0x${effective}`) >> CAP_FOWNER) & 1n) === 1n,
    protectedLinks: readProtectedLinks(),
  };
}

function readProtectedLinks(): boolean {
  try {
    return readFileSync('/proc/sys/fs/protected_hardlinks', 'utf8').trim() !== '0';
  } catch {
    return true; // unknown counts as protected: more is refused, nothing less
  }
}

/** Why nothing in a directory can be moved, or null. */
export function directoryRefusal(fs: LocalFs, fd: number): string | null {
  try {
    fs.access(at(fd, '.'), constants.W_OK | constants.X_OK);
    return null;
  } catch (error) {
    const code = errnoOf(error) ?? '';
    if (code === 'EROFS') return 'its file system is mounted read-only';
    if (code === 'EACCES' || code === 'EPERM') return "its directory can't be written by this user";
    throw error;
  }
}

/**
 * Why a file could not be moved, or could not be linked back if the move turned
 * out wrong (R2), or null. Told when planned.
 */
export function fileRefusal(
  fs: LocalFs,
  fd: number,
  directory: BigIntStats,
  base: string,
  file: BigIntStats,
  rights: Rights,
): string | null {
  const bytes = Buffer.byteLength(base);
  if (bytes + PENDING_SUFFIX_BYTES > MAX_NAME_BYTES) {
    return `its name is too long to be tombstoned: ${bytes} bytes, at most ${MAX_NAME_BYTES - PENDING_SUFFIX_BYTES}`;
  }
  if (file.dev !== directory.dev) return 'it is on another file system than its directory';
  if (Number(file.uid) === rights.uid || rights.foreign) return null;
  if ((directory.mode & STICKY) !== 0n && Number(directory.uid) !== rights.uid) {
    return "it is another owner's file in a sticky directory";
  }
  if (!rights.protectedLinks) return null;
  if ((file.mode & SETUID) !== 0n || (file.mode & SETGID_EXECUTABLE) === SETGID_EXECUTABLE) return PROTECTED;
  try {
    fs.access(at(fd, base), constants.R_OK | constants.W_OK);
    return null;
  } catch (error) {
    const code = errnoOf(error);
    if (code === 'EACCES' || code === 'EPERM' || code === 'EROFS') return PROTECTED;
    if (code === 'ENOENT') return null; // gone since it was listed: the move will say so
    throw error;
  }
}

const PROTECTED = "it is another owner's file, and protected_hardlinks would not let it be linked back";
