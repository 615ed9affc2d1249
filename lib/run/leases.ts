import { isoTime } from '../domain/clock.ts';
import type { Lease } from '../store/leases.ts';
import {
  isBroken,
  leaseCovers,
  leaseName,
  listLeases,
  markBroken,
  readLease,
  removeLease,
} from '../store/leases.ts';
import { isNews } from './news.ts';
import type { Place } from './place.ts';

/** `event` of the report of a lease that was taken as dead; its `lease` is the id. */
export const LEASE_DIED = 'lease-died';

/** What a look at leases needs of a place. */
export type LeasePlace = Pick<Place, 'store' | 'catalog' | 'row' | 'clock' | 'actor' | 'report'>;

/** What watching a lease's number needs. */
export type WatchPlace = Pick<LeasePlace, 'store' | 'catalog' | 'row' | 'clock' | 'actor'>;

/**
 * The leases that are in force. One whose number has stood still for a whole TTL
 * of this machine's monotonic clock, as seen by whoever looked through this
 * catalog, is taken as dead: first it is marked as broken, for its holder to find
 * (design, "Leases without clocks"). Without `mayBreak` nothing is written there.
 */
export async function lookAtLeases(
  place: LeasePlace,
  { mayBreak = true }: { mayBreak?: boolean } = {},
): Promise<Lease[]> {
  const { store, catalog, row } = place;
  const { names, broken } = await listLeases(store.control);
  const live: Lease[] = [];
  for (const name of names) {
    const began = place.clock.uptime();
    const lease = await readLease(store.control, name);
    if (lease === undefined) continue;
    if (broken.has(lease.id) && name === leaseName(lease.id)) {
      if (mayBreak) await buryLease(place, name); // whoever broke it was killed before it did, or is at it
      continue;
    }
    if (lease.problem !== null && isNews(store, `${name} ${lease.problem}`)) {
      place.report(
        'error',
        `.tombstoned/leases/${name} ${lease.problem}: it counts as a lease on everything`,
        {
          hint: `if no restore uses it: tombstonectl lease break ${lease.id} --reason TEXT`,
        },
      );
    }
    if (!isDead(place, lease, stillFor(place, lease, began))) live.push(lease);
    else if (mayBreak) await takeAsDead(place, lease);
  }
  if (catalog.leaseWatch.count(row.n) > names.length) catalog.leaseWatch.keepOnly(row.n, names);
  return live;
}

/** For how long a lease's number, which was read since `began` (uptime), is known to have stood still; notes this look. ms. */
export function stillFor({ catalog, row, clock }: WatchPlace, lease: Lease, began: number): number {
  const { name, renewal } = lease;
  return catalog.leaseWatch.seen({
    store: row.n,
    name,
    renewal,
    boot: clock.sinceBoot().boot, // and whose count of it: in a time namespace the monotonic clock is another
    began,
    done: clock.uptime(),
  });
}

/** Whether that is a TTL, and `settle`. What can't be understood never dies. */
export function isDead({ store }: Pick<Place, 'store'>, lease: Lease, stillForMs: number): boolean {
  return lease.problem === null && stillForMs >= lease.ttlSeconds * 1000 + store.settle;
}

/**
 * Removes a lease that is marked as broken. Where listings may be stale, only when
 * its holder can't but find the mark: nobody goes on without the lease before that.
 */
export async function buryLease(
  { store, clock }: Pick<Place, 'store' | 'clock'>,
  name: string,
): Promise<void> {
  if (store.settle > 0) await clock.sleep(store.settle);
  await removeLease(store.control, name);
}

async function takeAsDead({ store, clock, actor, report }: LeasePlace, lease: Lease): Promise<void> {
  const { id, name, holder, host, ttlSeconds } = lease;
  const reason = `not renewed for its TTL of ${ttlSeconds} s`;
  const at = isoTime(clock.now()) ?? '';
  await markBroken(store.control, id, { by: actor.by, reason, at });
  await buryLease({ store, clock }, name);
  report('warn', `lease ${id} of ${holder} on ${host} was ${reason}: it is taken as dead`, {
    lease: id,
    event: LEASE_DIED,
  });
}

/** The lease that keeps a key from being moved (`sweep`) or purged, or undefined. */
export function leaseOn(leases: readonly Lease[], key: string, act: 'sweep' | 'purge'): Lease | undefined {
  return leases.find((lease) => (act === 'purge' || lease.blocks === 'sweep') && leaseCovers(lease, key));
}

/** Whether a lease that was in force still forbids sweeps: it may have ended, been broken or become weaker. */
export async function stillBlocksSweeps(place: LeasePlace, { name, id }: Lease): Promise<boolean> {
  const lease = await readLease(place.store.control, name);
  return lease?.blocks === 'sweep' && !(await isBroken(place.store.control, id));
}

/** A lease in words, for what it keeps. */
export function leaseText({ id, holder, host, acquiredAt }: Lease): string {
  return `lease ${id} of ${holder}${host === '' ? '' : ` on ${host}`}${acquiredAt === '' ? '' : `, since ${acquiredAt}`}`;
}
