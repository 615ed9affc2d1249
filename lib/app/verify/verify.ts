import type { Place } from '../../run/place.ts';
import { checkIdentity } from '../../store/identity.ts';
import { checkOwner } from '../../store/owner.ts';
import { ctlOf } from '../claim-place.ts';
import { type Reading, readCopies } from './checksums.ts';
import { type Comparison, compareAll } from './compare.ts';
import { type Difference, type Problem, Remedies, type Repair } from './difference.ts';
import { leftovers } from './leftovers.ts';
import { recordMissing } from './record-missing.ts';

export interface VerifyOptions {
  /** Only keys below it, and nothing of what crashes and claims have left. */
  readonly prefix: string | null;
  /** Reads every pending copy to its end. */
  readonly checksums: boolean;
  /** Reads only copies after this id. */
  readonly after: string | null;
  /** Mends what can be mended without touching any object; `dry` only says so. */
  readonly repair: 'no' | 'dry' | 'yes';
  /** How much clocks may differ, ms. */
  readonly tolerance: number;
  /** Whether this is the first of the catalog's stores that are verified. */
  readonly isFirst: boolean;
  readonly signal?: AbortSignal | undefined;
  readonly onDifference: (difference: Difference, repair: Repair) => void;
  readonly onProgress?: (done: number) => void;
}

export interface VerifyResult {
  /** How many pending copies, rows of the catalog and live objects were compared. */
  readonly copies: number;
  readonly rows: number;
  readonly live: number;
  /** Null without `checksums`. */
  readonly reading: Reading | null;
  readonly differences: ReadonlyMap<Problem, number>;
  /** How many differences there are, and how many of them are mended. */
  readonly found: number;
  readonly repaired: number;
}

/**
 * Compares the catalog with the store in both directions, streamed: memory does not
 * grow with objects. Changes nothing unless it may repair, and then never an object.
 * Throws when it can't compare: another store or owner, a listing that fails, the signal.
 */
export async function verify(place: Place, options: VerifyOptions): Promise<VerifyResult> {
  const { store, row, catalog } = place;
  const { prefix, checksums, after, repair, tolerance, isFirst, signal } = options;
  await checkIdentity(store, row.uuid);
  await checkOwner(store, catalog.uuid);
  const remedies = new Remedies(ctlOf(row.name), store);
  const differences = new Map<Problem, number>();
  const sums = { copies: 0, rows: 0, live: 0, found: 0, repaired: 0 };
  let done = 0;
  const tell = (difference: Difference, mended: Repair): void => {
    differences.set(difference.problem, (differences.get(difference.problem) ?? 0) + 1);
    sums.found += 1;
    if (mended === 'done') sums.repaired += 1;
    options.onDifference(difference, mended);
  };
  const comparison: Comparison = {
    place,
    remedies,
    prefix: prefix ?? '',
    tolerance,
    signal,
    tell: async (found) => {
      const missing = found.flatMap(({ problem, id }) => (problem === 'missing-copy' ? (id ?? []) : []));
      const isDry = repair === 'dry';
      const mended =
        repair === 'no' ? new Set<string>() : await recordMissing(place, missing, { isDry, signal });
      for (const difference of found) {
        if (repair === 'no' || difference.problem !== 'missing-copy') tell(difference, null);
        else tell(difference, mended.has(difference.id ?? '') ? (isDry ? 'would-be' : 'done') : 'left');
      }
    },
    onCompared: (what, count) => {
      sums[what] += count;
      done += count;
      options.onProgress?.(done);
    },
  };
  if (prefix === null) {
    for await (const { difference, mend, isWell } of leftovers(place, remedies, { isFirst })) {
      signal?.throwIfAborted();
      if (isWell === true && (mend === null || repair === 'no')) continue;
      if (mend === null || repair === 'no') tell(difference, null);
      else if (repair === 'dry') tell(difference, 'would-be');
      else tell(difference, (await mend()) ? 'done' : 'left');
    }
  }
  await compareAll(comparison);
  const reading = checksums ? await readCopies(comparison, after, () => options.onProgress?.(++done)) : null;
  return { ...sums, reading, differences };
}
