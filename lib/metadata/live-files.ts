import { type CompactionTimestamps, parseLine } from '../aptos/metadata.ts';
import { LARGEST_FILE } from '../aptos/metadata-file.ts';
import { type Remains, remainsOf } from '../aptos/remains.ts';
import { newestTimestamps } from '../aptos/timestamps.ts';
import { type MetadataView, ViewBuilder } from '../aptos/view.ts';
import { TombstonedError } from '../domain/errors.ts';
import { asKey, type Key } from '../domain/key.ts';
import { type Revision, sameRevision } from '../domain/revision.ts';
import type { Store } from '../store/store.ts';
import { type FileLines, fileLines, isWhole, LineIndex } from './lines.ts';
import { isMetadataKey, METADATA_PREFIX } from './names.ts';
import { noObject, notRead, readObject } from './read-object.ts';

/** A live metadata file that was read whole. */
export interface LiveFile extends FileLines {
  readonly revision: Revision;
}

/** How many files are read at once. */
const AT_ONCE = 32;

const known = new WeakMap<Store, LiveFiles>();

/**
 * What the live metadata files of a store say. Each is read once, and again when its revision has changed;
 * what was read is kept as long as the store is open.
 */
export class LiveFiles {
  readonly index = new LineIndex();
  readonly #store: Store;
  readonly #files = new Map<string, LiveFile>();
  #errors = new Map<string, TombstonedError>();
  #changes = 0;
  #last: Promise<void> = Promise.resolve();

  private constructor(store: Store) {
    this.#store = store;
  }

  /** Those of a store, as far as this process knows them. */
  static of(store: Store): LiveFiles {
    const files = known.get(store) ?? new LiveFiles(store);
    known.set(store, files);
    return files;
  }

  get(key: Key): LiveFile | undefined {
    return this.#files.get(key);
  }

  /** The timestamps of the newest compaction; null is none. */
  async newestTimestamps(): Promise<CompactionTimestamps | null> {
    const all: CompactionTimestamps[] = [];
    for (const key of this.index.newestDated()) {
      const object = await this.#store.openLive(key);
      if (object === undefined) continue;
      for (const { metadata } of (await readObject(key, object)).lines)
        if (metadata.kind === 'compaction-timestamps') all.push(metadata);
    }
    return newestTimestamps(all);
  }

  /** What its lines say of backups. */
  view(stays: (key: Key) => boolean = () => true): MetadataView {
    const builder = new ViewBuilder();
    for (const line of this.index.lines())
      if (this.index.has(line, stays) && isWhole(line)) builder.add(parseLine(line).metadata);
    return builder.view();
  }

  /** Grows whenever what they say may be something else than before. */
  get changes(): number {
    return this.#changes;
  }

  /** Those that are malformed or can't be read, by name. */
  get errors(): ReadonlyMap<string, TombstonedError> {
    return this.#errors;
  }

  /** Brings it up to what a listing shows now; one after the other. Throws where the listing is not complete. */
  async refresh(signal?: AbortSignal): Promise<void> {
    const turn = this.#last.then(async () => this.#refresh(signal));
    this.#last = turn.catch(() => undefined);
    return turn;
  }

  async #refresh(signal: AbortSignal | undefined): Promise<void> {
    const seen = new Set<string>();
    const errors = new Map<string, TombstonedError>();
    const changed: Key[] = [];
    for await (const page of this.#store.list(METADATA_PREFIX, signal)) {
      for (const item of page) {
        if (item.type === 'refused') {
          const key = asKey(item.path);
          if (key === undefined || isMetadataKey(key)) errors.set(item.path, noObject(item.path, item.why));
          continue;
        }
        if (!isMetadataKey(item.key)) continue;
        seen.add(item.key);
        const file = this.#files.get(item.key);
        if (file === undefined || !sameRevision(file.revision, item.revision)) changed.push(item.key);
      }
      signal?.throwIfAborted();
    }
    for (const key of this.#files.keys()) if (!seen.has(key)) this.#put(key, undefined);
    for (let from = 0; from < changed.length; from += AT_ONCE) {
      signal?.throwIfAborted();
      const some = changed.slice(from, from + AT_ONCE);
      const read = await Promise.all(some.map(async (key) => this.#read(key)));
      for (const [i, key] of some.entries()) {
        const found = read[i];
        this.#put(key, found instanceof TombstonedError ? undefined : found);
        if (found instanceof TombstonedError) errors.set(key, found);
      }
    }
    this.#errors = errors;
  }

  /** What was opened has its revision: who writes over it meanwhile gives it another, which the next look finds. */
  async #read(key: Key): Promise<LiveFile | TombstonedError | undefined> {
    try {
      const object = await this.#store.openLive(key);
      if (object === undefined) return undefined;
      const { lines } = await readObject(key, object);
      return { ...fileLines(key, lines), revision: object.revision };
    } catch (error) {
      return notRead(key, error);
    }
  }

  #put(key: string, file: LiveFile | undefined): void {
    this.#changes++;
    const before = this.#files.get(key);
    if (before !== undefined) this.index.remove(before);
    if (file === undefined) this.#files.delete(key);
    else {
      this.#files.set(key, file);
      this.index.add(file);
    }
  }
}

/** What a pending copy says; undefined where there is none. Throws `failed` where it can't be read as a metadata file. */
export async function readPendingLines(store: Store, key: Key, id: string): Promise<FileLines | undefined> {
  try {
    const object = await store.openPending(key, id);
    return object === undefined ? undefined : fileLines(key, (await readObject(key, object)).lines);
  } catch (error) {
    throw notRead(key, error);
  }
}

/** What is left of a pending copy that was cut short when it was moved; undefined where nothing tells what was in it. */
export async function readPendingRemains(store: Store, key: Key, id: string): Promise<Remains | undefined> {
  const object = await store.openPending(key, id);
  if (object === undefined || object.size > LARGEST_FILE) {
    object?.close();
    return undefined;
  }
  const chunks: Uint8Array[] = [];
  for await (const chunk of object.read()) chunks.push(Buffer.from(chunk));
  return remainsOf(Buffer.concat(chunks));
}
