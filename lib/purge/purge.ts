import { setImmediate } from 'node:timers/promises';
import { digestRowOf, type Tombstone, type Tombstones } from '../catalog/tombstones.ts';
import { uncoveredOf } from '../cover/purgeable.ts';
import { errnoOf, messageOf } from '../domain/errors.ts';
import type { KeptReason } from '../domain/kept-reason.ts';
import { commonPrefix, type Key, printable } from '../domain/key.ts';
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

/** How many pending copies one batch removes. */
const BATCH = 500;
/** How long what the store keeps without saying until when is left alone, at the least, before it is tried again. ms. */
const LEAST_LOCK_MS = 3_600_000;
/** Of a key: all its tombstones. */
const ALL = Number.MAX_SAFE_INTEGER;
/** States of tombstones at their end. */
const ENDED: ReadonlySet<State> = new Set(['purged', 'abandoned']);

export interface PurgeOptions {
  /** Says what would go, and removes nothing. */
  readonly dryRun: boolean;
  /** How long the record of a purged tombstone is kept, ms. */
  readonly historyFor: number;
  /** Stops after the batch that is under way. */
  readonly signal?: AbortSignal | undefined;
  /** Each due tombstone that is purged, or in a dry run would be. */
  readonly onPurged?: (tombstone: Tombstone, how: Purged) => void;
  /** Each due tombstone that stays, and why; `keeper` is the claim, where one keeps it. */
  readonly onKept?: (tombstone: Tombstone, reason: KeptReason, detail: string, keeper: Keeper | null) => void;
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
    return new Purger(place, options).run(run);
  });
}

/** Removes in batches, and counts what it did. */
export class Purger {
  readonly #place: Place;
  readonly #options: PurgeOptions;
  readonly #kept = new Map<KeptReason, number>();
  #due = 0;
  #purged = 0;
  #failed = 0;
  #bytes = 0;
  #left = 0;
  #missing = 0;

  constructor(place: Place, options: PurgeOptions) {
    this.#place = place;
    this.#options = options;
  }

  async run(run: Run): Promise<PurgeResult> {
    const { catalog, clock } = this.#place;
    const { dryRun } = this.#options;
    const now = catalog.clock.counted(clock);
    const isCut = dryRun ? await this.#pretendAll(now) : await this.#removeAll(run, now);
    await retireShared(this.#place, run);
    if (!dryRun && !isCut) await forgetOld(this.#place, run, this.#options);
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
      this.#count(page);
    }
  }

  /**
   * Removes what is due, batch by batch; whether the signal ended it. While one is removed,
   * the one before is recorded and the one after is taken.
   */
  async #removeAll(run: Run, now: number): Promise<boolean> {
    const isCut = (): boolean => this.#options.signal?.aborted === true;
    const take = (after?: Tombstone): Promise<Taken | undefined> => watched(this.#takeDue(run, now, after));
    let before: Removed | undefined;
    let ahead = take();
    try {
      for (let batch = await ahead; batch !== undefined && !isCut(); batch = await ahead) {
        const removing = watched(this.#removeByClock(run, batch));
        await setImmediate(); // what is asked of the store first is under way while the catalog is busy
        ahead = take(batch.page.at(-1));
        const recorded = before === undefined ? undefined : watched(this.#record(run, before));
        before = undefined;
        await Promise.allSettled([removing, recorded]);
        before = await removing;
        await recorded;
        if (before.outcomes.some(isReadOnly)) break;
      }
    } catch (error) {
      await this.#giveBack(run, await ahead.catch(() => undefined));
      const last = before;
      if (last !== undefined) await this.#orRecovery(async () => this.#record(run, last));
      throw error;
    }
    await this.#giveBack(run, await ahead);
    if (before !== undefined) await this.#record(run, before);
    return isCut();
  }

  /** A page of what is due, after another; none where there is no more. */
  async #duePage(now: number, after: Tombstone | undefined): Promise<readonly Tombstone[]> {
    const { catalog, row, safetyWindow, store } = this.#place;
    const page = catalog.tombstones.duePage({
      store: row.n,
      now,
      window: safetyWindow,
      after: after && { purgeAfter: after.purgeAfter ?? 0, id: after.id },
      limit: this.#options.batchSize ?? store.removalBatch ?? BATCH,
    });
    await setImmediate(); // to find them took a while: others get their turns
    return page;
  }

  /** Takes the next of what is due, as one batch; undefined where there is no more, or the signal came before. */
  async #takeDue(run: Run, now: number, after: Tombstone | undefined): Promise<Taken | undefined> {
    if (this.#options.signal?.aborted === true) return undefined;
    const found = await this.#duePage(now, after);
    const page = this.#place.pace?.first(found) ?? found;
    return page.length === 0 ? undefined : this.#take(run, page, now);
  }

  /** What was taken and is not removed is left as it was; if even that fails, to recovery. */
  async #giveBack(run: Run, batch: Taken | undefined): Promise<void> {
    if (batch === undefined) return;
    const ends = batch.taken.map((tombstone) => ({ tombstone, to: 'prior' as const }));
    await this.#orRecovery(async () => {
      const { catalog, clock } = this.#place;
      if (ends.length > 0) catalog.transaction(() => this.#settle(run, ends, clock.now()));
      await batch.batch.end();
    });
  }

  /** Removes what was taken a while ago, if the clock by which it is due is trusted still; else it is given back. */
  async #removeByClock(run: Run, batch: Taken): Promise<Removed> {
    await batch.batch.pulse();
    try {
      await requireOwnClock(this.#place);
    } catch (error) {
      await this.#giveBack(run, batch);
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
  async named(run: Run, tombstones: readonly Tombstone[]): Promise<boolean> {
    const { catalog, clock, pace, store } = this.#place;
    const now = catalog.clock.counted(clock);
    for (let rest = tombstones; rest.length > 0; ) {
      if (this.#options.signal?.aborted === true) return false;
      const most = rest.slice(0, store.removalBatch ?? BATCH);
      const page = this.#options.dryRun ? most : (pace?.first(most) ?? most);
      if (this.#options.dryRun) {
        await refreshHolds(this.#place);
        await this.#pretend(page, await lookAtLeases(this.#place, { mayBreak: false }));
        this.#count(page);
      } else {
        const taken = await this.#take(run, page, now);
        if (taken === undefined) return false;
        await this.#record(run, await this.#remove(taken));
      }
      rest = rest.slice(page.length);
    }
    return true;
  }

  #count(page: readonly Tombstone[]): void {
    this.#due += page.length;
    this.#options.onProgress?.(this.#due);
  }

  /**
   * Removes the old versions of a key of which every tombstone has ended, for good; gives
   * what becomes of each name of it, or what keeps them. Nothing where the signal ended it.
   */
  async hidden(run: Run, key: Key, reason: string): Promise<Keeper | readonly HiddenEnd[]> {
    const { catalog, row, store, clock } = this.#place;
    const batch = await this.#begin(run, key);
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
      const about = { store: row.n, run: run.n, now: clock.now(), key, count, bytes, cause: reason };
      catalog.transaction(() => catalog.events.add({ ...about, what: 'purged', detail: 'old versions' }));
    }
    await batch.end();
    return ends;
  }

  async #pretend(page: readonly Tombstone[], leases: readonly Lease[]): Promise<void> {
    const uncovered = await uncoveredOf(this.#place, page, this.#options.signal);
    const keepers = this.#keepers(leases, page, uncovered);
    for (const [i, tombstone] of page.entries()) {
      const keeper = keepers.get(i);
      if (keeper === undefined) {
        this.#purged++;
        this.#bytes += tombstone.size;
        this.#options.onPurged?.(tombstone, { wasGone: false, left: null });
      } else this.#keepBy(tombstone, keeper);
    }
  }

  /** What claims keep; else what metadata does. */
  #keepers(
    leases: readonly Lease[],
    page: readonly Tombstone[],
    uncovered: ReadonlyMap<number, string>,
  ): Map<number, Keeper> {
    const keepers = keepersOf(this.#place, leases, page, 'purge');
    for (const [i, detail] of uncovered) if (!keepers.has(i)) keepers.set(i, { as: 'coverage', detail });
    return keepers;
  }

  /** Begins a batch below a prefix, by a clock that is trusted still; undefined when it was stopped before. */
  async #begin(run: Run, prefix: string): Promise<Batch | undefined> {
    // Where each fence costs a `settle`, one for all batches.
    const prefixes = [this.#place.store.settle > 0 ? '' : prefix];
    const batch = await begin(this.#place, run, { kind: 'purge', prefixes }, this.#options.signal);
    if (batch === undefined) return undefined;
    try {
      await requireOwnClock(this.#place); // it may have jumped since
    } catch (error) {
      await batch.end();
      throw error;
    }
    return batch;
  }

  /** Announces a page, looks at what keeps it, and takes the rest; undefined when it was stopped before. */
  async #take(run: Run, page: readonly Tombstone[], now: number): Promise<Taken | undefined> {
    const { catalog } = this.#place;
    const common = page.reduce((prefix, { key }) => commonPrefix(prefix, key), page[0]?.key ?? '');
    await waitForPace(this.#place, run, this.#options.signal);
    const batch = await this.#begin(run, common);
    if (batch === undefined) return undefined;
    const uncovered = await this.#uncovered(batch, page);
    const { taken, kept } = catalog.transaction(() => {
      const keepers = this.#keepers(batch.leases, page, uncovered);
      const free = keepers.size === 0 ? page : page.filter((_, i) => !keepers.has(i));
      return { taken: this.#takeFree(run, free, now), kept: keepers };
    });
    this.#place.pace?.spend(taken);
    this.#note(run, page, kept);
    return { batch, page, taken, kept };
  }

  /** What the metadata that is live keeps of a page: looked at under its fence. */
  async #uncovered(batch: Batch, page: readonly Tombstone[]): Promise<Map<number, string>> {
    try {
      const found = await uncoveredOf(this.#place, page);
      await batch.pulse(); // that may have taken long
      return found;
    } catch (error) {
      await batch.end();
      throw error;
    }
  }

  /** Writes down what metadata keeps: once, and again when that is something else. */
  #note(run: Run, page: readonly Tombstone[], kept: ReadonlyMap<number, Keeper>): void {
    const { catalog, row, clock } = this.#place;
    const event = { store: row.n, run: run.n, now: clock.now(), what: 'purge-kept' } as const;
    const events = [...kept].flatMap(([i, keeper]) => {
      const tombstone = page[i]?.id;
      if (tombstone === undefined || keeper.as !== 'coverage') return [];
      const detail = `${keeper.as}: ${keeper.detail}`;
      return catalog.events.lastDetail(tombstone, event.what) === detail
        ? []
        : [{ ...event, tombstone, detail }];
    });
    if (events.length > 0) catalog.transaction(() => catalog.events.addAll(events));
  }

  /** Takes what is due still; of what is named, what still is as it was when it was looked at. */
  #takeFree(run: Run, page: readonly Tombstone[], now: number): Tombstone[] {
    const { catalog, row, safetyWindow } = this.#place;
    const { tombstones } = catalog;
    const take = { store: row.n, run: run.n };
    if (this.#options.erasure === undefined) {
      const ids = page.map(({ id }) => id);
      return tombstones.takeForPurge({ ...take, ids, now, window: safetyWindow, found: page });
    }
    return (['pending', 'restored'] as const).flatMap((from) => {
      const ids = page.filter(({ state }) => state === from).map(({ id }) => id);
      return ids.length === 0 ? [] : tombstones.takeNamed({ ...take, ids, from: [from] });
    });
  }

  /** Removes what was taken. Where it fails the fence stays: the run's end, or recovery, sees to it. */
  async #remove(batch: Taken): Promise<Removed> {
    const { row, store } = this.#place;
    const { taken } = batch;
    if (taken.length === 0) return { ...batch, outcomes: [] };
    const { pulse } = batch.batch;
    await pulse(); // the catalog may have kept it waiting
    await setImmediate(); // so did taking them
    const { erasure } = this.#options;
    const outcomes = await store.remove(taken.map(removal), { pulse, allVersions: erasure?.allVersions });
    if (outcomes.length !== taken.length)
      throw new TypeError(`${outcomes.length} outcomes for ${taken.length}`);
    if (outcomes.some(({ outcome }) => outcome === 'gone')) await checkIdentity(store, row.uuid);
    return { ...batch, outcomes };
  }

  /** Records what became of a batch, in one transaction, takes its fence down, and tells of it. */
  async #record(run: Run, { batch, page, taken, kept, outcomes }: Removed): Promise<void> {
    const ends = taken.map((tombstone, i) => ({ tombstone, ...endOf(outcomes[i]) }));
    await setImmediate(); // others may have waited for their turns
    if (taken.length > 0) this.#write(run, ends);
    await setImmediate();
    await batch.end();
    for (const [i, keeper] of kept) {
      const tombstone = page[i];
      if (tombstone !== undefined) this.#keepBy(tombstone, keeper);
    }
    this.#tell(ends, outcomes);
    if (this.#options.erasure !== undefined) {
      const got = new Set(taken.map(({ id }) => id));
      for (const [i, tombstone] of page.entries()) {
        if (got.has(tombstone.id) || kept.has(i)) continue;
        this.#keep(tombstone, 'fence', 'another run took it meanwhile: try again');
      }
    }
    this.#count(page);
  }

  #settle(run: Run, ends: Settling['ends'], at: number): void {
    const { catalog, row, clock, safetyWindow: window } = this.#place;
    const now = catalog.clock.count(clock);
    catalog.tombstones.settlePurges({ store: row.n, run: run.n, now, at, window, ends });
  }

  #write(run: Run, ends: readonly Ended[]): void {
    const { catalog, row, safetyWindow, clock } = this.#place;
    const { erasure } = this.#options;
    const purged = ends.filter(({ to }) => to === 'purged');
    const bytes = purged.reduce((sum, { tombstone }) => sum + tombstone.size, 0);
    catalog.transaction(() => {
      const at = clock.now();
      const settled = ends.map(({ tombstone, to, lock }) => {
        const lockedUntil =
          lock === undefined ? undefined : (lock.until ?? at + Math.max(safetyWindow, LEAST_LOCK_MS));
        return { tombstone, to, lockedUntil };
      });
      this.#settle(run, settled, at);
      const event = { store: row.n, run: run.n, now: at };
      const cause = erasure?.reason;
      if (purged.length > 0) {
        const rows = purged.map(({ tombstone }) => digestRowOf(tombstone));
        catalog.events.add({ ...event, what: 'purged', count: purged.length, bytes, rows, cause });
      }
      for (const { tombstone, to, detail: why } of ends) {
        const what = to === 'purged' ? 'purged' : 'purge-kept';
        const early = what === 'purged' && cause !== undefined ? 'before its window was over' : null;
        const detail = [early, why].filter((part) => part !== null).join('; ');
        if (detail === '') continue;
        // Said once, not at every purge; a new window is said each time.
        if (to === 'prior' && catalog.events.lastDetail(tombstone.id, what) === detail) continue;
        catalog.events.add({ ...event, what, tombstone: tombstone.id, detail, cause });
      }
    });
  }

  #tell(ends: readonly Ended[], outcomes: readonly RemoveOutcome[]): void {
    for (const end of ends) {
      const { tombstone, detail } = end;
      if (end.to === 'purged') {
        this.#purged++;
        this.#bytes += tombstone.size;
        this.#options.onPurged?.(tombstone, end.how);
        if (detail !== null && this.#options.erasure === undefined)
          this.#place.report('warn', `${printable(tombstone.key)}: ${detail}`, { id: tombstone.id });
      } else {
        if (end.reason === 'error') this.#failed++;
        this.#keep(tombstone, end.reason, end.detail);
      }
    }
    for (const end of outcomes) {
      if (end.outcome === 'gone') this.#missing++;
      if (end.outcome === 'removed' && end.left !== undefined) this.#left++;
      // The file system went read-only: nothing more can be removed.
      if (isReadOnly(end)) throw end.error;
    }
  }

  #keepBy(tombstone: Tombstone, keeper: Keeper): void {
    this.#keep(tombstone, reasonOf(keeper), keeperText(keeper), keeper);
  }

  #keep(tombstone: Tombstone, reason: KeptReason, detail: string, keeper: Keeper | null = null): void {
    this.#kept.set(reason, (this.#kept.get(reason) ?? 0) + 1);
    this.#options.onKept?.(tombstone, reason, detail, keeper);
  }
}

/** A batch that is announced and taken. */
interface Taken {
  readonly batch: Batch;
  readonly page: readonly Tombstone[];
  readonly taken: readonly Tombstone[];
  /** What claims and metadata keep, by the place in the page. */
  readonly kept: ReadonlyMap<number, Keeper>;
}

/** A batch that is removed, and not yet recorded. */
interface Removed extends Taken {
  readonly outcomes: readonly RemoveOutcome[];
}

type Settling = Parameters<Tombstones['settlePurges']>[0];
type Ended = PurgeEnd & { readonly tombstone: Tombstone };

/** A promise that may fail before somebody waits for it. */
function watched<T>(promise: Promise<T>): Promise<T> {
  promise.catch(() => undefined);
  return promise;
}

/** Whether a removal says that the file system is mounted read-only. */
function isReadOnly(end: RemoveOutcome): end is Extract<RemoveOutcome, { outcome: 'failed' }> {
  return end.outcome === 'failed' && errnoOf(end.error.cause) === 'EROFS';
}

function removal({ key, id, revision, prior }: Tombstone): RemoveItem {
  return { key, id, revision, from: prior ?? 'pending' };
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

function endOf(outcome: RemoveOutcome | undefined): PurgeEnd {
  switch (outcome?.outcome) {
    case 'removed': {
      const { left } = outcome;
      const detail = left === undefined ? null : `it is purged, and the store keeps ${left}`;
      return { to: 'purged', reason: null, detail, how: { wasGone: false, left: left ?? null } };
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
    case undefined:
      throw new TypeError('no outcome');
  }
}
