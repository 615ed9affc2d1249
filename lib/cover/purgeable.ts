import type { Tombstone } from '../catalog/tombstones.ts';
import { TombstonedError } from '../domain/errors.ts';
import type { Key } from '../domain/key.ts';
import type { LineText } from '../metadata/lines.ts';
import { isLiveAgain } from '../metadata/live-again.ts';
import { LiveFiles, readPendingLines } from '../metadata/live-files.ts';
import { isMetadataKey } from '../metadata/names.ts';
import { isPayload, rootOf, rootsOf } from '../metadata/references.ts';
import { keptSnapshots } from '../policy/aptos-payload.ts';
import type { Place } from '../run/place.ts';
import { oldestKept, snapshotVersion } from './snapshots.ts';
import { lineInWords, unreadableIn } from './unreadable.ts';

/** How many pending copies are read at once. */
const AT_ONCE = 32;

/** Whether a key is of what metadata may keep from being purged. */
export function mayBeNeeded(key: string): boolean {
  return isMetadataKey(key) || isPayload(key);
}

/** What is looked at of a tombstone. */
type Looked = Pick<Tombstone, 'id' | 'key' | 'policy' | 'reason'>;

/**
 * Which tombstones can't be purged for the sake of metadata, by the place in the list, and why. Of a metadata
 * file: a line of it is in no live file that was read whole, or that can't be told. Of payload: a live line names
 * something in its directory, and there is no live object: a restore would read the pending copy. Old snapshots that a policy has named may
 * go for good, as long as it would name them today.
 */
export async function uncoveredOf(
  place: Place,
  tombstones: readonly Looked[],
  signal?: AbortSignal,
): Promise<Map<number, string>> {
  const kept = new Map<number, string>();
  if (place.format !== 'aptos') return kept;
  const asked = [...tombstones.entries()].filter(([, { key }]) => mayBeNeeded(key));
  if (asked.length === 0) return kept;
  const live = LiveFiles.of(place.store);
  await live.refresh(signal);
  const unreadable = unreadableIn(place, live);
  if (unreadable !== undefined) {
    for (const [index] of asked) kept.set(index, unreadable.message);
    return kept;
  }
  const named = asked.some(([, { key }]) => isPayload(key)) ? rootsOf(live) : new Map<string, LineText>();
  const [damaged] = live.errors.values(); // one that is protected
  const oldest = new Map<number, bigint | null>();
  const isOld = (line: LineText, keep: number): boolean => {
    const version = snapshotVersion(line);
    if (version === undefined) return false;
    let from = oldest.get(keep);
    if (from === undefined) {
      from = oldestKept(live.view(), keep);
      oldest.set(keep, from);
    }
    return from !== null && version < from;
  };
  for (let from = 0; from < asked.length; from += AT_ONCE) {
    signal?.throwIfAborted();
    await Promise.all(
      asked.slice(from, from + AT_ONCE).map(async ([index, tombstone]) => {
        const { key } = tombstone;
        const why = isMetadataKey(key)
          ? await whyKept(place, live, tombstone, isOld)
          : await whyPayloadKept(place, key, named.get(rootOf(key)), damaged);
        if (why !== null) kept.set(index, why);
      }),
    );
  }
  return kept;
}

async function whyPayloadKept(
  { store }: Place,
  key: Key,
  line: LineText | undefined,
  damaged: TombstonedError | undefined,
): Promise<string | null> {
  if (line === undefined && damaged === undefined) return null;
  const why =
    line === undefined
      ? `whether live metadata refers to it is not known: ${damaged?.message}`
      : `live metadata refers to it: ${lineInWords(line)}`;
  try {
    return (await store.head(key)) === undefined ? why : null;
  } catch (error) {
    if (!(error instanceof TombstonedError)) throw error;
    return `${why}; and whether it is live again can't be told: ${error.message}`;
  }
}

async function whyKept(
  { store }: Place,
  live: LiveFiles,
  { key, id, policy, reason }: Looked,
  isOld: (line: LineText, keep: number) => boolean,
): Promise<string | null> {
  let lost: LineText | undefined;
  try {
    const file = await readPendingLines(store, key, id);
    if (file === undefined) return null; // the purge sees that it has gone
    const keep = policy === null ? null : keptSnapshots(reason);
    const lines = keep === null ? file.lines : file.lines.filter((line) => !isOld(line, keep));
    lost = live.index.standIns({ ...file, lines }, () => true).lost;
  } catch (error) {
    if (!(error instanceof TombstonedError)) throw error;
    if (await isLiveAgain(store, live, key, id)) return null;
    return `its pending copy can't be read as metadata, so what would be lost is not known: ${error.message}`;
  }
  return lost === undefined ? null : `no live metadata file has its line ${lineInWords(lost)}`;
}
