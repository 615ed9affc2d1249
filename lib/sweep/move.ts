import { setImmediate } from 'node:timers/promises';
import type { IntendedMove, OpenBatch, Settled } from '../catalog/tombstones.ts';
import type { Coverage } from '../cover/coverage.ts';
import { errnoOf, messageOf, TombstonedError } from '../domain/errors.ts';
import { printable } from '../domain/key.ts';
import { type Batch, begin, retireShared } from '../run/batch.ts';
import type { Keeper } from '../run/claims.ts';
import { waitForPace } from '../run/pace.ts';
import type { Place } from '../run/place.ts';
import { reportLeft } from '../run/report-left.ts';
import type { Run } from '../run/run.ts';
import { checkIdentity } from '../store/identity.ts';
import type { MoveOutcome, StrayFile } from '../store/store.ts';
import type { Ledger, Take, Taken } from './ledger.ts';
import { PairedLedger } from './paired-ledger.ts';

/** How one object of a batch ended. */
export interface MoveEnd {
  readonly key: string;
  /** Null when nothing was done, or a claim kept it: there is no such tombstone. */
  readonly id: string | null;
  readonly size: number;
  readonly end:
    | { readonly as: 'moved' | 'gone' | 'changed' }
    | { readonly as: 'failed'; readonly error: Error }
    | { readonly as: 'held'; readonly by: Keeper };
}

/** Errors after which more moves make no sense: the disk is full, or read-only. */
const STOPS = new Set(['ENOSPC', 'EDQUOT', 'EROFS']);

/** Where the end of batches is recorded. */
type Recorder = Pick<Ledger, 'intend' | 'record'>;

/** How many objects one batch moves. */
export const BATCH = 2000;

/** Some of a plan, as it ended. */
export interface MovedBatch {
  /** How many of the plan are done with. */
  readonly count: number;
  readonly ends: readonly MoveEnd[];
}

export interface MovePlan {
  readonly sweep: number;
  readonly asker: 'policy' | 'hand';
  /** Byte prefixes that all its keys are below: what its fences announce. */
  readonly prefixes: readonly string[];
  /** Of a store whose metadata has to be covered. */
  readonly coverage: Coverage | undefined;
  readonly signal?: AbortSignal | undefined;
  /** How many objects a batch has; only specs ask for fewer. */
  readonly batchSize?: number | undefined;
}

/**
 * Moves a plan (phase one), batch by batch: announces each, writes its intents in
 * the transaction that looks at holds and exemptions (R7), moves, and records
 * what the store shows. While one moves, one commit records the one before and
 * writes the intents of the one after. Ends with an error after the batch when
 * the disk is full; when the signal aborts, after the batch that is under way.
 */
export async function* moveBatches(
  place: Place,
  run: Run,
  ledger: Ledger,
  { sweep, asker, prefixes, coverage, signal, batchSize: most = place.store.batch ?? BATCH }: MovePlan,
): AsyncGenerator<MovedBatch> {
  const isCut = (): boolean => signal?.aborted === true;
  if (isCut()) return;
  // Sessions wait for what is announced: where a batch takes long, as in a bucket, no more is than need be.
  const lookAhead = place.store.batch === undefined ? 2 : 1;
  const paired = new PairedLedger(ledger, lookAhead + 1);
  const take = (after: string): Promise<Ahead | undefined> =>
    watched(takeAhead(place, run, { prefixes, signal }, paired, { sweep, after, most, asker }));
  const under: Promise<MovedBatch>[] = [];
  let newest = take('');
  const ahead = [newest];
  const takeNext = (): void => {
    newest = watched(newest.then(async (batch) => (batch === undefined ? undefined : take(batch.last))));
    ahead.push(newest);
  };
  while (ahead.length < lookAhead) takeNext();
  try {
    for (let batch = await ahead[0]; batch !== undefined && !isCut(); batch = await ahead[0]) {
      void ahead.shift();
      takeNext();
      await setImmediate(); // a local batch blocks: what the next one asks for is on its way before it
      under.push(watched(moveOne(place, run, paired, coverage, batch)));
      const before = under.length > 1 ? under.shift() : undefined;
      if (before !== undefined) yield await before;
    }
    for (let last = under.shift(); last !== undefined; last = under.shift()) yield await last;
  } finally {
    paired.stop();
    await Promise.allSettled(under);
    for (const taken of ahead) await leaveUnmoved(place, ledger, taken);
    await retireShared(place, run);
  }
}

/** A promise that may fail before somebody waits for it. */
function watched<T>(promise: Promise<T>): Promise<T> {
  promise.catch(() => undefined);
  return promise;
}

/** The next batch of a plan: announced, looked at, its intents written, and not yet begun. */
interface Ahead extends Taken {
  readonly last: string;
  readonly batch: Batch;
}

async function takeAhead(
  place: Place,
  run: Run,
  { prefixes, signal }: Pick<MovePlan, 'prefixes' | 'signal'>,
  ledger: Pick<Ledger, 'take'>,
  take: Omit<Take, 'leases' | 'mayWait' | 'mostBytes'>,
): Promise<Ahead | undefined> {
  const isPatient = take.asker === 'policy';
  await waitForPace(place, run, signal);
  const batch = await begin(place, run, { kind: 'sweep', prefixes, isPatient }, signal);
  if (batch === undefined) return undefined;
  const leases = batch.leases.filter(({ blocks }) => blocks === 'sweep');
  const mayWait = place.store.late !== undefined;
  const { pace } = place;
  const mostBytes = pace?.mostBytes ?? null;
  const most = Math.min(take.most, pace?.most ?? take.most);
  const taken = await ledger.take({ ...take, most, mostBytes, leases, mayWait });
  pace?.spend(taken.open?.moves ?? []);
  const { last } = taken;
  if (last !== null) return { ...taken, last, batch };
  await batch.end();
  return undefined;
}

/** Moves what was taken. Where it fails the fence stays: the run's end, or recovery, sees to it. */
async function moveOne(
  place: Place,
  run: Run,
  ledger: Recorder,
  coverage: Coverage | undefined,
  ahead: Ahead,
): Promise<MovedBatch> {
  const { count, held, open, batch } = ahead;
  const ends: MoveEnd[] = held.map(({ key, size, by }) => ({ key, id: null, size, end: { as: 'held', by } }));
  if (open === undefined) {
    await batch.end();
    return { count, ends };
  }
  const { pulse } = batch;
  const kept = (await coverage?.ofBatch(run.n, open)) ?? new Map<string, string>();
  await pulse(); // it may have waited long for its turn
  const moves = kept.size === 0 ? open.moves : open.moves.filter(({ id }) => !kept.has(id));
  const moved = moves.length === 0 ? [] : await place.store.move(moves, { resume: false, pulse });
  if (moved.length !== moves.length)
    throw new TypeError(`${moved.length} outcomes for ${moves.length} moves`);
  let next = 0;
  const outcomes = open.moves.map(({ id }) => (kept.has(id) ? UNTRIED : moved[next++]));
  await settle(place, ledger, open, outcomes);
  await batch.end();
  for (const [i, move] of open.moves.entries()) {
    const { key, id, size } = move;
    const detail = kept.get(id);
    if (detail !== undefined) {
      ends.push({ key, id: null, size, end: { as: 'held', by: { as: 'coverage', detail } } });
      continue;
    }
    const end = endOf(move, outcomes[i]);
    if (end.end.as === 'failed' && STOPS.has(errnoOf(end.end.error.cause) ?? '')) throw end.end.error;
    ends.push(end);
  }
  return { count, ends };
}

/** What was taken and not begun is left as if it never had been; if even that fails, to recovery. */
async function leaveUnmoved(
  place: Place,
  ledger: Recorder,
  taken: Promise<Ahead | undefined>,
): Promise<void> {
  const ahead = await taken.catch(() => undefined);
  if (ahead === undefined) return;
  const { open, batch } = ahead;
  try {
    const dropped = open?.moves.map(({ id }): [string, Settled] => [id, { id, to: 'untried' }]);
    if (open !== undefined) await ledger.record(open, new Map(dropped));
    await batch.end();
  } catch (error) {
    place.report('warn', `a batch that was not begun is left to recovery: ${messageOf(error)}`);
  }
}

function endOf(move: IntendedMove, outcome: Found | undefined): MoveEnd {
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
    case 'untried':
    case undefined:
      throw new TypeError(`no outcome for ${move.id}`);
  }
}

/** What became of an intent: what the store says, or that it was not asked. */
type Found = MoveOutcome | typeof UNTRIED;
const UNTRIED = { outcome: 'untried' } as const;

/**
 * Records what became of intents: in one transaction, with their events and the
 * sweep's counts. Before "gone" is believed, the store must still be ours (R10).
 * What has failed has not moved, and leaves no record; in a recovery it could not
 * be looked at: it is reported, and its intent stays. Gives the outcomes as recorded.
 */
export async function settle(
  place: Place,
  ledger: Recorder,
  open: OpenBatch,
  found: readonly (Found | undefined)[],
  isRecovery = false,
): Promise<readonly (Found | undefined)[]> {
  const { moves } = open;
  const { row, store } = place;
  if (found.length !== moves.length)
    throw new TypeError(`${found.length} outcomes for ${moves.length} moves`);
  const outcomes = [...found];
  if (outcomes.some((one) => one?.outcome === 'gone')) await checkIdentity(store, row.uuid);
  for (const [i, move] of moves.entries()) {
    if (outcomes[i]?.outcome !== 'stray-directory') continue;
    try {
      await adoptStrays(place, ledger, open.sweep, move);
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
  await ledger.record(open, exceptions);
  for (const [i, { key, id }] of moves.entries()) {
    const outcome = outcomes[i];
    if (!isRecovery || outcome?.outcome !== 'failed' || isKept(outcome.error)) continue;
    reportLeft(place, { key, id }, outcome.error);
  }
  return outcomes;
}

/** Whether an error says that a claim keeps something, which is no fault. */
function isKept(error: Error): boolean {
  return error instanceof TombstonedError && error.code === 'blocked';
}

function settledAs(id: string, outcome: Found | undefined, isRecovery: boolean): Settled | undefined {
  switch (outcome?.outcome) {
    case 'untried':
      return { id, to: 'untried' };
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
async function adoptStrays(
  place: Place,
  ledger: Recorder,
  sweep: number,
  directory: IntendedMove,
): Promise<void> {
  for (let isMore = true; isMore; ) {
    const strays = await place.store.strayFiles(directory.key, directory.id);
    const files = strays.filter((stray) => stray.type === 'stray');
    isMore = false;
    for (let from = 0; from < files.length; from += STRAYS) {
      const outcomes = await adopt(place, ledger, sweep, directory.cause, files.slice(from, from + STRAYS));
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
  ledger: Recorder,
  sweep: number,
  cause: number,
  files: readonly StrayFile[],
): Promise<MoveOutcome[]> {
  const { store } = place;
  const items = files.map(({ key, revision }) => ({ key, revision, size: revision.size, cause }));
  const open = await ledger.intend(sweep, items);
  const outcomes: MoveOutcome[] = [];
  for (const [i, move] of open.moves.entries()) {
    const file = files[i];
    if (file !== undefined) outcomes.push(await store.adoptStray(file, move.id));
  }
  await settle(place, ledger, open, outcomes);
  return outcomes;
}
