import { type ChildProcess, spawn } from 'node:child_process';
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
  | 'rmdir'
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
  /** For the file system of an open directory, which stays open meanwhile. */
  syncer(fd: number): FileSystemSyncer;
  mkdirWithAbove(path: string): void;
  realpath(path: string): string;
}

/** Makes whole file systems durable. */
export interface FileSystemSyncer {
  /**
   * Makes everything durable that was written, and waits for it: for many files that
   * is far less than an fsync of each. False when it is not sure that all of it is.
   */
  sync(): Promise<boolean>;
  close(): void;
}

/** From Linux 5.8 on syncfs(2) tells of writes that failed. */
const TELLS_ERRORS = ((): boolean => {
  const [major = 0, minor = 0] = release().split('.').map(Number);
  return major > 5 || (major === 5 && minor >= 8);
})();

const fsyncAsync = promisify(fs.fsync);
const writeAsync = promisify(fs.write);

/** Answers each line that it reads, when all is durable. Node has no syncfs(2); coreutils has. */
const SYNC = 'while read -r _; do sync --file-system /proc/self/fd/3 && echo done || echo failed; done';

/** syncfs(2) by a shell that waits to be asked: a new process each time would cost this one some ms. */
class Syncer implements FileSystemSyncer {
  readonly #shell: ChildProcess | undefined;
  #isOver = false;

  constructor(fd: number) {
    this.#shell = TELLS_ERRORS ? startShell(fd) : undefined;
  }

  async sync(): Promise<boolean> {
    const shell = this.#shell;
    if (this.#isOver || shell === undefined) return false;
    const { stdin, stdout } = shell;
    return new Promise((resolve) => {
      const answered = (text: string): void => {
        shell.off('close', ended);
        resolve(text === 'done\n');
      };
      const ended = (): void => {
        this.#isOver = true;
        stdout?.off('data', answered);
        resolve(false);
      };
      if ((shell.exitCode ?? shell.signalCode) !== null) {
        ended();
        return;
      }
      stdout?.once('data', answered);
      shell.once('close', ended);
      stdin?.write('\n');
    });
  }

  close(): void {
    this.#isOver = true;
    this.#shell?.stdin?.end();
  }
}

function startShell(fd: number): ChildProcess {
  // In a session of its own: a terminal's ^C is for the fetch, which ends it.
  const shell = spawn('sh', ['-c', SYNC], { stdio: ['pipe', 'pipe', 'ignore', fd], detached: true });
  shell.on('error', () => undefined); // there is no shell: it closes, and that is the answer
  shell.stdin?.on('error', () => undefined); // likewise
  shell.stdout?.setEncoding('utf8');
  return shell;
}

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
  syncer: (fd) => new Syncer(fd),
  mkdirWithAbove: (path) => {
    fs.mkdirSync(path, { recursive: true });
  },
  realpath: (path) => fs.realpathSync(path),
};
