import fs from 'node:fs';
import { promisify } from 'node:util';
import { type LocalFs, nodeFs } from '../store/local/local-fs.ts';

type Shared =
  | 'open'
  | 'close'
  | 'fstat'
  | 'lstat'
  | 'rename'
  | 'link'
  | 'unlink'
  | 'mkdir'
  | 'fchmod'
  | 'opendir';

/** The system calls of a fetch on its target. Tests put faults between: every effect there goes through here. */
export interface TargetFs extends Pick<LocalFs, Shared> {
  /** Writes all of it, where the file's position is. */
  write(fd: number, bytes: Uint8Array): void;
  /** The same without blocking, at a position. */
  writeAsync(fd: number, bytes: Uint8Array, position: number): Promise<void>;
  /** Sets both times, s since 1970. */
  futimes(fd: number, seconds: number): void;
  /** Does not block: many may be in flight, and the disk does them together. */
  fsync(fd: number): Promise<void>;
  mkdirWithAbove(path: string): void;
  realpath(path: string): string;
}

const fsyncAsync = promisify(fs.fsync);
const writeAsync = promisify(fs.write);

export const nodeTargetFs: TargetFs = {
  ...nodeFs,
  write: (fd, bytes) => {
    for (let from = 0; from < bytes.length; ) from += fs.writeSync(fd, bytes, from);
  },
  writeAsync: async (fd, bytes, position) => {
    for (let from = 0; from < bytes.length; ) {
      from += (await writeAsync(fd, bytes, from, bytes.length - from, position + from)).bytesWritten;
    }
  },
  futimes: (fd, seconds) => fs.futimesSync(fd, seconds, seconds),
  fsync: async (fd) => fsyncAsync(fd),
  mkdirWithAbove: (path) => {
    fs.mkdirSync(path, { recursive: true });
  },
  realpath: (path) => fs.realpathSync(path),
};
