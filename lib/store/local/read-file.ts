import { type BigIntStats, constants, read } from 'node:fs';
import { Readable } from 'node:stream';
import { promisify } from 'node:util';
import { errnoOf, TombstonedError } from '../../domain/errors.ts';
import { printable } from '../../domain/key.ts';
import type { OpenObject } from '../store.ts';
import { at } from './directories.ts';
import { type LocalFs, systemMessage } from './local-fs.ts';
import { revisionOf } from './revision-of.ts';

/** Never follows a link, and never waits for a FIFO's writer. */
const FLAGS = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
const CHUNK = 256 * 1024;
const readInto = promisify(read);

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
  const stats = fs.fstat(fd);
  if (!stats.isFile()) {
    fs.close(fd);
    if (stats.isDirectory()) return undefined;
    throw notRegular(name, 'not a regular file');
  }
  let isTaken = false;
  return {
    revision: revisionOf(stats),
    size: Number(stats.size),
    read: () => {
      isTaken = true;
      return Readable.from(bytes(fs, fd, stats, name), { objectMode: false, highWaterMark: CHUNK });
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

async function* bytes(fs: LocalFs, fd: number, opened: BigIntStats, name: string): AsyncGenerator<Buffer> {
  try {
    let position = 0;
    for (;;) {
      const { bytesRead, buffer } = await readInto(fd, Buffer.allocUnsafe(CHUNK), 0, CHUNK, position);
      if (bytesRead === 0) break;
      position += bytesRead;
      yield buffer.subarray(0, bytesRead);
    }
    const now = fs.fstat(fd);
    if (now.size !== opened.size || now.mtimeNs !== opened.mtimeNs || BigInt(position) !== opened.size) {
      throw new TombstonedError('failed', `${printable(name)} was changed while it was read`, {
        key: name,
        hint: 'read it again',
      });
    }
  } finally {
    fs.close(fd);
  }
}

function notRegular(name: string, what: string, cause?: unknown): TombstonedError {
  return new TombstonedError('failed', `${printable(name)} is ${what}; only regular files are objects`, {
    key: name,
    hint: 'links are never followed: read the file by its real path',
    cause,
  });
}
