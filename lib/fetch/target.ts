import { type BigIntStats, constants } from 'node:fs';
import path from 'node:path';
import { type FetchedFile, FetchManifest } from '../catalog/fetch-manifest.ts';
import { errnoOf, TombstonedError } from '../domain/errors.ts';
import { CONTROL_SEGMENT, type Key, printable } from '../domain/key.ts';
import { at, splitKey } from '../store/local/directories.ts';
import { type Manifest, ThreadManifest } from './manifest-thread.ts';
import { type NewFile, Staging, type WholeDirectory } from './staging.ts';
import { TargetDirectories } from './target-directories.ts';
import { targetError } from './target-error.ts';
import { type FileSystemSyncer, nodeTargetFs, type TargetFs } from './target-fs.ts';

/** Where a fetch keeps what is its own: no key can lead there. */
const OWN = `${CONTROL_SEGMENT}/fetch`;
const MANIFEST = 'manifest.db';

const DIRECTORY = constants.O_RDONLY | constants.O_DIRECTORY;
/** What can be wrong with one name and not with the next. */
const OF_ONE_NAME = new Set([
  'ENAMETOOLONG',
  'EINVAL',
  'EILSEQ',
  'EACCES',
  'EPERM',
  'EXDEV',
  'EISDIR',
  'ENOTEMPTY',
]);
/** What says that a directory can't be moved to where it belongs, though its files may be. */
const NOT_WHOLE = new Set([...OF_ONE_NAME, 'EEXIST', 'ENOTDIR', 'ENOENT', 'EBUSY', 'EPERM', 'ELOOP']);
/** What a file system without hard links says. */
const NO_LINKS = new Set(['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'EMLINK', 'ENOSYS']);
/** From how many files on one syncfs(2) is cheaper than an fsync of each. */
const MANY = 64;
/** How many directories are kept open. */
const MAX_OPEN = 64;

/** A file of the target that is written whole, and is neither durable nor has a name of its own yet. */
export interface Written extends FetchedFile {
  readonly key: Key;
  readonly file: NewFile;
}

/** A written file, and the path that it is to have. */
interface Link {
  readonly written: Written;
  readonly from: string;
  readonly to: string;
}

/** Gives files their names where there is nothing, and says of each whether it has it. */
export type Linker = (
  links: readonly { readonly from: string; readonly to: string }[],
) => Promise<readonly boolean[]>;

export interface Placed {
  readonly placed: Written[];
  readonly refused: { readonly key: Key; readonly error: TombstonedError }[];
}

/** The directory that a fetch writes into. */
export class Target {
  /** Where files are written before they get their names. */
  readonly staging: Staging;
  /** Its path, as the operator gave it. */
  readonly name: string;
  #manifest: Manifest;
  readonly #manifestFile: string;
  readonly #fs: TargetFs;
  readonly #root: number;
  readonly #tmp: number;
  /** Where files get their names. */
  readonly #directories: TargetDirectories;
  /** Where it is looked what is there: closed when it grows, whatever goes on in the others. */
  readonly #looking: TargetDirectories;
  #syncing: FileSystemSyncer | undefined;

  /**
   * Opens a directory, made where there is none, and what an earlier fetch knew
   * about it. Throws `conflict` when it is in a store, or another fetch is under way.
   */
  static async open(name: string, fs: TargetFs = nodeTargetFs): Promise<Target> {
    let root: number | undefined;
    let directories: TargetDirectories | undefined;
    let manifest: FetchManifest | undefined;
    let target: Target | undefined;
    try {
      await makeDurable(fs, path.resolve(name));
      const real = fs.realpath(name);
      refuseStore(fs, real, name);
      root = fs.open(real, DIRECTORY);
      directories = new TargetDirectories(fs, root, name);
      const own = directories.make(OWN);
      const file = fs.lstat(at(own, MANIFEST));
      if (file !== undefined && !(file.isFile() && file.nlink === 1n)) {
        throw new TombstonedError('conflict', `${name}/${OWN}/${MANIFEST} is no file of ours`, {
          key: name,
          hint: 'fetch into another directory',
        });
      }
      const manifestFile = path.join(real, OWN, MANIFEST);
      manifest = FetchManifest.open(manifestFile);
      directories.close();
      target = new Target({ name, fs, root, directories, manifest, manifestFile });
      await target.#recover(manifest);
      return target;
    } catch (error) {
      if (target === undefined) {
        manifest?.close();
        directories?.close();
        if (root !== undefined) fs.close(root);
      } else await target.close();
      throw targetError(name, error);
    }
  }

  private constructor(opened: {
    name: string;
    fs: TargetFs;
    root: number;
    directories: TargetDirectories;
    manifest: FetchManifest;
    manifestFile: string;
  }) {
    this.name = opened.name;
    this.#fs = opened.fs;
    this.#root = opened.root;
    this.#directories = opened.directories;
    this.#manifest = opened.manifest;
    this.#manifestFile = opened.manifestFile;
    this.#looking = new TargetDirectories(opened.fs, opened.root, opened.name);
    // Apart from the others: it stays open.
    const own = new TargetDirectories(opened.fs, opened.root, opened.name);
    this.#tmp = this.#fs.open(at(own.make(`${OWN}/tmp`), '.'), DIRECTORY);
    this.staging = new Staging(opened.fs, this.#tmp, opened.name);
    own.close();
  }

  /** Empties `tmp`, and finds out which files have their names that a killed fetch was about to give. */
  async #recover(manifest: FetchManifest): Promise<void> {
    this.staging.empty();
    const placed = manifest.placing().filter((file) => {
      const found = this.#lookOrNot(file.key);
      if (found?.ino !== file.inode || !isFile(found, file)) return false;
      this.#directories.make(splitKey(file.key).directory);
      this.#directories.noteChange(splitKey(file.key).directory);
      return true;
    });
    await this.#directories.sync();
    manifest.advance(placed, []);
  }

  /** What is known of it. */
  get manifest(): Manifest {
    return this.#manifest;
  }

  /**
   * Readies what a large fetch will want, before it has begun: leaves the manifest to a thread, and starts
   * what syncs. Where another fetch takes the manifest in between, this throws `conflict`.
   */
  async prepareForMany(): Promise<void> {
    this.#syncer();
    await this.#manifest.close();
    this.#manifest = await ThreadManifest.open(this.#manifestFile);
  }

  /** Whether a file is still what it was when it was whole. Throws `conflict` where something is in its way. */
  stateOf(file: FetchedFile): 'whole' | 'changed' | 'gone' {
    const found = this.#look(file.key);
    if (found === undefined) return 'gone';
    return isFile(found, file) ? 'whole' : 'changed';
  }

  /** Whether there is anything at a key's path. */
  isTaken(key: string): boolean {
    return this.#lookOrNot(key) !== undefined;
  }

  #lookOrNot(key: string): BigIntStats | undefined {
    try {
      return this.#look(key);
    } catch (error) {
      if (error instanceof TombstonedError && error.code === 'conflict') return undefined;
      throw error;
    }
  }

  #look(key: string): BigIntStats | undefined {
    const { directory, base } = splitKey(key);
    try {
      if (this.#looking.size >= MAX_OPEN) this.#looking.close();
      const fd = this.#looking.open(directory);
      return fd === undefined ? undefined : this.#fs.lstat(at(fd, base));
    } catch (error) {
      throw targetError(`${this.name}/${key}`, error);
    }
  }

  /**
   * Makes the bytes of written files durable: many by one syncfs(2), and where that
   * is not sure to have done it, or they are few, each by its own fsync, whose
   * error tells of its own bytes.
   */
  async sync(batch: readonly Written[]): Promise<void> {
    if (batch.length >= MANY && (await this.#syncer().sync())) {
      for (const { file } of batch) file.close();
      return;
    }
    const outcomes = await Promise.allSettled(batch.map(async ({ file }) => file.sync()));
    for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason;
  }

  #syncer(): FileSystemSyncer {
    this.#syncing ??= this.#fs.syncer(this.#tmp);
    return this.#syncing;
  }

  /**
   * Gives written files their names, durable, and says of each that could not have
   * it why. `replaced` tells what a file may take the place of; `linker` does what
   * it can of many links by threads. Throws where nothing can be written any more.
   */
  async place(
    batch: readonly Written[],
    replaced: ReadonlyMap<string, FetchedFile>,
    linker?: Linker,
  ): Promise<Placed> {
    const end: Placed = { placed: [], refused: [] };
    let links: Link[] = [];
    try {
      for (const written of this.#placeWhole(batch, end)) {
        if (this.#directories.size >= MAX_OPEN) {
          await this.#link(links, end, linker);
          links = [];
          await this.#directories.sync();
          this.#directories.close();
        }
        const before = replaced.get(written.key);
        this.#placeOne(written, end, () => {
          const to = this.#pathFor(written.key);
          const found = before === undefined ? undefined : this.#fs.lstat(to);
          if (before === undefined || found === undefined) {
            links.push({ written, from: written.file.path, to });
            return false;
          }
          if (!isFile(found, before)) throw inTheWay(this.name, written.key);
          this.#fs.rename(written.file.path, to);
          return true;
        });
      }
      await this.#link(links, end, linker);
      await this.#directories.sync();
      if (this.#directories.size >= MAX_OPEN) this.#directories.close();
      return end;
    } catch (error) {
      throw targetError(this.name, error);
    }
  }

  /**
   * Gives directories that are written whole their names, where there is nothing yet;
   * their files have theirs by that. Gives the files that are left.
   */
  #placeWhole(batch: readonly Written[], { placed }: Placed): Written[] {
    const hasName = new Map<WholeDirectory | undefined, boolean>([[undefined, false]]);
    const rest: Written[] = [];
    for (const written of batch) {
      const { whole } = written.file;
      const isThere = hasName.get(whole) ?? (whole !== undefined && this.#placeDirectory(whole));
      hasName.set(whole, isThere);
      if (isThere) {
        written.file.leave();
        placed.push(written);
      } else rest.push(written);
    }
    return rest;
  }

  /** Whether a directory has its name now. */
  #placeDirectory(whole: WholeDirectory): boolean {
    const { directory } = whole;
    const { directory: above, base } = splitKey(directory);
    try {
      const to = at(this.#directories.make(above), base);
      if (this.#fs.lstat(to) !== undefined) return false;
      this.#fs.rename(whole.path, to); // replaces nothing but an empty directory that is made just then
    } catch (error) {
      if (error instanceof TombstonedError || NOT_WHOLE.has(errnoOf(error) ?? '')) return false;
      throw error;
    }
    whole.placed();
    this.#directories.noteChange(above);
    this.#directories.noteChange(directory);
    return true;
  }

  async #link(links: readonly Link[], end: Placed, linker: Linker | undefined): Promise<void> {
    const isLinked = (await linker?.(links.map(({ from, to }) => ({ from, to })))) ?? [];
    for (const [i, link] of links.entries()) {
      this.#placeOne(link.written, end, () => {
        if (isLinked[i] !== true) this.#linkOne(link);
        return true;
      });
    }
  }

  /** Does what gives a file its name, or notes why it can't have it. `give` says whether it has it. */
  #placeOne(written: Written, { placed, refused }: Placed, give: () => boolean): void {
    try {
      if (!give()) return;
    } catch (error) {
      const known = targetError(`${this.name}/${written.key}`, error);
      if (!isOfOneName(error)) throw known;
      refused.push({ key: written.key, error: known });
      written.file.discard();
      return;
    }
    written.file.leave();
    placed.push(written);
  }

  /** The path of a key, in a directory that is made and open. */
  #pathFor(key: Key): string {
    const { directory, base } = splitKey(key);
    const to = at(this.#directories.make(directory), base);
    this.#directories.noteChange(directory);
    return to;
  }

  /** Gives a file a name where there is nothing. */
  #linkOne({ written: { key }, from, to }: Link): void {
    try {
      this.#fs.link(from, to); // unlike a rename it never replaces
    } catch (error) {
      const code = errnoOf(error) ?? '';
      if (code === 'EEXIST') throw inTheWay(this.name, key);
      if (!NO_LINKS.has(code)) throw error;
      if (this.#fs.lstat(to) !== undefined) throw inTheWay(this.name, key);
      this.#fs.rename(from, to);
      return;
    }
    this.#fs.unlink(from);
  }

  async close(): Promise<void> {
    try {
      this.staging.close();
      this.#syncing?.close();
      this.#directories.close();
      this.#looking.close();
      this.#fs.close(this.#tmp);
      this.#fs.close(this.#root);
    } finally {
      await this.#manifest.close(); // a thread of it would keep the process
    }
  }
}

function isFile(found: BigIntStats, { size, mtimeNs }: FetchedFile): boolean {
  return found.isFile() && found.size === BigInt(size) && found.mtimeNs === mtimeNs;
}

/** What a fetch finds at a key's path, and has not put there, or not so. */
export function inTheWay(target: string, key: string): TombstonedError {
  const where = printable(`${target}/${key}`);
  return new TombstonedError(
    'conflict',
    `${where} is something else than what was fetched; it stays as it is`,
    {
      key,
      hint: 'move it out of the way, or fetch into another directory',
    },
  );
}

/** Makes a directory and those above it, each durable in the one above. */
async function makeDurable(fs: TargetFs, directory: string): Promise<void> {
  const missing: string[] = [];
  for (let one = directory; fs.lstat(one) === undefined; one = path.dirname(one)) missing.push(one);
  if (missing.length === 0) return;
  fs.mkdirWithAbove(directory);
  for (const one of missing) {
    const fd = fs.open(path.dirname(one), DIRECTORY);
    try {
      await fs.fsync(fd);
    } finally {
      fs.close(fd);
    }
  }
}

/** What is fetched into a store would be listed, and perhaps swept, as its own. */
function refuseStore(fs: TargetFs, real: string, name: string): void {
  for (let one = real; ; one = path.dirname(one)) {
    if (fs.lstat(path.join(one, CONTROL_SEGMENT, 'store.json')) !== undefined) {
      throw new TombstonedError('conflict', `${name} is in the store ${one}`, {
        key: name,
        hint: 'fetch into a directory outside of any store',
      });
    }
    if (one === path.dirname(one)) return;
  }
}

function isOfOneName(error: unknown): boolean {
  if (error instanceof TombstonedError) return error.code === 'conflict';
  return OF_ONE_NAME.has(errnoOf(error) ?? '');
}
