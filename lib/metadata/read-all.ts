import { finished } from 'node:stream/promises';
import type { MetadataFile } from '../aptos/metadata-file.ts';
import { TombstonedError } from '../domain/errors.ts';
import { compareKeys, type Key, printable } from '../domain/key.ts';
import { type Revision, sameRevision } from '../domain/revision.ts';
import type { OpenObject, Store } from '../store/store.ts';
import { isMetadataKey, METADATA_PREFIX } from './names.ts';
import { noObject, notRead, type ReadableObject, readBytes, readObject } from './read-object.ts';

export interface ReadAllOptions {
  /** Of the keys; `metadata/` unless set. */
  readonly prefix?: string | undefined;
  /** How many files are opened and read at once. */
  readonly concurrency: number;
  readonly signal?: AbortSignal | undefined;
  /** Told what else is below the prefix: keys that are no `*.meta` of that directory. Nothing of them is read. */
  readonly onOther?: ((key: string) => void) | undefined;
}

/** A live metadata file, as it was when it was read; or why it says nothing that can be relied on. */
export type ReadMetadata =
  | {
      readonly key: Key;
      readonly revision: Revision;
      /** Bytes. */
      readonly size: number;
      /** ms since 1970. */
      readonly modifiedAt: number;
      readonly file: MetadataFile;
      readonly error?: undefined;
    }
  | Unread;

/** A pending copy of a metadata file, or why it says nothing that can be relied on. */
export type ReadPending =
  | {
      readonly key: Key;
      /** The tombstone's. */
      readonly id: string;
      readonly revision: Revision;
      readonly size: number;
      readonly file: MetadataFile;
      readonly error?: undefined;
    }
  | (Unread & { readonly id: string | null });

interface Unread {
  /** Its name in the store, which is no key where it can be none. */
  readonly key: string;
  /** As it was listed; null where it is no object. */
  readonly revision: Revision | null;
  /** Names the file. */
  readonly error: TombstonedError;
  readonly file?: undefined;
}

/**
 * Reads all live `metadata/*.meta`, some at once, and gives them in key order. One that is malformed, cut
 * short, no object, changed or gone since it was listed (`conflict`), or can't be read, is an error in its
 * place: none is passed over. Throws where the listing is not complete. Holds what was listed, and the contents of few.
 */
export async function* readAll(store: Store, options: ReadAllOptions): AsyncGenerator<ReadMetadata> {
  const { prefix = METADATA_PREFIX, signal, onOther } = options;
  const wanted: Wanted<ReadMetadata>[] = [];
  for await (const page of store.list(prefix, signal)) {
    signal?.throwIfAborted();
    for (const item of page) {
      if (item.type === 'refused') {
        const { path, why } = item;
        const error = noObject(path, why);
        wanted.push({
          key: path,
          size: 0,
          open: rejecting(error),
          as: () => ({ key: path, revision: null, error }),
        });
      } else if (isMetadataKey(item.key, prefix)) {
        const { key, revision, size, modifiedAt } = item;
        wanted.push({
          key,
          size,
          open: async () => asListed(key, revision, await store.openLive(key)),
          openBy: (open) => asListed(key, revision, open(key)),
          as: ({ file, error }) =>
            file === undefined ? { key, revision, error } : { key, revision, size, modifiedAt, file },
        });
      } else onOther?.(item.key);
    }
  }
  yield* readInOrder(wanted, options, store);
}

/** Reads all pending copies of such files, as `readAll` does, in the order of their keys and ids. */
export async function* readAllPending(store: Store, options: ReadAllOptions): AsyncGenerator<ReadPending> {
  const { prefix = METADATA_PREFIX, signal, onOther } = options;
  const wanted: Wanted<ReadPending>[] = [];
  for await (const page of store.listPending(prefix, signal)) {
    signal?.throwIfAborted();
    for (const item of page) {
      if (item.type === 'refused') {
        const { path, why } = item;
        const error = noObject(path, why);
        const unread = { key: path, id: null, revision: null, error };
        wanted.push({ key: path, size: 0, open: rejecting(error), as: () => unread });
      } else if (isMetadataKey(item.key, prefix)) {
        const {
          key,
          id,
          copy: { revision, size },
        } = item;
        wanted.push({
          key,
          id,
          size,
          open: async () => asListed(key, revision, await store.openPending(key, id)),
          as: ({ file, error }) =>
            file === undefined ? { key, id, revision, error } : { key, id, revision, size, file },
        });
      } else onOther?.(item.key);
    }
  }
  yield* readInOrder(wanted, options);
}

/** A metadata file that was read, or why not. */
type Read =
  | { readonly file: MetadataFile; readonly error?: undefined }
  | { readonly file?: undefined; readonly error: TombstonedError };

/** A metadata file to read, and what becomes of it then. */
export interface Wanted<Result> {
  readonly key: string;
  /** Of a pending copy. */
  readonly id?: string;
  readonly size: number;
  readonly open: () => Promise<ReadableObject>;
  /** The same by what opens many, one after the other. */
  readonly openBy?: (open: (key: Key) => OpenObject | undefined) => OpenObject;
  readonly as: (read: Read) => Result;
}

/** Bytes from which on a file is not read before its turn, so that what is read ahead stays small. */
const LARGE = 256 * 1024;

/**
 * Reads metadata files in the order of their keys and ids. Bytes of small ones are read ahead, some at once;
 * each is understood when its turn comes.
 */
export async function* readInOrder<Result>(
  wanted: Wanted<Result>[],
  { concurrency, signal }: Pick<ReadAllOptions, 'concurrency' | 'signal'>,
  store: Pick<Store, 'openingMany'> = {},
): AsyncGenerator<Result> {
  wanted.sort((a, b) => compareKeys(a.key, b.key) || compareKeys(a.id ?? '', b.id ?? ''));
  const ahead: (Promise<Bytes> | undefined)[] = [];
  for (const [turn, one] of wanted.entries()) {
    signal?.throwIfAborted();
    // Where many are opened at once, only when all that was read ahead is used up.
    if (store.openingMany === undefined || ahead.length === 0) {
      const next = wanted.slice(turn + ahead.length, turn + Math.max(concurrency, 1));
      ahead.push(...readAhead(store, next));
    }
    yield one.as(await understood(one, await ahead.shift()));
  }
}

type Bytes = { readonly bytes: Buffer } | { readonly failure: unknown };

function readAhead(
  store: Pick<Store, 'openingMany'>,
  some: readonly Wanted<unknown>[],
): (Promise<Bytes> | undefined)[] {
  const read = (open?: (key: Key) => OpenObject | undefined): (Promise<Bytes> | undefined)[] =>
    some.map((one) => (one.size < LARGE ? bytesOf(one, open) : undefined));
  return store.openingMany === undefined ? read() : store.openingMany(read);
}

/** All bytes of a small file. Never rejects: it is read before anybody asks for it. */
async function bytesOf(
  { open, openBy }: Wanted<unknown>,
  one?: (key: Key) => OpenObject | undefined,
): Promise<Bytes> {
  try {
    const object = one === undefined || openBy === undefined ? await open() : openBy(one);
    if (object.readAll !== undefined) return { bytes: object.readAll() };
    const chunks: Buffer[] = [];
    const stream = object.read();
    stream.on('data', (chunk: Buffer) => chunks.push(chunk));
    await finished(stream);
    return { bytes: Buffer.concat(chunks) };
  } catch (error) {
    return { failure: error };
  }
}

/** Reads a file from its bytes, or, where it is too large for that, from the store. */
async function understood({ key, open }: Wanted<unknown>, ahead: Bytes | undefined): Promise<Read> {
  try {
    if (ahead !== undefined && 'failure' in ahead) throw ahead.failure;
    if (ahead !== undefined) return { file: await readBytes(key, ahead.bytes) };
    return { file: await readObject(key, await open()) };
  } catch (error) {
    return { error: notRead(key, error) };
  }
}

/** What was opened, if it is what was listed. */
function asListed(key: Key, revision: Revision, object: OpenObject | undefined): OpenObject {
  if (object !== undefined && sameRevision(object.revision, revision)) return object;
  object?.close();
  const what = object === undefined ? 'has gone' : 'was changed';
  throw new TombstonedError('conflict', `${printable(key)} ${what} since it was listed`, {
    key,
    hint: 'run it again: something else moves or writes metadata files meanwhile',
  });
}

function rejecting(error: TombstonedError): () => Promise<never> {
  return async () => {
    throw error;
  };
}
