import { setImmediate } from 'node:timers/promises';
import type { CachedHold } from '../catalog/holds.ts';
import type { Clock } from '../domain/clock.ts';
import { messageOf, TombstonedError } from '../domain/errors.ts';
import { type FenceKind, overlap, readFence } from '../store/fences.ts';
import { listHolds, readHold } from '../store/holds.ts';
import { checkIdentity } from '../store/identity.ts';
import type { Lease } from '../store/leases.ts';
import { checkOwner } from '../store/owner.ts';
import type { Pulse } from '../store/store.ts';
import { leaseText, lookAtLeases, stillBlocksSweeps } from './leases.ts';
import { isNews } from './news.ts';
import type { Place } from './place.ts';
import type { Run } from './run.ts';
import type { StandingFence } from './run-fences.ts';
import { SHARED_MS } from './wait-for-fences.ts';

/** A batch that is announced by a fence, and that nothing forbids as a whole. */
export interface Batch {
  /** The leases that were in force when it was looked, after the fence. */
  readonly leases: readonly Lease[];
  /** Looks for the fence again where the batch takes long; throws when it has gone (R5). */
  readonly pulse: Pulse;
  /** Takes the fence down: what became of the batch is recorded. A batch that fails keeps it, for its run's end to see to. */
  end(): Promise<void>;
}

/** What a batch is about to do, and to what: byte prefixes. */
export interface Announcement {
  readonly kind: FenceKind;
  readonly prefixes: readonly string[];
  /** Whether it waits for leases that keep it from moving: a policy's sweep does, somebody who waits for a key does not. */
  readonly isPatient?: boolean;
}

/** How long a batch goes on before it looks for its fence again. ms. */
const PULSE_MS = 10_000;
/** How long a sweep waits, once, for leases that keep it from moving: sessions that list weaken theirs soon. ms. */
const PATIENCE_MS = 20_000;
const PATIENCE_PAUSE_MS = 100;
/**
 * Begins one batch: puts up a fence, then looks at what forbids it: identity (R10),
 * owner, holds and leases (R5); and at its own fence once more. Movers and
 * purgers come through here. Throws, with the fence down, where all is forbidden;
 * undefined, with the fence down, where the signal aborts meanwhile.
 */
export async function begin(
  place: Place,
  run: Run,
  announcement: Announcement,
  signal?: AbortSignal,
): Promise<Batch | undefined> {
  await setImmediate(); // a local batch blocks: signals and timers get their turn before it
  const { store, clock } = place;
  const shared = run.fences.shared;
  if (shared !== undefined && clock.monotonic() - shared.since < SHARED_MS && covers(shared, announcement)) {
    await checkFence(place, shared.name);
    return batchUnder(place, run, shared);
  }
  await run.fences.retireShared(store);
  const name = await run.fences.putUp(place, announcement);
  try {
    if (store.settle > 0) await clock.sleep(store.settle, signal);
    await look(place);
    let leases = await lookAtLeases(place);
    if (announcement.isPatient === true) {
      leases = await waitPatiently(place, run, announcement, name, leases, signal);
    }
    await checkFence(place, name);
    if (signal?.aborted === true) {
      await run.fences.takeDown(store, name);
      return undefined;
    }
    const up = { name, since: clock.monotonic(), announcement, leases, users: 0 };
    if (store.settle > 0) run.fences.shared = up;
    return batchUnder(place, run, up);
  } catch (error) {
    try {
      await run.fences.takeDown(store, name);
    } catch (second) {
      place.report('warn', `fence ${name} is still up: ${messageOf(second)}`); // the run's end tries again
    }
    throw error;
  }
}

/** Takes down the fence that batches shared: the run goes on to something else, and others wait for it. */
export async function retireShared({ store, report }: Place, run: Run): Promise<void> {
  try {
    await run.fences.retireShared(store);
  } catch (error) {
    report('warn', `a fence of run ${run.id} is still up: ${messageOf(error)}`); // the run's end tries again
  }
}

function covers({ announcement }: StandingFence, { kind, prefixes }: Announcement): boolean {
  if (announcement.kind !== kind) return false;
  return prefixes.every((prefix) => announcement.prefixes.some((own) => prefix.startsWith(own)));
}

function batchUnder(place: Place, run: Run, fence: StandingFence): Batch {
  const { store, clock } = place;
  const { name, leases } = fence;
  fence.users += 1;
  let looked = instantOf(clock);
  return {
    leases,
    pulse: async () => {
      // A machine that was suspended shows it by its wall clock only.
      const passed = Math.max(clock.monotonic() - looked.monotonic, Math.abs(clock.now() - looked.wall));
      if (passed < PULSE_MS) return;
      await checkFence(place, name);
      looked = instantOf(clock);
    },
    end: async () => run.fences.leave(store, fence),
  };
}

/** A moment by both clocks of a process, ms. */
function instantOf(clock: Clock): { monotonic: number; wall: number } {
  return { monotonic: clock.monotonic(), wall: clock.now() };
}

/** Throws `blocked` (fence) when somebody has taken this run's own fence down: whoever waited for it goes on. */
async function checkFence({ store }: Place, name: string): Promise<void> {
  if ((await readFence(store.control, name)) !== undefined) return;
  throw new TombstonedError(
    'blocked',
    `fence ${name} of this run was broken: nothing more is done under it`,
    {
      reason: 'fence',
      key: name,
      hint: 'break the fences of dead processes only',
    },
  );
}

/**
 * Waits, once a run, for leases that keep a sweep from moving. A session that
 * comes meanwhile sees the fence and waits for this batch: so sessions that open
 * back to back do not starve sweeps, as long as each lists within this time.
 */
async function waitPatiently(
  place: Place,
  run: Run,
  { prefixes }: Announcement,
  name: string,
  leases: readonly Lease[],
  signal: AbortSignal | undefined,
): Promise<Lease[]> {
  const { clock } = place;
  const inTheWay = leases.filter((lease) => lease.blocks === 'sweep' && overlap(lease.prefixes, prefixes));
  if (inTheWay.length === 0 || run.fences.hasWaited) return [...leases];
  run.fences.hasWaited = true;
  const [first] = inTheWay;
  const text = first === undefined ? '' : leaseText(first);
  place.report('info', `waiting up to ${PATIENCE_MS / 1000} s for ${text}, which keeps sweeps away`);
  const began = clock.monotonic();
  const gone = new Set<Lease>();
  for (;;) {
    for (const lease of inTheWay)
      if (!gone.has(lease) && !(await stillBlocksSweeps(place, lease))) gone.add(lease);
    if (gone.size === inTheWay.length || clock.monotonic() - began >= PATIENCE_MS) break;
    await clock.sleep(PATIENCE_PAUSE_MS, signal);
    if (signal?.aborted === true) break;
    await checkFence(place, name);
  }
  // Only those of the first look count: each that came later waits for this fence.
  return leases.filter((lease) => !gone.has(lease));
}

/** Reads what the store says about identity, owner and holds; the catalog's cache is up to date after it. */
export async function look(place: Place): Promise<void> {
  place.catalog.checkFile();
  await checkIdentity(place.store, place.row.uuid);
  await checkOwner(place.store, place.catalog.uuid);
  await refreshHolds(place);
}

/**
 * Brings the cache of holds up to date. Holds never change once written, so only
 * new names are read, and those again that were unclear: somebody may mend them.
 */
export async function refreshHolds(
  place: Pick<Place, 'store' | 'catalog' | 'row' | 'report'>,
): Promise<void> {
  const { store, catalog, row, report } = place;
  // In this order: what a restore adds to both meanwhile is not taken as dropped.
  const unclear = new Map(catalog.holds.unclear(row.n).map(({ name, problem }) => [name, problem]));
  const known = new Set(catalog.holds.names(row.n));
  const names = new Set(await listHolds(store.control));
  const added: { hold: CachedHold; members: readonly string[] }[] = [];
  for (const name of names) {
    if (known.has(name) && !unclear.has(name)) continue;
    const hold = await readHold(store.control, name);
    if (hold === undefined) continue; // released between the two looks
    if (hold.problem !== null && isNews(store, `${name} ${hold.problem}`)) {
      report('error', `.tombstoned/holds/${name} ${hold.problem}: it counts as a hold on everything`, {
        hint: 'bring the file back, or remove it by hand if nobody needs that hold',
      });
    }
    if (hold.problem !== null && hold.problem === unclear.get(name)) continue;
    const { scope, ...rest } = hold;
    added.push({
      hold: { ...rest, name, scope: scope.by, prefix: scope.by === 'prefix' ? scope.prefix : null },
      members: scope.by === 'keys' ? scope.keys : scope.by === 'ids' ? scope.ids : [],
    });
  }
  const read = new Set(added.map(({ hold }) => hold.name));
  const dropped = [...known].filter((name) => !names.has(name) || read.has(name));
  if (added.length === 0 && dropped.length === 0) return;
  catalog.transaction(() => {
    for (const name of dropped) catalog.holds.drop(row.n, name);
    for (const { hold, members } of added) catalog.holds.add(row.n, hold, members);
  });
}
