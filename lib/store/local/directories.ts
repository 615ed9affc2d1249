import { randomUUID } from 'node:crypto';
import { type BigIntStats, constants } from 'node:fs';
import { errnoOf, TombstonedError } from '../../domain/errors.ts';
import { CONTROL_SEGMENT, printable } from '../../domain/key.ts';
import { type LocalFs, systemMessage } from './local-fs.ts';

/** Where directories are made before they get their names. */
const TMP = `${CONTROL_SEGMENT}/tmp`;

const DIRECTORY = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW;

/**
 * A name in an open directory. Node has no `openat`, `renameat`, …; Linux resolves
 * `/proc/self/fd/N/name` from the open directory itself, so that nobody who swaps
 * a directory for a symbolic link can lead an operation astray.
 */
export function at(fd: number, name: string): string {
  return `/proc/self/fd/${fd}/${name}`;
}

/** Splits a key into its directory (`""` is the root) and its last segment. */
export function splitKey(key: string): { directory: string; base: string } {
  const cut = key.lastIndexOf('/');
  return cut < 0 ? { directory: '', base: key } : { directory: key.slice(0, cut), base: key.slice(cut + 1) };
}

/**
 * Whether an error of `Directories.open` says that something else begins there:
 * another store, another file system. Errors of the system have a cause.
 */
export function isForeign(error: unknown): boolean {
  return error instanceof TombstonedError && error.cause === undefined;
}

/** The directories that this store's names are known to last in: each is fsynced into its parent once. */
export class DurableDirectories {
  #known = new Map<string, string>();

  /** Whether this directory was noted at this path. */
  has(path: string, stats: BigIntStats): boolean {
    return this.#known.get(path) === inodeOf(stats);
  }

  /** Notes a directory: that it is in its parent is durable. */
  note(path: string, stats: BigIntStats): void {
    if (this.#known.size >= MAX_KNOWN) this.#known = new Map();
    this.#known.set(path, inodeOf(stats));
  }
}

/** An inode number alone is soon used again. */
export function inodeOf({ ino, birthtimeNs }: BigIntStats): string {
  return `${ino} ${birthtimeNs}`;
}

/** How many directories are remembered as durable. */
const MAX_KNOWN = 10_000;

/** What new directories take over from the live ones. */
export interface DirectoryLook {
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
}

/**
 * Open directories below a store's root, by their path; each step is opened from
 * the one before, never through a symbolic link, a nested store, or onto another
 * file system. All are closed together.
 */
export class Directories {
  readonly #fs: LocalFs;
  readonly #root: number;
  readonly #device: bigint;
  readonly #url: string;
  readonly #open = new Map<string, number>();
  readonly #absent = new Set<string>();
  /** Directories that must be fsynced for what was done in them to last. */
  readonly #made = new Set<string>();
  readonly #durable: DurableDirectories;

  /** `device` is the root's. */
  constructor(fs: LocalFs, root: number, device: bigint, url: string, durable: DurableDirectories) {
    this.#fs = fs;
    this.#root = root;
    this.#url = url;
    this.#durable = durable;
    this.#device = device;
  }

  /** How many are open. */
  get size(): number {
    return this.#open.size;
  }

  /** Opens a directory; undefined where there is none (or a file stands on the way). */
  open(path: string): number | undefined {
    if (path === '') return this.#root;
    const known = this.#open.get(path);
    if (known !== undefined) return known;
    if (this.#absent.has(path)) return undefined;
    const { directory, base } = splitKey(path);
    const parent = this.open(directory);
    const fd = parent === undefined ? undefined : this.#step(parent, base, path);
    if (fd === undefined) this.#absent.add(path);
    else this.#open.set(path, fd);
    return fd;
  }

  /** Opens a directory, and makes it and those above it where they are missing. */
  make(path: string, look: (path: string) => DirectoryLook): number {
    const known = this.open(path);
    if (known !== undefined) return known;
    const { directory, base } = splitKey(path);
    const parent = this.make(directory, look);
    this.#absent.delete(path);
    this.#makeOne(parent, base, path, look(path));
    const fd = this.#step(parent, base, path);
    if (fd === undefined) {
      if (this.#fs.lstat(at(parent, base)) === undefined) throw vanished(path);
      throw new TombstonedError(
        'failed',
        `${this.#where(path)} is not a directory, and one is needed there`,
        {
          key: path,
          hint: 'move it out of the way',
        },
      );
    }
    this.#open.set(path, fd);
    this.#made.add(path);
    this.#made.add(directory);
    return fd;
  }

  /**
   * Makes one directory under a temporary name, gives it its look by its
   * descriptor, and renames it into place: nobody finds it half-made, and a link
   * that is put in its way is not followed.
   */
  #makeOne(parent: number, base: string, path: string, look: DirectoryLook): void {
    const temporary = this.#makeTemporary(this.open(TMP) ?? parent);
    try {
      const fd = this.#fs.open(temporary, DIRECTORY);
      try {
        this.#giveLook(fd, path, look);
      } finally {
        this.#fs.close(fd);
      }
      // Onto an empty directory it is a replacement that nobody misses; onto anything else it fails.
      this.#fs.rename(temporary, at(parent, base));
    } catch (error) {
      this.#fs.rmdir(temporary);
      if (!['EEXIST', 'ENOTEMPTY', 'ENOTDIR'].includes(errnoOf(error) ?? '')) throw error;
    }
  }

  /** A new directory under a name that nobody has: a killed process of this id may have left some. */
  #makeTemporary(tmp: number): string {
    for (;;) {
      const temporary = at(tmp, `dir-${randomUUID()}`);
      try {
        this.#fs.mkdir(temporary, 0o700);
        return temporary;
      } catch (error) {
        if (errnoOf(error) !== 'EEXIST') throw error;
      }
    }
  }

  #giveLook(fd: number, path: string, look: DirectoryLook): void {
    const made = this.#fs.fstat(fd);
    const isRoot = process.geteuid?.() === 0;
    if (Number(made.gid) !== look.gid || (isRoot && Number(made.uid) !== look.uid)) {
      try {
        this.#fs.fchown(fd, isRoot ? look.uid : Number(made.uid), look.gid);
      } catch (error) {
        if (errnoOf(error) !== 'EPERM') throw error;
        throw new TombstonedError(
          'failed',
          `${this.#where(path)} can't be given the group ${look.gid}: ${systemMessage(error)}`,
          {
            key: path,
            hint: 'let this user be of that group, so that nobody gains or loses the right to read',
            cause: error,
          },
        );
      }
    }
    this.#fs.fchmod(fd, look.mode);
  }

  #step(parent: number, base: string, path: string): number | undefined {
    let fd: number;
    try {
      fd = this.#fs.open(at(parent, base), DIRECTORY);
    } catch (error) {
      const code = errnoOf(error);
      if (code === 'ENOENT') return undefined;
      if (code === undefined) throw error;
      if (code !== 'ENOTDIR' && code !== 'ELOOP') {
        throw new TombstonedError('failed', `${this.#where(path)} can't be opened: ${systemMessage(error)}`, {
          key: path,
          hint: 'let this user into it; what is there counts as neither there nor gone',
          cause: error,
        });
      }
      if (this.#fs.lstat(at(parent, base))?.isSymbolicLink() !== true) return undefined;
      throw new TombstonedError(
        'failed',
        `${this.#where(path)} is a symbolic link; links are never followed`,
        {
          key: path,
          hint: 'name the object by its real path',
          cause: error,
        },
      );
    }
    try {
      this.#check(fd, path);
      return fd;
    } catch (error) {
      this.#fs.close(fd);
      throw error;
    }
  }

  #check(fd: number, path: string): void {
    if (this.#fs.fstat(fd).dev !== this.#device) {
      throw new TombstonedError(
        'failed',
        `${this.#where(path)} is on another file system than the store's root`,
        {
          key: path,
          hint: 'make it a store of its own, with its own entry in the config',
        },
      );
    }
    if (this.#fs.lstat(at(fd, `${CONTROL_SEGMENT}/store.json`)) !== undefined) {
      throw new TombstonedError('failed', `${this.#where(path)} is another store inside this one`, {
        key: path,
        hint: 'a store can not hold another: move it out, or make it the only one',
      });
    }
  }

  #where(path: string): string {
    return printable(`${this.#url.replace(/\/$/, '')}/${path}`);
  }

  /** How a directory looks, for `make`; undefined where there is none that can be opened. */
  look(path: string): DirectoryLook | undefined {
    let fd: number | undefined;
    try {
      fd = this.open(path);
    } catch (error) {
      if (!(error instanceof TombstonedError)) throw error;
    }
    if (fd === undefined) return undefined;
    const stats = this.#fs.fstat(fd);
    return { mode: Number(stats.mode) & 0o7777, uid: Number(stats.uid), gid: Number(stats.gid) };
  }

  /** Forgets a directory that has been removed meanwhile; what was open of it is closed. */
  forget(path: string, close = (fd: number): void => this.#fs.close(fd)): void {
    for (const [known, fd] of this.#open) {
      if (known !== path && !known.startsWith(`${path}/`)) continue;
      close(fd);
      this.#open.delete(known);
    }
    this.#absent.clear();
  }

  /**
   * Makes durable what was done in these directories, deepest first, and that
   * they are there: another process, or one that died, may have made those above.
   */
  syncWithAbove(paths: Iterable<string>): void {
    const { order, noted } = this.#withAbove(paths);
    this.sync(order.flat());
    this.#note(noted);
  }

  /** The same, and then what was done in others, while this thread does something else. */
  async syncInTurn(first: Iterable<string>, then: Iterable<string>): Promise<void> {
    const { order, noted } = this.#withAbove(first);
    // Those of one depth together: each wait is for a turn of this thread as well.
    for (const paths of order) await this.syncAll(paths);
    await this.syncAll(then);
    this.#note(noted);
  }

  /** What to fsync for some directories, deepest first, and what is known to last in its parent after that. */
  #withAbove(paths: Iterable<string>): { order: string[][]; noted: Map<string, BigIntStats> } {
    const all = new Set(this.#made);
    const noted = new Map<string, BigIntStats>();
    for (const path of paths) {
      all.add(path);
      for (let below = path; below !== ''; below = splitKey(below).directory) {
        const fd = noted.has(below) ? undefined : this.open(below);
        if (fd === undefined) continue;
        const stats = this.#fs.fstat(fd);
        if (this.#durable.has(below, stats)) continue;
        noted.set(below, stats);
        all.add(splitKey(below).directory);
      }
    }
    const byDepth: string[][] = [];
    for (const path of all) (byDepth[depthOf(path)] ??= []).push(path);
    return { order: byDepth.filter((level) => level.length > 0).toReversed(), noted };
  }

  #note(noted: ReadonlyMap<string, BigIntStats>): void {
    for (const [path, stats] of noted) this.#durable.note(path, stats);
    this.#made.clear();
  }

  /** Makes durable what was done in these directories, in this order. */
  sync(paths: Iterable<string>): void {
    for (const path of paths) {
      const fd = this.open(path);
      if (fd !== undefined) this.#fs.fsync(fd);
    }
  }

  /** The same in any order, together, without blocking. */
  async syncAll(paths: Iterable<string>): Promise<void> {
    const synced = [...paths].map(async (path) => {
      const fd = this.open(path);
      if (fd !== undefined) await this.#fs.fsyncAsync(fd);
    });
    await Promise.allSettled(synced); // none is under way when it is closed
    await Promise.all(synced);
  }

  /** Closes all. */
  close(): void {
    for (const fd of this.#open.values()) this.#fs.close(fd);
    this.#open.clear();
    this.#absent.clear();
  }
}

/** How many directories are above one, the root's included. */
function depthOf(path: string): number {
  return path === '' ? 0 : path.split('/').length;
}

/** What a system call would have said of a directory that somebody removed just after it was made. */
function vanished(path: string): Error {
  return Object.assign(new Error(`ENOENT: ${path} was removed right after it was made`), { code: 'ENOENT' });
}
