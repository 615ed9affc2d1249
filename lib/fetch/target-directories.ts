import { constants } from 'node:fs';
import { errnoOf, TombstonedError } from '../domain/errors.ts';
import { printable } from '../domain/key.ts';
import { at, splitKey } from '../store/local/directories.ts';
import type { TargetFs } from './target-fs.ts';

const DIRECTORY = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW;

/**
 * Open directories below a fetch's target, by their path; each step is opened from
 * the one before, never through a symbolic link. All are closed together.
 */
export class TargetDirectories {
  readonly #fs: TargetFs;
  readonly #root: number;
  readonly #name: string;
  readonly #open = new Map<string, number>();
  /** Directories that must be fsynced for the names in them to last. */
  readonly #changed = new Set<string>();

  /** `name` is the target's, for messages. */
  constructor(fs: TargetFs, root: number, name: string) {
    this.#fs = fs;
    this.#root = root;
    this.#name = name;
  }

  /** How many are open. */
  get size(): number {
    return this.#open.size;
  }

  /** Opens a directory; undefined where there is none. Throws `conflict` where something else stands on the way. */
  open(path: string): number | undefined {
    return this.#opened(path, false);
  }

  /** Opens a directory, and makes it and those above it where they are missing. */
  make(path: string): number {
    const fd = this.#opened(path, true);
    if (fd === undefined) throw new Error(`${path} was removed right after it was made`);
    return fd;
  }

  #opened(path: string, make: boolean): number | undefined {
    if (path === '') return this.#root;
    const known = this.#open.get(path);
    if (known !== undefined) return known;
    const { directory, base } = splitKey(path);
    const parent = this.#opened(directory, make);
    if (parent === undefined) return undefined;
    let fd = this.#step(parent, base, path);
    if (fd === undefined && make) {
      this.#makeOne(parent, base);
      fd = this.#step(parent, base, path);
    }
    if (fd === undefined) return undefined;
    this.#open.set(path, fd);
    // Also one that was there: who made it may have died before its name was durable.
    if (make) this.#changed.add(directory);
    return fd;
  }

  #makeOne(parent: number, base: string): void {
    try {
      this.#fs.mkdir(at(parent, base), 0o777);
    } catch (error) {
      if (errnoOf(error) !== 'EEXIST') throw error;
    }
  }

  #step(parent: number, base: string, path: string): number | undefined {
    try {
      return this.#fs.open(at(parent, base), DIRECTORY);
    } catch (error) {
      const code = errnoOf(error);
      if (code === 'ENOENT') return undefined;
      if (code !== 'ENOTDIR' && code !== 'ELOOP') throw error;
      const isLink = this.#fs.lstat(at(parent, base))?.isSymbolicLink() === true;
      const what = isLink ? 'a symbolic link, which is not followed' : 'not a directory';
      throw new TombstonedError(
        'conflict',
        `${printable(`${this.#name}/${path}`)} is ${what}, and a directory is needed there`,
        { key: path, hint: 'move it out of the way, or fetch into another directory', cause: error },
      );
    }
  }

  /** Notes that names in a directory were made or replaced. */
  noteChange(path: string): void {
    this.#changed.add(path);
  }

  /** Makes durable all names that were made since the last time. */
  async sync(): Promise<void> {
    const changed = [...this.#changed].flatMap((path) => this.open(path) ?? []);
    const outcomes = await Promise.allSettled(changed.map(async (fd) => this.#fs.fsync(fd)));
    for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason;
    this.#changed.clear();
  }

  /** Closes all; what is not durable yet is no longer known. */
  close(): void {
    for (const fd of this.#open.values()) this.#fs.close(fd);
    this.#open.clear();
    this.#changed.clear();
  }
}
