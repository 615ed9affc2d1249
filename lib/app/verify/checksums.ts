import { createHash } from 'node:crypto';
import type { Tombstone } from '../../catalog/tombstones.ts';
import { inFlight } from '../../domain/in-flight.ts';
import { checkIdentity } from '../../store/identity.ts';
import { type Comparison, isSame, unreadable } from './compare.ts';
import type { Difference } from './difference.ts';

const PAGE = 200;
/** How many copies are read at a time. */
const READS = 4;

/** What a reading of the pending copies came to. */
export interface Reading {
  /** How many copies were read to their end, and their bytes. */
  readonly read: number;
  readonly bytes: number;
  /** How many of them have an MD5 of the store's that was compared. */
  readonly compared: number;
  /** The id after which a later reading goes on; null when all were read. */
  readonly after: string | null;
}

/** What became of one copy. */
interface Read {
  readonly outcome: 'read' | 'cut' | 'passed';
  readonly bytes: number;
  readonly isCompared: boolean;
  readonly difference: Difference | undefined;
}

/**
 * Reads every pending copy to its end, in id order, after an id. At tombstoning nothing
 * is read, so there is nothing to compare its bytes with but their number and, where
 * the store says one of its own, their MD5.
 */
export async function readCopies(
  comparison: Comparison,
  from: string | null,
  onRead: (bytes: number) => void,
): Promise<Reading> {
  const { place, prefix, signal, tell } = comparison;
  const { catalog, row } = place;
  let [read, bytes, compared] = [0, 0, 0];
  for (let after = from ?? ''; ; ) {
    if (signal?.aborted === true) return { read, bytes, compared, after };
    const page = catalog.tombstones.copyPage({ store: row.n, prefix, after, limit: PAGE });
    if (page.length === 0) return { read, bytes, compared, after: null };
    const ends = await inFlight(READS, page, async (tombstone) => {
      const end = await readOne(comparison, tombstone);
      if (end.outcome === 'read') onRead(end.bytes);
      return end;
    });
    await tell(ends.flatMap(({ difference }) => difference ?? []));
    for (const [i, end] of ends.entries()) {
      if (end.outcome === 'cut') return { read, bytes, compared, after };
      after = page[i]?.id ?? after;
      if (end.outcome !== 'read') continue;
      read += 1;
      bytes += end.bytes;
      if (end.isCompared) compared += 1;
    }
  }
}

const PASSED: Read = { outcome: 'passed', bytes: 0, isCompared: false, difference: undefined };
const CUT: Read = { ...PASSED, outcome: 'cut' };

async function readOne(comparison: Comparison, tombstone: Tombstone): Promise<Read> {
  const { place, signal, remedies } = comparison;
  const { catalog, store, row } = place;
  const { key, id, state } = tombstone;
  if (signal?.aborted === true) return CUT;
  if (state !== 'pending' && state !== 'restored') return PASSED; // its run is at it
  try {
    let end = await bytesOf(comparison, tombstone);
    // A second time, so that what went wrong on the way is not taken for what is there.
    if (typeof end === 'object' && !end.isRight) end = await bytesOf(comparison, tombstone);
    if (end === 'cut') return CUT;
    if (end === 'gone') return PASSED; // told of before, or purged since
    const { bytes, isCompared } = end;
    if (end.isRight) return { ...PASSED, outcome: 'read', bytes, isCompared };
    const detail = `the MD5 of its ${bytes} bytes is ${end.md5}, and its ETag is ${end.wanted}`;
    const remedy = `what it holds has changed in the store; bring it back from a backup of the store: ${remedies.ctl('show', id)}`;
    return {
      outcome: 'read',
      bytes,
      isCompared,
      difference: { problem: 'wrong-checksum', key, id, detail, remedy },
    };
  } catch (error) {
    // A store that is away is no difference of each of its objects.
    await checkIdentity(store, row.uuid);
    if (!isSame(tombstone, catalog.tombstones.get(id))) return PASSED;
    return { ...PASSED, difference: unreadable(comparison, tombstone, error) };
  }
}

interface Bytes {
  readonly bytes: number;
  readonly isCompared: boolean;
  readonly isRight: boolean;
  readonly md5: string;
  readonly wanted: string | undefined;
}

async function bytesOf(
  { place, signal }: Comparison,
  { key, id }: Tombstone,
): Promise<Bytes | 'gone' | 'cut'> {
  const object = await place.store.openPending(key, id);
  if (object === undefined) return 'gone';
  const hash = object.md5 === undefined ? undefined : createHash('md5');
  let bytes = 0;
  const body: AsyncIterable<Uint8Array> = object.read();
  for await (const chunk of body) {
    if (signal?.aborted === true) return 'cut';
    bytes += chunk.length;
    hash?.update(chunk);
  }
  const md5 = hash?.digest('hex') ?? '';
  const isRight = hash === undefined || md5 === object.md5;
  return { bytes, isCompared: hash !== undefined, isRight, md5, wanted: object.md5 };
}
