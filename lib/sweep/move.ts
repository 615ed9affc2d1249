import type { CachedHold } from '../catalog/holds.ts';
import type { IntendedMove, Intent, OpenBatch, Settled } from '../catalog/tombstones.ts';
import { errnoOf } from '../domain/errors.ts';
import { printable } from '../domain/key.ts';
import { claimsOn, inBatch } from '../run/batch.ts';
import type { Place } from '../run/place.ts';
import { reportLeft } from '../run/report-left.ts';
import type { Run } from '../run/run.ts';
import { checkIdentity } from '../store/control-objects.ts';
import type { MoveOutcome, StrayFile } from '../store/store.ts';

/** How one object of a batch ended. */
export interface MoveEnd {
  readonly key: string;
  /** Null when nothing was done, or a hold or exemption kept it: there is no such tombstone. */
  readonly id: string | null;
  readonly size: number;
  readonly end:
    | { readonly as: 'moved' | 'gone' | 'changed' }
    | { readonly as: 'failed'; readonly error: Error }
    | { readonly as: 'held'; readonly hold: CachedHold };
}

/** Errors after which more moves make no sense: the disk is full, or read-only. */
const STOPS = new Set(['ENOSPC', 'EDQUOT', 'EROFS']);

/**
 * Moves one batch (phase one): announces it, writes the intents in the
 * transaction that looks at holds and exemptions (R7), moves, and records what
 * the store shows. Ends with an error after the batch when the disk is full.
 */
export async function moveBatch(
  place: Place,
  run: Run,
  batch: { sweep: number; items: readonly Intent[]; asker: 'policy' | 'hand' },
): Promise<MoveEnd[]> {
  return inBatch(place, async () => {
    const { catalog, row, clock, random } = place;
    const { sweep, items, asker } = batch;
    const ends: MoveEnd[] = [];
    const open = catalog.transaction(() => {
      const claims = claimsOn(place, items, asker);
      const free = items.filter((item, i) => {
        const hold = claims.get(i);
        if (hold === undefined) return true;
        ends.push({ key: item.key, id: null, size: item.size, end: { as: 'held', hold } });
        return false;
      });
      if (free.length === 0) return undefined;
      return catalog.tombstones.intend({
        store: row.n,
        run: run.n,
        sweep,
        items: free,
        now: clock.now(),
        random,
      });
    });
    if (open === undefined) return ends;
    const outcomes = await place.store.move(open.moves, { resume: false });
    await settle(place, run.n, open, outcomes);
    const moved = open.moves.map((move, i) => endOf(move, outcomes[i]));
    for (const { end } of moved) {
      if (end.as === 'failed' && STOPS.has(errnoOf(end.error.cause) ?? '')) throw end.error;
    }
    return [...ends, ...moved];
  });
}

function endOf(move: IntendedMove, outcome: MoveOutcome | undefined): MoveEnd {
  const id = outcome?.outcome === 'failed' ? null : move.id;
  const as = (end: MoveEnd['end']): MoveEnd => ({ key: move.key, id, size: move.size, end });
  switch (outcome?.outcome) {
    case 'moved':
      return as({ as: 'moved' });
    case 'failed':
      return as({ as: 'failed', error: outcome.error });
    case 'gone':
      return as({ as: 'gone' });
    case 'changed':
    case 'put-back':
    case 'moved-other':
    case 'stray-directory':
      return as({ as: 'changed' });
    case undefined:
      throw new TypeError(`no outcome for ${move.id}`);
  }
}

/**
 * Records what became of intents: in one transaction, with their events and the
 * sweep's counts. Before "gone" is believed, the store must still be ours (R10).
 * What has failed has not moved, and leaves no record; in a recovery it could not
 * be looked at: it is reported, and its intent stays. Gives the outcomes as recorded.
 */
export async function settle(
  place: Place,
  run: number,
  open: OpenBatch,
  found: readonly MoveOutcome[],
  isRecovery = false,
): Promise<readonly MoveOutcome[]> {
  const { moves, batchAt } = open;
  const { catalog, row, clock, store } = place;
  if (found.length !== moves.length)
    throw new TypeError(`${found.length} outcomes for ${moves.length} moves`);
  const outcomes = [...found];
  if (outcomes.some(({ outcome }) => outcome === 'gone')) await checkIdentity(store, row.uuid);
  for (const [i, move] of moves.entries()) {
    if (outcomes[i]?.outcome !== 'stray-directory') continue;
    try {
      await adoptStrays(place, run, open.sweep, move);
    } catch (error) {
      if (!isRecovery || !(error instanceof Error)) throw error;
      outcomes[i] = { outcome: 'failed', error };
    }
  }
  const exceptions = new Map<string, Settled>();
  for (const [i, move] of moves.entries()) {
    const end = settledAs(move.id, outcomes[i], isRecovery);
    if (end !== undefined) exceptions.set(move.id, end);
  }
  const moved = moves.filter((move) => !exceptions.has(move.id));
  const bytes = moved.reduce((sum, move) => sum + move.size, 0);
  const ends = [...exceptions.values()];
  const failed = ends.filter(({ to }) => to === 'dropped').length;
  const left = ends.filter(({ to }) => to === 'open').length;
  const counts = { moved: moved.length, abandoned: ends.length - failed - left, failed, bytes };
  const now = clock.now();
  catalog.transaction(() => {
    catalog.tombstones.settleMoves({ store: row.n, run, open, exceptions, now, window: place.safetyWindow });
    catalog.sweeps.count(open.sweep, counts);
    const event = { store: row.n, run, now };
    if (left > 0) {
      // The batch's own line will tell of those that are left.
      for (const { id } of moved) catalog.events.add({ ...event, what: 'moved', tombstone: id });
    } else if (moved.length > 0) {
      catalog.events.add({ ...event, what: 'moved', batchAt, count: moved.length, bytes });
    }
    for (const end of ends) {
      if (end.to === 'open' || end.to === 'dropped') continue;
      const what = end.to === 'restored' ? 'put-back' : end.to === 'pending' ? 'moved-other' : 'abandoned';
      const detail = end.to === 'abandoned' ? end.why : 'another revision than planned was at the key';
      catalog.events.add({ ...event, what, tombstone: end.id, detail });
    }
  });
  for (const [i, { key, id }] of moves.entries()) {
    const outcome = outcomes[i];
    if (isRecovery && outcome?.outcome === 'failed') reportLeft(place, { key, id }, outcome.error);
  }
  return outcomes;
}

function settledAs(id: string, outcome: MoveOutcome | undefined, isRecovery: boolean): Settled | undefined {
  switch (outcome?.outcome) {
    case 'moved':
    case undefined:
      return undefined;
    case 'put-back':
      return { id, to: 'restored', revision: outcome.revision };
    case 'moved-other':
      return { id, to: 'pending', revision: outcome.revision };
    case 'gone':
      return {
        id,
        to: 'abandoned',
        why: isRecovery ? 'it had not been moved' : 'the object was gone before it was moved',
      };
    case 'changed':
      return { id, to: 'abandoned', why: 'the object was changed before it was moved' };
    case 'stray-directory':
      return {
        id,
        to: 'abandoned',
        why: 'a directory had taken its place; its files have tombstones of their own',
      };
    case 'failed':
      return { id, to: isRecovery ? 'open' : 'dropped' };
  }
}

/** How many stray files get their intents at once. */
const STRAYS = 1000;

/**
 * Files of a directory that took an object's place while it was moved, and
 * could not go back because the place was taken again: each becomes a tombstone
 * of its own (R2). Looked at until there are no more: whoever had the directory
 * open may still write there.
 */
async function adoptStrays(place: Place, run: number, sweep: number, directory: IntendedMove): Promise<void> {
  for (let isMore = true; isMore; ) {
    const strays = await place.store.strayFiles(directory.key, directory.id);
    const files = strays.filter((stray) => stray.type === 'stray');
    isMore = false;
    for (let from = 0; from < files.length; from += STRAYS) {
      const outcomes = await adopt(place, run, sweep, directory.cause, files.slice(from, from + STRAYS));
      isMore ||= outcomes.some(({ outcome }) => outcome !== 'failed');
    }
    if (isMore) continue;
    for (const stray of strays) {
      const path = stray.type === 'refused' ? stray.path : stray.at;
      const why = stray.type === 'refused' ? stray.why : "it can't be moved";
      place.report('error', `${printable(path)} stays there, and has no tombstone: ${why}`, {
        hint: 'move it to where it belongs by hand',
      });
    }
  }
}

async function adopt(
  place: Place,
  run: number,
  sweep: number,
  cause: number,
  files: readonly StrayFile[],
): Promise<MoveOutcome[]> {
  const { catalog, row, clock, random, store } = place;
  const items = files.map(({ key, revision }) => ({ key, revision, size: revision.size, cause }));
  const open = catalog.transaction(() =>
    catalog.tombstones.intend({ store: row.n, run, sweep, items, now: clock.now(), random }),
  );
  const outcomes: MoveOutcome[] = [];
  for (const [i, move] of open.moves.entries()) {
    const file = files[i];
    if (file !== undefined) outcomes.push(await store.adoptStray(file, move.id));
  }
  await settle(place, run, open, outcomes);
  return outcomes;
}
