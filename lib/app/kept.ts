import type { Catalog, StoreRow } from '../catalog/catalog.ts';
import type { CachedHold } from '../catalog/holds.ts';
import type { Tombstone } from '../catalog/tombstones.ts';
import { mayBeNeeded } from '../cover/purgeable.ts';
import type { Clock } from '../domain/clock.ts';
import { idOfFile } from '../domain/ids.ts';
import type { KeptReason } from '../domain/kept-reason.ts';
import type { State } from '../domain/state.ts';
import { whyNotTrusted } from '../run/clock.ts';
import { fenceOverlaps } from '../store/fences.ts';
import { leaseCovers } from '../store/leases.ts';
import {
  type FenceStanding,
  fenceText,
  holdText,
  type LeaseStanding,
  leaseDetail,
  type StoreClaims,
} from './standing-claims.ts';

/** When a purge may take a tombstone, in counted time: its recorded time and today's window must both have passed (design, section 4). */
function dueAt(tombstone: Pick<Tombstone, 'goneAt' | 'purgeAfter'>, safetyWindow: number): number | null {
  const { goneAt, purgeAfter } = tombstone;
  return goneAt === null || purgeAfter === null ? null : Math.max(purgeAfter, goneAt + safetyWindow);
}

/** What keeps one tombstone from the purge; `until` in ms since 1970, or null: until it is taken away. */
export type KeptBecause =
  | { readonly reason: 'window'; readonly until: number }
  /** The store itself keeps a version of it: `detail` is what the last purge saw. */
  | { readonly reason: 'object-lock'; readonly until: number; readonly detail: string }
  /** No live metadata has its lines, or some refers to it: `detail` is what the last purge saw. */
  | { readonly reason: 'coverage'; readonly until: null; readonly detail: string }
  | { readonly reason: 'clock'; readonly until: null; readonly detail: string }
  | { readonly reason: 'hold' | 'exempt'; readonly until: number | null; readonly hold: CachedHold }
  | { readonly reason: 'lease'; readonly until: null; readonly lease: LeaseStanding }
  /** A run has taken it; `fence` is that of its batch, where it is up and was looked at. */
  | {
      readonly reason: 'fence';
      readonly until: null;
      readonly run: string;
      readonly state: State;
      readonly fence: FenceStanding | null;
    };

/** A tombstone with when it is due, and what keeps it. */
export interface StandingTombstone {
  readonly tombstone: Tombstone;
  /** The end of its recorded window in wall time, ms since 1970; null of one that has none. */
  readonly purgeAfter: number | null;
  /** ms since 1970; null of one that no purge will take. */
  readonly dueAt: number | null;
  readonly kept: readonly KeptBecause[];
}

/**
 * How a store's tombstones stand, as the catalog knows it. What waits is kept by
 * its window, by an object lock, by holds and by leases; of what was restored, an exemption keeps the
 * live object from policies. What a run has taken is in its hands.
 */
export function standingOf(
  catalog: Catalog,
  row: StoreRow,
  settings: { safetyWindow: number; clock: Clock; claims: StoreClaims },
  tombstones: readonly Tombstone[],
): StandingTombstone[] {
  const { safetyWindow, clock, claims } = settings;
  const now = catalog.clock.sureTime(clock);
  const ahead = catalog.clock.ahead(clock);
  const wrong = whyNotTrusted(catalog, row, clock);
  const leases = claims.leases.filter(({ isDead }) => isDead !== true);
  const holds = new Map<number, CachedHold[]>();
  for (const { hold, index } of catalog.holds.covering(row.n, now, tombstones)) {
    holds.set(index, [...(holds.get(index) ?? []), hold]);
  }
  return tombstones.map((tombstone, i) => {
    const isWaiting = tombstone.state === 'pending' || tombstone.state === 'restored';
    const counted = isWaiting ? dueAt(tombstone, safetyWindow) : null;
    const at = counted === null ? null : counted + ahead;
    const kept: KeptBecause[] = [];
    const { id, key, lockedUntil } = tombstone;
    if (at !== null && at > now && lockedUntil !== null && lockedUntil > now) {
      const detail = catalog.events.lastDetail(id, 'purge-kept') ?? 'a version of it is locked (object lock)';
      kept.push({ reason: 'object-lock', until: lockedUntil, detail });
    } else if (at !== null && at > now) kept.push({ reason: 'window', until: at });
    const uncovered =
      at !== null && at <= now && mayBeNeeded(key) ? catalog.events.lastDetail(id, 'purge-kept') : undefined;
    if (uncovered?.startsWith(COVERAGE) === true)
      kept.push({ reason: 'coverage', until: null, detail: uncovered.slice(COVERAGE.length) });
    if (isWaiting && wrong !== null) kept.push({ reason: 'clock', until: null, detail: wrong });
    for (const hold of isWaiting ? (holds.get(i) ?? []) : []) {
      if (hold.kind === 'hold') kept.push({ reason: 'hold', until: hold.until, hold });
      else if (tombstone.state === 'restored') kept.push({ reason: 'exempt', until: hold.until, hold });
    }
    for (const lease of isWaiting ? leases : []) {
      if (leaseCovers(lease.lease, tombstone.key)) kept.push({ reason: 'lease', until: null, lease });
    }
    const taken = TAKEN.some((state) => state === tombstone.state);
    if (taken) kept.push(inHands(catalog, tombstone, claims));
    const { purgeAfter } = tombstone;
    return { tombstone, purgeAfter: purgeAfter === null ? null : purgeAfter + ahead, dueAt: at, kept };
  });
}

/** What the record of a purge begins with that metadata has kept something from. */
const COVERAGE = 'coverage: ';

/** States in which a run has a tombstone in its hands. */
const TAKEN = ['moving', 'purging', 'restoring'] as const satisfies State[];

function inHands(catalog: Catalog, { run: n, key, state }: Tombstone, { fences }: StoreClaims): KeptBecause {
  const run = catalog.runs.get(n)?.id ?? '';
  const fence = fences.find((one) => one.run === run && fenceOverlaps(one.fence, [key])) ?? null;
  return { reason: 'fence', until: null, run, state, fence };
}

/** The reasons, each once. */
export function reasonsOf(kept: readonly KeptBecause[]): KeptReason[] {
  return [...new Set(kept.map(({ reason }) => reason))];
}

/** What one reason is, in words; and the id of the hold, lease or run, or null. */
export function keptDetail(one: KeptBecause): { readonly by: string | null; readonly detail: string } {
  switch (one.reason) {
    case 'window':
      return { by: null, detail: 'its safety window has not passed' };
    case 'object-lock':
    case 'coverage':
    case 'clock':
      return { by: null, detail: one.detail };
    case 'hold':
    case 'exempt': {
      const by = idOfFile(one.hold.name);
      return { by, detail: holdText(one.hold) };
    }
    case 'lease':
      return { by: one.lease.lease.id, detail: leaseDetail(one.lease) };
    case 'fence': {
      const { run, state, fence } = one;
      return { by: run, detail: fence === null ? `run ${run} has taken it (${state})` : fenceText(fence) };
    }
  }
}
