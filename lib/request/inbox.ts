import {
  type BigIntStats,
  closeSync,
  constants,
  fstatSync,
  fsync,
  fsyncSync,
  linkSync,
  lstatSync,
  openSync,
  readdirSync,
  readSync,
  renameSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';
import { errnoOf, messageOf, TombstonedError } from '../domain/errors.ts';
import { printable } from '../domain/key.ts';

/** A longer name leaves no room for what stands beside it (`.NAME.done.ID`). Bytes. */
const LONGEST_NAME = 180;

/** What a request's file is answered by: what became of it, or that it waits. */
export type Answer = 'done' | 'waiting';

/** A file that is open for reading; `stat` is what it was then. */
export interface OpenRequest {
  readonly fd: number;
  readonly stat: BigIntStats;
}

/** Why a file is not taken, for people; `isForNow`: another time it may be. */
export interface Left {
  readonly left: string;
  readonly isForNow?: boolean;
}

/** That a file can't be read now: its own disk blocks, not its directory. */
export class Unreadable extends Error {}

/**
 * A drop-in directory (design, section 8). A request is `NAME.keys` until it is
 * taken, `NAME.taken` until its result is there, then `NAME.done`, or
 * `NAME.rejected` with `NAME.error`; `NAME.waiting` says that it waits. Whoever may write here is not trusted:
 * links are not followed, and nothing that stands in the way is replaced.
 */
export class Inbox {
  readonly directory: string;
  readonly #fd: number;

  private constructor(directory: string, fd: number) {
    this.directory = directory;
    this.#fd = fd;
  }

  /** Throws `failed` when the directory can't be used. */
  static open(directory: string): Inbox {
    try {
      return new Inbox(directory, openSync(directory, constants.O_RDONLY | constants.O_DIRECTORY));
    } catch (cause) {
      throw unusable(directory, cause);
    }
  }

  /** The names of requests that lie there, sorted, without `.keys`; `onOdd` is told what can have none. */
  names(onOdd: (file: string, why: string) => void): string[] {
    const names: string[] = [];
    for (const bytes of this.#doing(() => readdirSync(this.directory, { encoding: 'buffer' }))) {
      if (!bytes.subarray(-5).equals(SUFFIX)) continue;
      const file = bytes.toString();
      const name = file.slice(0, -5);
      if (!Buffer.from(file).equals(bytes)) onOdd(file, 'its name is not valid UTF-8');
      else if (Buffer.byteLength(name) > LONGEST_NAME) onOdd(file, `its name has over ${LONGEST_NAME} bytes`);
      else if (name !== '' && !name.startsWith('.')) names.push(name); // a name with a dot is somebody's temporary one
    }
    return names.toSorted();
  }

  /** Names of files `NAME.taken`, without their end. */
  taken(): string[] {
    return this.#doing(() => readdirSync(this.directory))
      .filter((file) => file.endsWith('.taken') && !file.startsWith('.'))
      .map((file) => file.slice(0, -'.taken'.length));
  }

  /** Opens `NAME.keys` or `NAME.taken`; undefined where it has gone. */
  open(name: string, as: 'keys' | 'taken'): OpenRequest | Left | undefined {
    const file = this.#path(`${name}.${as}`);
    try {
      // Looked at first: opening a device may do something.
      if (!lstatSync(file).isFile()) return { left: 'it is not a regular file' };
      const fd = openSync(file, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
      const stat = fstatSync(fd, { bigint: true });
      if (stat.isFile()) return { fd, stat };
      closeSync(fd);
      return { left: 'it is not a regular file' };
    } catch (error) {
      const errno = errnoOf(error);
      if (errno === 'ENOENT') return undefined;
      if (errno === 'ELOOP') return { left: 'it is a symbolic link' };
      if (errno === 'EACCES' || errno === 'EPERM') return { left: 'it may not be read by this user' };
      return { left: `it can't be read: ${messageOf(error)}`, isForNow: true };
    }
  }

  /** Some of what is open; nothing at its end. Throws `Unreadable`. */
  read(fd: number, position: number, size: number): Uint8Array {
    const chunk = Buffer.allocUnsafe(size);
    try {
      return chunk.subarray(0, readSync(fd, chunk, 0, size, position));
    } catch (error) {
      if (errnoOf(error) === undefined) throw error;
      throw new Unreadable(`it can't be read: ${messageOf(error)}`, { cause: error });
    }
  }

  /** Whether what was opened is as it was then, at its name and in itself. */
  isUnchanged(name: string, as: 'keys' | 'taken', { fd, stat }: OpenRequest): boolean {
    const now = fstatSync(fd, { bigint: true });
    const there = lstatOrNone(this.#path(`${name}.${as}`));
    return (
      there?.ino === stat.ino &&
      there.dev === stat.dev &&
      now.size === stat.size &&
      now.mtimeNs === stat.mtimeNs &&
      now.ctimeNs === stat.ctimeNs
    );
  }

  /** What keeps a request from being taken: its result, or another of that name, would have no place. */
  inTheWay(name: string): string | undefined {
    return ['taken', 'done', 'rejected'].map((end) => `${name}.${end}`).find((file) => this.#isThere(file));
  }

  /** `NAME.keys` becomes `NAME.taken`; durable after `sync`. */
  take(name: string): 'taken' | 'gone' | Left {
    try {
      renameSync(this.#path(`${name}.keys`), this.#path(`${name}.taken`));
      return 'taken';
    } catch (error) {
      if (errnoOf(error) === 'ENOENT') return 'gone';
      return { left: `it can't be taken: ${messageOf(error)}` };
    }
  }

  isTaken(name: string): boolean {
    return this.#isThere(`${name}.taken`);
  }

  /** `NAME.taken` becomes `NAME.rejected`, with `NAME.error` beside it; false: something else has that name. */
  reject(name: string, why: string): boolean {
    const error = this.#path(`.${name}.error`);
    remove(error);
    this.#write(error, why);
    const rejected = this.#path(`${name}.rejected`);
    return this.#doing(() => {
      // Made first where there is none, and then renamed over: what stands there is never replaced.
      try {
        closeSync(openSync(rejected, 'wx'));
      } catch (problem) {
        if (errnoOf(problem) !== 'EEXIST') throw problem;
        const there = lstatOrNone(rejected);
        // An empty one is what a crash has left here: an empty request is never refused.
        if (there?.isFile() !== true || there.size !== 0n) {
          remove(error);
          return false;
        }
      }
      renameSync(error, this.#path(`${name}.error`));
      const taken = this.#path(`${name}.taken`);
      if (lstatOrNone(taken)?.isDirectory() === true) remove(rejected); // none is renamed over a file
      renameSync(taken, rejected);
      this.sync();
      return true;
    });
  }

  /** Writes results under temporary names, durable; one that a crash has left in place stays as it is. */
  async prepare(
    results: readonly { name: string; id: string; pages: () => Iterable<string> }[],
    as: Answer,
  ): Promise<void> {
    const open: number[] = [];
    try {
      for (const { name, id, pages } of results) {
        const temporary = this.#temporary(name, id, as);
        if (this.#isLinked(temporary)) continue;
        this.#doing(() => {
          remove(temporary);
          const fd = openSync(temporary, 'wx', 0o644);
          open.push(fd);
          for (const page of pages()) writeFileSync(fd, page); // all of it, or an error
        });
      }
      // All are written before the first is waited for: the disk takes many at once.
      const ends = await Promise.allSettled(open.map(async (fd) => fsyncLater(fd)));
      for (const end of ends) if (end.status === 'rejected') throw unusable(this.directory, end.reason);
    } finally {
      for (const fd of open) closeSync(fd);
    }
  }

  /** A crash came after the link: its result is there, or somebody has fetched it. */
  #isLinked(temporary: string): boolean {
    return this.#doing(() => (lstatOrNone(temporary)?.nlink ?? 0n) > 1n);
  }

  /** Puts what is prepared in place as `NAME.done` or `NAME.waiting`; false: something else has that name. Durable after `sync`. */
  tell(name: string, id: string, as: Answer): boolean {
    const temporary = this.#temporary(name, id, as);
    const done = this.#path(`${name}.${as}`);
    if (this.#isLinked(temporary)) return true;
    return this.#doing(() => {
      try {
        linkSync(temporary, done);
        return true;
      } catch (error) {
        if (errnoOf(error) === 'EEXIST') return false;
        throw error;
      }
    });
  }

  /** Removes what is not needed once the result is in place for good. */
  clear(name: string, id: string): void {
    this.#doing(() => {
      remove(this.#path(`${name}.taken`));
      remove(this.#temporary(name, id, 'done'));
      const waiting = this.#temporary(name, id, 'waiting');
      const ours = lstatOrNone(waiting);
      if (ours === undefined) return;
      const there = this.#path(`${name}.waiting`);
      const { ino, dev } = lstatOrNone(there) ?? {};
      if (ino === ours.ino && dev === ours.dev) remove(there);
      remove(waiting);
    });
  }

  sync(): void {
    this.#doing(() => fsyncSync(this.#fd));
  }

  close(): void {
    closeSync(this.#fd);
  }

  #temporary(name: string, id: string, as: Answer): string {
    return this.#path(`.${name}.${as}.${id}`);
  }

  #path(file: string): string {
    return path.join(this.directory, file);
  }

  /** What can't be looked at has its name too. */
  #isThere(file: string): boolean {
    try {
      return lstatOrNone(this.#path(file)) !== undefined;
    } catch (error) {
      if (errnoOf(error) === undefined) throw error;
      return true;
    }
  }

  /** Makes a file that is not there, with all of its content durable. */
  #write(file: string, text: string): void {
    this.#doing(() => {
      const fd = openSync(file, 'wx', 0o644);
      try {
        writeFileSync(fd, text);
        fsyncSync(fd);
      } finally {
        closeSync(fd);
      }
    });
  }

  #doing<T>(work: () => T): T {
    try {
      return work();
    } catch (error) {
      if (error instanceof TombstonedError || errnoOf(error) === undefined) throw error;
      throw unusable(this.directory, error);
    }
  }
}

const fsyncLater = promisify(fsync);

const SUFFIX = Buffer.from('.keys');

function lstatOrNone(file: string): BigIntStats | undefined {
  return lstatSync(file, { bigint: true, throwIfNoEntry: false });
}

function remove(file: string): void {
  try {
    unlinkSync(file);
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') throw error;
  }
}

function unusable(directory: string, cause: unknown): TombstonedError {
  return new TombstonedError(
    'failed',
    `the drop-in directory ${printable(directory)} can't be used: ${messageOf(cause)}`,
    {
      key: directory,
      hint: 'make it, and let this user read and write there',
      cause,
    },
  );
}
