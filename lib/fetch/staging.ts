import { constants } from 'node:fs';
import type { Readable } from 'node:stream';
import type { FetchedFile } from '../catalog/fetch-manifest.ts';
import { errnoOf } from '../domain/errors.ts';
import { at } from '../store/local/directories.ts';
import { targetError } from './target-error.ts';
import type { TargetFs } from './target-fs.ts';

const DIRECTORY = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW;
const NEW_FILE = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
/** How many temporary names are made in one directory: ext4 finds an inode faster where there are few. */
const STAGE_FILES = 400;
/** The mode of a file whose store knows none. */
const USUAL_MODE = 0o644;

/** A directory of temporary names, or one that is to be given its own name whole, open. */
export interface StageDirectory {
  readonly path: string;
  readonly fd: number;
}

/** A file under a temporary name, open. */
export interface TemporaryFile {
  readonly path: string;
  readonly fd: number;
  /** The one it is to have, as `chmod` takes it. */
  readonly mode: number;
  /** How many bytes were written. */
  readonly size: number;
}

interface Stage extends StageDirectory {
  /** How many names were made in it. */
  made: number;
  /** How many are there. */
  files: number;
  /** Whether it has a name elsewhere by now. */
  isPlaced: boolean;
}

/** A directory whose files have the names that they are to have, and which may be given its own. */
export interface WholeDirectory {
  /** Below the target, not the root of it. */
  readonly directory: string;
  /** Its temporary name. */
  readonly path: string;
  /** Notes that it has its own name. */
  placed(): void;
}

/** Temporary names, in directories of some each, which go with the last name in them. */
export class Staging {
  readonly #fs: TargetFs;
  readonly #tmp: number;
  readonly #target: string;
  /** What is open. */
  readonly #files = new Set<NewFile>();
  /** Directories that are in use. */
  readonly #stages = new Set<Stage>();
  #stage: Stage | undefined;
  #made = 0;

  /** Below an open directory; `target` is the name of all, for messages. */
  constructor(fs: TargetFs, tmp: number, target: string) {
    this.#fs = fs;
    this.#tmp = tmp;
    this.#target = target;
  }

  /** A name below the directory that no other has. */
  nextName(): string {
    this.#made += 1;
    return at(this.#tmp, String(this.#made));
  }

  /** Makes a file; `mode` is what `chmod` takes. */
  create(mode = USUAL_MODE): NewFile {
    try {
      const stage = this.#stageOfNext();
      const file = createFile(this.#fs, at(stage.fd, String(stage.made++)), mode);
      return this.#added(stage, file);
    } catch (error) {
      throw targetError(this.#target, error);
    }
  }

  /**
   * Takes over a directory that another thread has made, with all files that it wrote
   * there; `directory` is the one below the target where they have these names.
   */
  adopt(made: StageDirectory, files: readonly TemporaryFile[], directory: string | undefined): NewFile[] {
    const stage: Stage = { ...made, made: files.length, files: 0, isPlaced: false };
    this.#stages.add(stage);
    const whole = directory === undefined ? undefined : wholeDirectory(stage, directory);
    const added = files.map((file) => this.#added(stage, file, whole));
    if (added.length === 0) this.#remove(stage);
    return added;
  }

  #stageOfNext(): Stage {
    if (this.#stage !== undefined && this.#stage.made < STAGE_FILES) return this.#stage;
    const stage = { ...makeStage(this.#fs, this.nextName()), made: 0, files: 0, isPlaced: false };
    this.#stages.add(stage);
    this.#stage = stage;
    return stage;
  }

  #added(stage: Stage, file: TemporaryFile, whole?: WholeDirectory): NewFile {
    stage.files += 1;
    const added = new NewFile(this.#fs, file, {
      target: this.#target,
      whole,
      onClose: () => this.#files.delete(added),
      onLeave: () => {
        stage.files -= 1;
        if (stage.files === 0) this.#remove(stage);
      },
    });
    this.#files.add(added);
    return added;
  }

  #remove(stage: Stage): void {
    this.#stages.delete(stage);
    if (this.#stage === stage) this.#stage = undefined;
    this.#fs.close(stage.fd);
    if (stage.isPlaced) return;
    try {
      this.#fs.rmdir(stage.path);
    } catch (error) {
      if (errnoOf(error) !== 'ENOTEMPTY') throw error; // the next fetch sees to what is not ours
    }
  }

  /** Removes what a killed fetch has left. */
  empty(): void {
    for (const name of this.#namesIn(this.#tmp)) {
      const stage = this.#fs.open(at(this.#tmp, name), DIRECTORY);
      try {
        for (const file of this.#namesIn(stage)) this.#fs.unlink(at(stage, file));
      } finally {
        this.#fs.close(stage);
      }
      this.#fs.rmdir(at(this.#tmp, name));
    }
  }

  *#namesIn(directory: number): Generator<string> {
    const names = this.#fs.opendir(at(directory, '.'));
    try {
      for (let entry = names.readSync(); entry !== null; entry = names.readSync()) yield entry.name;
    } finally {
      names.closeSync();
    }
  }

  close(): void {
    for (const file of this.#files) file.close();
    for (const { fd } of this.#stages) this.#fs.close(fd);
    this.#stages.clear();
  }
}

function wholeDirectory(stage: Stage, directory: string): WholeDirectory {
  return {
    directory,
    path: stage.path,
    placed: () => {
      stage.isPlaced = true;
    },
  };
}

/** Makes a directory for temporary names, or one that is to become one of the target's. */
export function makeStage(fs: TargetFs, path: string, isToStay = false): StageDirectory {
  fs.mkdir(path, isToStay ? 0o777 : 0o700);
  return { path, fd: fs.open(path, DIRECTORY) };
}

/** Makes a file under a temporary name. */
export function createFile(fs: TargetFs, path: string, mode = USUAL_MODE): TemporaryFile {
  return { path, fd: fs.open(path, NEW_FILE, mode), mode, size: 0 };
}

/** Gives a written file its mode and time, and says what it is now. */
export function finishFile(
  fs: TargetFs,
  { fd, mode }: Pick<TemporaryFile, 'fd' | 'mode'>,
  mtimeNs: bigint,
): Pick<FetchedFile, 'size' | 'mtimeNs' | 'inode'> {
  fs.futimes(fd, Number(mtimeNs) / 1e9);
  const now = fs.fstat(fd);
  if ((Number(now.mode) & 0o777) !== mode) fs.fchmod(fd, mode); // the umask took some
  return { size: Number(now.size), mtimeNs: now.mtimeNs, inode: now.ino };
}

/** A file under a temporary name, that is being written. */
export class NewFile {
  /** Its temporary name. */
  readonly path: string;
  /** The directory that it is in, where that may be given its name with all files in it. */
  readonly whole: WholeDirectory | undefined;
  readonly #fs: TargetFs;
  readonly #file: TemporaryFile;
  readonly #target: string;
  #size: number;
  readonly #onClose: () => void;
  readonly #onLeave: () => void;
  #isClosed = false;

  constructor(
    fs: TargetFs,
    file: TemporaryFile,
    {
      target,
      whole,
      onClose,
      onLeave,
    }: { target: string; whole: WholeDirectory | undefined; onClose: () => void; onLeave: () => void },
  ) {
    this.#onClose = onClose;
    this.#onLeave = onLeave;
    this.#fs = fs;
    this.#file = file;
    this.path = file.path;
    this.whole = whole;
    this.#target = target;
    this.#size = file.size;
  }

  /** How many bytes were written. */
  get size(): number {
    return this.#size;
  }

  /** Writes bytes; what their source throws is a value, to tell it from what the target does. */
  async write(bytes: Buffer | Readable): Promise<{ error: unknown } | undefined> {
    const { fd } = this.#file;
    if (Buffer.isBuffer(bytes)) {
      this.#size = bytes.length;
      this.#guarded(() => this.#fs.write(fd, bytes));
      return undefined;
    }
    const chunks: AsyncIterator<Buffer> = bytes[Symbol.asyncIterator]();
    try {
      for (;;) {
        const next = await chunks.next().catch((error: unknown) => ({ error }));
        if ('error' in next) return next;
        if (next.done === true) return undefined;
        await this.#fs.writeAsync(fd, next.value, this.#size);
        this.#size += next.value.length;
      }
    } catch (error) {
      throw targetError(this.#target, error);
    } finally {
      bytes.destroy();
    }
  }

  /** Gives it its mode and time, and says what it is now. It stays open: an error of the disk must not be lost. */
  finish(mtimeNs: bigint): Pick<FetchedFile, 'size' | 'mtimeNs' | 'inode'> {
    return this.#guarded(() => finishFile(this.#fs, this.#file, mtimeNs));
  }

  /** Makes it durable, and closes it. */
  async sync(): Promise<void> {
    try {
      await this.#fs.fsync(this.#file.fd);
    } catch (error) {
      throw targetError(this.#target, error);
    } finally {
      this.close();
    }
  }

  /** Removes it: it is not whole, or gets no name. */
  discard(): void {
    this.close();
    this.#guarded(() => this.#fs.unlink(this.path));
    this.leave();
  }

  /** Notes that its temporary name has gone. */
  leave(): void {
    this.#guarded(this.#onLeave);
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#onClose();
    this.#fs.close(this.#file.fd);
  }

  #guarded<T>(work: () => T): T {
    try {
      return work();
    } catch (error) {
      throw targetError(this.#target, error);
    }
  }
}
