import { finished } from 'node:stream/promises';
import { breakFence, breakLease } from '../../lib/app/break-claims.ts';
import { Holding } from '../../lib/app/put-hold.ts';
import { recover } from '../../lib/app/recover.ts';
import { TombstonedError } from '../../lib/domain/errors.ts';
import { isBelowPrefix, type Key } from '../../lib/domain/key.ts';
import { agePolicy } from '../../lib/policy/age.ts';
import { purge } from '../../lib/purge/purge.ts';
import { purgeNow } from '../../lib/purge/purge-now.ts';
import { allKeys } from '../../lib/reader/all-keys.ts';
import { LeaseHolder } from '../../lib/reader/lease-holder.ts';
import { LeaseLost } from '../../lib/reader/lease-term.ts';
import { type Found, Reader } from '../../lib/reader/reader.ts';
import { openSession, type Session, type ViewedKey } from '../../lib/reader/session.ts';
import { restore } from '../../lib/restore/restore.ts';
import type { Place } from '../../lib/run/place.ts';
import { waitForFences } from '../../lib/run/wait-for-fences.ts';
import { listFences } from '../../lib/store/fences.ts';
import { listLeases } from '../../lib/store/leases.ts';
import { sweep } from '../../lib/sweep/sweep.ts';
import { bytesOf, generationOf } from './contents.ts';
import type { Host, Process } from './scheduler.ts';
import type { Watch } from './truth.ts';
import type { World } from './world.ts';

const DAY = 86_400_000;
/** Longer than all jumps of a clock together. */
const LONG = 1000 * DAY;
const NO_LIMITS = { maxObjects: null, maxFraction: null, maxBytes: null };

/** What a process does, again and again. */
export type Role = (world: World, process: Process) => Promise<void>;

/**
 * Does a role's work in a process; one that is killed may be started again. What
 * fails is an answer, like any other; a bug is not.
 */
export async function play(
  world: World,
  name: string,
  host: Host,
  role: Role,
  { starts = 3, isSteady = false }: { starts?: number; isSteady?: boolean } = {},
): Promise<void> {
  for (let start = 0; start < starts; start++) {
    const process = world.process(name, host, { isImmortal: isSteady });
    await attempt(world, process, async () => {
      await process.clock.sleep(process.random(3000));
      await role(world, process);
    });
    if (!process.isDead || world.random(4) === 0) return;
  }
}

async function attempt(world: World, process: Process, work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    if (process.isDead) return;
    if (!(error instanceof TombstonedError)) throw error;
    world.scheduler.note(process, `${error.code}: ${error.message}`);
  }
}

async function rounds(
  world: World,
  process: Process,
  times: number,
  work: () => Promise<void>,
): Promise<void> {
  for (let i = 0; i < times && !process.isDead; i++) {
    await attempt(world, process, work);
    await attempt(world, process, () =>
      process.clock.sleep(process.random(2) === 0 ? 1 : pause(world, process)),
    );
  }
}

/** How long somebody stays away, ms: long enough for windows to pass where there are any. */
function pause(world: World, process: Process): number {
  return process.random(20_000 + world.setting.window);
}

export function mover(
  catalog = 'catalog',
  { most = 3, batchSize }: { most?: number; batchSize?: number } = {},
): Role {
  return async (world, process) => {
    const place = world.place(process, catalog);
    await rounds(world, process, 1 + process.random(most), async () => {
      await recover(place);
      const prefix = process.random(2) === 0 ? '' : 'a/';
      const settings = { name: 'old', prefix, match: '**', olderThan: DAY, keepLast: 0 } as const;
      await sweep(place, {
        policies: [agePolicy({ ...settings, unit: 'object', limits: NO_LIMITS })],
        guards: { minimumAge: 0, isProtected: () => false },
        dryRun: false,
        batchSize: batchSize ?? 1 + process.random(2),
      });
    });
  };
}

export function purger(catalog = 'catalog', most = 4): Role {
  return async (world, process) => {
    const place = world.place(process, catalog);
    await rounds(world, process, 1 + process.random(most), async () => {
      await recover(place);
      await purge(place, { dryRun: false, historyFor: LONG });
    });
  };
}

/** `purge --now` of what is pending: before its window, never under a claim; and its proof is true. */
export function eraser(catalog = 'catalog', most = 4): Role {
  return async (world, process) => {
    const { truth } = world;
    const place = world.place(process, catalog);
    await rounds(world, process, 1 + process.random(most), async () => {
      await recover(place);
      const there = place.catalog.tombstones.page({ limit: 100 });
      const some = there.filter(() => process.random(2) === 0);
      const byKey = process.random(2) === 0;
      const since = world.scheduler.now;
      for (const { key } of some) truth.erased.add(key);
      await purgeNow(place, {
        targets: (async function* () {
          for (const tombstone of some) {
            if (byKey) yield { by: 'key', key: tombstone.key } as const;
            else yield { by: 'id', id: tombstone.id, tombstone } as const;
          }
        })(),
        reason: 'sim',
        allVersions: process.random(2) === 0,
        dryRun: false,
        fenceTimeout: process.random(5000),
        onOutcome: ({ key, id, outcome, checkedAbsentAt }) => {
          world.scheduler.note(process, `${outcome} ${key} ${id}`);
          if (key === null || checkedAbsentAt === null) return;
          if (id !== null && [...truth.copies().keys()].some((name) => name.endsWith(`~${id}`)))
            truth.break('a proof is true', `${id} was proved absent, and is there`);
          if (byKey && !truth.wasAbsent(key, since))
            truth.break('a proof is true', `${key} was proved absent, and was always there`);
        },
      });
    });
  };
}

export function recovery(catalog = 'catalog'): Role {
  return async (world, process) => {
    const place = world.place(process, catalog);
    await rounds(world, process, 1 + process.random(3), () => recover(place));
  };
}

export function restorer(catalog = 'catalog', most = 3): Role {
  return async (world, process) => {
    const place = world.place(process, catalog);
    await rounds(world, process, 1 + process.random(most), () => restoreOne(world, process, place));
  };
}

async function restoreOne(world: World, process: Process, place: Place): Promise<void> {
  const there = place.catalog.tombstones
    .page({ limit: 100 })
    .filter(({ state }) => state === 'pending' || state === 'restored');
  const chosen = there[process.random(Math.max(1, there.length))];
  if (chosen === undefined) return;
  const since = world.scheduler.now;
  await restore(place, {
    pages: [[chosen]],
    to: null,
    force: false,
    exemptFor: LONG,
    dryRun: false,
    onOutcome: ({ key, outcome, detail }) => {
      world.scheduler.note(process, `restore of ${chosen.id}: ${outcome} ${detail ?? ''}`);
      world.truth.reported(key, generationOf(chosen.revision), outcome, since);
    },
  });
}

export function writer(most = 3): Role {
  return async (world, process) => {
    await rounds(world, process, 1 + process.random(most), async () => {
      const key = oneOf(world, process);
      await process.request(`write ${key}`, () => world.disk.write(key, process.host));
    });
  };
}

function oneOf(world: World, process: Process): Key {
  const key = world.keys[process.random(world.keys.length)];
  if (key === undefined) throw new Error('no keys');
  return key;
}

/** A reader without a session: what it finds was there, and "not found" is so. */
export const plainReader: Role = async (world, process) => {
  const { truth, setting } = world;
  const reader = new Reader(world.store(process), { clock: process.clock });
  await rounds(world, process, 2 + process.random(3), async () => {
    const since = world.scheduler.now;
    if (process.random(2) === 0) {
      const found = new Set<string>();
      for await (const page of allKeys(reader, '')) for (const { key } of page) found.add(key);
      for (const key of world.keys) {
        if (found.has(key) || setting.staleness > 0 || !truth.wasThere(key, since)) continue;
        truth.break('no hole', `a listing of ${process.name} has not ${key}, which was there all the time`);
      }
      return;
    }
    const key = oneOf(world, process);
    try {
      await bytes(await reader.open(key));
    } catch (error) {
      if (!(error instanceof TombstonedError) || error.code !== 'not-found' || setting.staleness > 0)
        throw error;
      if (truth.wasThere(key, since))
        truth.break('no hole', `${process.name} did not find ${key}, which was there all the time`);
    }
  });
};

async function bytes(object: Found): Promise<string> {
  if (object.readAll !== undefined) return object.readAll().toString();
  const chunks: Buffer[] = [];
  const stream = object.read();
  stream.on('data', (chunk: Buffer) => chunks.push(chunk));
  await finished(stream);
  return Buffer.concat(chunks).toString();
}

function prefixesOf(process: Process): string[] {
  return process.random(3) === 0 ? ['a/'] : [''];
}

/** Of leases. */
export const TTL_MS = 30_000;

/** A session: its view has no hole, and what it has listed it reads for as long as its lease stands. */
export const session: Role = async (world, process) => {
  await rounds(world, process, 1 + process.random(2), () => sessionOnce(world, process));
};

async function sessionOnce(world: World, process: Process): Promise<void> {
  const { truth, scheduler } = world;
  const prefixes = prefixesOf(process);
  const store = world.store(process);
  const began = scheduler.now;
  let atOpening: readonly string[] = [];
  let since = 0;
  const list = store.list.bind(store);
  store.list = (prefix, signal) => {
    // From here on the lease is in force. Caches may not show what has come since it was written.
    const live = truth.liveKeys(world.setting.staleness > 0 ? began : scheduler.now);
    atOpening = live.filter((key) => prefixes.some((one) => isBelowPrefix(key, one)));
    since = scheduler.now;
    return list(prefix, signal);
  };
  let early: string | undefined;
  const watch: Watch = {
    name: process.name,
    prefixes,
    blocks: 'purge',
    onBroken: (what) => {
      early ??= what;
    },
  };
  truth.watches.add(watch);
  let open: Session | undefined;
  try {
    open = await openSession(store, surroundings(process), { prefixes, ttl: TTL_MS });
    early = undefined; // what went before it was open
    scheduler.note(process, `session ${open.id} is open`);
    const view = [...open.view()].flat();
    for (const key of atOpening) {
      if (view.some((listed) => listed.key === key)) continue;
      truth.break('no hole', `the view of ${process.name} has not ${key}, which was live when it opened`);
    }
    for (const { key, revision } of view) {
      if (truth.wasLive(key, generationOf(revision), since - world.setting.staleness)) continue;
      truth.break(
        'no hole',
        `the view of ${process.name} has ${key}#${generationOf(revision)}, which was not live`,
      );
    }
    for (let i = 0; i < 2 * view.length; i++) {
      const listed = view[process.random(view.length)];
      if (listed === undefined) break;
      await readListed(world, process, open, listed);
      // It was handed out, so the lease stands: what was purged meanwhile was purged too early.
      if (early !== undefined && !process.isDead && scheduler.areClocksRight && !world.broken.has(open.id))
        truth.break('nothing early', early);
      if (process.random(3) === 0) await process.clock.sleep(process.random(TTL_MS));
    }
  } catch (error) {
    if (error instanceof LeaseLost) scheduler.note(process, error.message);
    else throw error;
  } finally {
    truth.watches.delete(watch);
    if (!process.isDead) await open?.close();
  }
}

async function readListed(world: World, process: Process, open: Session, listed: ViewedKey): Promise<void> {
  const { key, revision } = listed;
  const { truth } = world;
  const generation = generationOf(revision);
  try {
    const object = await open.open(key);
    const read = await bytes(object);
    if (read !== bytesOf({ key, generation }).toString())
      truth.break(
        'every listed revision is readable',
        `${process.name} read ${read.trim()} for ${key}#${generation}`,
      );
  } catch (error) {
    if (!(error instanceof TombstonedError) || error instanceof LeaseLost || process.isDead) throw error;
    if (error.code !== 'incomplete' && error.code !== 'not-found') throw error;
    if (truth.isOverwritten(key, generation)) return;
    truth.break('every listed revision is readable', `${process.name}: ${error.message}`);
  }
}

function surroundings({ clock, random, host }: Process): Parameters<typeof openSession>[1] {
  return { clock, random, actor: { pid: 1, host: host.name, by: `sim@${host.name}` } };
}

/** `with-lease`: nothing it covers is moved or purged while its lease stands. */
export const withLease: Role = async (world, process) => {
  const { truth } = world;
  const prefixes = prefixesOf(process);
  const store = world.store(process);
  const lease = await LeaseHolder.acquire(store, surroundings(process), {
    prefixes,
    blocks: 'sweep',
    ttl: TTL_MS,
  });
  let watch: Watch | undefined;
  try {
    await waitForFences(store, prefixes, { clock: process.clock, signal: lease.signal });
    lease.check();
    world.scheduler.note(process, `lease ${lease.id} is in force`);
    watch = {
      name: process.name,
      prefixes,
      blocks: 'sweep',
      onBroken: (what) => {
        if (process.isDead || lease.signal.aborted || world.broken.has(lease.id)) return;
        if (!world.scheduler.areClocksRight) return;
        try {
          lease.check();
        } catch {
          return; // it knows
        }
        truth.break('nothing early', what);
      },
    };
    truth.watches.add(watch);
    for (let i = 0; i < 3; i++) {
      await process.clock.sleep(process.random(TTL_MS));
      await lease.confirm();
    }
  } finally {
    if (watch !== undefined) truth.watches.delete(watch);
    if (!process.isDead) await lease.release();
  }
};

/** `hold` and `pause`: nothing they cover is moved or purged once they are reported. */
export const holder: Role = async (world, process) => {
  const { truth } = world;
  const { clock, random } = process;
  const report: Place['report'] = (level, message) => world.scheduler.note(process, `${level}: ${message}`);
  const { actor } = surroundings(process);
  const store = world.store(process);
  const at = { store, clock, random, actor: { ...actor, boot: process.host.boot }, report };
  const holding = new Holding(
    { ...at, name: 'sim', ctl: 'tombstonectl', known: null },
    { until: null, reason: 'sim', fenceTimeout: 60_000, dryRun: false },
  );
  const key = oneOf(world, process);
  if (process.random(2) === 0) await holding.prefix('a/');
  else await holding.key(key);
  const put = await holding.end();
  const watches = put.map(({ hold: { scope } }): Watch => {
    const prefixes = scope.by === 'prefix' ? [scope.prefix] : scope.by === 'keys' ? scope.keys : [];
    const onBroken = (what: string): void => truth.break('nothing early', what);
    return { name: process.name, prefixes, blocks: 'sweep', onBroken };
  });
  if (!process.isDead) for (const watch of watches) truth.watches.add(watch);
};

/** An operator who breaks a lease whose holder may live. */
export const leaseBreaker: Role = async (world, process) => {
  const { clock, random } = process;
  const store = world.store(process);
  const { actor } = surroundings(process);
  const report = (): void => undefined;
  await rounds(world, process, 2, async () => {
    const { names } = await listLeases(store.control);
    const name = names[process.random(Math.max(1, names.length))];
    if (name === undefined) return;
    const id = name.replace(/\.json$/, '');
    world.broken.add(id);
    const at = { store, clock, random, actor: { ...actor, boot: process.host.boot }, report };
    await breakLease({ ...at, name: 'sim', ctl: 'tombstonectl', known: null }, id, {
      reason: 'sim',
      dryRun: false,
    });
  });
};

/**
 * An operator who breaks fences: those of dead runs as `fence break` lets him, and
 * now and then one of a living run that he takes for dead, before it acts.
 */
export const fenceBreaker: Role = async (world, process) => {
  const place = world.place(process);
  const { store, catalog, row, ...rest } = place;
  const at = { ...rest, store, known: { catalog, row }, name: 'sim', ctl: 'tombstonectl' };
  await rounds(world, process, 3, async () => {
    if (process.random(2) === 0) {
      await process.request('fence break, of one that has not looked yet', () => {
        const up = world.disk.uncheckedFences();
        const name = up[process.random(Math.max(1, up.length))];
        if (name !== undefined) world.disk.removeControl(name, process.host);
      });
      return;
    }
    const names = await listFences(store.control);
    const name = names[process.random(Math.max(1, names.length))];
    if (name !== undefined) await breakFence(at, name, { force: false, reason: 'sim', dryRun: false });
  });
};

/** Another catalog takes the store over, while the old daemon runs; it acts once that is in force. */
export const newOwner: Role = async (world, process) => {
  const uuid = '00000000-0000-4000-8000-00000000000b';
  const store = world.store(process);
  const owner = { catalog: uuid, host: process.host.name, since: '2026-11-22T10:00:00.000Z' };
  await store.control.replace('owner.json', `${JSON.stringify(owner)}\n`);
  await waitForFences(store, [''], { clock: process.clock });
  if (world.truth.isShared) return;
  world.truth.isShared = true;
  world.copyCatalog('new', uuid);
  world.truth.owner = 'new';
  await withCatalog(world, process, 'new');
};

/** A daemon with a catalog that was restored from an old copy, while the old one runs. */
export const oldCopy: Role = async (world, process) => {
  if (world.truth.isShared) return;
  world.truth.isShared = true;
  world.copyCatalog('copy', undefined);
  await process.clock.sleep(process.random(60_000));
  await withCatalog(world, process, 'copy');
};

async function withCatalog(world: World, process: Process, name: string): Promise<void> {
  for (let i = 0; i < 3; i++) {
    const role = [mover, purger, purger, restorer][process.random(4)] ?? purger;
    await role(name)(world, process);
  }
}
