import { setImmediate } from 'node:timers/promises';
import { digestRowOf, type Tombstone } from '../catalog/tombstones.ts';
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
const BATCH = 1000;
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
    const { catalog, row, clock, safetyWindow, pace } = this.#place;
    const { dryRun, signal, onProgress } = this.#options;
    const now = catalog.clock.counted(clock);
    if (dryRun) await refreshHolds(this.#place);
    const leases = dryRun ? await lookAtLeases(this.#place, { mayBreak: false }) : [];
    let isCut = false;
    for (let after: { purgeAfter: number; id: string } | undefined; ; ) {
      isCut = signal?.aborted === true;
      if (isCut) break;
      const found = catalog.tombstones.duePage({
        store: row.n,
        now,
        window: safetyWindow,
        after,
        limit: this.#place.store.removalBatch ?? BATCH,
      });
      await setImmediate(); // to find them took a while: others get their turns
      const page = dryRun || pace === undefined ? found : pace.first(found);
      const last = page.at(-1);
      if (last === undefined) break;
      after = { purgeAfter: last.purgeAfter ?? 0, id: last.id };
      if (dryRun) await this.#pretend(page, leases);
      else if (!(await this.#batch(run, page, now))) {
        isCut = true;
        break;
      }
      this.#due += page.length;
      onProgress?.(this.#due);
    }
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
      } else if (!(await this.#batch(run, page, now))) return false;
      rest = rest.slice(page.length);
      this.#due += page.length;
      this.#options.onProgress?.(this.#due);
    }
    return true;
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

  /** Purges a page; false when it was stopped before it began. */
  async #batch(run: Run, page: readonly Tombstone[], now: number): Promise<boolean> {
    const { catalog } = this.#place;
    const common = page.reduce((prefix, { key }) => commonPrefix(prefix, key), page[0]?.key ?? '');
    await waitForPace(this.#place, run, this.#options.signal);
    const batch = await this.#begin(run, common);
    if (batch === undefined) return false;
    const uncovered = await this.#uncovered(batch, page);
    const { taken, kept } = catalog.transaction(() => {
      const keepers = this.#keepers(batch.leases, page, uncovered);
      const free = page.filter((_, i) => !keepers.has(i));
      return { taken: this.#take(run, free, now), kept: keepers };
    });
    this.#place.pace?.spend(taken);
    this.#note(run, page, kept);
    for (const [i, keeper] of kept) {
      const tombstone = page[i];
      if (tombstone !== undefined) this.#keepBy(tombstone, keeper);
    }
    if (taken.length > 0) await this.#remove(run, batch, taken);
    else await batch.end();
    if (this.#options.erasure !== undefined) {
      const got = new Set(taken.map(({ id }) => id));
      for (const [i, tombstone] of page.entries()) {
        if (got.has(tombstone.id) || kept.has(i)) continue;
        this.#keep(tombstone, 'fence', 'another run took it meanwhile: try again');
      }
    }
    return true;
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
  #take(run: Run, page: readonly Tombstone[], now: number): Tombstone[] {
    const { catalog, row, safetyWindow } = this.#place;
    const { tombstones } = catalog;
    const take = { store: row.n, run: run.n };
    if (this.#options.erasure === undefined) {
      const ids = page.map(({ id }) => id);
      return tombstones.takeForPurge({ ...take, ids, now, window: safetyWindow });
    }
    return (['pending', 'restored'] as const).flatMap((from) => {
      const ids = page.filter(({ state }) => state === from).map(({ id }) => id);
      return ids.length === 0 ? [] : tombstones.takeNamed({ ...take, ids, from: [from] });
    });
  }

  /** Removes what was taken. Where it fails the fence stays: the run's end, or recovery, sees to it. */
  async #remove(run: Run, batch: Batch, taken: readonly Tombstone[]): Promise<void> {
    const { catalog, row, store, safetyWindow, clock } = this.#place;
    const { pulse } = batch;
    await pulse(); // the catalog may have kept it waiting
    const { erasure } = this.#options;
    await setImmediate(); // so did taking them
    const outcomes = await store.remove(taken.map(removal), { pulse, allVersions: erasure?.allVersions });
    await setImmediate();
    if (outcomes.length !== taken.length)
      throw new TypeError(`${outcomes.length} outcomes for ${taken.length}`);
    if (outcomes.some(({ outcome }) => outcome === 'gone')) await checkIdentity(store, row.uuid);
    const ends = taken.map((tombstone, i) => ({ tombstone, ...endOf(outcomes[i]) }));
    const purged = ends.filter(({ to }) => to === 'purged');
    const bytes = purged.reduce((sum, { tombstone }) => sum + tombstone.size, 0);
    catalog.transaction(() => {
      const at = clock.now();
      const now = catalog.clock.count(clock);
      const settled = ends.map(({ tombstone, to, lock }) => {
        const lockedUntil =
          lock === undefined ? undefined : (lock.until ?? at + Math.max(safetyWindow, LEAST_LOCK_MS));
        return { tombstone, to, lockedUntil };
      });
      catalog.tombstones.settlePurges({
        store: row.n,
        run: run.n,
        now,
        at,
        window: safetyWindow,
        ends: settled,
      });
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
    await setImmediate();
    await batch.end();
    for (const end of ends) {
      const { tombstone, detail } = end;
      if (end.to === 'purged') {
        this.#purged++;
        this.#bytes += tombstone.size;
        this.#options.onPurged?.(tombstone, end.how);
        if (detail !== null && erasure === undefined)
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
      if (end.outcome === 'failed' && errnoOf(end.error.cause) === 'EROFS') throw end.error;
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
