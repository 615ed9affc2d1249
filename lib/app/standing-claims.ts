import type { Catalog, StoreRow } from '../catalog/catalog.ts';
import type { CachedHold } from '../catalog/holds.ts';
import { type FileLock, runLockFile, takeDeadLock } from '../catalog/run-lock.ts';
import { idOfFile, isPlainId } from '../domain/ids.ts';
import { formatDuration } from '../domain/quantities.ts';
import { isDead, leaseText, stillFor } from '../run/leases.ts';
import type { Place } from '../run/place.ts';
import { type Fence, listFences, readFence } from '../store/fences.ts';
import { type Lease, leaseName, listLeases, readLease } from '../store/leases.ts';

/** What a look at leases and fences needs. */
export interface Looker extends Pick<Place, 'store' | 'clock' | 'actor'> {
  readonly known: { readonly catalog: Catalog; readonly row: StoreRow } | null;
}

/** A lease, and what can be said of its holder. */
export interface LeaseStanding {
  readonly lease: Lease;
  /** Whether the next sweep or purge goes on without it; null where no catalog has watched it. */
  readonly isDead: boolean | null;
  /** How long its number has stood still, as the catalog has seen it, ms; null where none has. */
  readonly stillFor: number | null;
}

/**
 * The life of what a fence is about: `running` and `died` by the lock of its run;
 * `elsewhere` when it is in a catalog that is not at hand; `unclear` when the lock
 * file is missing, or the fence can't be understood.
 */
export type FenceLife = 'running' | 'died' | 'elsewhere' | 'unclear';

/** A fence that is up, and what became of its run. */
export interface FenceStanding {
  readonly fence: Fence;
  /** Its run's id, by its name where it can't be read; null when that is none. */
  readonly run: string | null;
  readonly life: FenceLife;
  /** How long it is up by this host's wall clock, ms; null when it does not say. */
  readonly age: number | null;
}

/** Leases and fences of a store. */
export interface StoreClaims {
  readonly leases: readonly LeaseStanding[];
  readonly fences: readonly FenceStanding[];
}

/** Of a store that could not be looked at. */
export const NO_CLAIMS: StoreClaims = { leases: [], fences: [] };

/** Looks at a store's leases and fences, and changes nothing there. */
export async function claimsIn(at: Looker): Promise<StoreClaims> {
  return { leases: await leasesIn(at), fences: await fencesIn(at) };
}

/** All leases, by name. Those that were broken and are still there count as dead. */
export async function leasesIn({ store, clock, actor, known }: Looker): Promise<LeaseStanding[]> {
  const { names, broken } = await listLeases(store.control);
  const found: LeaseStanding[] = [];
  for (const name of names) {
    const began = clock.uptime();
    const lease = await readLease(store.control, name);
    if (lease === undefined) continue;
    const isBroken = broken.has(lease.id) && name === leaseName(lease.id);
    const isWatched = known !== null && lease.problem === null;
    const still = isWatched ? stillFor({ ...known, store, clock, actor }, lease, began) : null;
    // What is unclear never dies by itself; of others nothing is known without a catalog.
    const isOver = still === null ? (lease.problem === null ? null : false) : isDead({ store }, lease, still);
    found.push({ lease, isDead: isBroken || isOver, stillFor: still });
  }
  return found;
}

/** All fences, by name. */
export async function fencesIn(at: Looker): Promise<FenceStanding[]> {
  const found: FenceStanding[] = [];
  for (const name of await listFences(at.store.control)) {
    const fence = await readFence(at.store.control, name);
    if (fence !== undefined) found.push(standingOfFence(at, fence));
  }
  return found;
}

export function standingOfFence(
  { clock, known }: Pick<Looker, 'clock' | 'known'>,
  fence: Fence,
): FenceStanding {
  const since = Date.parse(fence.startedAt);
  return {
    fence,
    run: runOf(fence),
    life: lifeOf(fence, known?.catalog),
    age: Number.isNaN(since) ? null : Math.max(0, clock.now() - since),
  };
}

/** The run that a fence names, or that its name names. */
function runOf({ owner, name }: Fence): string | null {
  if (owner !== null) return owner.run;
  const run = /^(.*)-[1-9]\d*\.json$/.exec(name)?.[1] ?? '';
  return isPlainId(run, 'r') ? run : null;
}

function lifeOf(fence: Fence, catalog: Catalog | undefined): FenceLife {
  const lock = lockOf(fence, catalog);
  switch (lock) {
    case 'elsewhere':
    case 'unclear':
      return lock;
    case 'held':
      return 'running';
    case 'closed':
      return 'died';
    default:
      lock.release();
      return 'died';
  }
}

/**
 * The lock of a fence's run, taken, where its process has died. `closed`: the run
 * has ended, and left the fence; `unclear`: its lock file is missing, or but a
 * copy, or nobody knows which run it is: that proves nothing.
 */
export function lockOf(
  fence: Fence,
  catalog: Catalog | undefined,
): FileLock | 'held' | 'closed' | 'elsewhere' | 'unclear' {
  const isOthers = catalog === undefined || (fence.owner !== null && fence.owner.catalog !== catalog.uuid);
  if (isOthers) return fence.owner === null ? 'unclear' : 'elsewhere';
  const id = runOf(fence);
  if (id === null) return 'unclear';
  const row = catalog.runs.byId(id);
  const lock = takeDeadLock(runLockFile(catalog.file, id), row?.lock ?? null);
  if (lock === 'held') return 'held';
  if (lock === 'missing') return row === undefined || row.endedAt === null ? 'unclear' : 'closed';
  if (row !== undefined) return lock;
  lock.release(); // nothing tells it from a copy
  return 'unclear';
}

/** A lease in words, and how long it goes on without its holder. */
export function leaseDetail({ lease, stillFor: still }: LeaseStanding): string {
  const { name, problem, ttlSeconds } = lease;
  if (problem !== null)
    return `.tombstoned/leases/${name} ${problem}: it covers everything, and never dies by itself`;
  const seen = still === null ? '' : `, last seen renewed ${formatDuration(still)} ago`;
  return `${leaseText(lease)}${seen}; if its holder is dead it ends ${formatDuration(ttlSeconds * 1000)} after its last renewal`;
}

/** A hold or exemption in words. */
export function holdText({
  name,
  kind,
  reason,
  by,
  problem,
}: Pick<CachedHold, 'name' | 'kind' | 'reason' | 'by' | 'problem'>): string {
  if (problem !== null) return `.tombstoned/holds/${name} ${problem}: it is a hold on everything`;
  const id = idOfFile(name);
  return kind === 'exempt' ? `policies leave it alone: ${reason} (${id})` : `hold ${id} of ${by}: ${reason}`;
}

/** A fence in words. */
export function fenceText({ fence, run, life, age }: FenceStanding): string {
  const { name, owner, kind, problem } = fence;
  if (owner === null)
    return `.tombstoned/fences/${name}${problem === null ? '' : ` ${problem}`}: it covers everything`;
  const since = age === null ? '' : `, for ${formatDuration(age)}`;
  return `a ${kind} of ${owner.host}, pid ${owner.pid}${since}, announces its batch (fence ${name}); ${LIVES[life]} (run ${run})`;
}

const LIVES = {
  running: 'it is under way',
  died: 'its process died, and the next sweep or purge finishes what it left',
  elsewhere: 'its catalog is not at hand, so nothing can be said of its process',
  unclear: 'its lock file is missing, which proves nothing',
} as const satisfies Record<FenceLife, string>;
