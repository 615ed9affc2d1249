import { type BigIntStats, constants } from 'node:fs';
import type { Clock } from '../../domain/clock.ts';
import { errnoOf, TombstonedError } from '../../domain/errors.ts';
import { splitPendingName } from '../../domain/ids.ts';
import { asKey, CONTROL_SEGMENT, isBelowPrefix, keyProblem, printable } from '../../domain/key.ts';
import type { Listed, ListedPending } from '../store.ts';
import { at } from './directories.ts';
import { type EntryName, type LocalFs, type OpenNames, systemMessage } from './local-fs.ts';
import { fileRefusal, type Rights } from './may-move.ts';
import { modifiedAt, revisionOf } from './revision-of.ts';

const DIRECTORY = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW;
const PAGE = 1000;
/** `statfs` types on which one pass over a directory is complete: ext2/3/4, XFS (R6). */
const ONE_PASS = new Set([0xef53, 0x58465342]);
/** Elsewhere: how old a directory's ctime must be, and how long to go on trying. ms. */
const STEADY_MS = 20;
const GIVE_UP_MS = 60_000;

export interface Walked {
  readonly fs: LocalFs;
  readonly clock: Clock;
  readonly rights: Rights;
  /** The root's descriptor, and its path for messages. */
  readonly root: number;
  readonly path: string;
  readonly pendingPrefix: string;
  /** Why nothing in a directory (its path is `""`, or ends in `/`) can be moved, or null. */
  refusalOf(fd: number, path: string): string | null;
}

/** Every live object below a byte prefix, directory by directory (R6). */
export async function* walkLive(
  walked: Walked,
  prefix: string,
  signal?: AbortSignal,
): AsyncGenerator<Listed[]> {
  const { fs, rights } = walked;
  const start = prefix.slice(0, prefix.lastIndexOf('/') + 1);
  if (start !== '' && keyProblem(start.slice(0, -1)) !== undefined) return;
  if (start.startsWith(walked.pendingPrefix)) return;
  const enter = (path: string): boolean =>
    !path.startsWith(walked.pendingPrefix) && (path.startsWith(prefix) || prefix.startsWith(path));
  const look = (directory: OpenDirectory, name: Name, here: string): Listed | undefined => {
    const key = directory.path + name.base;
    if (!isBelowPrefix(key, prefix) && !name.isDirectory) return undefined;
    if (!name.isUtf8) return { type: 'refused', path: key, why: 'its name is not UTF-8' };
    if (name.isDirectory) return undefined;
    const file = fs.lstat(here + name.base);
    if (file === undefined || file.isDirectory()) return undefined;
    const valid = asKey(key);
    if (valid === undefined)
      return { type: 'refused', path: key, why: `its name ${keyProblem(key) ?? 'is no key'}` };
    if (!file.isFile())
      return { type: 'refused', path: key, why: `it is ${kindOf(file)}, not a regular file` };
    return {
      type: 'object',
      key: valid,
      revision: revisionOf(file),
      size: Number(file.size),
      modifiedAt: modifiedAt(file),
      refusal: directory.refusal ?? fileRefusal(fs, directory.fd, directory.stats, name.base, file, rights),
    };
  };
  try {
    yield* pages(walked, directories(walked, start, enter, signal), look, signal);
  } catch (error) {
    throw told(walked, start, error);
  }
}

/** Every pending copy whose key is below a byte prefix. */
export async function* walkPending(
  walked: Walked,
  prefix: string,
  signal?: AbortSignal,
): AsyncGenerator<ListedPending[]> {
  const { fs, pendingPrefix } = walked;
  const whole = pendingPrefix + prefix;
  const start = whole.slice(0, whole.lastIndexOf('/') + 1);
  if (keyProblem(start.slice(0, -1)) !== undefined) return;
  const enter = (path: string): boolean => path.startsWith(whole) || whole.startsWith(path);
  const look = (directory: OpenDirectory, name: Name, here: string): ListedPending | undefined => {
    const path = directory.path + name.base;
    if (!name.isUtf8) return { type: 'refused', path, why: 'its name is not UTF-8' };
    if (name.isDirectory) return undefined;
    const parts = splitPendingName(path.slice(pendingPrefix.length));
    const file = fs.lstat(here + name.base);
    if (file === undefined || file.isDirectory()) return undefined;
    if (parts !== undefined && file.isFile()) {
      if (!isBelowPrefix(parts.key, prefix)) return undefined;
      const copy = { revision: revisionOf(file), size: Number(file.size) };
      // A rename sets a file's ctime, and nobody can set it back.
      const since = Number(file.ctimeNs / 1_000_000n);
      return { type: 'pending', key: parts.key, id: parts.id, copy, since };
    }
    if (!isBelowPrefix(path, whole)) return undefined;
    const why =
      parts === undefined ? 'its name is no pending name' : `it is ${kindOf(file)}, not a regular file`;
    return { type: 'refused', path, why };
  };
  try {
    yield* pages(walked, directories(walked, start, enter, signal), look, signal);
  } catch (error) {
    throw told(walked, start, error);
  }
}

/**
 * What `look` makes of each name, in pages; `here` is what names in the directory
 * begin with. Signals and timers run between pages.
 */
async function* pages<T>(
  walked: Walked,
  walk: AsyncIterable<OpenDirectory>,
  look: (directory: OpenDirectory, name: Name, here: string) => T | undefined,
  signal: AbortSignal | undefined,
): AsyncGenerator<T[]> {
  let page: T[] = [];
  for await (const directory of walk) {
    for await (const names of directory.names) {
      try {
        const here = walked.fs.enter(directory.fd);
        for (const name of names) {
          const item = look(directory, name, here);
          if (item !== undefined) page.push(item);
        }
      } catch (error) {
        throw told(walked, directory.path, error);
      } finally {
        walked.fs.leave();
      }
      if (page.length >= PAGE) {
        yield page;
        page = [];
      }
      await pause();
      signal?.throwIfAborted();
    }
  }
  if (page.length > 0) yield page;
}

interface Name {
  readonly base: string;
  /** A name that is no UTF-8 can't be given back to the system as it was read. */
  readonly isUtf8: boolean;
  readonly isDirectory: boolean;
}

interface OpenDirectory {
  readonly fd: number;
  /** `""`, or the path with a `/` at its end. */
  readonly path: string;
  readonly stats: BigIntStats;
  /** Why nothing in it can be moved, or null. */
  readonly refusal: string | null;
  /** In chunks. */
  readonly names: AsyncIterable<Name[]>;
}

/** Each directory from `start` down that `enter` lets in; its names must be read before the next is asked for. */
async function* directories(
  walked: Walked,
  start: string,
  enter: (path: string) => boolean,
  signal: AbortSignal | undefined,
): AsyncGenerator<OpenDirectory> {
  const { fs, root } = walked;
  const device = fs.fstat(root).dev;
  const onePass = ONE_PASS.has(fs.fileSystemType(at(root, '.')));
  const levels: { fd: number; path: string; children: string[] }[] = [];
  const push = async function* (fd: number, path: string): AsyncGenerator<OpenDirectory> {
    const children: string[] = [];
    levels.push({ fd, path, children });
    const names = namesOf(walked, fd, path, onePass, signal);
    yield {
      fd,
      path,
      stats: fs.fstat(fd),
      refusal: walked.refusalOf(fd, path),
      names: collect(names, path, enter, children),
    };
  };
  try {
    const first = openFrom(walked, start);
    if (first === undefined) return;
    entered(walked, first, start, device);
    yield* push(first, start);
    for (let level = levels.at(-1); level !== undefined; level = levels.at(-1)) {
      const name = level.children.pop();
      if (name === undefined) {
        fs.close(level.fd);
        levels.pop();
        continue;
      }
      const path = `${level.path}${name}/`;
      const fd = step(walked, level.fd, name, path);
      if (fd === undefined) continue;
      entered(walked, fd, path, device);
      yield* push(fd, path);
    }
  } finally {
    for (const { fd } of levels) fs.close(fd);
  }
}

/** Passes names on, and keeps the directories that are to be entered. */
async function* collect(
  names: AsyncIterable<Name[]>,
  path: string,
  enter: (path: string) => boolean,
  children: string[],
): AsyncGenerator<Name[]> {
  for await (const chunk of names) {
    const ours = chunk.filter((name) => name.base !== CONTROL_SEGMENT);
    for (const { isDirectory, isUtf8, base } of ours) {
      if (isDirectory && isUtf8 && enter(`${path}${base}/`)) children.push(base);
    }
    yield ours;
  }
}

function openFrom(walked: Walked, start: string): number | undefined {
  const { fs, root } = walked;
  let fd = fs.open(at(root, '.'), DIRECTORY);
  let path = '';
  for (const segment of start.split('/').slice(0, -1)) {
    path += `${segment}/`;
    let next: number | undefined;
    try {
      next = step(walked, fd, segment, path);
      if (next === undefined && fs.lstat(at(fd, segment))?.isSymbolicLink() === true)
        throw linked(walked, path);
      if (next !== undefined) refuseNested(walked, next, path);
    } finally {
      fs.close(fd);
    }
    if (next === undefined) return undefined;
    fd = next;
  }
  return fd;
}

function refuseNested(walked: Walked, fd: number, path: string): void {
  const { fs } = walked;
  try {
    if (fs.lstat(at(fd, `${CONTROL_SEGMENT}/store.json`)) !== undefined) throw nested(walked, path);
  } catch (error) {
    fs.close(fd);
    throw told(walked, path, error);
  }
}

function step(walked: Walked, parent: number, name: string, path: string): number | undefined {
  try {
    return walked.fs.open(at(parent, name), DIRECTORY);
  } catch (error) {
    const code = errnoOf(error);
    // Gone, or no directory any more: what took its place is seen by the next listing.
    if (code === 'ENOENT' || code === 'ENOTDIR' || code === 'ELOOP') return undefined;
    throw listingError(walked, path, error);
  }
}

/** Lets a walk into an open directory, or closes it and throws. */
function entered(walked: Walked, fd: number, path: string, device: bigint): void {
  try {
    checkDirectory(walked, fd, path, device);
  } catch (error) {
    walked.fs.close(fd);
    throw told(walked, path, error);
  }
}

function checkDirectory(walked: Walked, fd: number, path: string, device: bigint): void {
  const { fs } = walked;
  if (path === '') return;
  if (fs.fstat(fd).dev !== device) {
    throw new TombstonedError(
      'failed',
      `${where(walked, path)} is on another file system than the store's root`,
      {
        key: path,
        hint: 'make it a store of its own, with its own entry in the config',
      },
    );
  }
  if (fs.lstat(at(fd, `${CONTROL_SEGMENT}/store.json`)) !== undefined) throw nested(walked, path);
}

/** An error of the system, as one that names the directory. */
function told(walked: Walked, path: string, error: unknown): unknown {
  const isOurs = error instanceof TombstonedError || errnoOf(error) === undefined;
  return isOurs ? error : listingError(walked, path, error);
}

function linked(walked: Walked, path: string): TombstonedError {
  return new TombstonedError(
    'failed',
    `${where(walked, path)} is a symbolic link; links are never followed`,
    {
      key: path,
      hint: 'name the objects by their real path',
    },
  );
}

function nested(walked: Walked, path: string): TombstonedError {
  return new TombstonedError('failed', `${where(walked, path)} is another store inside this one`, {
    key: path,
    hint: 'a store can not hold another: move it out, or make it the only one',
  });
}

/** The names in one directory: complete by R6's rule, or an error. */
async function* namesOf(
  walked: Walked,
  fd: number,
  path: string,
  onePass: boolean,
  signal: AbortSignal | undefined,
): AsyncGenerator<Name[]> {
  if (onePass) {
    yield* onePassOf(walked, fd, path);
    return;
  }
  const united = new Map<string, Name>();
  const { fs, clock } = walked;
  const began = clock.monotonic();
  for (let wait = STEADY_MS; ; wait = Math.min(wait * 2, 5000)) {
    const before = fs.fstat(fd).ctimeNs;
    const age = clock.now() - Number(before / 1_000_000n);
    let isSteady = age >= STEADY_MS;
    if (!isSteady) {
      await clock.sleep(STEADY_MS, signal);
      signal?.throwIfAborted();
      isSteady = fs.fstat(fd).ctimeNs === before;
    }
    for (const names of onePassOf(walked, fd, path)) {
      for (const name of names) united.set(`${name.base}/${name.isUtf8}`, name);
    }
    if (isSteady && fs.fstat(fd).ctimeNs === before) break;
    if (clock.monotonic() - began > GIVE_UP_MS) {
      throw new TombstonedError('failed', `${where(walked, path)} never stood still for a complete listing`, {
        key: path,
        hint: 'try again when fewer programs write there; this file system hides names that are replaced meanwhile',
      });
    }
    await clock.sleep(wait, signal);
    signal?.throwIfAborted();
  }
  yield [...united.values()];
}

function* onePassOf(walked: Walked, fd: number, path: string): Generator<Name[]> {
  const { fs } = walked;
  let dir: OpenNames;
  try {
    dir = fs.opendir(at(fd, '.'));
  } catch (error) {
    throw listingError(walked, path, error);
  }
  try {
    let names: Name[] = [];
    for (let entry = readEntry(walked, dir, path); entry !== null; entry = readEntry(walked, dir, path)) {
      names.push({ base: entry.name, isUtf8: entry.isUtf8, isDirectory: leadsDown(fs, fd, entry) });
      if (names.length < PAGE) continue;
      yield names;
      names = [];
    }
    yield names;
  } finally {
    dir.closeSync();
  }
}

function readEntry(walked: Walked, dir: OpenNames, path: string): EntryName | null {
  try {
    return dir.readSync();
  } catch (error) {
    throw listingError(walked, path, error);
  }
}

function leadsDown(fs: LocalFs, fd: number, { name, isUtf8, kind }: EntryName): boolean {
  if (kind === 'unknown') return isUtf8 && fs.lstat(at(fd, name))?.isDirectory() === true;
  return kind === 'directory';
}

function listingError(walked: Walked, path: string, cause: unknown): TombstonedError {
  return new TombstonedError('failed', `${where(walked, path)} can't be listed: ${systemMessage(cause)}`, {
    key: path,
    hint: 'a listing is complete or an error; let this user read the directory',
    cause,
  });
}

function where(walked: Walked, path: string): string {
  return printable(`${walked.path}/${path}`);
}

function kindOf(stats: { isSymbolicLink(): boolean; isFIFO(): boolean; isSocket(): boolean }): string {
  if (stats.isSymbolicLink()) return 'a symbolic link';
  if (stats.isFIFO()) return 'a FIFO';
  return stats.isSocket() ? 'a socket' : 'a device';
}

/** Lets timers and signals run. */
function pause(): Promise<void> {
  return new Promise((resolve) => {
    setImmediate(resolve);
  });
}
