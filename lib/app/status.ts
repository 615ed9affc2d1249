import type { Catalog } from '../catalog/catalog.ts';
import { type CachedHold, isPause } from '../catalog/holds.ts';
import type { RequestGroup } from '../catalog/requests.ts';
import { runLockFile, takeDeadLock } from '../catalog/run-lock.ts';
import type { RunRow } from '../catalog/runs.ts';
import type { ScheduleBin } from '../catalog/schedule.ts';
import type { Sweep } from '../catalog/sweeps.ts';
import type { WaitingPlan } from '../catalog/waiting.ts';
import type { Clock } from '../domain/clock.ts';
import { messageOf, type TombstonedError } from '../domain/errors.ts';
import type { KeptReason } from '../domain/kept-reason.ts';
import type { State } from '../domain/state.ts';
import { whyNotTrusted } from '../run/clock.ts';
import type { Report } from '../run/place.ts';
import type { Store } from '../store/store.ts';
import { orphanedRequests } from '../sweep/requests.ts';
import { reasonsOf, standingOf } from './kept.ts';
import type { KnownStore } from './known-stores.ts';
import { dropInsOf } from './open.ts';
import { type FenceStanding, NO_CLAIMS, type StoreClaims } from './standing-claims.ts';

const HOUR = 3_600_000;
const DAY = 24 * HOUR;

/** The bars of the histogram, by how long from now something is due. ms. */
const BARS = [
  { label: '1h', within: HOUR },
  { label: '6h', within: 6 * HOUR },
  { label: '1d', within: DAY },
  { label: '3d', within: 3 * DAY },
  { label: '7d', within: 7 * DAY },
  { label: '30d', within: 30 * DAY },
] as const;

/** A run that is not closed. `unclear`: its lock file is missing, which proves nothing (design, section 5). */
export interface OpenRun extends RunRow {
  readonly life: 'running' | 'died' | 'unclear';
}

/** How a store stands, as the catalog knows it. Times in ms since 1970. */
export interface StoreStatus {
  readonly name: string;
  readonly url: string;
  readonly counts: ReadonlyMap<State, number>;
  readonly bytes: ReadonlyMap<State, number>;
  /** How many tombstones a purge may take now. */
  readonly due: number;
  /** Why some of those stay, by reason. */
  readonly kept: ReadonlyMap<KeptReason, number>;
  /** When the first of what waits is due; null when nothing waits. */
  readonly nextPurge: number | null;
  /** Whether a purge frees space there; null when the store could not be looked at. */
  readonly spaceFreed: boolean | null;
  /** Why this catalog may do nothing to the store, which it does not own; null where it owns it, or that is not known. */
  readonly owner: TombstonedError | null;
  /** Why the clock keeps purges from here, or null. */
  readonly clock: string | null;
  /** Those that are not dead; null when the store could not be looked at. */
  readonly leases: number | null;
  /** Batches that are announced, or were when their process died. */
  readonly fences: readonly FenceStanding[];
  readonly holds: number;
  /** Those that are on everything. */
  readonly pauses: readonly CachedHold[];
  readonly exemptions: number;
  readonly lastSweep: Sweep | null;
  /** Plans over a limit that wait for approval, oldest first. */
  readonly waiting: readonly WaitingPlan[];
  /** What was taken for drop-in policies that the config has no more, and has no plan that waits. */
  readonly orphaned: readonly RequestGroup[];
  readonly lastPurge: RunRow | null;
  /** Runs that are under way, or whose process died. */
  readonly openRuns: readonly OpenRun[];
  /** What goes when: what is due, then what is due within each time and not within the one before. */
  readonly goes: readonly ({ readonly label: string } & ScheduleBin)[];
}

/** Whether a purge frees space in a store; null where it does not say, which is told. */
export async function freesSpace(store: Store, name: string, report: Report): Promise<boolean | null> {
  try {
    return (await store.hidesRemoved?.()) !== true;
  } catch (error) {
    report('warn', `${name}: whether a purge frees space is not known: ${messageOf(error)}`);
    return null;
  }
}

/** Sums a store up. The cache of holds must be up to date; `claims` are undefined of a store that is away. */
export function storeStatus(
  catalog: Catalog,
  { config, row }: KnownStore,
  claims: StoreClaims | undefined,
  clock: Clock,
  { spaceFreed = null, owner = null }: Partial<Pick<StoreStatus, 'spaceFreed' | 'owner'>> = {},
): StoreStatus {
  const { safetyWindow } = config;
  const tallies = catalog.tombstones.tallies(row.n);
  const now = catalog.clock.sureTime(clock);
  const counted = catalog.clock.counted(clock);
  const ahead = catalog.clock.ahead(clock);
  const wrong = whyNotTrusted(catalog, row, clock);
  const edges = [counted + 1, ...BARS.map(({ within }) => counted + within)];
  const { bins, first } = catalog.schedule.of(row.n, safetyWindow, edges);
  const labels = ['now', ...BARS.map(({ label }) => label), 'later'];
  const inForce = catalog.holds.inForce(row.n, now);
  const holds = inForce.filter(({ kind }) => kind === 'hold').length;
  const leases = claims?.leases.filter(({ isDead }) => isDead !== true).length ?? null;
  return {
    name: config.name,
    url: config.url,
    counts: new Map(tallies.map(({ state, count }) => [state, count])),
    bytes: new Map(tallies.map(({ state, bytes }) => [state, bytes])),
    due: bins[0]?.count ?? 0,
    kept:
      holds === 0 && (leases ?? 0) === 0 && wrong === null
        ? new Map()
        : keptOfDue(catalog, { config, row }, claims ?? NO_CLAIMS, clock),
    nextPurge: first === null ? null : first + ahead,
    owner,
    clock: wrong,
    spaceFreed,
    leases,
    fences: claims?.fences ?? [],
    holds,
    pauses: inForce.filter(isPause),
    exemptions: inForce.length - holds,
    lastSweep: catalog.sweeps.last(row.n) ?? null,
    waiting: catalog.waiting.ofStore(row.n, now),
    orphaned: orphanedRequests({ catalog, row }, dropInsOf(config)),
    lastPurge: catalog.runs.last(row.n, 'purge') ?? null,
    openRuns: openRuns(catalog, row.n),
    goes: labels.map((label, i) => ({ label, count: bins[i]?.count ?? 0, bytes: bins[i]?.bytes ?? 0 })),
  };
}

/** A store's runs that are not closed, and whether their processes live. */
export function openRuns(catalog: Catalog, store: number): OpenRun[] {
  return catalog.runs.open(store).flatMap((run): OpenRun[] => {
    const lock = takeDeadLock(runLockFile(catalog.file, run.id), run.lock);
    if (lock === 'held') return [{ ...run, life: 'running' }];
    if (lock !== 'missing') lock.release();
    // It may have been closed between the two looks.
    if (catalog.runs.get(run.n)?.endedAt !== null) return [];
    return [{ ...run, life: lock === 'missing' ? 'unclear' : 'died' }];
  });
}

const PAGE = 1000;

/** Why what is due is not purged. Looks at each, so only where there is a hold or a lease. */
function keptOfDue(
  catalog: Catalog,
  { config, row }: KnownStore,
  claims: StoreClaims,
  clock: Clock,
): Map<KeptReason, number> {
  const { safetyWindow } = config;
  const kept = new Map<KeptReason, number>();
  let after: { purgeAfter: number; id: string } | undefined;
  for (;;) {
    const page = catalog.tombstones.duePage({
      store: row.n,
      now: catalog.clock.counted(clock),
      window: safetyWindow,
      after,
      limit: PAGE,
    });
    const last = page.at(-1);
    if (last === undefined) return kept;
    for (const one of standingOf(catalog, row, { safetyWindow, clock, claims }, page)) {
      // An exemption keeps the live object, not the copy that is due.
      for (const reason of reasonsOf(one.kept).filter((each) => each !== 'exempt')) {
        kept.set(reason, (kept.get(reason) ?? 0) + 1);
      }
    }
    after = { purgeAfter: last.purgeAfter ?? 0, id: last.id };
  }
}
