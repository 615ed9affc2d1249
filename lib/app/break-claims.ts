import { isoTime } from '../domain/clock.ts';
import { TombstonedError } from '../domain/errors.ts';
import { idOfFile, isPlainId } from '../domain/ids.ts';
import { buryLease } from '../run/leases.ts';
import { type Fence, listFences, readFence, runOfFence, takeDownFence } from '../store/fences.ts';
import { isBroken, leaseName, listLeases, markBroken, readLease } from '../store/leases.ts';
import { type ClaimPlace, note } from './claim-place.ts';
import { type FenceStanding, lockOf, standingOfFence } from './standing-claims.ts';

export interface BreakOptions {
  readonly reason: string;
  readonly dryRun: boolean;
}

/** What became of a lease that was to be broken. */
export interface BrokenLease {
  readonly id: string;
  readonly outcome: 'broken' | 'already' | 'would be';
  readonly holder: string | null;
  readonly host: string | null;
  /** Whether its holder finds a mark: what is no lease's name can have none. */
  readonly isMarked: boolean;
  readonly problem: string | null;
}

/**
 * Ends a lease: marks its id as broken, which its holder looks for, and then takes
 * its object away. Throws `not-found` when there never was such a lease.
 */
export async function breakLease(
  place: ClaimPlace,
  text: string,
  { reason, dryRun }: BreakOptions,
): Promise<BrokenLease> {
  const { store, clock, actor, ctl } = place;
  const { control } = store;
  const { names } = await listLeases(control);
  const name = names.find((one) => one === text || one === leaseName(text));
  const id = idOfFile(text);
  const isId = isPlainId(id, 'l');
  const lease = name === undefined ? undefined : await readLease(control, name);
  if (name === undefined || lease === undefined) {
    if (isId && (await isBroken(control, id)))
      return { id, outcome: 'already', holder: null, host: null, isMarked: true, problem: null };
    throw new TombstonedError('not-found', `there is no lease ${text}: it may have been released`, {
      key: text,
      hint: `see ${ctl} lease ls`,
    });
  }
  const isMarked = isId && name === leaseName(id);
  const { holder, host, problem } = lease;
  const found = { id: isMarked ? id : name, holder, host, isMarked, problem };
  if (dryRun) return { ...found, outcome: 'would be' };
  const at = isoTime(clock.now()) ?? '';
  if (isMarked) await markBroken(control, id, { by: actor.by, reason, at });
  await buryLease(place, name);
  note(place, 'lease-broken', `lease ${found.id}`, reason);
  return { ...found, outcome: 'broken' };
}

/** What became of a fence that was to be broken. */
export interface BrokenFence {
  readonly standing: FenceStanding;
  readonly outcome: 'broken' | 'would be';
}

/**
 * Takes down a fence that a dead process left. Throws `not-found` when there is
 * none, `blocked` (fence) while its run's lock is held, and also where nothing
 * proves that its process is gone, unless the operator vouches for it (`force`).
 */
export async function breakFence(
  place: ClaimPlace,
  text: string,
  { force, reason, dryRun }: BreakOptions & { force: boolean },
): Promise<BrokenFence> {
  const { store, known, ctl } = place;
  const { control } = store;
  const name = (await listFences(control)).find((one) => one === text || one === `${text}.json`);
  const fence = name === undefined ? undefined : await readFence(control, name);
  if (fence === undefined) {
    throw new TombstonedError('not-found', `there is no fence ${text}: its batch may be over`, {
      key: text,
      hint: `see ${ctl} fence ls`,
    });
  }
  const standing = standingOfFence(place, fence);
  const lock = lockOf(fence, known?.catalog);
  try {
    if (lock === 'held') {
      throw blocked(fence.name, 'its run is under way: its lock is held', 'wait for it, or end its process');
    }
    if ((lock === 'elsewhere' || lock === 'unclear') && !force) {
      const why =
        lock === 'elsewhere'
          ? `its run is in ${fence.owner === null ? 'another catalog' : `catalog ${fence.owner.catalog}, on ${fence.owner.host}`}, which is not at hand`
          : 'nothing here proves that its process is gone';
      throw blocked(
        fence.name,
        why,
        'any sweep or purge with its own catalog recovers it; if you know that its process is gone, add --force',
      );
    }
    await refuseLate(place, fence);
    if (dryRun) return { standing, outcome: 'would be' };
    await takeDownFence(control, fence.name);
    note(place, 'fence-broken', `fence ${fence.name}`, reason);
    return { standing, outcome: 'broken' };
  } finally {
    if (typeof lock !== 'string') lock.release();
  }
}

/**
 * Throws while requests under a fence may still take effect (R5): counted from when
 * its run was first found dead, where this catalog knows it, else from its beginning.
 */
async function refuseLate({ store: { late }, known }: ClaimPlace, { name, startedAt }: Fence): Promise<void> {
  if (late === undefined) return;
  const now = await late.time();
  const id = runOfFence(name);
  const run = id === undefined ? undefined : known?.catalog.runs.byId(id);
  const began = Date.parse(startedAt);
  if (run === undefined && Number.isNaN(began)) return; // whoever breaks an unclear one vouches for it
  const since = run === undefined ? began : (known?.catalog.runs.deadSince(run.n, now) ?? now);
  const left = since + late.for - now;
  if (left <= 0) return;
  const when = `for ${Math.ceil(left / 60_000)} min`;
  throw blocked(name, `requests under it may still take effect ${when}`, 'break it after that');
}

function blocked(name: string, why: string, hint: string): TombstonedError {
  return new TombstonedError('blocked', `fence ${name} stays: ${why}`, { reason: 'fence', key: name, hint });
}
