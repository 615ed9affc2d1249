import { spawn } from 'node:child_process';
import fs from 'node:fs';
import { release } from 'node:os';
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
  /**
   * Makes everything durable that was written to the file system of an open
   * directory, and waits for it: for many files that is far less than an fsync of
   * each. False when it is not sure that all of it is.
   */
  syncFileSystem(fd: number): Promise<boolean>;
  mkdirWithAbove(path: string): void;
  realpath(path: string): string;
}

/** From Linux 5.8 on syncfs(2) tells of writes that failed. */
const TELLS_ERRORS = ((): boolean => {
  const [major = 0, minor = 0] = release().split('.').map(Number);
  return major > 5 || (major === 5 && minor >= 8);
})();

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
  syncFileSystem: async (fd) => {
    if (!TELLS_ERRORS) return false;
    // Node has no syncfs(2); coreutils has.
    const child = spawn('sync', ['--file-system', '/proc/self/fd/3'], {
      stdio: ['ignore', 'ignore', 'ignore', fd],
    });
    return new Promise((resolve) => {
      child.once('error', () => resolve(false)); // there is no such program
      child.once('close', (code) => resolve(code === 0));
    });
  },
  mkdirWithAbove: (path) => {
    fs.mkdirSync(path, { recursive: true });
  },
  realpath: (path) => fs.realpathSync(path),
};
