import { setImmediate } from 'node:timers/promises';
import type { Copy, CopyRow, Tombstone } from '../catalog/tombstones.ts';
import { uncoveredOf } from '../cover/purgeable.ts';
import { errnoOf, messageOf } from '../domain/errors.ts';
import type { KeptReason } from '../domain/kept-reason.ts';
import { type Key, printable } from '../domain/key.ts';
import { revisionText } from '../domain/revision.ts';
import type { State } from '../domain/state.ts';
import { type Batch, begin, refreshHolds, retireShared } from '../run/batch.ts';
import { type Keeper, keepersOf, keeperText, reasonOf } from '../run/claims.ts';
import { requireOwnClock, requireRightClock } from '../run/clock.ts';
import { lookAtLeases } from '../run/leases.ts';
import { waitForPace } from '../run/pace.ts';
import type { Place } from '../run/place.ts';
import { checkPlace, inRun, type Run } from '../run/run.ts';
import { checkIdentity } from '../store/identity.ts';
import type { Lease } from '../store/leases.ts';
import type { Hidden, HiddenOutcome, RemoveItem, RemoveOutcome } from '../store/store.ts';
import { forgetOld } from './forget.ts';
import type { End, Found, Kept, Take, Taken } from './ledger.ts';
import { PurgeLedger } from './ledger-thread.ts';

/** How many are named, or looked at, at once. */
const PAGE = 500;
/** Of a key: all its tombstones. */
const ALL = Number.MAX_SAFE_INTEGER;
/** States of tombstones at their end. */
const ENDED: ReadonlySet<State> = new Set(['purged', 'abandoned']);

/** What is told of a tombstone. */
type Told = Kept['copy'];

export interface PurgeOptions {
  /** Says what would go, and removes nothing. */
  readonly dryRun: boolean;
  /** How long the record of a purged tombstone is kept, ms. */
  readonly historyFor: number;
  /** Stops after the batch that is under way. */
  readonly signal?: AbortSignal | undefined;
  /** Each due tombstone that is purged, or in a dry run would be. */
  readonly onPurged?: (tombstone: Told, how: Purged) => void;
  /** Each due tombstone that stays, and why; `keeper` is the claim, where one keeps it. */
  readonly onKept?: (tombstone: Told, reason: KeptReason, detail: string, keeper: Keeper | null) => void;
  readonly onProgress?: (done: number) => void;
  /** How many copies a batch has; only specs ask for fewer. */
  readonly batchSize?: number | undefined;
  /** Where what is named goes before its window is over. */
  readonly erasure?: Erasure | undefined;
}

/** Why what is named goes now, and whether old versions of it go too. */
export interface Erasure {
  readonly reason: string;
  readonly allVersions: boolean;
}

/** How a tombstone was purged. */
export interface Purged {
  /** Whether its pending copy had gone already. */
  readonly wasGone: boolean;
  /** What the store keeps of it, for people. */
  readonly left: string | null;
}

/** What became of the old versions of one name. */
export interface HiddenEnd {
  readonly hidden: Hidden;
  readonly outcome: HiddenOutcome;
}

export interface PurgeResult {
  readonly due: number;
  readonly purged: number;
  readonly failed: number;
  readonly bytes: number;
  /** How many are purged of which the store keeps something, as it was told of each. */
  readonly left: number;
  /** How many had no pending copy any more: somebody else removed it. */
  readonly missing: number;
  /** Due, and kept, by reason. */
  readonly kept: ReadonlyMap<KeptReason, number>;
  /** Whether the signal ended it before all was removed. */
  readonly isCut: boolean;
}

/** Phase two: removes the pending copies whose window is over, by their unique names (R1), in batches. */
export async function purge(place: Place, options: PurgeOptions): Promise<PurgeResult> {
  await checkPlace(place, options.dryRun);
  return inRun(place, 'purge', async (run) => {
    await requireRightClock(place);
    return new Purger(place, run, options).run();
  });
}

/** Removes in batches, and counts what it did. */
export class Purger {
  readonly #place: Place;
  readonly #run: Run;
  readonly #options: PurgeOptions;
  readonly #ledger: PurgeLedger;
  readonly #kept = new Map<KeptReason, number>();
  #due = 0;
  #purged = 0;
  #failed = 0;
  #bytes = 0;
  #left = 0;
  #missing = 0;

  constructor(place: Place, run: Run, options: PurgeOptions) {
    this.#place = place;
    this.#run = run;
    this.#options = options;
    this.#ledger = new PurgeLedger(place, run.n, options.erasure?.reason ?? null);
  }

  async run(): Promise<PurgeResult> {
    const { catalog, clock } = this.#place;
    const { dryRun } = this.#options;
    const now = catalog.clock.counted(clock);
    const isCut = dryRun ? await this.#pretendAll(now) : await this.#removeAll(now);
    await retireShared(this.#place, this.#run);
    if (!dryRun && !isCut) await forgetOld(this.#place, this.#run, this.#options);
    return {
      due: this.#due,
      purged: this.#purged,
      failed: this.#failed,
      bytes: this.#bytes,
      left: this.#left,
      missing: this.#missing,
      kept: this.#kept,
      isCut,
    };
  }

  /** Says what would go; whether the signal ended it. */
  async #pretendAll(now: number): Promise<boolean> {
    await refreshHolds(this.#place);
    const leases = await lookAtLeases(this.#place, { mayBreak: false });
    for (let after: Tombstone | undefined; ; ) {
      if (this.#options.signal?.aborted === true) return true;
      const page = await this.#duePage(now, after);
      after = page.at(-1);
      if (after === undefined) return false;
      await this.#pretend(page, leases);
      this.#count(page.length);
    }
  }

  /**
   * Removes what is due, batch by batch; whether the signal ended it. While one is removed,
   * the one before is recorded and the one after is taken.
   */
  async #removeAll(now: number): Promise<boolean> {
    try {
      return await this.#removePages(now);
    } finally {
      await this.#ledger.close();
    }
  }

  async #removePages(now: number): Promise<boolean> {
    const isCut = (): boolean => this.#options.signal?.aborted === true;
    let before: Removed | undefined;
    let ahead = watched(this.#takeDue(now, undefined, undefined));
    try {
      for (let batch = await ahead; batch !== undefined && !isCut(); batch = await ahead) {
        const removing = watched(this.#removeByClock(batch));
        await setImmediate(); // what is asked of the store first is under way while the catalog is busy
        ahead = watched(this.#takeDue(now, batch.last, before));
        before = undefined;
        await Promise.allSettled([removing, ahead]);
        before = await removing;
        if (before.outcomes.some(isReadOnly)) break;
      }
    } catch (error) {
      await this.#giveBack(await ahead.catch(() => undefined));
      const last = before;
      if (last !== undefined) await this.#orRecovery(async () => this.#record(last));
      throw error;
    }
    await this.#giveBack(await ahead);
    if (before !== undefined) await this.#record(before);
    return isCut();
  }

  /**
   * Takes the next of what is due, as one batch, and records the one before that was removed, both
   * in one commit; undefined where there is no more, or the signal came first.
   */
  async #takeDue(
    now: number,
    after: Found['last'] | undefined,
    before: Removed | undefined,
  ): Promise<Due | undefined> {
    let done = before;
    if (done !== undefined && this.#mayWait()) {
      await this.#record(done);
      done = undefined;
    }
    let next: Announced<Found> | undefined;
    try {
      next = await this.#announceDue(now, after);
    } catch (error) {
      const last = done;
      if (last !== undefined) await this.#orRecovery(async () => this.#record(last));
      throw error;
    }
    if (done !== undefined && next !== undefined) {
      const both = await this.#ledger.recordAndTake(recordOf(done), next.take);
      if (both !== undefined) return this.#goOn(done, this.#taken(next, both));
    }
    if (done !== undefined) await this.#record(done);
    return next === undefined ? undefined : this.#take(next);
  }

  /** A batch that is recorded is over, and the next one taken. */
  async #goOn(done: Removed, next: Due): Promise<Due> {
    try {
      await this.#over(done);
      return next;
    } catch (error) {
      await this.#giveBack(next);
      throw error;
    }
  }

  /** Whether to announce the next batch may take long, which nobody should have to wait for with the one before. */
  #mayWait(): boolean {
    const { store, pace, format } = this.#place;
    const isSlow = store.settle > 0 || store.late !== undefined;
    return isSlow || format === 'aptos' || (pace?.left ?? 0) > 0;
  }

  async #announceDue(now: number, after: Found['last'] | undefined): Promise<Announced<Found> | undefined> {
    if (this.#options.signal?.aborted === true) return undefined;
    const found = await this.#ledger.find({ now, after }, this.#bound);
    await setImmediate(); // to find them took a while: others get their turns
    return found && this.#announce(found, now);
  }

  /** How many pending copies one batch removes, where it is for somebody else than the ledger to say. */
  get #bound(): number | undefined {
    return this.#options.batchSize ?? this.#place.store.removalBatch;
  }

  /** A page of what is due, after another; none where there is no more. */
  async #duePage(now: number, after: Tombstone | undefined): Promise<readonly Tombstone[]> {
    const { catalog, row, safetyWindow } = this.#place;
    const page = catalog.tombstones.duePage({
      store: row.n,
      now,
      window: safetyWindow,
      after: after && { purgeAfter: after.purgeAfter ?? 0, id: after.id },
      limit: this.#bound ?? PAGE,
    });
    await setImmediate(); // to find them took a while: others get their turns
    return page;
  }

  /** What was taken and is not removed is left as it was; if even that fails, to recovery. */
  async #giveBack(batch: TakenBatch | undefined): Promise<void> {
    if (batch === undefined) return;
    const { page, copies } = batch.taken;
    const ends = new Map(copies.map((_, i) => [i, UNTOUCHED]));
    await this.#orRecovery(async () => {
      await this.#ledger.record({ page, ends });
      await batch.batch.end();
    });
  }

  /** Removes what was taken a while ago, if the clock by which it is due is trusted still; else it is given back. */
  async #removeByClock(batch: TakenBatch): Promise<Removed> {
    await batch.batch.pulse();
    try {
      await requireOwnClock(this.#place);
    } catch (error) {
      await this.#giveBack(batch);
      throw error;
    }
    return this.#remove(batch);
  }

  /** Does what recovery would do as well, should it fail. */
  async #orRecovery(work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      this.#place.report('warn', `a batch of the purge is left to recovery: ${messageOf(error)}`);
    }
  }

  /** Purges what is named, due or not; false where the signal ended it. */
  async named(tombstones: readonly Tombstone[]): Promise<boolean> {
    const { catalog, clock, pace } = this.#place;
    const now = catalog.clock.counted(clock);
    for (let rest = tombstones; rest.length > 0; ) {
      if (this.#options.signal?.aborted === true) return false;
      const most = rest.slice(0, this.#bound ?? PAGE);
      const page = this.#options.dryRun ? most : (pace?.first(most) ?? most);
      if (this.#options.dryRun) {
        await refreshHolds(this.#place);
        await this.#pretend(page, await lookAtLeases(this.#place, { mayBreak: false }));
        this.#count(page.length);
      } else {
        const next = await this.#announce(this.#ledger.adopt(page.map(rowOf)), now);
        if (next === undefined) return false;
        await this.#record(await this.#remove(await this.#take(next)));
      }
      rest = rest.slice(page.length);
    }
    return true;
  }

  #count(more: number): void {
    this.#due += more;
    this.#options.onProgress?.(this.#due);
  }

  /**
   * Removes the old versions of a key of which every tombstone has ended, for good; gives
   * what becomes of each name of it, or what keeps them. Nothing where the signal ended it.
   */
  async hidden(key: Key, reason: string): Promise<Keeper | readonly HiddenEnd[]> {
    const { catalog, row, store, clock } = this.#place;
    const batch = await this.#begin(key);
    if (batch === undefined) return [];
    // Before the look into the catalog: what moves after that is not among them.
    const found = (await store.hidden?.(key)) ?? [];
    const keeper = catalog.transaction(() => {
      const open = catalog.tombstones.ofKey(row.n, key, ALL).find(({ state }) => !ENDED.has(state));
      if (open !== undefined) return { as: 'run', run: catalog.runs.get(open.run)?.id ?? '' } as const;
      return keepersOf(this.#place, batch.leases, [{ key }], 'purge').get(0);
    });
    if (keeper !== undefined || found.length === 0) {
      await batch.end();
      return keeper ?? [];
    }
    const outcomes = (await store.removeHidden?.(found, { pulse: batch.pulse })) ?? [];
    if (outcomes.length !== found.length)
      throw new TypeError(`${outcomes.length} outcomes for ${found.length}`);
    const ends = outcomes.flatMap((outcome, i) => {
      const hidden = found[i];
      return hidden === undefined ? [] : [{ hidden, outcome }];
    });
    const removed = ends.filter(({ outcome }) => outcome.outcome === 'removed').map(({ hidden }) => hidden);
    const count = removed.reduce((sum, one) => sum + one.count, 0);
    if (removed.length > 0) {
      const bytes = removed.reduce((sum, one) => sum + one.bytes, 0);
      const about = { store: row.n, run: this.#run.n, now: clock.now(), key, count, bytes, cause: reason };
      catalog.transaction(() => catalog.events.add({ ...about, what: 'purged', detail: 'old versions' }));
    }
    await batch.end();
    return ends;
  }

  async #pretend(page: readonly Tombstone[], leases: readonly Lease[]): Promise<void> {
    const uncovered = await uncoveredOf(this.#place, page, this.#options.signal);
    const keepers = keepersOf(this.#place, leases, page, 'purge');
    for (const [i, detail] of uncovered) if (!keepers.has(i)) keepers.set(i, { as: 'coverage', detail });
    for (const [i, tombstone] of page.entries()) {
      const keeper = keepers.get(i);
      if (keeper === undefined) {
        this.#purged++;
        this.#bytes += tombstone.size;
        this.#options.onPurged?.(tombstone, { wasGone: false, left: null });
      } else this.#keepBy(tombstone, keeper);
    }
  }

  /** Begins a batch below a prefix, by a clock that is trusted still; undefined when it was stopped before. */
  async #begin(prefix: string): Promise<Batch | undefined> {
    // Where each fence costs a `settle`, one for all batches.
    const prefixes = [this.#place.store.settle > 0 ? '' : prefix];
    const batch = await begin(this.#place, this.#run, { kind: 'purge', prefixes }, this.#options.signal);
    if (batch === undefined) return undefined;
    try {
      await requireOwnClock(this.#place); // it may have jumped since
    } catch (error) {
      await batch.end();
      throw error;
    }
    return batch;
  }

  /** Announces a page, and looks at what keeps it; undefined when it was stopped before. */
  async #announce<Page extends Omit<Found, 'last'>>(
    found: Page,
    now: number,
  ): Promise<Announced<Page> | undefined> {
    await waitForPace(this.#place, this.#run, this.#options.signal);
    const batch = await this.#begin(found.prefix);
    if (batch === undefined) return undefined;
    const uncovered = await this.#uncovered(batch, found.rows);
    return { batch, found, take: { page: found.page, now, leases: batch.leases, uncovered } };
  }

  /** Takes what nothing keeps of a page that was announced. Where it fails the fence stays: the run's end sees to it. */
  async #take<Page extends Omit<Found, 'last'>>(next: Announced<Page>): Promise<TakenBatch & Page> {
    return this.#taken(next, await this.#ledger.take(next.take));
  }

  #taken<Page extends Omit<Found, 'last'>>(
    { batch, found }: Announced<Page>,
    taken: Taken,
  ): TakenBatch & Page {
    this.#place.pace?.spend(taken.copies);
    return { ...found, batch, taken };
  }

  /** What the metadata that is live keeps of a page: looked at under its fence. */
  async #uncovered(batch: Batch, page: readonly CopyRow[]): Promise<Map<number, string>> {
    try {
      const found = await uncoveredOf(this.#place, page);
      await batch.pulse(); // that may have taken long
      return found;
    } catch (error) {
      await batch.end();
      throw error;
    }
  }

  /** Removes what was taken. Where it fails the fence stays: the run's end, or recovery, sees to it. */
  async #remove(batch: TakenBatch): Promise<Removed> {
    const { row, store } = this.#place;
    const { copies } = batch.taken;
    if (copies.length === 0) return { ...batch, outcomes: [], ends: [] };
    const { pulse } = batch.batch;
    await pulse(); // the catalog may have kept it waiting
    await setImmediate(); // so did taking them
    const { erasure } = this.#options;
    const outcomes = await store.remove(copies.map(removal), { pulse, allVersions: erasure?.allVersions });
    if (outcomes.length !== copies.length)
      throw new TypeError(`${outcomes.length} outcomes for ${copies.length}`);
    if (outcomes.some(({ outcome }) => outcome === 'gone')) await checkIdentity(store, row.uuid);
    return { ...batch, outcomes, ends: outcomes.map(endOf) };
  }

  /** Records what became of a batch, in one transaction, takes its fence down, and tells of it. */
  async #record(batch: Removed): Promise<void> {
    await setImmediate(); // others may have waited for their turns
    await this.#ledger.record(recordOf(batch));
    await setImmediate();
    await this.#over(batch);
  }

  /** Takes the fence of a batch down that is recorded, and tells of it. */
  async #over({ batch, count, taken, outcomes, ends }: Removed): Promise<void> {
    await batch.end();
    for (const { copy, by } of taken.kept) this.#keepBy(copy, by);
    this.#tell(taken.copies, ends);
    for (const end of outcomes) {
      if (end.outcome === 'gone') this.#missing++;
      if (end.outcome === 'removed' && end.left !== undefined) this.#left++;
      // The file system went read-only: nothing more can be removed.
      if (isReadOnly(end)) throw end.error;
    }
    if (this.#options.erasure !== undefined) {
      for (const copy of taken.missed) this.#keep(copy, 'fence', 'another run took it meanwhile: try again');
    }
    this.#count(count);
  }

  #tell(copies: readonly Copy[], ends: readonly PurgeEnd[]): void {
    for (const [i, end] of ends.entries()) {
      const copy = copies[i];
      if (copy === undefined) continue;
      const { detail } = end;
      if (end.to === 'purged') {
        this.#purged++;
        this.#bytes += copy.size;
        this.#options.onPurged?.(copy, end.how);
        if (detail !== null && this.#options.erasure === undefined)
          this.#place.report('warn', `${printable(copy.key)}: ${detail}`, { id: copy.id });
      } else {
        if (end.reason === 'error') this.#failed++;
        this.#keep(copy, end.reason, end.detail);
      }
    }
  }

  #keepBy(tombstone: Told, keeper: Keeper): void {
    this.#keep(tombstone, reasonOf(keeper), keeperText(keeper), keeper);
  }

  #keep(tombstone: Told, reason: KeptReason, detail: string, keeper: Keeper | null = null): void {
    this.#kept.set(reason, (this.#kept.get(reason) ?? 0) + 1);
    this.#options.onKept?.(tombstone, reason, detail, keeper);
  }
}

/** A page that is announced, and what it is taken by. */
interface Announced<Page extends Omit<Found, 'last'>> {
  readonly batch: Batch;
  readonly found: Page;
  readonly take: Take;
}

/** A batch that is announced and taken. */
interface TakenBatch {
  readonly batch: Batch;
  /** How many were found. */
  readonly count: number;
  readonly taken: Taken;
}

/** One of what is due. */
type Due = TakenBatch & Found;

/** A batch that is removed, and not yet recorded. */
interface Removed extends TakenBatch {
  readonly outcomes: readonly RemoveOutcome[];
  readonly ends: readonly PurgeEnd[];
}

/** What is recorded of a batch: those that are merely gone need no words. */
function recordOf({ taken, ends }: Removed): { page: number; ends: Map<number, End> } {
  const told = new Map<number, End>();
  for (const [i, end] of ends.entries()) {
    const { to, detail, lock } = end;
    if (to !== 'purged' || detail !== null) told.set(i, { to, detail, lock });
  }
  return { page: taken.page, ends: told };
}

/** How what was taken ends that nothing is done with. */
const UNTOUCHED: End = { to: 'prior', detail: null };

function rowOf({ id, key, size, revision, state, policy, reason }: Tombstone): CopyRow {
  if (state !== 'pending' && state !== 'restored') throw new TypeError(`${id} is ${state}`);
  return { id, key, size, revision: revisionText(revision), prior: state, policy, reason };
}

/** A promise that may fail before somebody waits for it. */
function watched<T>(promise: Promise<T>): Promise<T> {
  promise.catch(() => undefined);
  return promise;
}

/** Whether a removal says that the file system is mounted read-only. */
function isReadOnly(end: RemoveOutcome): end is Extract<RemoveOutcome, { outcome: 'failed' }> {
  return end.outcome === 'failed' && errnoOf(end.error.cause) === 'EROFS';
}

function removal({ key, id, revision, prior }: Copy): RemoveItem {
  return { key, id, revision, from: prior };
}

type PurgeEnd =
  | {
      readonly to: 'purged';
      readonly reason: null;
      readonly detail: string | null;
      readonly how: Purged;
      readonly lock?: undefined;
    }
  | {
      readonly to: 'prior' | 'pending';
      readonly reason: KeptReason;
      readonly detail: string;
      /** Of one that the store itself keeps: until when, ms since 1970; null: until somebody lets it go. */
      readonly lock?: { readonly until: number | null };
    };

const REMOVED: PurgeEnd = { to: 'purged', reason: null, detail: null, how: { wasGone: false, left: null } };

function endOf(outcome: RemoveOutcome): PurgeEnd {
  switch (outcome.outcome) {
    case 'removed': {
      const { left } = outcome;
      if (left === undefined) return REMOVED;
      const detail = `it is purged, and the store keeps ${left}`;
      return { to: 'purged', reason: null, detail, how: { wasGone: false, left } };
    }
    case 'gone': {
      const detail = 'its pending copy was gone already';
      return { to: 'purged', reason: null, detail, how: { wasGone: true, left: null } };
    }
    case 'changed':
      return {
        to: 'prior',
        reason: 'changed',
        detail: `its pending copy is not what was tombstoned: ${outcome.detail}`,
      };
    case 'not-live':
      return {
        to: 'pending',
        reason: 'window',
        detail:
          'it was restored, and the live object is no longer that: it is pending again, with a full window',
      };
    case 'locked': {
      const { until, detail } = outcome;
      return { to: 'prior', reason: 'object-lock', detail, lock: { until } };
    }
    case 'failed':
      return { to: 'prior', reason: 'error', detail: messageOf(outcome.error) };
  }
}
