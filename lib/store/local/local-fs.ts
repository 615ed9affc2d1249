import fs from 'node:fs';
import { promisify } from 'node:util';
import { isMainThread } from 'node:worker_threads';
import { errnoOf, messageOf } from '../../domain/errors.ts';

/**
 * The system calls a local store makes. Tests put faults between: every effect
 * on the disk goes through here.
 */
export interface LocalFs {
  open(path: string, flags: number, mode?: number): number;
  close(fd: number): void;
  /** The same without blocking: where its file is removed, all of it is freed then. */
  closeAsync(fd: number): Promise<void>;
  fstat(fd: number): fs.BigIntStats;
  /** Undefined where there is nothing of that name (ENOENT, ENOTDIR). */
  lstat(path: string): fs.BigIntStats | undefined;
  rename(from: string, to: string): void;
  link(from: string, to: string): void;
  symlink(target: string, path: string): void;
  readlink(path: string): string;
  unlink(path: string): void;
  /** The same without blocking: many may be in flight. */
  unlinkAsync(path: string): Promise<void>;
  mkdir(path: string, mode: number): void;
  rmdir(path: string): void;
  fsync(fd: number): void;
  /** The same without blocking: many may be in flight, and the disk makes them durable together. */
  fsyncAsync(fd: number): Promise<void>;
  write(fd: number, body: string | Uint8Array): void;
  /** Writes at the beginning of a file in one call; gives how many bytes went in. */
  writeAtStart(fd: number, body: string): number;
  /** All bytes of a file that should have so many: one of another size gives more or fewer. */
  readAll(fd: number, size: number): Buffer;
  fchmod(fd: number, mode: number): void;
  fchown(fd: number, uid: number, gid: number): void;
  /** Throws unless this process may read, write, … the path, as the kernel says. */
  access(path: string, mode: number): void;
  opendir(path: string): OpenNames;
  /**
   * Goes into an open directory until `leave`, and gives what names in it begin
   * with. The kernel resolves `./name` in half the time of `/proc/self/fd/N/name`,
   * and no less safely. Nothing may await between the two.
   */
  enter(fd: number): string;
  /** Goes back to where the process was. */
  leave(): void;
  /** The time that the kernel gives to what is changed now, ms since 1970. */
  now(): number;
  /** The magic number of the file system. */
  fileSystemType(path: string): number;
  /** Which mount an open file was reached by: two of one file system are not one. */
  mountOf(fd: number): string | undefined;
}

/** The names in a directory, one by one, in one pass. */
export interface OpenNames {
  readSync(): EntryName | null;
  closeSync(): void;
}

export interface EntryName {
  readonly name: string;
  /** False where the name's bytes are no UTF-8; then `name` has U+FFFD in their place, and leads nowhere. */
  readonly isUtf8: boolean;
  /** What the directory itself knows about it; not every file system says. */
  readonly kind: 'directory' | 'other' | 'unknown';
}

/** Where the process was before it entered a directory. */
let home: string | undefined;

function currentDirectory(): string {
  try {
    return process.cwd();
  } catch {
    return '/'; // it was removed
  }
}

export const nodeFs: LocalFs = {
  open: (path, flags, mode) => fs.openSync(path, flags, mode),
  close: (fd) => fs.closeSync(fd),
  closeAsync: promisify(fs.close),
  fstat: (fd) => fs.fstatSync(fd, { bigint: true }),
  lstat: (path) => {
    try {
      return fs.lstatSync(path, { bigint: true, throwIfNoEntry: false });
    } catch (error) {
      if (errnoOf(error) === 'ENOTDIR') return undefined;
      throw error;
    }
  },
  rename: (from, to) => fs.renameSync(from, to),
  link: (from, to) => fs.linkSync(from, to),
  symlink: (target, path) => fs.symlinkSync(target, path),
  readlink: (path) => fs.readlinkSync(path),
  unlink: (path) => fs.unlinkSync(path),
  // Of many files, this costs less than `promisify`.
  unlinkAsync: (path) =>
    new Promise((resolve, reject) => {
      fs.unlink(path, (error) => (error === null ? resolve() : reject(error)));
    }),
  mkdir: (path, mode) => {
    fs.mkdirSync(path, { mode });
  },
  rmdir: (path) => fs.rmdirSync(path),
  fsync: (fd) => fs.fsyncSync(fd),
  fsyncAsync: promisify(fs.fsync),
  write: (fd, body) => {
    fs.writeFileSync(fd, body);
  },
  writeAtStart: (fd, body) => fs.writeSync(fd, Buffer.from(body), 0, Buffer.byteLength(body), 0),
  readAll: (fd, size) => {
    const bytes = Buffer.allocUnsafe(size + 1);
    let count = 0;
    for (let more = -1; more !== 0 && count < bytes.length; count += more) {
      more = fs.readSync(fd, bytes, count, bytes.length - count, null);
      if (count + more === size) return bytes.subarray(0, size); // `fstat` tells the rest
    }
    return bytes.subarray(0, count);
  },
  fchmod: (fd, mode) => fs.fchmodSync(fd, mode),
  fchown: (fd, uid, gid) => fs.fchownSync(fd, uid, gid),
  access: (path, mode) => fs.accessSync(path, mode),
  opendir: (path) => opendirBytes(path),
  enter: (fd) => {
    if (!isMainThread) return `/proc/self/fd/${fd}/`; // only the main thread may go anywhere
    home ??= currentDirectory();
    process.chdir(`/proc/self/fd/${fd}`);
    return './';
  },
  leave: () => {
    const back = home;
    home = undefined;
    if (back === undefined) return;
    try {
      process.chdir(back);
    } catch {
      process.chdir('/'); // it has gone, or may no longer be entered
    }
  },
  now: () => Date.now(),
  fileSystemType: (path) => fs.statfsSync(path).type,
  mountOf: (fd) => /^mnt_id:\s*(\d+)$/m.exec(fs.readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8'))?.[1],
};

/** What the system said, without the internal path Node adds: `EACCES: permission denied`. */
export function systemMessage(error: unknown): string {
  const text = messageOf(error);
  return errnoOf(error) === undefined
    ? text
    : text.replace(/,? *(?:[a-z]+ )?(?:'.*' -> )?'?\/proc\/self\/fd\/.*$/s, '');
}

// The types know this option, and not that it takes `buffer`, nor what that does to the names.
const BY_BYTES: fs.OpenDirOptions = JSON.parse('{"bufferSize":1024,"encoding":"buffer"}');

/** Names are read as bytes: what is no UTF-8 must not pass for something that is. */
function opendirBytes(path: string): OpenNames {
  const dir = fs.opendirSync(path, BY_BYTES);
  return {
    readSync: () => {
      const entry = dir.readSync();
      if (entry === null) return null;
      const raw: unknown = entry.name;
      if (!Buffer.isBuffer(raw)) throw new TypeError('a name that is no buffer');
      const name = raw.toString('utf8');
      return {
        name,
        isUtf8: !name.includes('\u{fffd}') || raw.equals(Buffer.from(name)),
        kind: kindOf(entry),
      };
    },
    closeSync: () => dir.closeSync(),
  };
}

function kindOf(entry: fs.Dirent): EntryName['kind'] {
  if (entry.isDirectory()) return 'directory';
  const isKnown =
    entry.isFile() ||
    entry.isSymbolicLink() ||
    entry.isFIFO() ||
    entry.isSocket() ||
    entry.isBlockDevice() ||
    entry.isCharacterDevice();
  return isKnown ? 'other' : 'unknown';
}
