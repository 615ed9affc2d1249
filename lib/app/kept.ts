import type { Catalog, StoreRow } from '../catalog/catalog.ts';
import type { CachedHold } from '../catalog/holds.ts';
import type { Tombstone } from '../catalog/tombstones.ts';
import type { KeptReason } from '../domain/kept-reason.ts';

/** When a purge may take a tombstone: its recorded time and today's window must both have passed (design, section 4). */
function dueAt(tombstone: Pick<Tombstone, 'goneAt' | 'purgeAfter'>, safetyWindow: number): number | null {
  const { goneAt, purgeAfter } = tombstone;
  return goneAt === null || purgeAfter === null ? null : Math.max(purgeAfter, goneAt + safetyWindow);
}

/** What keeps one tombstone from the purge, and until when (ms since 1970, or null: until it is taken away). */
export interface KeptBecause {
  readonly reason: KeptReason;
  readonly until: number | null;
  readonly hold: CachedHold | null;
}

/** A tombstone with when it is due, and what keeps it. */
export interface StandingTombstone {
  readonly tombstone: Tombstone;
  /** ms since 1970; null of one that no purge will take. */
  readonly dueAt: number | null;
  readonly kept: readonly KeptBecause[];
}

/**
 * How a store's tombstones stand, as the catalog knows it. What waits is kept by
 * its window and by holds; of what was restored, an exemption keeps the live
 * object from policies.
 */
export function standingOf(
  catalog: Catalog,
  row: StoreRow,
  settings: { safetyWindow: number; now: number },
  tombstones: readonly Tombstone[],
): StandingTombstone[] {
  const { safetyWindow, now } = settings;
  const holds = new Map<number, CachedHold[]>();
  for (const { hold, index } of catalog.holds.covering(row.n, now, tombstones)) {
    holds.set(index, [...(holds.get(index) ?? []), hold]);
  }
  return tombstones.map((tombstone, i) => {
    const isWaiting = tombstone.state === 'pending' || tombstone.state === 'restored';
    const at = isWaiting ? dueAt(tombstone, safetyWindow) : null;
    const kept: KeptBecause[] = [];
    if (at !== null && at > now) kept.push({ reason: 'window', until: at, hold: null });
    for (const hold of isWaiting ? (holds.get(i) ?? []) : []) {
      if (hold.kind === 'hold') kept.push({ reason: 'hold', until: hold.until, hold });
      else if (tombstone.state === 'restored') kept.push({ reason: 'exempt', until: hold.until, hold });
    }
    return { tombstone, dueAt: at, kept };
  });
}

/** The reasons, each once. */
export function reasonsOf(kept: readonly KeptBecause[]): KeptReason[] {
  return [...new Set(kept.map(({ reason }) => reason))];
}
