import { type BigIntStats, constants, read } from 'node:fs';
import { Readable } from 'node:stream';
import { errnoOf, TombstonedError } from '../../domain/errors.ts';
import { printable } from '../../domain/key.ts';
import type { OpenObject } from '../store.ts';
import { at } from './directories.ts';
import { type LocalFs, systemMessage } from './local-fs.ts';
import { revisionOf } from './revision-of.ts';

/** Never follows a link, and never waits for a FIFO's writer. */
const FLAGS = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
const CHUNK = 256 * 1024;

/** Opens a regular file in an open directory; undefined where there is none. Throws for anything else there. */
export function openFile(fs: LocalFs, directory: number, base: string, name: string): OpenObject | undefined {
  let fd: number;
  try {
    fd = fs.open(at(directory, base), FLAGS);
  } catch (error) {
    const code = errnoOf(error);
    if (code === 'ENOENT') return undefined;
    if (code === 'ELOOP') throw notRegular(name, 'a symbolic link', error);
    if (code === 'ENXIO') throw notRegular(name, 'a socket or device', error);
    throw unreadable(name, error);
  }
  let stats: BigIntStats;
  try {
    stats = fs.fstat(fd);
  } catch (error) {
    fs.close(fd);
    throw unreadable(name, error);
  }
  if (!stats.isFile()) {
    fs.close(fd);
    if (stats.isDirectory()) return undefined;
    throw notRegular(name, 'not a regular file');
  }
  let isTaken = false;
  return {
    revision: revisionOf(stats),
    size: Number(stats.size),
    mode: Number(stats.mode) & 0o777,
    read: () => {
      isTaken = true;
      return new FileBytes(fs, fd, stats, name);
    },
    readAll: () => {
      isTaken = true;
      return allBytes(fs, fd, stats, name);
    },
    close: () => {
      if (!isTaken) fs.close(fd);
      isTaken = true;
    },
  };
}

/** What the system says about something that can't be looked at, as an error. */
export function unreadable(name: string, cause: unknown): TombstonedError {
  return new TombstonedError('failed', `${printable(name)} can't be read: ${systemMessage(cause)}`, {
    key: name,
    hint: 'let this user read it; it counts as neither there nor gone',
    cause,
  });
}

/** All bytes of an open file, which is closed. */
function allBytes(fs: LocalFs, fd: number, opened: BigIntStats, name: string): Buffer {
  try {
    const bytes = fs.readAll(fd, Number(opened.size));
    if (!isUnchanged(opened, fs.fstat(fd), bytes.length)) throw changed(name);
    return bytes;
  } catch (error) {
    throw error instanceof TombstonedError ? error : unreadable(name, error);
  } finally {
    fs.close(fd);
  }
}

/** What was read is whole only if the file is what it was when it was opened. */
function isUnchanged({ size, mtimeNs }: BigIntStats, now: BigIntStats, count: number): boolean {
  return now.size === size && now.mtimeNs === mtimeNs && BigInt(count) === size;
}

function changed(name: string): TombstonedError {
  return new TombstonedError('failed', `${printable(name)} was changed while it was read`, {
    key: name,
    hint: 'read it again',
  });
}

/** The bytes of an open file; closes it when it ends, or is destroyed, begun or not. */
class FileBytes extends Readable {
  readonly #fs: LocalFs;
  readonly #fd: number;
  readonly #opened: BigIntStats;
  readonly #name: string;
  #position = 0;
  #isReading = false;
  #whenRead: (() => void) | undefined;

  constructor(fs: LocalFs, fd: number, opened: BigIntStats, name: string) {
    super({ highWaterMark: CHUNK });
    this.#fs = fs;
    this.#fd = fd;
    this.#opened = opened;
    this.#name = name;
  }

  override _read(): void {
    this.#isReading = true;
    // One more than should be there: what has grown shows.
    const left = this.#opened.size - BigInt(this.#position) + 1n;
    const most = left < CHUNK ? Number(left) : CHUNK;
    read(this.#fd, Buffer.allocUnsafe(most), 0, most, this.#position, (error, count, buffer) => {
      this.#isReading = false;
      this.#whenRead?.();
      if (this.destroyed) return;
      this.#position += count;
      if (error !== null) this.destroy(unreadable(this.#name, error));
      else if (BigInt(this.#position) > this.#opened.size) this.destroy(changed(this.#name));
      else {
        if (count > 0) this.push(buffer.subarray(0, count));
        // Nothing came, or all that should be there: `fstat` tells whether that is so.
        if (!this.destroyed && (count === 0 || BigInt(this.#position) === this.#opened.size)) this.#end();
      }
    });
  }

  #end(): void {
    try {
      if (!isUnchanged(this.#opened, this.#fs.fstat(this.#fd), this.#position)) throw changed(this.#name);
      this.push(null);
    } catch (error) {
      this.destroy(error instanceof TombstonedError ? error : unreadable(this.#name, error));
    }
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    const close = (): void => {
      try {
        this.#fs.close(this.#fd);
        done(error);
      } catch (second) {
        done(error ?? (second instanceof Error ? second : new Error(String(second))));
      }
    };
    // The number must not be reused while a read of it is under way.
    if (this.#isReading) this.#whenRead = close;
    else close();
  }
}

function notRegular(name: string, what: string, cause?: unknown): TombstonedError {
  return new TombstonedError('failed', `${printable(name)} is ${what}; only regular files are objects`, {
    key: name,
    hint: 'links are never followed: read the file by its real path',
    cause,
  });
}
