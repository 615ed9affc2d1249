import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { type BigIntStats, constants } from 'node:fs';
import { setImmediate } from 'node:timers/promises';
import type { Clock } from '../../domain/clock.ts';
import { errnoOf, messageOf, TombstonedError } from '../../domain/errors.ts';
import { parseTombstoneId, pendingName } from '../../domain/ids.ts';
import { asKey, CONTROL_SEGMENT, isBelowPrefix, type Key, printable } from '../../domain/key.ts';
import { revisionText, sameRevision } from '../../domain/revision.ts';
import { Turns } from '../../domain/turns.ts';
import type {
  Listed,
  ListedPending,
  LiveObject,
  MoveItem,
  MoveOutcome,
  NamedFile,
  NewObject,
  OpenObject,
  PendingCopy,
  Pulse,
  PutBackItem,
  PutBackOutcome,
  RemoveItem,
  RemoveOutcome,
  Store,
  Stray,
  StrayFile,
} from '../store.ts';
import { ControlFiles } from './control-files.ts';
import {
  at,
  Directories,
  type DirectoryLook,
  DurableDirectories,
  isForeign,
  splitKey,
} from './directories.ts';
import { Depth, Flight } from './flight.ts';
import { type LocalFs, nodeFs, systemMessage } from './local-fs.ts';
import { currentRights, directoryRefusal, fileRefusal, type Rights } from './may-move.ts';
import { type IdsByBase, isSteadyAt, MOST_NAMES, PendingNames } from './pending-names.ts';
import { openFile, unreadable } from './read-file.ts';
import { modifiedAt, revisionOf, sameInode } from './revision-of.ts';
import { walkLive, walkPending } from './walk.ts';

/** `statfs` types of network file systems, whose caches may be a minute old: vboxsf, Lustre, kAFS, NFS, CIFS, SMB2, 9p, FUSE, Ceph, AFS, Coda. */
const CACHED = new Set([
  0x786f4256, 0x0bd00bd0, 0x6b414653, 0x6969, 0xff534d42, 0xfe534d42, 0x517b, 0x65735546, 0x01021997,
  0x00c36400, 0x5346414f, 0x73757245,
]);
/** How old their listings are at the most. ms. */
const SETTLE_MS = 65_000;
/** How many directories a batch holds open before it makes them durable and goes on. */
const MAX_OPEN = 200;
/** How long a group may take before its directories are made durable. ms. */
const GROUP_MS = 2000;
/** How long a batch may keep others from their turns, about. ms. */
const BREATH_MS = 10;
/** How many files are renamed before each is looked at: what was not meant to go is soon back. */
const MOVED_AT_ONCE = 100;
/** How many new objects are made durable together. */
const CREATED_AT_ONCE = 64;
const REMOVED = { outcome: 'removed' } as const;
/** Errors that say for sure that nothing was done, for a reason the operator can see to. */
const REFUSED = new Set([
  'EACCES',
  'EPERM',
  'EROFS',
  'ENOSPC',
  'EDQUOT',
  'ENAMETOOLONG',
  'EMLINK',
  'EXDEV',
  'EBUSY',
]);

/** A directory on a local disk as a store: objects are regular files, a move is `rename(2)`. */
export class LocalStore implements Store {
  readonly url: string;
  readonly pendingPrefix: string;
  readonly settle: number;
  readonly control: ControlFiles;
  readonly #fs: LocalFs;
  readonly #clock: Clock;
  readonly directory: string;
  readonly #path: string;
  readonly #root: number;
  readonly #device: bigint;
  readonly #rights: Rights;
  readonly #durable = new DurableDirectories();
  readonly #pendingNames = new PendingNames();
  readonly #removals: Depth;
  readonly #moves = new Turns();

  private constructor(options: {
    path: string;
    root: number;
    device: bigint;
    pendingPrefix: string;
    fs: LocalFs;
    clock: Clock;
    settle: number;
  }) {
    this.settle = options.settle;
    this.url = `file://${options.path}`;
    this.pendingPrefix = options.pendingPrefix;
    this.#fs = options.fs;
    this.#clock = options.clock;
    this.#removals = new Depth(options.clock);
    this.#path = options.path;
    this.directory = options.path;
    this.#root = options.root;
    this.#device = options.device;
    this.#rights = currentRights();
    this.control = new ControlFiles(options.fs, options.path, options.root);
  }

  /**
   * Opens the store at a directory. `write` also makes sure that its pending
   * directory is one, on the same file system, and that files can be linked back.
   * Throws `failed` when the directory can't be relied on.
   */
  static open(options: {
    path: string;
    pendingPrefix: string;
    access: 'read' | 'write';
    clock: Clock;
    fs?: LocalFs;
    /** How old listings can be, ms; otherwise by the kind of file system. */
    settle?: number | undefined;
  }): LocalStore {
    const { path, pendingPrefix, access, clock, fs = nodeFs } = options;
    let root: number | undefined;
    let device: bigint;
    let settle: number;
    try {
      root = fs.open(path, constants.O_RDONLY | constants.O_DIRECTORY);
      ({ dev: device } = fs.fstat(root));
      settle = options.settle ?? (CACHED.has(fs.fileSystemType(at(root, '.')) >>> 0) ? SETTLE_MS : 0);
    } catch (error) {
      if (root !== undefined) fs.close(root);
      throw new TombstonedError(
        'failed',
        `the store ${printable(path)} can't be opened: ${systemMessage(error)}`,
        {
          key: path,
          hint: 'is the disk mounted, and may this user read the directory?',
          cause: error,
        },
      );
    }
    const store = new LocalStore({ path, root, device, pendingPrefix, fs, clock, settle });
    try {
      if (access === 'write') store.checkPending();
      return store;
    } catch (error) {
      store.close();
      throw error;
    }
  }

  /** Throws where the pending directory is none, or on another mount than the store: nothing can be renamed into it. */
  checkPending(): void {
    const pending = this.pendingPrefix.replace(/\/$/, '');
    this.#withDirectories(pending, (directories) => {
      const fd = directories.open(pending);
      if (fd !== undefined && this.#fs.mountOf(fd) !== this.#fs.mountOf(this.#root)) {
        throw new TombstonedError('failed', `${this.#path}/${pending} is a mount of its own`, {
          key: pending,
          hint: 'nothing can be renamed into it: unmount it, and make it a plain directory',
        });
      }
      if (fd !== undefined || this.#fs.lstat(at(this.#root, pending)) === undefined) return;
      throw new TombstonedError('failed', `${this.#path}/${this.pendingPrefix} is not a directory`, {
        key: this.pendingPrefix,
        hint: 'move it away, or set pendingPrefix in the config of a new store',
      });
    });
  }

  /**
   * Whether a file here can be linked, which R2's put-back needs. Writes two
   * scratch names below `.tombstoned/tmp/` and removes them.
   */
  async checkLinks(): Promise<void> {
    const name = `tmp/links-${process.pid}-${this.#clock.now()}`;
    await this.control.create(name, 'probe\n'); // made by link(2)
    await this.control.remove(name);
  }

  /**
   * Whether what is written here can be made durable, and how long that takes, ms: writes
   * a scratch name below `.tombstoned/tmp/`, fsyncs, renames, fsyncs the directory, reads
   * it again and removes it.
   */
  async checkSync(): Promise<number> {
    const name = `tmp/${randomUUID()}`;
    const begun = this.#clock.monotonic();
    let took: number;
    let found: Buffer | undefined;
    try {
      await this.control.replace(name, 'probe\n');
      took = this.#clock.monotonic() - begun;
      found = await this.control.read(name);
    } catch (error) {
      await this.control.remove(name).catch(() => undefined); // that it failed comes first
      throw error;
    }
    await this.control.remove(name);
    if (found?.toString() === 'probe\n') return took;
    throw new TombstonedError('failed', `${this.#path}: what was written is not what is read`, {
      key: this.#path,
      hint: "look at the kernel's log: the disk or its controller fails",
    });
  }

  async checkWritable(): Promise<void> {
    try {
      this.#fs.access(at(this.#root, '.'), constants.W_OK);
    } catch (cause) {
      if (errnoOf(cause) !== 'EROFS') return; // what else forbids it is told of each object
      throw new TombstonedError('failed', `${this.#path} is mounted read-only: nothing can be moved`, {
        key: this.#path,
        hint: 'remount it read-write; if the kernel made it read-only, look at its log',
        cause,
      });
    }
  }

  close(): void {
    this.#fs.close(this.#root);
  }

  list(prefix: string, signal?: AbortSignal): AsyncIterable<Listed[]> {
    return walkLive(this.#walked(), prefix, signal);
  }

  listPending(prefix: string, signal?: AbortSignal): AsyncIterable<ListedPending[]> {
    return walkPending({ ...this.#walked(), refusalOf: () => null }, prefix, signal);
  }

  #walked(): Parameters<typeof walkLive>[0] {
    return {
      fs: this.#fs,
      clock: this.#clock,
      rights: this.#rights,
      root: this.#root,
      path: this.#path,
      pendingPrefix: this.pendingPrefix,
      refusalOf: (fd, path) => this.#refusalOf(fd, path.replace(/\/$/, '')),
    };
  }

  /** Why nothing can be moved out of a live directory, or into its pending one; or null. */
  #refusalOf(fd: number, path: string): string | null {
    const refusal = directoryRefusal(this.#fs, fd);
    if (refusal !== null || this.#rights.uid === 0) return refusal;
    try {
      return this.#withDirectories(path, (directories) => {
        const pending = `${this.pendingPrefix}${path}`.replace(/\/$/, '');
        for (let nearest = pending; ; nearest = splitKey(nearest).directory) {
          const there = directories.open(nearest);
          if (there === undefined) continue;
          if (directoryRefusal(this.#fs, there) === null) return null;
          return "its pending directory can't be written by this user";
        }
      });
    } catch (error) {
      if (!(error instanceof TombstonedError)) throw error;
      return error.message; // a listing only says what could not be moved
    }
  }

  async head(key: Key): Promise<LiveObject | undefined> {
    if (this.#isPendingName(key)) return undefined;
    return this.#withDirectories(key, (directories) => {
      const { directory, base } = splitKey(key);
      const fd = directories.open(directory);
      const file = fd === undefined ? undefined : this.#fs.lstat(at(fd, base));
      if (fd === undefined || file === undefined || file.isDirectory()) return undefined;
      const refusal = file.isFile()
        ? (this.#refusalOf(fd, directory) ??
          fileRefusal(this.#fs, fd, this.#fs.fstat(fd), base, file, this.#rights))
        : 'it is not a regular file';
      return {
        type: 'object',
        key,
        revision: revisionOf(file),
        size: Number(file.size),
        modifiedAt: modifiedAt(file),
        refusal,
      };
    });
  }

  async openLive(key: Key): Promise<OpenObject | undefined> {
    return this.#isPendingName(key) ? undefined : this.#openObject(key);
  }

  /** Whether a key is below the pending directory: nothing there is ever live. */
  #isPendingName(key: Key): boolean {
    return isBelowPrefix(key, this.pendingPrefix);
  }

  #refusePendingName(key: Key): { outcome: 'failed'; error: Error } {
    const error = new TombstonedError('failed', `${printable(key)} is below ${this.pendingPrefix}`, {
      key,
      hint: 'only pending copies are there; name a live key',
    });
    return { outcome: 'failed', error };
  }

  async openPending(key: Key, id: string): Promise<OpenObject | undefined> {
    return this.#openObject(pendingName(this.pendingPrefix, key, id));
  }

  async openNewest(key: Key): Promise<{ object: OpenObject; id: string | null } | undefined> {
    if (this.#isPendingName(key)) return undefined;
    return this.#withDirectories(key, (directories) => {
      const live = this.#openIfThere(directories, key);
      if (live !== undefined) return { object: live, id: null };
      for (const id of this.#pendingIdsIn(directories, key)) {
        const object = this.#openIn(directories, pendingName(this.pendingPrefix, key, id));
        if (object !== undefined) return { object, id };
      }
      return undefined;
    });
  }

  /** Where a miss is likely: to look first costs a tenth of what an error does. */
  #openIfThere(directories: Directories, name: string): OpenObject | undefined {
    const { directory, base } = splitKey(name);
    const fd = directories.open(directory);
    if (fd === undefined || this.#fs.lstat(at(fd, base)) === undefined) return undefined;
    return openFile(this.#fs, fd, base, name);
  }

  #openObject(name: string): OpenObject | undefined {
    return this.#withDirectories(name, (directories) => this.#openIn(directories, name));
  }

  #openIn(directories: Directories, name: string): OpenObject | undefined {
    const { directory, base } = splitKey(name);
    const fd = directories.open(directory);
    return fd === undefined ? undefined : openFile(this.#fs, fd, base, name);
  }

  /** Opens their directories once. */
  openingMany<T>(use: (open: (key: Key) => OpenObject | undefined) => T): T {
    const directories = this.#directories();
    try {
      return use((key) => {
        try {
          return this.#isPendingName(key) ? undefined : this.#openIn(directories, key);
        } catch (error) {
          throw translated(key, error);
        }
      });
    } finally {
      directories.close();
    }
  }

  async headPending(key: Key, id: string): Promise<PendingCopy | undefined> {
    const name = pendingName(this.pendingPrefix, key, id);
    return this.#withDirectories(name, (directories) => {
      const { directory, base } = splitKey(name);
      const fd = directories.open(directory);
      const file = fd === undefined ? undefined : this.#fs.lstat(at(fd, base));
      return file === undefined ? undefined : { revision: revisionOf(file), size: Number(file.size) };
    });
  }

  async fileOf(key: Key, id: string): Promise<NamedFile | undefined> {
    const name = pendingName(this.pendingPrefix, key, id);
    return this.#withDirectories(name, (directories) => {
      const { directory, base } = splitKey(name);
      const fd = directories.open(directory);
      const file = fd === undefined ? undefined : this.#fs.lstat(at(fd, base));
      return file === undefined ? undefined : { inode: `${file.dev}:${file.ino}`, names: Number(file.nlink) };
    });
  }

  async pendingIds(key: Key): Promise<string[]> {
    return this.#withDirectories(key, (directories) => this.#pendingIdsIn(directories, key));
  }

  #pendingIdsIn(directories: Directories, key: Key): string[] {
    const { directory, base } = splitKey(this.pendingPrefix + key);
    const fd = directories.open(directory);
    if (fd === undefined) return [];
    const before = this.#fs.fstat(fd);
    // On a network file system what this host knows of a directory's times may be old itself.
    const isSteady = this.settle === 0 && isSteadyAt(before, this.#fs.now());
    const known = isSteady ? this.#pendingNames.of(directory, before, base) : undefined;
    if (known !== undefined) return known; // that a name is not there is only said by reading
    let others = 0;
    const ids = this.#idsIn(fd, (name) => name === base || (isSteady && others++ < MOST_NAMES));
    if (isSteady && others <= MOST_NAMES) this.#pendingNames.note(directory, before, ids);
    return ids.get(base) ?? [];
  }

  async pendingIdsOf(keys: readonly Key[]): Promise<Map<Key, string[]>> {
    const found = new Map<Key, string[]>();
    const byDirectory = new Map<string, Map<string, Key>>();
    for (const key of keys) {
      const { directory, base } = splitKey(this.pendingPrefix + key);
      const inIt = byDirectory.get(directory) ?? new Map<string, Key>();
      byDirectory.set(directory, inIt.set(base, key));
    }
    for (const [directory, wanted] of byDirectory) {
      const [first = ''] = wanted.values();
      this.#withDirectories(first, (directories) => {
        const fd = directories.open(directory);
        if (fd === undefined) return;
        for (const [base, ids] of this.#idsIn(fd, (name) => wanted.has(name))) {
          const key = wanted.get(base);
          if (key !== undefined) found.set(key, ids);
        }
      });
    }
    return found;
  }

  /** The ids of the names that are wanted in one directory, newest first, by the last part of their keys. */
  #idsIn(fd: number, isWanted: (base: string) => boolean): IdsByBase {
    const found: IdsByBase = new Map();
    const dir = this.#fs.opendir(at(fd, '.'));
    try {
      for (let entry = dir.readSync(); entry !== null; entry = dir.readSync()) {
        const cut = entry.name.lastIndexOf('~');
        const base = entry.name.slice(0, Math.max(0, cut));
        if (cut < 0 || entry.kind === 'directory' || !isWanted(base)) continue;
        const id = entry.name.slice(cut + 1);
        if (parseTombstoneId(id) === undefined) continue;
        const ids = found.get(base);
        if (ids === undefined) found.set(base, [id]);
        else ids.push(id);
      }
    } finally {
      dir.closeSync();
    }
    for (const [base, ids] of found) if (ids.length > 1) found.set(base, ids.toSorted().toReversed());
    return found;
  }

  async move(
    batch: readonly MoveItem[],
    { resume, pulse }: { resume: boolean; pulse?: Pulse },
  ): Promise<MoveOutcome[]> {
    if (resume) return this.#inGroups(batch, (item, group) => this.#resumeOne(item, group));
    // Two at once would end at once: the first is done first, and made durable while the second goes on.
    return this.#moves.take(async (onDone) => {
      await pulse?.(); // it may have waited long
      const how = { most: MOVED_AT_ONCE, pulse, onDone };
      return this.#inGroupsOf(batch, how, (items, group) => this.#moveSome(items, group));
    });
  }

  /** Moves some of one directory. */
  #moveSome(items: readonly MoveItem[], group: Group): MoveOutcome[] {
    const way = this.#wayOf(splitKey(items[0]?.key ?? '').directory);
    // All renames of a directory first, then a look at each where it is now: a name is found
    // faster in the directory that the process is in.
    const begun = items.map((item) => this.#renameOne(item, way, group));
    return items.map((item, i) => this.#judgeRenamed(item, begun[i], way, group));
  }

  #wayOf(directory: string): Way {
    const head = directory === '' ? '' : `${directory}/`;
    const { directory: pending, base: stem } = splitKey(this.pendingPrefix + head);
    return { directory, head, pending, stem };
  }

  /** Renames a live file to its pending name, if it is the revision meant: what it was, or how that ended. */
  #renameOne(item: MoveItem, way: Way, group: Group): MoveOutcome | Renamed {
    if (this.#isPendingName(item.key)) return this.#refusePendingName(item.key);
    const { directories } = group;
    const { directory } = way;
    const base = item.key.slice(way.head.length);
    let source: number | undefined;
    let live: BigIntStats | undefined;
    try {
      source = directories.open(directory);
      if (source !== undefined) {
        live = this.#fs.lstat(group.enter(source) + base);
      }
    } catch (error) {
      if (isForeign(error)) throw error; // the sweep stops there
      return notBegun(error, item.key);
    }
    if (source === undefined || live === undefined) return { outcome: 'gone' };
    if (!live.isFile() || !sameRevision(revisionOf(live), item.revision)) return { outcome: 'changed' };
    let target: number;
    try {
      target = directories.make(way.pending, (path) => this.#pendingLook(directories, path));
    } catch (error) {
      if (errnoOf(error) === 'ENOENT' && group.retry(item.id)) {
        group.forget(this.#pendingTop());
        return this.#renameOne(item, way, group);
      }
      return notBegun(error, item.key);
    }
    try {
      this.#fs.rename(group.enter(source) + base, at(target, pendingBaseOf(way, item)));
    } catch (error) {
      return this.#afterFailedRename(item, error, way, group);
    }
    group.touch(way.pending, directory);
    return { was: live };
  }

  /** Checks that what was renamed is what was meant (R2). */
  #judgeRenamed(
    item: MoveItem,
    renamed: MoveOutcome | Renamed | undefined,
    way: Way,
    group: Group,
  ): MoveOutcome {
    if (renamed === undefined) throw new TypeError(`${item.id} was not looked at`);
    if ('outcome' in renamed) return renamed;
    const target = group.directories.open(way.pending);
    const moved =
      target === undefined ? undefined : this.#fs.lstat(group.enter(target) + pendingBaseOf(way, item));
    if (moved === undefined) {
      throw new TombstonedError(
        'failed',
        `${printable(item.key)}: its pending copy vanished right after the move`,
        {
          key: item.key,
          hint: 'something else removes files below the pending directory; stop it',
        },
      );
    }
    return this.#judge(item, moved, renamed.was, group);
  }

  /**
   * What a move that died has come to, by its own pending name (R2). One that had
   * not begun is not begun here: what is due to be moved, the next sweep says.
   */
  #resumeOne(item: MoveItem, group: Group): MoveOutcome {
    const pending = splitKey(pendingName(this.pendingPrefix, item.key, item.id));
    let found: BigIntStats | undefined;
    try {
      const fd = group.directories.open(pending.directory);
      found = fd === undefined ? undefined : this.#fs.lstat(at(fd, pending.base));
    } catch (error) {
      return notBegun(error, item.key);
    }
    if (found === undefined) return { outcome: 'gone' };
    group.touch(pending.directory, splitKey(item.key).directory);
    return this.#judge(item, found, undefined, group);
  }

  /** The topmost directory of the pending ones: a purge may take those below it while they are empty. */
  #pendingTop(): string {
    return this.pendingPrefix.split('/', 1)[0] ?? '';
  }

  /** A failed rename has done nothing; ENOENT may mean that a purge took the empty pending directory. */
  #afterFailedRename(item: MoveItem, error: unknown, way: Way, group: Group): MoveOutcome | Renamed {
    const { directory, base } = splitKey(item.key);
    const { directories } = group;
    const code = errnoOf(error) ?? '';
    if (code === 'ENOENT') {
      const source = directories.open(directory);
      if (source === undefined || this.#fs.lstat(at(source, base)) === undefined) return { outcome: 'gone' };
      if (group.retry(item.id)) {
        // With it those above may have gone: all are opened anew, or made.
        group.forget(this.#pendingTop());
        return this.#renameOne(item, way, group);
      }
    }
    if (code === 'ENOTEMPTY' || code === 'EEXIST' || code === 'EISDIR' || code === 'ENOTDIR') {
      return { outcome: 'changed' };
    }
    return refused(error, item.key);
  }

  /** Looks at what was moved: what was meant, or something that took its place and goes back (R2). */
  #judge(item: MoveItem, moved: BigIntStats, meant: BigIntStats | undefined, group: Group): MoveOutcome {
    const isMeant = meant === undefined || sameInode(moved, meant);
    if (isMeant && moved.isFile() && sameRevision(revisionOf(moved), item.revision))
      return { outcome: 'moved' };
    const { directories } = group;
    const { directory, base } = splitKey(item.key);
    const pending = splitKey(pendingName(this.pendingPrefix, item.key, item.id));
    const source = this.#openIfReachable(directory, directories);
    const target = directories.open(pending.directory);
    if (target === undefined) throw new Error(`${pending.directory} vanished`);
    if (moved.isDirectory()) {
      try {
        if (source === undefined) return { outcome: 'stray-directory' };
        this.#fs.rename(at(target, pending.base), at(source, base));
        return { outcome: 'changed' };
      } catch (error) {
        if (!['ENOTEMPTY', 'EEXIST', 'ENOTDIR', 'ENOENT'].includes(errnoOf(error) ?? '')) throw error;
        return { outcome: 'stray-directory' };
      }
    }
    const revision = revisionOf(moved);
    const isBack = source !== undefined && this.#linkBack(at(target, pending.base), at(source, base), moved);
    return { outcome: isBack ? 'put-back' : 'moved-other', revision };
  }

  /** A live directory; undefined also where it can't be reached, so that nothing can go back there. */
  #openIfReachable(directory: string, directories: Directories): number | undefined {
    try {
      return directories.open(directory);
    } catch (error) {
      if (!isRefusal(error)) throw error;
      return undefined;
    }
  }

  #linkBack(pending: string, live: string, moved: BigIntStats): boolean {
    try {
      this.#fs.link(pending, live);
      return true;
    } catch (error) {
      const code = errnoOf(error) ?? '';
      if (code === 'EEXIST') {
        const there = this.#fs.lstat(live);
        return there !== undefined && sameInode(there, moved);
      }
      if (code === 'EPERM' && moved.isSymbolicLink()) return this.#symlinkBack(pending, live);
      // It stays in its pending name, whole: a tombstone of its own.
      if (code === 'ENOENT' || REFUSED.has(code)) return false;
      throw error;
    }
  }

  #symlinkBack(pending: string, live: string): boolean {
    try {
      this.#fs.symlink(this.#fs.readlink(pending), live);
      return true;
    } catch (error) {
      if (errnoOf(error) === 'EEXIST' || REFUSED.has(errnoOf(error) ?? '')) return false;
      throw error;
    }
  }

  /** Pending directories take mode and group of the live ones. */
  #pendingLook(directories: Directories, path: string): DirectoryLook {
    const live = path.startsWith(this.pendingPrefix) ? path.slice(this.pendingPrefix.length) : '';
    for (let nearest = live; ; nearest = splitKey(nearest).directory) {
      const look = directories.look(nearest);
      if (look !== undefined) return look;
      if (nearest === '') throw new Error('the root has gone');
    }
  }

  async strayFiles(key: Key, id: string): Promise<Stray[]> {
    const top = pendingName(this.pendingPrefix, key, id);
    const strays: Stray[] = [];
    const found = [top];
    for (const directory of found) {
      this.#withDirectories(directory, (directories) => {
        const fd = directories.open(directory);
        if (fd === undefined) return;
        for (const name of this.#namesIn(fd)) {
          const path = `${directory}/${name}`;
          const stats = this.#fs.lstat(at(fd, name));
          const strayKey = asKey(`${key}${path.slice(top.length)}`);
          if (stats?.isDirectory() === true) found.push(path);
          else if (stats !== undefined && strayKey !== undefined) {
            strays.push({ type: 'stray', key: strayKey, revision: revisionOf(stats), at: path });
          } else strays.push({ type: 'refused', path, why: 'its name is no key' });
        }
      });
    }
    // A directory that holds no files would stay for ever: no adoption takes it away.
    this.#withDirectories(top, (directories) => {
      for (const directory of found.toReversed()) this.#removeEmpty(directories, directory);
    });
    return strays;
  }

  /** The names in an open directory, as one pass gives them. */
  #namesIn(fd: number): string[] {
    const names: string[] = [];
    const dir = this.#fs.opendir(at(fd, '.'));
    try {
      for (let entry = dir.readSync(); entry !== null; entry = dir.readSync()) names.push(entry.name);
    } finally {
      dir.closeSync();
    }
    return names;
  }

  async adoptStray(stray: StrayFile, id: string): Promise<MoveOutcome> {
    const from = splitKey(stray.at);
    const to = splitKey(pendingName(this.pendingPrefix, stray.key, id));
    return this.#withDirectories(stray.key, (directories) => {
      let target: number;
      try {
        const source = directories.open(from.directory);
        if (source === undefined) return { outcome: 'gone' };
        target = directories.make(to.directory, (path) => this.#pendingLook(directories, path));
        this.#fs.rename(at(source, from.base), at(target, to.base));
      } catch (error) {
        return errnoOf(error) === 'ENOENT' ? { outcome: 'gone' } : refused(error, stray.key);
      }
      directories.syncWithAbove([to.directory]);
      directories.sync([from.directory]);
      const moved = this.#fs.lstat(at(target, to.base));
      this.#removeEmpty(directories, from.directory);
      if (moved === undefined || sameRevision(revisionOf(moved), stray.revision)) return { outcome: 'moved' };
      return { outcome: 'moved-other', revision: revisionOf(moved) };
    });
  }

  async create(batch: readonly NewObject[]): Promise<('created' | 'exists')[]> {
    const outcomes: ('created' | 'exists')[] = [];
    for (let from = 0; from < batch.length; from += CREATED_AT_ONCE) {
      outcomes.push(...(await this.#createSome(batch.slice(from, from + CREATED_AT_ONCE))));
    }
    return outcomes;
  }

  async #createSome(batch: readonly NewObject[]): Promise<('created' | 'exists')[]> {
    const directories = this.#directories();
    let doing = batch[0]?.key ?? '';
    try {
      const targets = batch.map(({ key }) => {
        doing = key;
        if (this.#isPendingName(key)) throw this.#refusePendingName(key).error;
        const { directory, base } = splitKey(key);
        return at(
          directories.make(directory, (path) => this.#liveLook(directories, path)),
          base,
        );
      });
      const items = batch.map(({ key, body, like }) => ({
        name: key,
        body,
        mode: this.#modeLike(like, directories),
      }));
      const outcomes = await this.control.withTemporaries(items, (temporary, i) => {
        doing = items[i]?.name ?? '';
        return this.#linkNew(temporary, targets[i] ?? '') ? 'created' : 'exists';
      });
      directories.syncWithAbove(new Set(batch.map(({ key }) => splitKey(key).directory)));
      return outcomes;
    } catch (error) {
      throw translated(doing, error);
    } finally {
      directories.close();
    }
  }

  #modeLike(like: Key | undefined, directories: Directories): number {
    const model = like === undefined ? undefined : this.#lstatLive(like, directories);
    return model?.isFile() === true ? Number(model.mode) & 0o666 : 0o644;
  }

  #linkNew(temporary: string, target: string): boolean {
    try {
      this.#fs.link(temporary, target);
      return true;
    } catch (error) {
      if (errnoOf(error) === 'EEXIST') return false;
      throw error;
    }
  }

  async putBack(batch: readonly PutBackItem[]): Promise<PutBackOutcome[]> {
    const copies = new Map<PutBackItem, PutBackOutcome>();
    for (const item of batch) {
      if (this.#isPendingName(item.to)) copies.set(item, this.#refusePendingName(item.to));
      else if (item.to !== item.key) copies.set(item, await this.#copyTo(item));
    }
    return this.#inGroups(batch, (item, group) => copies.get(item) ?? this.#putBackOne(item, group));
  }

  #putBackOne(item: PutBackItem, group: Group): PutBackOutcome {
    const { directories } = group;
    const live = splitKey(item.to);
    let found: PendingFound;
    let target: number;
    try {
      found = this.#pendingForRestore(item, directories);
      const before = this.#liveIs(item, directories);
      if (before !== undefined) {
        group.touch(live.directory);
        return { outcome: before };
      }
      if ('outcome' in found) return found;
      target = directories.make(live.directory, (path) => this.#liveLook(directories, path));
    } catch (error) {
      return notBegun(error, item.to);
    }
    group.touch(live.directory);
    try {
      this.#fs.link(found.path, at(target, live.base));
      return { outcome: 'restored' };
    } catch (error) {
      if (errnoOf(error) === 'EEXIST') return { outcome: this.#liveIs(item, directories) ?? 'conflict' };
      return refused(error, item.to);
    }
  }

  #lstatLive(key: Key, directories: Directories): BigIntStats | undefined {
    const { directory, base } = splitKey(key);
    const fd = directories.open(directory);
    return fd === undefined ? undefined : this.#fs.lstat(at(fd, base));
  }

  /** What has the live key: nothing, the revision that is to be restored, or something else. */
  #liveIs(item: PutBackItem, directories: Directories): 'unchanged' | 'conflict' | undefined {
    const live = this.#lstatLive(item.to, directories);
    if (live === undefined) return undefined;
    return live.isFile() && sameRevision(revisionOf(live), item.revision) ? 'unchanged' : 'conflict';
  }

  #pendingForRestore(item: PutBackItem, directories: Directories): PendingFound {
    const pending = splitKey(pendingName(this.pendingPrefix, item.key, item.id));
    const fd = directories.open(pending.directory);
    const copy = fd === undefined ? undefined : this.#fs.lstat(at(fd, pending.base));
    if (fd === undefined || copy === undefined) return { outcome: 'gone' };
    if (copy.isFile() && sameRevision(revisionOf(copy), item.revision)) return { path: at(fd, pending.base) };
    const error = new TombstonedError(
      'failed',
      `${printable(item.key)}: its pending copy is not what was tombstoned`,
      {
        reason: 'changed',
        key: item.key,
        hint: `look at ${printable(pendingName(this.pendingPrefix, item.key, item.id))} by hand`,
      },
    );
    return { outcome: 'failed', error };
  }

  /** Live directories that are made again take the look of the pending ones. */
  #liveLook(directories: Directories, path: string): DirectoryLook {
    for (let nearest = this.pendingPrefix + path; ; nearest = splitKey(nearest).directory) {
      const look = directories.look(nearest);
      if (look !== undefined) return look;
      if (nearest === '') throw new Error('the root has gone');
    }
  }

  /**
   * A copy with bytes of its own, for another key: a link would let a writer of
   * the one change the other. `cp` keeps owner, mode, times, xattrs and holes.
   */
  async #copyTo(item: PutBackItem): Promise<PutBackOutcome> {
    const directories = this.#directories();
    try {
      const before = this.#liveIs(item, directories);
      if (before !== undefined) return { outcome: before };
      const found = this.#pendingForRestore(item, directories);
      if ('outcome' in found) return found;
      const look = { mode: 0o700, uid: this.#rights.uid, gid: process.getegid?.() ?? 0 };
      // In a directory of this user alone, so that nobody can put a link in the way of `cp`.
      const own = `${CONTROL_SEGMENT}/tmp/copy-${item.id}`;
      const tmp = directories.make(own, () => look);
      const made = this.#fs.fstat(tmp);
      if (Number(made.uid) !== look.uid || (Number(made.mode) & 0o077) !== 0) {
        throw new TombstonedError('failed', `${own} is not a directory of this user alone`, {
          key: own,
          hint: 'remove it, and see who made it',
        });
      }
      const temporary = at(tmp, 'copy');
      const { directory, base } = splitKey(item.to);
      try {
        // One that a crash has left may share its bytes with a live file.
        if (this.#fs.lstat(temporary) !== undefined) this.#fs.unlink(temporary);
        await copyFile(found.path, temporary);
        const copied = this.#fs.lstat(temporary);
        if (copied?.isFile() !== true || !sameRevision(revisionOf(copied), item.revision)) {
          throw new Error('the copy is not the revision that was to be copied');
        }
        const fd = this.#fs.open(temporary, constants.O_RDONLY | constants.O_NOFOLLOW);
        try {
          this.#fs.fsync(fd);
        } finally {
          this.#fs.close(fd);
        }
        const target = directories.make(directory, (path) => this.#liveLook(directories, path));
        this.#fs.link(temporary, at(target, base));
        directories.syncWithAbove([directory]);
        return { outcome: 'restored' };
      } finally {
        if (this.#fs.lstat(temporary) !== undefined) this.#fs.unlink(temporary);
        const tmpOfAll = directories.open(`${CONTROL_SEGMENT}/tmp`);
        if (tmpOfAll !== undefined) this.#fs.rmdir(at(tmpOfAll, `copy-${item.id}`));
      }
    } catch (error) {
      return errnoOf(error) === 'EEXIST' ? { outcome: 'conflict' } : refused(error, item.to);
    } finally {
      directories.close();
    }
  }

  async remove(
    batch: readonly RemoveItem[],
    { pulse }: { pulse?: Pulse | undefined } = {},
  ): Promise<RemoveOutcome[]> {
    const outcomes = new Map<RemoveItem, RemoveOutcome>();
    const rest = batch.toSorted((a, b) => (a.key < b.key ? -1 : 1)); // a directory's own come together
    while (rest.length > 0) {
      if (outcomes.size > 0) await pulse?.();
      await this.#removeGroup(rest, outcomes, pulse);
    }
    return batch.map((item) => {
      const outcome = outcomes.get(item);
      if (outcome === undefined) throw new TypeError(`${item.id} was not looked at`);
      return outcome;
    });
  }

  /**
   * Removes the first of `rest`, as many as one group may hold, and takes them out of it. Each is
   * compared, and at once asked for; none is on its way when this ends.
   */
  async #removeGroup(
    rest: RemoveItem[],
    outcomes: Map<RemoveItem, RemoveOutcome>,
    pulse: Pulse | undefined,
  ): Promise<void> {
    const group = new Group(this.#fs, this.#directories());
    const flight = new Flight(this.#removals);
    const touched = new Set<string>();
    const closing: Promise<void>[] = [];
    const began = this.#clock.monotonic();
    const isOver = (): boolean => rest.length === 0 || group.directories.size >= MAX_OPEN;
    try {
      for (let now = began; !isOver() && now - began < GROUP_MS; now = this.#clock.monotonic()) {
        while (!isOver() && !flight.isFull && this.#clock.monotonic() - now < BREATH_MS) {
          const item = rest.shift();
          const asked = item && this.#removeOne(item, group, outcomes, touched);
          if (asked !== undefined) flight.add(asked);
        }
        group.leave(); // others may enter a directory of theirs
        await setImmediate();
        await flight.room();
        await pulse?.();
      }
      await flight.landed();
      await group.directories.syncAll(touched);
      // One that is gone is freed when it is closed, for which the disk is waited for.
      const close = (fd: number): void => void closing.push(this.#fs.closeAsync(fd));
      for (const path of touched) this.#removeEmpty(group.directories, path, close);
      await Promise.allSettled(closing);
      await Promise.all(closing);
    } finally {
      await Promise.allSettled([...closing, flight.landed()]); // what failed was thrown already
      group.close();
    }
  }

  /** Compares before anything is removed (design, section 5). */
  #checkRemoval(
    item: RemoveItem,
    pending: { readonly directory: string; readonly base: string },
    group: Group,
  ): RemoveOutcome | { path: string } {
    const { directories } = group;
    try {
      const fd = directories.open(pending.directory);
      const copy = fd === undefined ? undefined : this.#fs.lstat(group.enter(fd) + pending.base);
      if (fd === undefined || copy === undefined) return { outcome: 'gone' };
      const path = at(fd, pending.base);
      const isWhole = sameRevision(revisionOf(copy), item.revision);
      if (copy.isDirectory()) return { outcome: 'changed', detail: 'it is a directory' };
      if (isWhole && item.from === 'pending') return { path };
      const live = this.#lstatLive(item.key, directories);
      if (live !== undefined && sameInode(live, copy)) return { path };
      if (!isWhole) return { outcome: 'changed', detail: `it is ${revisionText(revisionOf(copy))} now` };
      const isLive = live?.isFile() === true && sameRevision(revisionOf(live), item.revision);
      return isLive ? { path } : { outcome: 'not-live' };
    } catch (error) {
      return notBegun(error, item.key);
    }
  }

  /** Compares one, and asks for its removal where that is to be; notes the outcome, and the directory of what is gone. */
  #removeOne(
    item: RemoveItem,
    group: Group,
    outcomes: Map<RemoveItem, RemoveOutcome>,
    touched: Set<string>,
  ): Promise<void> | undefined {
    const pending = splitKey(pendingName(this.pendingPrefix, item.key, item.id));
    const note = (end: RemoveOutcome): void => {
      outcomes.set(item, end);
      if (end.outcome === 'removed' || end.outcome === 'gone') touched.add(pending.directory);
    };
    const check = this.#checkRemoval(item, pending, group);
    if ('path' in check) {
      return this.#fs.unlinkAsync(check.path).then(
        () => note(REMOVED),
        (error: unknown) =>
          note(errnoOf(error) === 'ENOENT' ? { outcome: 'gone' } : refused(error, item.key)),
      );
    }
    note(check);
    return undefined;
  }

  /** Removes empty directories from this one up, to the pending directory itself, which stays. */
  #removeEmpty(directories: Directories, path: string, close?: (fd: number) => void): void {
    for (let directory = path; `${directory}/`.length > this.pendingPrefix.length; ) {
      const above = splitKey(directory);
      const parent = directories.open(above.directory);
      if (parent === undefined) return;
      try {
        this.#fs.rmdir(at(parent, above.base));
      } catch (error) {
        const code = errnoOf(error) ?? '';
        if (code === 'ENOENT') return;
        // Not empty, or not ours to remove: an empty directory left behind harms nobody.
        if (code === 'ENOTEMPTY' || code === 'EEXIST' || REFUSED.has(code)) return;
        throw error;
      }
      directories.forget(directory, close);
      this.#fs.fsync(parent);
      directory = above.directory;
    }
  }

  async #inGroups<Item extends { readonly key: Key }, Outcome>(
    batch: readonly Item[],
    act: (item: Item, group: Group) => Outcome,
  ): Promise<Outcome[]> {
    return this.#inGroupsOf(batch, { most: 1 }, (items, group) => items.map((item) => act(item, group)));
  }

  /**
   * Does a batch, up to `most` items of one directory at a time, in groups that
   * touch few enough directories and do not take long; each group's directories
   * are fsynced, the pending ones first, before the next; `onDone` is called before the last are. Others get their turns there, and
   * now and then between the items of two directories, or of one.
   */
  async #inGroupsOf<Item extends { readonly key: Key }, Outcome>(
    batch: readonly Item[],
    how: { most: number; pulse?: Pulse | undefined; onDone?: () => void },
    act: (items: readonly Item[], group: Group) => Outcome[],
  ): Promise<Outcome[]> {
    const outcomes: Outcome[] = [];
    let group: Group | undefined;
    let began = 0;
    let breathed = this.#clock.monotonic();
    try {
      for (let from = 0; from < batch.length; ) {
        const items = sameDirectory(batch, from, how.most);
        from += items.length;
        if (group === undefined) began = this.#clock.monotonic();
        group ??= new Group(this.#fs, this.#directories());
        outcomes.push(...act(items, group));
        const isFull = group.directories.size >= MAX_OPEN || this.#clock.monotonic() - began >= GROUP_MS;
        if (this.#clock.monotonic() - breathed >= BREATH_MS) {
          group.leave(); // others may enter a directory of theirs
          await setImmediate();
          breathed = this.#clock.monotonic();
        }
        if (!isFull) continue;
        const done: Group = group;
        group = undefined;
        await done.finish();
        breathed = this.#clock.monotonic();
        if (from < batch.length) await how.pulse?.();
      }
    } catch (error) {
      group?.close();
      throw error;
    }
    how.onDone?.();
    await group?.finish();
    return outcomes;
  }

  #directories(): Directories {
    return new Directories(this.#fs, this.#root, this.#device, this.url, this.#durable);
  }

  /** Looks at something that `name` stands for in errors. */
  #withDirectories<T>(name: string, use: (directories: Directories) => T): T {
    const directories = this.#directories();
    try {
      return use(directories);
    } catch (error) {
      throw translated(name, error);
    } finally {
      directories.close();
    }
  }
}

/** What the system says about a name, as an error. */
function translated(name: string, error: unknown): unknown {
  return error instanceof TombstonedError || errnoOf(error) === undefined ? error : unreadable(name, error);
}

/** A pending copy that can be restored, or why it can't. */
type PendingFound = { readonly path: string } | Extract<PutBackOutcome, { outcome: 'gone' | 'failed' }>;

/** What a live file was just before it was renamed to its pending name. */
interface Renamed {
  readonly was: BigIntStats;
}

/** The items from a place in a batch on that are in one directory, `most` of them at the most. */
function sameDirectory<Item extends { readonly key: Key }>(
  batch: readonly Item[],
  from: number,
  most: number,
): readonly Item[] {
  const first = batch[from]?.key ?? '';
  const head = first.slice(0, first.lastIndexOf('/') + 1);
  const isInIt = (key: string): boolean => key.startsWith(head) && key.lastIndexOf('/') < head.length;
  let to = from + 1;
  while (to < batch.length && to - from < most && isInIt(batch[to]?.key ?? '')) to++;
  return batch.slice(from, to);
}

/** Where the objects of one directory go: what is the same for all of them. */
interface Way {
  readonly directory: string;
  /** What their keys begin with: the directory, and a `/` where it is not the root. */
  readonly head: string;
  /** The directory of their pending copies, and what their names there begin with. */
  readonly pending: string;
  readonly stem: string;
}

/** The last segment of an object's pending name. */
function pendingBaseOf({ head, stem }: Way, { key, id }: MoveItem): string {
  return `${stem}${key.slice(head.length)}~${id}`;
}

/** Part of a batch: its open directories, and those that must be fsynced, in order. */
class Group {
  readonly directories: Directories;
  readonly #first = new Set<string>();
  readonly #then = new Set<string>();
  readonly #retried = new Map<string, number>();

  readonly #fs: LocalFs;
  #entered: { fd: number; here: string } | undefined;

  constructor(fs: LocalFs, directories: Directories) {
    this.#fs = fs;
    this.directories = directories;
  }

  /** Goes into an open directory, unless it is there; gives what names in it begin with. */
  enter(fd: number): string {
    if (this.#entered?.fd !== fd) this.#entered = { fd, here: this.#fs.enter(fd) };
    return this.#entered.here;
  }

  /** Leaves the directory that it is in. */
  leave(): void {
    if (this.#entered !== undefined) this.#fs.leave();
    this.#entered = undefined;
  }

  /** Forgets directories that somebody has removed meanwhile; their descriptors may name others from now on. */
  forget(path: string): void {
    this.leave();
    this.directories.forget(path);
  }

  close(): void {
    this.leave();
    this.directories.close();
  }

  /** Notes directories to fsync: where something came to, then where it went from. */
  touch(first: string, then?: string): void {
    this.#first.add(first);
    if (then !== undefined) this.#then.add(then);
  }

  /** Whether an item may be tried once more. */
  retry(id: string): boolean {
    const tries = (this.#retried.get(id) ?? 0) + 1;
    this.#retried.set(id, tries);
    return tries <= 3;
  }

  /** Makes durable what was done, without blocking, and closes all. */
  async finish(): Promise<void> {
    this.leave(); // others may enter a directory of theirs
    try {
      await this.directories.syncInTurn(this.#first, this.#then);
    } finally {
      this.close();
    }
  }
}

/** Whether an error says for sure that nothing was done. */
function isRefusal(error: unknown): boolean {
  return error instanceof TombstonedError || REFUSED.has(errnoOf(error) ?? '');
}

/** What the system said before anything was done to an object, as an outcome. A bug of ours is thrown. */
function notBegun(error: unknown, key: string): { outcome: 'failed'; error: Error } {
  if (isRefusal(error) || errnoOf(error) === undefined) return refused(error, key);
  return {
    outcome: 'failed',
    error: new TombstonedError('failed', `${printable(key)}: ${systemMessage(error)}`, {
      key,
      hint: "look at the disk (the kernel's log, fsck): this object was left alone",
      cause: error,
    }),
  };
}

/** An error that says nothing was done, as an outcome; any other is thrown: its effect is unknown. */
function refused(error: unknown, key: string): { outcome: 'failed'; error: Error } {
  const code = errnoOf(error) ?? '';
  if (!isRefusal(error)) throw error;
  if (error instanceof TombstonedError) return { outcome: 'failed', error };
  const hint = HINTS[code] ?? 'give this user the rights to move it';
  return {
    outcome: 'failed',
    error: new TombstonedError('failed', `${printable(key)}: ${systemMessage(error)}`, {
      key,
      hint,
      cause: error,
    }),
  };
}

const HINTS: Readonly<Record<string, string>> = {
  ENOSPC: 'the disk is full: purge, or free some space',
  EDQUOT: 'the quota is used up: purge, or raise it',
  EROFS: 'the file system is mounted read-only',
  EXDEV: 'pending_deletion/ must be on the same file system as the store',
};

/** `cp` gets the open directories as its own: it may not look into this process's after a change of user. */
async function copyFile(from: string, to: string): Promise<void> {
  const inherited: number[] = [];
  const asInherited = (path: string): string =>
    path.replace(/^\/proc\/self\/fd\/(\d+)\//, (_, fd) => `/proc/self/fd/${inherited.push(Number(fd)) + 2}/`);
  const paths = [asInherited(from), asInherited(to)];
  const options = ['--archive', '--reflink=auto', '--no-target-directory', '--'];
  const child = spawn('cp', [...options, ...paths], { stdio: ['ignore', 'ignore', 'pipe', ...inherited] });
  let said = '';
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    said += text;
  });
  try {
    const [code] = await once(child, 'close');
    if (code !== 0) throw new Error(said.trim() === '' ? `cp ended with ${code}` : said.trim());
  } catch (error) {
    throw new TombstonedError('failed', `the copy failed: ${messageOf(error)}`, {
      hint: 'is the disk full?',
      cause: error,
    });
  }
}
