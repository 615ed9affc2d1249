import type { Key } from '../domain/key.ts';
import type { CompactionTimestamps } from './metadata.ts';

/**
 * The timestamps that count: those that were saved last. Of two saved in the same second, a file counts as
 * replaced only where both say so, and then since the later time: in doubt nothing expires.
 */
export function newestTimestamps(all: Iterable<CompactionTimestamps>): CompactionTimestamps | null {
  let newest: CompactionTimestamps | null = null;
  for (const next of all) {
    if (newest === null || next.fileCompactedAt > newest.fileCompactedAt) newest = next;
    else if (next.fileCompactedAt === newest.fileCompactedAt) newest = inDoubt(newest, next);
  }
  return newest;
}

/** Since when a file is replaced, in seconds since 1970; null where it is not, as where nothing names it. */
export function compactedAt(newest: CompactionTimestamps | null, handle: Key): bigint | null {
  return newest?.timestamps.get(handle) ?? null;
}

function inDoubt(a: CompactionTimestamps, b: CompactionTimestamps): CompactionTimestamps {
  const timestamps = new Map<Key, bigint | null>();
  for (const handle of new Set([...a.timestamps.keys(), ...b.timestamps.keys()])) {
    const [x, y] = [compactedAt(a, handle), compactedAt(b, handle)];
    timestamps.set(handle, x === null || y === null ? null : x > y ? x : y);
  }
  return { kind: 'compaction-timestamps', fileCompactedAt: a.fileCompactedAt, timestamps };
}
