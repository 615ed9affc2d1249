import { randomUUID } from 'node:crypto';
import { constants } from 'node:fs';
import { errnoOf, TombstonedError } from '../../domain/errors.ts';
import { CONTROL_SEGMENT } from '../../domain/key.ts';
import type { ControlSpace, Temporary } from '../store.ts';
import { at } from './directories.ts';
import { type LocalFs, systemMessage } from './local-fs.ts';
import { sameInode } from './revision-of.ts';

const DIRECTORY = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW;
const FILE = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
const NEW_FILE = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
const REWRITTEN = constants.O_RDWR | constants.O_NOFOLLOW | constants.O_NONBLOCK;
const TMP = 'tmp';
/** Names that this program makes in `tmp/`: control objects, probes of links, directories, restores to another key. */
const OWN_TEMPORARY = /^(?:[\da-f-]{36}|links-\d+-\d+|dir-[\da-f-]{36}|copy-\d{8}T\d{9}Z-\w{14})$/;
/** What a full disk says. */
const FULL = new Set(['ENOSPC', 'EDQUOT']);
/** No control object is near this; a larger one is not ours. Bytes. */
const MAX_SIZE = 64 * 1024 * 1024;

/**
 * Control objects as files below `.tombstoned/`. The root is opened by its path
 * each time and must be the directory the store was opened on: an unmounted disk
 * is found out here (R10).
 */
export class ControlFiles implements ControlSpace {
  readonly #fs: LocalFs;
  readonly #path: string;
  readonly #root: number;

  constructor(fs: LocalFs, path: string, root: number) {
    this.#fs = fs;
    this.#path = path;
    this.#root = root;
  }

  async prepare(): Promise<void> {
    for (const directory of ['tmp', 'leases', 'fences', 'holds']) {
      this.#inDirectory(directory, true, () => undefined);
    }
  }

  async read(name: string): Promise<Buffer | undefined> {
    return this.#inDirectory(directoryOf(name), false, (fd) => {
      if (fd === undefined) return undefined;
      let file: number;
      try {
        file = this.#fs.open(at(fd, baseOf(name)), FILE);
      } catch (error) {
        if (errnoOf(error) === 'ENOENT') return undefined;
        throw this.#error(name, error);
      }
      try {
        const stats = this.#fs.fstat(file);
        if (!stats.isFile() || stats.size > MAX_SIZE) throw this.#error(name, new Error('no file of ours'));
        return this.#fs.readAll(file, Number(stats.size));
      } finally {
        this.#fs.close(file);
      }
    });
  }

  async list(directory: string): Promise<string[]> {
    return this.#inDirectory(directory, false, (fd) => {
      if (fd === undefined) return [];
      const names: string[] = [];
      const dir = this.#fs.opendir(at(fd, '.'));
      try {
        for (let entry = dir.readSync(); entry !== null; entry = dir.readSync()) {
          // Every name counts, and this one can't be read: nothing may be moved or purged.
          if (!entry.isUtf8)
            throw this.#error(`${directory}/${entry.name}`, new Error('its name is not UTF-8'));
          names.push(entry.name);
        }
      } finally {
        dir.closeSync();
      }
      return names.toSorted();
    });
  }

  async create(
    name: string,
    body: string,
    { orEmpty = false, passing = false }: { orEmpty?: boolean; passing?: boolean } = {},
  ): Promise<'created' | 'exists'> {
    try {
      return this.#link(name, body, passing);
    } catch (error) {
      const code = errnoOf(error instanceof TombstonedError ? error.cause : error) ?? '';
      if (!orEmpty || !FULL.has(code)) throw error;
      return this.#link(name, '', passing);
    }
  }

  #link(name: string, body: string, passing: boolean): 'created' | 'exists' {
    return this.#placed({ name, body, passing }, (temporary, target) => {
      try {
        this.#fs.link(temporary, target);
        return 'created';
      } catch (error) {
        if (errnoOf(error) === 'EEXIST') return 'exists';
        throw error;
      } finally {
        this.#fs.unlink(temporary);
      }
    });
  }

  async rewrite(name: string, before: string, after: string): Promise<'rewritten' | 'gone' | 'changed'> {
    const size = Buffer.byteLength(after);
    if (size !== Buffer.byteLength(before)) throw new RangeError(`${name}: another length than before`);
    return this.#inDirectory(directoryOf(name), false, (fd) => {
      if (fd === undefined) return 'gone';
      const path = at(fd, baseOf(name));
      let file: number;
      try {
        file = this.#fs.open(path, REWRITTEN);
      } catch (error) {
        if (errnoOf(error) === 'ENOENT') return 'gone';
        throw this.#error(name, error);
      }
      try {
        const stats = this.#fs.fstat(file);
        if (!stats.isFile()) return 'changed';
        if (!this.#fs.readAll(file, Number(stats.size)).equals(Buffer.from(before))) return 'changed';
        const written = this.#fs.writeAtStart(file, after);
        if (written !== size)
          throw this.#error(name, new Error(`only ${written} of ${size} bytes were written`));
        this.#fs.fsync(file);
        const now = this.#fs.lstat(path);
        return now !== undefined && sameInode(now, stats) ? 'rewritten' : 'gone';
      } catch (error) {
        throw this.#error(name, error);
      } finally {
        this.#fs.close(file);
      }
    });
  }

  async replace(name: string, body: string): Promise<void> {
    this.#placed({ name, body, passing: false }, (temporary, target) => this.#fs.rename(temporary, target));
  }

  async remove(name: string, { passing = false }: { passing?: boolean } = {}): Promise<void> {
    this.#inDirectory(directoryOf(name), false, (fd) => {
      if (fd === undefined) return;
      try {
        this.#fs.unlink(at(fd, baseOf(name)));
      } catch (error) {
        if (errnoOf(error) === 'ENOENT') return;
        throw this.#error(name, error);
      }
      if (!passing) this.#fs.fsync(fd);
    });
  }

  async temporaries(): Promise<Temporary[]> {
    const names = await this.list(TMP);
    return this.#inDirectory(TMP, false, (fd) =>
      names.flatMap((name): Temporary[] => {
        const stats = fd === undefined ? undefined : this.#fs.lstat(at(fd, name));
        // By ctime: what is being copied has the times of what it is copied from.
        if (stats === undefined) return [];
        return [{ name, changedAt: Number(stats.ctimeNs / 1_000_000n), isOurs: OWN_TEMPORARY.test(name) }];
      }),
    );
  }

  async removeTemporary(name: string): Promise<void> {
    this.#inDirectory(TMP, false, (fd) => {
      const stats = fd === undefined || name.includes('/') ? undefined : this.#fs.lstat(at(fd, name));
      if (fd === undefined || stats === undefined) return;
      if (!OWN_TEMPORARY.test(name)) throw this.#error(`${TMP}/${name}`, new Error('no name of ours'));
      try {
        if (stats.isDirectory()) {
          if (name.startsWith('copy-')) this.#removeCopy(fd, name);
          this.#fs.rmdir(at(fd, name));
        } else this.#fs.unlink(at(fd, name));
      } catch (error) {
        if (errnoOf(error) !== 'ENOENT') throw this.#error(`${TMP}/${name}`, error);
      }
    });
  }

  /** The one file that a restore to another key has in its directory. */
  #removeCopy(tmp: number, name: string): void {
    const fd = this.#fs.open(at(tmp, name), DIRECTORY);
    try {
      if (this.#fs.lstat(at(fd, 'copy')) !== undefined) this.#fs.unlink(at(fd, 'copy'));
    } finally {
      this.#fs.close(fd);
    }
  }

  /** Writes a body under a temporary name, durable unless it is passing, and lets `place` put it where it belongs. */
  #placed<T>(
    { name, body, passing }: { name: string; body: string; passing: boolean },
    place: (temporary: string, target: string) => T,
  ): T {
    return this.#inDirectory('tmp', true, (tmp) =>
      this.#inDirectory(directoryOf(name), true, (fd) => {
        if (tmp === undefined || fd === undefined)
          throw this.#error(name, new Error('its directory has gone'));
        const { temporary, file } = this.#openTemporary(tmp);
        try {
          this.#fs.fchmod(file, 0o644);
          this.#fs.write(file, body);
          if (!passing) this.#fs.fsync(file);
        } catch (error) {
          this.#fs.close(file);
          this.#fs.unlink(temporary);
          throw this.#error(name, error);
        }
        this.#fs.close(file);
        const result = place(temporary, at(fd, baseOf(name)));
        if (!passing) this.#fs.fsync(fd);
        return result;
      }),
    );
  }

  /**
   * Writes bodies under temporary names, makes all durable together, and lets `place` give each the name
   * that it is for, in directories that the caller makes durable. The temporary names go.
   */
  async withTemporaries<T>(
    items: readonly { readonly name: string; readonly body: Uint8Array; readonly mode: number }[],
    place: (temporary: string, index: number) => T,
  ): Promise<T[]> {
    const opened: number[] = [];
    const temporaries: string[] = [];
    const files: number[] = [];
    try {
      const tmp = this.#openDirectory(TMP, true, opened);
      if (tmp === undefined) throw this.#error(TMP, new Error('it has gone'));
      for (const { name, body, mode } of items) {
        const { temporary, file } = this.#openTemporary(tmp);
        temporaries.push(temporary);
        files.push(file);
        try {
          this.#fs.fchmod(file, mode);
          this.#fs.write(file, body);
        } catch (error) {
          throw this.#error(name, error);
        }
      }
      const synced = await Promise.allSettled(files.map(async (file) => this.#fs.fsyncAsync(file)));
      for (const [i, result] of synced.entries()) {
        if (result.status === 'rejected') throw this.#error(items[i]?.name ?? '', result.reason);
      }
      return temporaries.map((temporary, i) => place(temporary, i));
    } finally {
      for (const file of files) this.#fs.close(file);
      for (const temporary of temporaries) this.#fs.unlink(temporary);
      for (const fd of opened.toReversed()) this.#fs.close(fd);
    }
  }

  /** A new file under a name that nobody has: a process of this id may have left some. */
  #openTemporary(tmp: number): { temporary: string; file: number } {
    for (;;) {
      const temporary = at(tmp, randomUUID());
      try {
        return { temporary, file: this.#fs.open(temporary, NEW_FILE, 0o644) };
      } catch (error) {
        if (errnoOf(error) !== 'EEXIST') throw error;
      }
    }
  }

  /** Opens a directory below `.tombstoned` for `use`; made with the store's group and setgid. */
  #inDirectory<T>(directory: string, make: boolean, use: (fd: number | undefined) => T): T {
    const opened: number[] = [];
    try {
      return use(this.#openDirectory(directory, make, opened));
    } catch (error) {
      throw errnoOf(error) === undefined ? error : this.#error(directory, error);
    } finally {
      for (const fd of opened.toReversed()) this.#fs.close(fd);
    }
  }

  /** Opens it, and notes what is to be closed. */
  #openDirectory(directory: string, make: boolean, opened: number[]): number | undefined {
    let fd = this.#openRoot();
    opened.push(fd);
    for (const segment of [CONTROL_SEGMENT, ...(directory === '' ? [] : directory.split('/'))]) {
      const next = this.#openStep(fd, segment, make);
      if (next === undefined) return undefined;
      fd = next;
      opened.push(fd);
    }
    return fd;
  }

  #openRoot(): number {
    let fd: number | undefined;
    try {
      fd = this.#fs.open(this.#path, constants.O_RDONLY | constants.O_DIRECTORY);
      if (sameInode(this.#fs.fstat(fd), this.#fs.fstat(this.#root))) return fd;
    } catch (error) {
      if (fd !== undefined) this.#fs.close(fd);
      throw this.#error('', error);
    }
    this.#fs.close(fd);
    throw new TombstonedError('failed', `${this.#path} is no longer the directory this run began with`, {
      key: this.#path,
      hint: 'is the disk still mounted? Nothing was marked as gone',
    });
  }

  #openStep(parent: number, segment: string, make: boolean): number | undefined {
    try {
      return this.#fs.open(at(parent, segment), DIRECTORY);
    } catch (error) {
      if (errnoOf(error) !== 'ENOENT') throw this.#error(segment, error);
    }
    if (!make) return undefined;
    try {
      return this.#make(parent, segment);
    } catch (error) {
      throw this.#error(segment, error);
    }
  }

  #make(parent: number, segment: string): number {
    try {
      this.#fs.mkdir(at(parent, segment), 0o700);
    } catch (error) {
      if (errnoOf(error) !== 'EEXIST') throw error;
      return this.#fs.open(at(parent, segment), DIRECTORY);
    }
    const fd = this.#fs.open(at(parent, segment), DIRECTORY);
    try {
      const root = this.#fs.fstat(this.#root);
      const made = this.#fs.fstat(fd);
      if (made.gid !== root.gid) this.#giveGroup(fd, Number(made.uid), Number(root.gid));
      this.#fs.fchmod(fd, (Number(root.mode) & 0o777) | 0o2700);
      this.#fs.fsync(parent);
      return fd;
    } catch (error) {
      this.#fs.close(fd);
      this.#takeBack(parent, segment);
      throw error;
    }
  }

  /** A directory without the store's group and mode would be found by the next try, and stay so. */
  #takeBack(parent: number, segment: string): void {
    try {
      this.#fs.rmdir(at(parent, segment));
    } catch (error) {
      // Somebody has put something into it, or taken it away: that is theirs.
      if (!['ENOTEMPTY', 'EEXIST', 'ENOENT'].includes(errnoOf(error) ?? '')) throw error;
    }
  }

  #giveGroup(fd: number, uid: number, gid: number): void {
    try {
      this.#fs.fchown(fd, uid, gid);
    } catch (cause) {
      if (errnoOf(cause) !== 'EPERM') throw cause;
      throw new TombstonedError(
        'failed',
        `${this.#path} is of group ${gid}, and this user can't make a directory of that group in it: ${systemMessage(cause)}`,
        {
          key: this.#path,
          hint: 'let this user be of that group, give the store one of its own (chgrp), or run as root',
          cause,
        },
      );
    }
  }

  #error(name: string, cause: unknown): TombstonedError {
    if (cause instanceof TombstonedError) return cause;
    const below = name === CONTROL_SEGMENT || name === '' ? name : `${CONTROL_SEGMENT}/${name}`;
    const where = `${this.#path}/${below}`.replace(/\/$/, '');
    const hint = FULL.has(errnoOf(cause) ?? '')
      ? 'the disk is full: purge, or free some space'
      : 'check that the store is mounted and its permissions let this user in';
    return new TombstonedError('failed', `${where}: ${systemMessage(cause)}`, {
      key: where,
      hint,
      cause,
    });
  }
}

function directoryOf(name: string): string {
  const cut = name.lastIndexOf('/');
  return cut < 0 ? '' : name.slice(0, cut);
}

function baseOf(name: string): string {
  return name.slice(name.lastIndexOf('/') + 1);
}
