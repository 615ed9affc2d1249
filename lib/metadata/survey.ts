import type { CompactionTimestamps, MetadataLine } from '../aptos/metadata.ts';
import { newestTimestamps } from '../aptos/timestamps.ts';
import { type MetadataView, ViewBuilder } from '../aptos/view.ts';
import type { TombstonedError } from '../domain/errors.ts';
import type { Store } from '../store/store.ts';
import { type ReadAllOptions, readAll, readAllPending } from './read-all.ts';

/** What metadata files there are, and what the lines of the whole ones add up to. */
export interface Survey {
  /** Of live files. */
  readonly live: MetadataView;
  /** Of live files and pending copies. */
  readonly withPending: MetadataView;
  /** How many live files are whole. */
  readonly files: number;
  /** How many pending copies are. */
  readonly pendingFiles: number;
  /** Live files that say nothing that can be relied on. The original tools read no backup that has one. */
  readonly unread: readonly Unread[];
  readonly pendingUnread: readonly Unread[];
  /** Live files that a compaction has made, by key. */
  readonly compacted: readonly string[];
  /** The compaction timestamps that count, of live files. */
  readonly timestamps: CompactionTimestamps | null;
  /** Keys below `metadata/` that are no metadata files. */
  readonly others: readonly string[];
}

export interface Unread {
  readonly key: string;
  /** Of a pending copy; null where it is none. */
  readonly id: string | null;
  readonly error: TombstonedError;
}

/** How many others are named. */
const MOST_OTHERS = 20;
const COMPACTED = /\/(?:epoch_ending|state_snapshot|transaction)_compacted_[^/]*$/;

/** How often it is looked when files are moved or written meanwhile. */
const ATTEMPTS = 3;

/**
 * Reads all metadata files of a store, live, then pending; again where some went, or were changed, since they
 * were listed. Throws where a listing is not complete.
 */
export async function survey(
  store: Store,
  options: Pick<ReadAllOptions, 'concurrency' | 'signal'>,
): Promise<Survey> {
  for (let attempt = 1; ; attempt++) {
    const found = await surveyOnce(store, options);
    const isMoving = [...found.unread, ...found.pendingUnread].some(({ error }) => error.code === 'conflict');
    if (!isMoving || attempt === ATTEMPTS) return found;
  }
}

async function surveyOnce(
  store: Store,
  options: Pick<ReadAllOptions, 'concurrency' | 'signal'>,
): Promise<Survey> {
  const live = new ViewBuilder();
  const withPending = new ViewBuilder();
  const unread: Unread[] = [];
  const pendingUnread: Unread[] = [];
  const compacted: string[] = [];
  const others: string[] = [];
  let timestamps: CompactionTimestamps | null = null;
  let [files, pendingFiles] = [0, 0];
  const onOther = (key: string): void => {
    if (others.length < MOST_OTHERS) others.push(key);
  };
  for await (const { key, file, error } of readAll(store, { ...options, onOther })) {
    if (file === undefined) {
      unread.push({ key, id: null, error });
      continue;
    }
    files += 1;
    if (COMPACTED.test(key)) compacted.push(key);
    add(file.lines, live, withPending);
    for (const { metadata } of file.lines) {
      if (metadata.kind !== 'compaction-timestamps') continue;
      timestamps = newestTimestamps(timestamps === null ? [metadata] : [timestamps, metadata]);
    }
  }
  for await (const { key, id, file, error } of readAllPending(store, options)) {
    if (file === undefined) pendingUnread.push({ key, id, error });
    else {
      pendingFiles += 1;
      add(file.lines, withPending);
    }
  }
  return {
    live: live.view(),
    withPending: withPending.view(),
    files,
    pendingFiles,
    unread,
    pendingUnread,
    compacted,
    timestamps,
    others,
  };
}

function add(lines: readonly MetadataLine[], ...builders: readonly ViewBuilder[]): void {
  for (const { metadata } of lines) for (const builder of builders) builder.add(metadata);
}
