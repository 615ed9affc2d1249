import { type Json, parseJson } from '../aptos/exact-json.ts';
import { parseLine } from '../aptos/metadata.ts';
import { decoded, plainBytes } from '../aptos/metadata-file.ts';
import { messageOf, TombstonedError } from '../domain/errors.ts';
import { asKey, type Key, printable } from '../domain/key.ts';
import type { Store } from '../store/store.ts';
import { isWhole, type LineText } from './lines.ts';
import { isLiveAgain } from './live-again.ts';
import type { LiveFiles } from './live-files.ts';
import { type ReadPending, readAllPending } from './read-all.ts';

/** How many manifests are read at once. */
const AT_ONCE = 32;

export interface ReferencesOptions {
  /** Whether a pending copy that can't be read is passed over. */
  readonly isExcluded: (key: string) => boolean;
  readonly signal?: AbortSignal | undefined;
}

/** What metadata refers to. */
export interface References {
  /** By each directory at the root of the store, or object there: a line that refers to it, or to something in it. */
  readonly lines: ReadonlyMap<string, LineText>;
  /** Why there may be more than is known, or null: a manifest is missing, or it or a metadata file can't be read. */
  readonly doubt: TombstonedError | null;
}

/** Whether a key is where the tools put payload. */
export function isPayload(key: string): boolean {
  return /^(?:epoch_ending|state_epoch|transaction)_[^/]*\//.test(key);
}

/** The directory at the root of the store that a key is in, with its `/`; or the key itself. */
export function rootOf(key: string): string {
  const end = key.indexOf('/');
  return end < 0 ? key : key.slice(0, end + 1);
}

/**
 * Everything that live and pending metadata lines refer to, and that their manifests do: any text there
 * that can be a key, since chunks may lie anywhere. The live files are those of the last refresh.
 */
export async function referencesOf(
  store: Store,
  live: LiveFiles,
  { isExcluded, signal }: ReferencesOptions,
): Promise<References> {
  const found = new Map<string, LineText>();
  const manifests = new Map<Key, { readonly line: LineText; readonly isLive: boolean }>();
  const add = (line: LineText, isLive: boolean): void => {
    for (const key of keysIn(parseJson(line))) if (!found.has(rootOf(key))) found.set(rootOf(key), line);
    const { metadata } = parseLine(line);
    if ('manifest' in metadata && !manifests.has(metadata.manifest))
      manifests.set(metadata.manifest, { line, isLive });
  };
  let doubt: TombstonedError | null = null;
  for (const line of live.index.lines()) {
    if (isWhole(line)) add(line, true);
    else doubt ??= tooLong(line);
  }
  // Also of one that is protected: it stands in for nothing, and still may be the only one that names some payload.
  for (const error of live.errors.values()) doubt ??= unread(error);
  for await (const pending of readAllPending(store, { concurrency: AT_ONCE, signal })) {
    const { key, file, error } = pending;
    if (error !== undefined && !isExcluded(key) && !(await isKnown(store, live, pending))) doubt ??= error;
    for (const { metadata, text } of file?.lines ?? [])
      if (metadata.kind !== 'compaction-timestamps') add(text, false);
  }
  const all = [...manifests];
  for (let from = 0; from < all.length; from += AT_ONCE) {
    signal?.throwIfAborted();
    await Promise.all(
      all.slice(from, from + AT_ONCE).map(async ([key, { line, isLive }]) => {
        const chunks = await chunksOf(store, key, isLive);
        if (chunks instanceof TombstonedError) doubt ??= chunks;
        else {
          for (const chunk of chunks)
            if (chunk.includes('/') && !found.has(rootOf(chunk))) found.set(rootOf(chunk), line);
        }
      }),
    );
  }
  return { lines: found, doubt };
}

/** Whether what is left of a pending copy that can't be read is in live files: then those refer to what it does. */
async function isKnown(store: Store, live: LiveFiles, { key, id }: ReadPending): Promise<boolean> {
  const of = asKey(key);
  return of !== undefined && id !== null && (await isLiveAgain(store, live, of, id));
}

interface Roots {
  readonly changes: number;
  readonly lines: ReadonlyMap<string, LineText>;
}

const rootsKnown = new WeakMap<LiveFiles, Roots>();

/**
 * What live lines themselves name, without a look into manifests: by each directory at the root of the store a
 * line that names something in it. The live files are those of the last refresh.
 */
export function rootsOf(live: LiveFiles): ReadonlyMap<string, LineText> {
  const known = rootsKnown.get(live);
  if (known?.changes === live.changes) return known.lines;
  const lines = new Map<string, LineText>();
  for (const line of live.index.lines()) {
    if (!isWhole(line)) continue;
    for (const key of keysIn(parseJson(line))) if (!lines.has(rootOf(key))) lines.set(rootOf(key), line);
  }
  rootsKnown.set(live, { changes: live.changes, lines });
  return lines;
}

async function chunksOf(
  store: Store,
  manifest: Key,
  isLive: boolean,
): Promise<readonly Key[] | TombstonedError> {
  try {
    const object = await store.openLive(manifest);
    if (object === undefined) {
      if (!isLive) return [];
      return new TombstonedError('failed', `${printable(manifest)} is missing, which live metadata names`, {
        key: manifest,
        hint: 'bring it back: without it nobody knows which payload is in use',
      });
    }
    const stream = object.read();
    try {
      return [...keysIn(parseJson(decoded((await plainBytes(stream)).plain)))];
    } finally {
      stream.destroy();
    }
  } catch (error) {
    return new TombstonedError(
      'failed',
      `the manifest ${printable(manifest)} can't be read: ${messageOf(error)}`,
      {
        key: manifest,
        hint: 'put back a whole copy: without it nobody knows which payload is in use',
        cause: error,
      },
    );
  }
}

/** The texts of a value that can name something. */
function* keysIn(value: Json): Generator<Key> {
  if (typeof value === 'string') {
    const key = asKey(value);
    if (key !== undefined) yield key;
  } else if (value instanceof Map) for (const one of value.values()) yield* keysIn(one);
  else if (Array.isArray(value)) for (const one of value) yield* keysIn(one);
}

function unread({ code, message, key, cause }: TombstonedError): TombstonedError {
  return new TombstonedError(code, `what it refers to is not known: ${message}`, {
    key,
    hint: 'put back a whole copy, or move it out of the store by hand: until then nobody knows which payload is in use',
    cause,
  });
}

function tooLong(line: LineText): TombstonedError {
  return new TombstonedError(
    'failed',
    `live metadata has ${line.slice(10, 60)}: what it refers to is not known`,
    {
      hint: 'no backup tool writes such lines',
    },
  );
}
