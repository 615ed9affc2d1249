import { createHash } from 'node:crypto';
import { isCompactedName } from '../aptos/compaction.ts';
import {
  type Backup,
  type CompactionTimestamps,
  type Metadata,
  type MetadataLine,
  metadataText,
} from '../aptos/metadata.ts';
import type { MetadataFile } from '../aptos/metadata-file.ts';
import { newestTimestamps } from '../aptos/timestamps.ts';
import { type MetadataView, ViewBuilder } from '../aptos/view.ts';
import type { TombstonedError } from '../domain/errors.ts';
import { asKey, compareKeys, type Key } from '../domain/key.ts';
import { METADATA_PREFIX } from '../metadata/names.ts';
import { type ReadMetadata, readAll } from '../metadata/read-all.ts';
import type { Place } from '../run/place.ts';

/** What is remembered of a metadata file that was read whole; its lines are in the view. */
interface LoadedFile {
  /** What it says that no compacted file says, in words, or null. */
  readonly own: string | null;
  /** Of compaction timestamps: when they were saved, s; null of other files. */
  readonly savedAt: bigint | null;
  /** Of a file with the name of a compacted one: of its lines. */
  readonly digest: string | null;
}

export interface Loaded {
  readonly view: MetadataView;
  /** By key, in that order. */
  readonly files: ReadonlyMap<Key, LoadedFile>;
  /** Those that say nothing to rely on. */
  readonly unread: readonly UnreadFile[];
  /** Lines about backups that say more than is known, as they would be compacted; by each the file that has it. */
  readonly partial: ReadonlyMap<string, Key>;
  readonly newest: CompactionTimestamps | null;
  /** Whether most files are packed. */
  readonly isGzip: boolean;
}

export interface UnreadFile {
  readonly key: string;
  readonly error: TombstonedError;
}

/** How often, and after which pause (ms), a file that can't be read is read again: somebody may be writing it. */
const AGAIN = 2;
const PAUSE_MS = 500;

/** Reads all metadata files of a store. */
export async function loadMetadata(
  { store, clock }: Pick<Place, 'store' | 'clock'>,
  {
    concurrency,
    signal,
    onRead,
  }: {
    readonly concurrency: number;
    readonly signal?: AbortSignal | undefined;
    readonly onRead?: ((files: number) => void) | undefined;
  },
): Promise<Loaded> {
  const builder = new ViewBuilder();
  const files = new Map<Key, LoadedFile>();
  const partial = new Map<string, Key>();
  let unread = new Map<string, TombstonedError>();
  let newest: CompactionTimestamps | null = null;
  let gzip = 0;
  const take = (read: ReadMetadata): void => {
    if (read.file === undefined) {
      unread.set(read.key, read.error);
      return;
    }
    const { key, file } = read;
    if (file.isGzip) gzip += 1;
    for (const { metadata, hasMore } of file.lines) {
      if (hasMore && isBackup(metadata)) partial.set(metadataText(metadata), key);
      else builder.add(metadata);
      if (metadata.kind === 'compaction-timestamps') {
        newest = newestTimestamps(newest === null ? [metadata] : [newest, metadata]);
      }
    }
    files.set(key, loadedOf(key, file));
    if (files.size % 1000 === 0) onRead?.(files.size);
  };
  for await (const read of readAll(store, { concurrency, signal })) take(read);
  for (let time = 0; time < AGAIN && unread.size > 0; time++) {
    await clock.sleep(PAUSE_MS, signal);
    const again = [...unread.keys()];
    unread = new Map();
    for (const prefix of again) {
      // One that has gone meanwhile says nothing any more.
      for await (const read of readAll(store, { prefix, concurrency, signal })) {
        if (read.key === prefix) take(read);
      }
    }
  }
  return {
    view: builder.view(),
    files: new Map([...files].toSorted(([a], [b]) => compareKeys(a, b))),
    unread: [...unread].map(([key, error]) => ({ key, error })),
    partial,
    newest,
    isGzip: gzip > files.size / 2,
  };
}

function isBackup(metadata: Metadata): metadata is Backup {
  const { kind } = metadata;
  return kind === 'epoch-ending' || kind === 'state-snapshot' || kind === 'transaction';
}

function loadedOf(key: Key, { lines }: MetadataFile): LoadedFile {
  const times = lines.flatMap(({ metadata }) =>
    metadata.kind === 'compaction-timestamps' ? [metadata.fileCompactedAt] : [],
  );
  const [own] = lines.flatMap((line) => ownOf(line) ?? []);
  return {
    own: own ?? null,
    savedAt: times.toSorted((a, b) => (a < b ? 1 : -1))[0] ?? null,
    digest: isCompactedName(key.slice(METADATA_PREFIX.length)) ? digestOf(textsOf(lines)) : null,
  };
}

/** What a line says that a compacted file does not, in words, or undefined. */
export function ownOf({ metadata, hasMore }: MetadataLine): string | undefined {
  if (metadata.kind === 'unknown') return `a line of a kind that is not known, ${metadata.variant}`;
  if (metadata.kind === 'identity') return "the backup's identity";
  return hasMore ? 'a line with members that are not known' : undefined;
}

/** Lines about backups, as they are compacted. */
export function textsOf(lines: readonly MetadataLine[]): Set<string> {
  const texts = new Set<string>();
  for (const { metadata } of lines) {
    if (metadata.kind !== 'unknown') texts.add(metadataText(metadata));
  }
  return texts;
}

/** Of lines in whatever order. */
export function digestOf(texts: Iterable<string>): string {
  const hash = createHash('sha256');
  for (const text of [...texts].toSorted()) hash.update(`${text}\n`);
  return hash.digest('base64');
}

/** The key of a metadata file. */
export function metadataKey(name: string): Key {
  const key = asKey(`${METADATA_PREFIX}${name}`);
  if (key === undefined) throw new RangeError(`${name} is no name of a metadata file`);
  return key;
}
