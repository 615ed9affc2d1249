import { availableParallelism } from 'node:os';
import type { Readable } from 'node:stream';
import { setImmediate } from 'node:timers/promises';
import type { FetchedFile } from '../catalog/fetch-manifest.ts';
import type { Clock } from '../domain/clock.ts';
import { TombstonedError } from '../domain/errors.ts';
import { compareKeys, isBelowPrefix, printable } from '../domain/key.ts';
import { modifiedNs, revisionText } from '../domain/revision.ts';
import { Turns } from '../domain/turns.ts';
import type { Found } from '../reader/reader.ts';
import type { ViewedKey } from '../reader/session.ts';
import { splitKey } from '../store/local/directories.ts';
import { type CopyThread, copyBy, linkBy, startCopying } from './copy-thread.ts';
import { inTheWay, type Linker, type Target, type Written } from './target.ts';

/** What is fetched from: a session. */
export interface Source {
  /** How many objects are in the view. */
  readonly count: number;
  /** Aborted when nothing can be relied on any more. */
  readonly signal: AbortSignal;
  /** Where it is a directory of this host. */
  readonly directory?: { readonly path: string; readonly pendingPrefix: string } | undefined;
  /** Throws when what was read meanwhile can't be relied on. */
  check(): void;
  /** Everything, in pages, in key order. */
  view(): Iterable<ViewedKey[]>;
  /** Opens what a page of the view has. Throws `incomplete`, with the key, when it can't be read as it was listed. */
  openListed(listed: ViewedKey): Promise<Found>;
}

export interface FetchOptions {
  readonly clock: Clock;
  /** What was asked for: byte prefixes. */
  readonly prefixes: readonly string[];
  /** How many objects are in flight. */
  readonly concurrency: number;
  /** From how many objects on small files of a directory are copied by threads; never unless set. */
  readonly threadsFrom?: number | undefined;
  /** Ends it after the files under way. */
  readonly signal?: AbortSignal | undefined;
  /** An object that could not be fetched, and why. */
  readonly onProblem: (error: TombstonedError) => void;
  /** A prefix with nothing below it. */
  readonly onEmpty: (prefix: string) => void;
  /** A file of an earlier fetch, whose key is not in the view. */
  readonly onLeft: (key: string) => void;
  readonly onProgress?: ((done: number, of: number) => void) | undefined;
}

export interface FetchResult {
  /** How many objects of the view are in the target, whole. */
  readonly objects: number;
  /** Bytes of these. */
  readonly bytes: number;
  /** How many of them an earlier fetch had brought. */
  readonly already: number;
  /** How many were read from pending copies. */
  readonly fromPending: number;
  /** Keys that are not there as they were listed. */
  readonly missing: readonly string[];
  /** Whether the signal ended it before all was there. */
  readonly isStopped: boolean;
}

/** A batch is made durable when it has this many files (all are open), bytes, or ms. */
const BATCH_FILES = 1000;
/** How many threads copy, and how many objects one is asked for at once. More threads than processors are no faster. */
const THREADS = Math.min(4, Math.max(2, availableParallelism()));
const CHUNK = 400;
/** How many larger objects are passed over at the most: whoever asks the thread fetches them itself, after that. */
const LARGE_AT_ONCE = 16;
/** From how many files on a directory is written for itself, to be given its name whole. */
const MANY = 64;
const BATCH_BYTES = 64 * 1024 * 1024;
const BATCH_MS = 2000;
/** What is read at once, where a store can do that. Bytes. */
const SMALL = 256 * 1024;
/** How often an object is opened that changes, or moves away, while it is read. */
const ATTEMPTS = 3;
const LEFT_PAGE = 1000;

/**
 * Brings all objects of a view into a directory, by the revision listed, durable.
 * A file that is there as an earlier fetch left it is not read again. What can't
 * be brought is told, and the rest goes on. Throws, with what is whole noted,
 * when the source can no longer be relied on or the target can't be written.
 */
export async function fetchAll(source: Source, target: Target, options: FetchOptions): Promise<FetchResult> {
  const fetching = new Fetching(source, target, options);
  return fetching.run();
}

/** An object that is to be fetched; `before` is what an earlier fetch left in its place. */
interface Wanted extends ViewedKey {
  readonly before: FetchedFile | undefined;
}

type Copied =
  | { readonly written: Written; readonly location: Found['location'] }
  | { readonly error: unknown; readonly isOpened: boolean };

class Fetching {
  readonly #source: Source;
  readonly #target: Target;
  readonly #options: FetchOptions;
  readonly #missing: string[] = [];
  readonly #replaced = new Map<string, FetchedFile>();
  #batch: Written[] = [];
  #batchBytes = 0;
  #batchSince: number;
  /** Files whose names are durable, to be noted as whole. */
  #settled: Written[] = [];
  /** Of the last batch handed over: until it is durable, and until it has its names. */
  #syncing: Promise<unknown> = Promise.resolve();
  #placing: Promise<void> = Promise.resolve();
  /** Whether the target failed: nothing more is written there. */
  #isBroken = false;
  #threads: readonly CopyThread[] = [];
  /** What is wanted next, the last one first, and what brings more of it. */
  readonly #ready: Wanted[] = [];
  readonly #pages: AsyncGenerator<Wanted[]>;
  #loading: Promise<boolean> | undefined;
  /** Who takes many takes those that lie together. */
  readonly #turns = new Turns();
  #failure: { readonly error: unknown } | undefined;
  #objects = 0;
  #bytes = 0;
  #already = 0;
  #fromPending = 0;
  #done = 0;

  constructor(source: Source, target: Target, options: FetchOptions) {
    this.#source = source;
    this.#target = target;
    this.#options = options;
    this.#batchSince = options.clock.monotonic();
    this.#pages = this.#wanted();
  }

  async run(): Promise<FetchResult> {
    this.#threads = this.#startThreads();
    try {
      // With one batch nothing goes on while its commits wait for the disk.
      if (this.#threads.length > 0 && this.#source.count > BATCH_FILES) await this.#target.prepareForMany();
      const workers = this.#threads.map(async (thread) => this.#workByThread(thread));
      const others = this.#threads.length > 0 ? 0 : this.#options.concurrency;
      for (let i = 0; i < others; i++) workers.push(this.#work());
      await Promise.all(workers);
      await this.#finish();
    } finally {
      await Promise.all(this.#threads.map(async (thread) => thread.close()));
    }
    if (this.#failure !== undefined) throw this.#failure.error;
    const isStopped = this.#done < this.#source.count;
    return {
      objects: this.#objects,
      bytes: this.#bytes,
      already: this.#already,
      fromPending: this.#fromPending,
      missing: this.#missing.toSorted(compareKeys),
      isStopped,
    };
  }

  #startThreads(): CopyThread[] {
    const { directory, count } = this.#source;
    const { threadsFrom = Infinity, concurrency } = this.#options;
    if (directory === undefined || count < threadsFrom) return [];
    const { path, pendingPrefix } = directory;
    const settings = { directory: path, pendingPrefix, target: this.#target.name };
    return Array.from({ length: Math.min(concurrency, THREADS) }, () => startCopying(settings));
  }

  get #linker(): Linker | undefined {
    const [thread] = this.#threads;
    return thread === undefined ? undefined : async (links) => linkBy(thread, links);
  }

  get #isOver(): boolean {
    return (
      this.#failure !== undefined || this.#source.signal.aborted || this.#options.signal?.aborted === true
    );
  }

  /** What is not there yet, as it was listed, in key order. */
  async *#wanted(): AsyncGenerator<Wanted[]> {
    const { prefixes, onEmpty } = this.#options;
    const empty = new Set(prefixes);
    const { manifest } = this.#target;
    const isFresh = await manifest.isEmpty(); // of what is fetched meanwhile nothing is asked for again
    let after = '';
    for (const page of this.#source.view()) {
      await setImmediate(); // all of them may be there
      if (this.#isOver) return;
      const keys = page.map(({ key }) => key);
      for (const prefix of empty) if (keys.some((key) => isBelowPrefix(key, prefix))) empty.delete(prefix);
      const last = keys.at(-1) ?? after;
      if (!isFresh) await this.#tellLeft(after, last, new Set(keys));
      after = last;
      const known = isFresh ? new Map<string, FetchedFile>() : await manifest.find(keys);
      yield page.flatMap((viewed) => {
        const before = known.get(viewed.key);
        return before !== undefined && this.#isThere(viewed, before) ? [] : { ...viewed, before };
      });
    }
    if (!isFresh) await this.#tellLeft(after, undefined, new Set());
    for (const prefix of empty) onEmpty(prefix);
  }

  /** Tells files of earlier fetches, below the prefixes, that the view does not have between two of its keys. */
  async #tellLeft(after: string, upTo: string | undefined, viewed: ReadonlySet<string>): Promise<void> {
    const { manifest } = this.#target;
    for (let from = after; ; await setImmediate()) {
      const known = await manifest.keysBetween(from, upTo, LEFT_PAGE);
      const left = known.filter(
        (key) => !viewed.has(key) && this.#options.prefixes.some((prefix) => isBelowPrefix(key, prefix)),
      );
      const gone = left.filter((key) => !this.#target.isTaken(key));
      if (gone.length > 0) await manifest.forget(gone);
      for (const key of left) if (!gone.includes(key)) this.#options.onLeft(key);
      const last = known.at(-1);
      if (last === undefined || known.length < LEFT_PAGE) return;
      from = last;
    }
  }

  /** Whether an earlier fetch has brought an object, and it is still whole. What is in its way is told. */
  #isThere({ key, size, revision }: ViewedKey, before: FetchedFile): boolean {
    try {
      const state = this.#target.stateOf(before);
      if (state === 'gone') return false;
      if (state === 'changed') throw inTheWay(this.#target.name, key);
      if (before.revision !== revisionText(revision)) return false;
      this.#already += 1;
      this.#count(size);
    } catch (error) {
      this.#problem(key, error);
    }
    return true;
  }

  /** Fetches one object after the other; never rejects. */
  async #work(): Promise<void> {
    try {
      while (!this.#isOver) {
        const next = this.#ready.pop();
        if (next !== undefined) await this.#fetch(next);
        else if (!(await this.#load())) return;
      }
    } catch (error) {
      this.#failure ??= { error };
    }
  }

  /** Has a thread copy small objects, some at a time; never rejects. */
  async #workByThread(thread: CopyThread): Promise<void> {
    try {
      while (!this.#isOver) {
        const { chunk, large } = await this.#turns.take(async () => this.#nextChunk());
        if (chunk.length === 0 && large.length === 0) return;
        if (chunk.length > 0) await this.#copyChunk(thread, chunk);
        for (const one of large) if (!this.#isOver) await this.#fetch(one);
      }
    } catch (error) {
      this.#failure ??= { error };
    }
  }

  /** Small objects of one directory, where it has many, or of several; and others that are on the way. */
  async #nextChunk(): Promise<{ chunk: Wanted[]; large: Wanted[] }> {
    const chunk: Wanted[] = [];
    const large: Wanted[] = [];
    let isOneDirectory = true;
    while (
      !this.#isOver &&
      chunk.length < (isOneDirectory ? BATCH_FILES : CHUNK) &&
      large.length < LARGE_AT_ONCE
    ) {
      const next = this.#ready.pop();
      if (next === undefined) {
        if (await this.#load()) continue;
        break;
      }
      if (next.size > SMALL) {
        large.push(next);
        continue;
      }
      const [first] = chunk;
      isOneDirectory &&= first === undefined || directoryOf(first) === directoryOf(next);
      if (!isOneDirectory && isWhole(chunk)) {
        this.#ready.push(next);
        break;
      }
      chunk.push(next);
    }
    return { chunk, large };
  }

  /** Readies more of what is wanted, for all who wait for it; false when there is no more. */
  async #load(): Promise<boolean> {
    this.#loading ??= this.#pages.next().then(({ done, value }) => {
      this.#loading = undefined;
      if (done === true) return false;
      this.#ready.push(...value.toReversed());
      return true;
    });
    return this.#loading;
  }

  async #copyChunk(thread: CopyThread, chunk: readonly Wanted[]): Promise<void> {
    const { staging } = this.#target;
    const isNamed = isWhole(chunk);
    const [first] = chunk;
    const { stage, files } = await copyBy(thread, {
      stage: staging.nextName(),
      isNamed,
      objects: chunk.map(({ key, size, revision }) => [key, size, revisionText(revision)]),
    });
    const copied = staging.adopt(
      stage,
      files.filter((file) => file !== null),
      isNamed && first !== undefined ? directoryOf(first) : undefined,
    );
    this.#source.check();
    await setImmediate(); // what is copied is much, and to hand it over takes as long again
    const written: Written[] = [];
    const others: Wanted[] = [];
    for (const [i, wanted] of chunk.entries()) {
      const look = files[i];
      const file = look === null ? undefined : copied[written.length];
      if (file === undefined || look === null || look === undefined) others.push(wanted);
      else {
        const { size, mtimeNs, inode } = look;
        const revision = revisionText(wanted.revision);
        if (wanted.before !== undefined) this.#replaced.set(wanted.key, wanted.before);
        written.push({ key: wanted.key, revision, file, size, mtimeNs, inode });
      }
    }
    await this.#add(written);
    for (const wanted of others) await this.#fetch(wanted);
  }

  async #fetch(wanted: Wanted): Promise<void> {
    for (let attempt = 1; ; attempt++) {
      const copied = await this.#copy(wanted);
      if ('written' in copied) {
        if (copied.location === 'pending') this.#fromPending += 1;
        if (wanted.before !== undefined) this.#replaced.set(wanted.key, wanted.before);
        await this.#add([copied.written]);
        return;
      }
      if (this.#source.signal.aborted) throw this.#source.signal.reason;
      if (copied.isOpened && attempt < ATTEMPTS) continue; // it may have been changed, or moved, just then
      this.#problem(wanted.key, copied.error);
      return;
    }
  }

  /** Copies one object to a temporary name. What is wrong with the object is a value, with the target is thrown. */
  async #copy(wanted: Wanted): Promise<Copied> {
    const { key, size, revision } = wanted;
    let object: Found;
    let bytes: Buffer | Readable;
    try {
      object = await this.#source.openListed(wanted);
    } catch (error) {
      return { error, isOpened: false };
    }
    try {
      const { readAll } = object;
      bytes = readAll === undefined || size > SMALL ? object.read() : readAll();
    } catch (error) {
      return { error, isOpened: true };
    }
    const file = this.#target.staging.create(object.mode);
    try {
      const failed = await file.write(bytes);
      if (failed === undefined && file.size === size) {
        const look = file.finish(modifiedNs(revision));
        return {
          written: { key, revision: revisionText(revision), file, ...look },
          location: object.location,
        };
      }
      file.discard();
      return { error: failed?.error ?? cutShort(key, file.size, size), isOpened: true };
    } catch (error) {
      file.discard();
      throw error;
    }
  }

  /** Adds to one batch. While one is filled, one is made durable and one gets its names, and no more. */
  async #add(files: readonly Written[]): Promise<void> {
    this.#batch.push(...files);
    for (const { size } of files) this.#batchBytes += size;
    while (this.#isFull && !this.#isOver) {
      const before = this.#syncing;
      await before;
      if (this.#syncing === before) this.#handOver();
    }
  }

  get #isFull(): boolean {
    return (
      this.#batch.length >= BATCH_FILES ||
      this.#batchBytes >= BATCH_BYTES ||
      (this.#batch.length > 0 && this.#options.clock.monotonic() - this.#batchSince >= BATCH_MS)
    );
  }

  /** Begins with what has gathered; the batch before is durable. */
  #handOver(): void {
    const batch = this.#batch.toSorted((a, b) => compareKeys(a.key, b.key)); // a directory's files come together
    this.#batch = [];
    this.#batchBytes = 0;
    this.#batchSince = this.#options.clock.monotonic();
    const before = this.#placing;
    const synced = this.#target.sync(batch);
    this.#placing = this.#placeBatch(batch, synced, before).catch((error: unknown) => {
      this.#failure ??= { error };
      this.#isBroken = true;
    });
    // Also the names of the batch before the last: no more than three are held.
    this.#syncing = Promise.allSettled([synced, before]);
  }

  /** Gives a batch that is durable its names, and makes those durable. */
  async #placeBatch(batch: readonly Written[], synced: Promise<void>, before: Promise<void>): Promise<void> {
    const { manifest } = this.#target;
    await Promise.all([synced, before]);
    if (this.#isBroken) return;
    await manifest.advance(this.#settled, batch);
    this.#settled = [];
    const { placed, refused } = await this.#target.place(batch, this.#replaced, this.#linker);
    this.#settled = placed;
    for (const { key } of batch) this.#replaced.delete(key);
    for (const { key, error } of refused) this.#problem(key, error);
    for (const { size } of placed) this.#count(size);
  }

  /** Places what is left, and notes all as whole, also after a failure elsewhere. */
  async #finish(): Promise<void> {
    await this.#placing;
    if (!this.#isBroken) {
      this.#handOver();
      await this.#placing;
    }
    // What a batch that failed was about to place is for the next fetch to look at.
    if (!this.#isBroken) await this.#target.manifest.advance(this.#settled, []);
    if (this.#source.signal.aborted) this.#failure ??= { error: this.#source.signal.reason };
  }

  #count(size: number): void {
    this.#objects += 1;
    this.#bytes += size;
    this.#tick();
  }

  /** Tells what keeps one object from being fetched; throws what keeps all. */
  #problem(key: string, error: unknown): void {
    if (!(error instanceof TombstonedError)) throw error;
    if (error.code === 'incomplete') this.#missing.push(key);
    this.#options.onProblem(error);
    this.#tick();
  }

  #tick(): void {
    this.#done += 1;
    this.#options.onProgress?.(this.#done, this.#source.count);
  }
}

function directoryOf({ key }: Wanted): string {
  return splitKey(key).directory;
}

/** Whether these, in key order, are many of one directory of the target that it may not have yet. */
function isWhole(chunk: readonly Wanted[]): boolean {
  const [first] = chunk;
  return (
    chunk.length >= MANY &&
    first !== undefined &&
    directoryOf(first) !== '' &&
    chunk.every((one) => one.before === undefined && directoryOf(one) === directoryOf(first))
  );
}

function cutShort(key: string, got: number, size: number): TombstonedError {
  return new TombstonedError('incomplete', `${printable(key)} gave ${got} of ${size} bytes`, {
    key,
    hint: 'fetch again',
  });
}
