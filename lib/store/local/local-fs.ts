import fs from 'node:fs';
import { errnoOf, messageOf } from '../../domain/errors.ts';

/**
 * The system calls a local store makes. Tests put faults between: every effect
 * on the disk goes through here.
 */
export interface LocalFs {
  open(path: string, flags: number, mode?: number): number;
  close(fd: number): void;
  fstat(fd: number): fs.BigIntStats;
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
  write(fd: number, body: string): void;
  readAll(fd: number): Buffer;
  chmod(path: string, mode: number): void;
  chown(path: string, uid: number, gid: number): void;
  /** Throws unless this process may read, write, … the path, as the kernel says. */
  access(path: string, mode: number): void;
  opendir(path: string): fs.Dir;
  /** The magic number of the file system. */
  fileSystemType(path: string): number;
  /** Which mount an open file was reached by: two of one file system are not one. */
  mountOf(fd: number): string | undefined;
}

export const nodeFs: LocalFs = {
  open: (path, flags, mode) => fs.openSync(path, flags, mode),
  close: (fd) => fs.closeSync(fd),
  fstat: (fd) => fs.fstatSync(fd, { bigint: true }),
  lstat: (path) => fs.lstatSync(path, { bigint: true, throwIfNoEntry: false }),
  rename: (from, to) => fs.renameSync(from, to),
  link: (from, to) => fs.linkSync(from, to),
  symlink: (target, path) => fs.symlinkSync(target, path),
  readlink: (path) => fs.readlinkSync(path),
  unlink: (path) => fs.unlinkSync(path),
  unlinkAsync: (path) => fs.promises.unlink(path),
  mkdir: (path, mode) => {
    fs.mkdirSync(path, { mode });
  },
  rmdir: (path) => fs.rmdirSync(path),
  fsync: (fd) => fs.fsyncSync(fd),
  write: (fd, body) => {
    fs.writeFileSync(fd, body);
  },
  readAll: (fd) => fs.readFileSync(fd),
  chmod: (path, mode) => fs.chmodSync(path, mode),
  chown: (path, uid, gid) => fs.lchownSync(path, uid, gid),
  access: (path, mode) => fs.accessSync(path, mode),
  opendir: (path) => fs.opendirSync(path, { bufferSize: 1024 }),
  fileSystemType: (path) => fs.statfsSync(path).type,
  mountOf: (fd) => /^mnt_id:\s*(\d+)$/m.exec(fs.readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8'))?.[1],
};

/** What the system said, without the internal path Node adds: `EACCES: permission denied`. */
export function systemMessage(error: unknown): string {
  const text = messageOf(error);
  return errnoOf(error) === undefined ? text : text.replace(/,? *(?:[a-z]+ )?'?\/proc\/self\/fd\/.*$/, '');
}
