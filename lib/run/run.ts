import { type FileLock, runLockFile, takeLock } from '../catalog/run-lock.ts';
import type { RunKind } from '../catalog/runs.ts';
import { messageOf, TombstonedError } from '../domain/errors.ts';
import { makePlainId } from '../domain/ids.ts';
import { checkIdentity } from '../store/identity.ts';
import { checkOwner } from '../store/owner.ts';
import { lookAtClock } from './clock.ts';
import type { Place } from './place.ts';
import { RunFences } from './run-fences.ts';

/** One process's turn at moving, purging or restoring: an id, a lock that dies with the process, a row. */
export interface Run {
  readonly id: string;
  /** Its row number. */
  readonly n: number;
  readonly fences: RunFences;
}

/** What a run asks before it begins: it is the store meant (R10), of this catalog, and can be written unless nothing is to be. */
export async function checkPlace({ store, row, catalog }: Place, dryRun: boolean): Promise<void> {
  await checkIdentity(store, row.uuid);
  await checkOwner(store, catalog.uuid);
  if (!dryRun) await store.checkWritable();
}

/**
 * Does `work` as a run. The lock is taken before the row is written, and goes
 * after the row is closed. A run that leaves something half-done stays open,
 * without its lock: recovery finds it (design, section 5).
 */
export async function inRun<T>(place: Place, kind: RunKind, work: (run: Run) => Promise<T>): Promise<T> {
  try {
    await lookAtClock(place);
    return await inOpenRun(place, begin(place, kind), work);
  } finally {
    keepReserve(place);
  }
}

/** Makes the catalog's reserve again, where a full disk took it and has room now. */
function keepReserve({ catalog, report }: Place): void {
  try {
    if (!catalog.keepReserve()) report('warn', 'the disk is full: there is no room to keep for purges');
  } catch (error) {
    report('warn', `the room kept for purges is missing: ${messageOf(error)}`);
  }
}

async function inOpenRun<T>(
  place: Place,
  { run, lock }: { run: Run; lock: FileLock },
  work: (run: Run) => Promise<T>,
): Promise<T> {
  let result: T;
  try {
    result = await work(run);
  } catch (error) {
    try {
      await end(place, run, lock, `failed: ${messageOf(error)}`);
    } catch (second) {
      place.report('warn', `run ${run.id} is left to recovery: ${messageOf(second)}`);
    }
    throw error;
  }
  await end(place, run, lock, 'done');
  return result;
}

function begin(place: Place, kind: RunKind): { run: Run; lock: FileLock } {
  const { catalog, row, clock, random, actor } = place;
  const now = clock.now();
  const id = makePlainId('r', now, random);
  const lock = catalog.withRoom(() => takeLock(runLockFile(catalog.file, id)));
  if (lock === undefined)
    throw new TombstonedError('failed', `run ${id} exists already`, { hint: 'try again' });
  try {
    const { pid, host, boot, by, uid, via } = actor;
    const of = { id, store: row.n, kind, pid, host, boot, by, uid, via, now, lock: lock.identity };
    return { run: { id, n: catalog.runs.begin(of), fences: new RunFences(id) }, lock };
  } catch (error) {
    lock.release(); // and its file stays: the row may have been written after all
    throw error;
  }
}

async function end(place: Place, run: Run, lock: FileLock, outcome: string): Promise<void> {
  try {
    if (hasLeftovers(place, run)) {
      // Nothing of it is under way: recovery need not wait for what may come late.
      if (place.store.late?.isQuiet() === true) place.catalog.runs.deadSince(run.n, 0);
      lock.release(); // and its fences stay up: recovery takes them down last
      return;
    }
    await run.fences.takeDownAll(place.store);
    const { catalog, row, clock } = place;
    catalog.transaction(() => {
      const now = clock.now();
      catalog.runs.end(run.n, outcome, now);
      if (outcome !== 'done')
        catalog.events.add({ store: row.n, run: run.n, what: 'run-failed', now, detail: outcome });
    });
  } catch (error) {
    lock.release();
    throw error;
  }
  lock.remove();
}

function hasLeftovers(place: Place, run: Run): boolean {
  const { tombstones, sweeps } = place.catalog;
  return (
    tombstones.openBatch(run.n) !== undefined ||
    tombstones.taken(run.n, 'purging', '', 1).length > 0 ||
    tombstones.taken(run.n, 'restoring', '', 1).length > 0 ||
    sweeps.openOf(run.n).length > 0
  );
}
