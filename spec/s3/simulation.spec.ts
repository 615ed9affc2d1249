import { expect } from 'chai';
import { recover } from '../../lib/app/recover.ts';
import { TombstonedError } from '../../lib/domain/errors.ts';
import { parseKey } from '../../lib/domain/key.ts';
import type { Revision } from '../../lib/domain/revision.ts';
import { purge } from '../../lib/purge/purge.ts';
import { LeaseLost } from '../../lib/reader/lease-term.ts';
import { Reader } from '../../lib/reader/reader.ts';
import { openSession } from '../../lib/reader/session.ts';
import { restore } from '../../lib/restore/restore.ts';
import { listFences } from '../../lib/store/fences.ts';
import type { Capabilities } from '../../lib/store/s3/api.ts';
import { sweep } from '../../lib/sweep/sweep.ts';
import { ACTOR, age, DAY, NO_GUARDS, seeded } from '../support/place.ts';
import { freshBucket, type S3Server, s3ServerOrSkip } from '../support/s3-server.ts';
import { PENDING, withCredentials } from './bucket-place.ts';
import { AMAZON, RGW, RGW_VERSIONED } from './capabilities.ts';
import { CALM, type SteppedProcess, SteppedWorld, type Temper, type Watch } from './stepped-world.ts';

/** How long to try seeds. s. */
const SECONDS = Number(process.env['S3_SIM_SECONDS'] ?? 25);
const SEED = Number(process.env['S3_SIM_SEED'] ?? Math.floor(Math.random() * 1_000_000));

interface Kind {
  readonly name: string;
  readonly versioned: boolean;
  readonly isAmazon: boolean;
  readonly capabilities: Capabilities;
  /** Whether others may write at any moment, and nothing is lost (docs/s3.md). */
  readonly mayWrite: boolean;
}

const KINDS: readonly Kind[] = [
  { name: 'RGW', versioned: false, isAmazon: false, capabilities: RGW, mayWrite: false },
  { name: 'versions', versioned: true, isAmazon: false, capabilities: RGW_VERSIONED, mayWrite: true },
  { name: 'Amazon', versioned: false, isAmazon: true, capabilities: AMAZON, mayWrite: true },
];
const KEYS = ['a/1', 'a/2', 'b/3'];
const TTL_MS = 600_000;
const LATE_MS = 17 * 60_000;
const DEAD_MS = 32 * 60_000;

type Role = (world: SteppedWorld, process: SteppedProcess, kind: Kind) => Promise<void>;

describe('The simulation over HTTP', function () {
  this.timeout((SECONDS + 120) * 1000);
  let server: S3Server;
  before(function () {
    server = s3ServerOrSkip(this);
  });
  withCredentials();

  it(`keeps every promise in all seeds that ${SECONDS} s have room for`, async () => {
    const buckets = new Map<Kind, Awaited<ReturnType<typeof freshBucket>>>();
    const end = performance.now() + SECONDS * 1000;
    let seed = SEED;
    try {
      for (const kind of KINDS) buckets.set(kind, await freshBucket(server, { versioned: kind.versioned }));
      do {
        const kind = KINDS[seed % KINDS.length];
        const bucket = kind && buckets.get(kind);
        if (kind === undefined || bucket === undefined) throw new Error('no such kind');
        await runSeed(seed, kind, server, bucket.name);
        seed += 1;
      } while (performance.now() < end);
    } finally {
      for (const bucket of buckets.values()) await bucket.remove();
    }
    process.stdout.write(`      ${seed - SEED} seeds from ${SEED} on\n`);
  });
});

async function runSeed(seed: number, kind: Kind, server: S3Server, bucket: string): Promise<void> {
  const random = seeded(seed * 2_654_435_761);
  for (let i = 0; i < 10; i++) random(2);
  const chance = (percent: number): boolean => random(100) < percent;
  const temper: Temper = {
    lost: chance(50) ? 0 : 0.05,
    refused: chance(50) ? 0 : 0.03,
    late: chance(50) ? 0 : 0.1,
    freeze: chance(50) ? 0 : 0.01,
    death: chance(40) ? 0 : 0.01,
    wake: chance(30) ? 0 : 0.05,
  };
  const world = await SteppedWorld.make({
    server,
    bucket,
    prefix: `seed-${seed}/`,
    isAmazon: kind.isAmazon,
    capabilities: kind.capabilities,
    random,
    temper,
    window: chance(60) ? 0 : 1_200_000,
  });
  try {
    for (const key of KEYS) await world.contents.write(key);
    await world.run(history(world, kind));
  } catch (error) {
    const replay = `S3_SIM_SEED=${seed} S3_SIM_SECONDS=0 npx mocha spec/s3/simulation.spec.ts`;
    const trace = world.trace.slice(-60).join('\n');
    throw new Error(`seed ${seed} (${kind.name}): ${String(error)}\n${trace}\nreplay: ${replay}`, {
      cause: error,
    });
  } finally {
    await world.close();
  }
}

async function history(world: SteppedWorld, kind: Kind): Promise<void> {
  const roles: Record<string, Role> = { mover, purger, restorer, session, reader };
  if (kind.mayWrite) roles['writer'] = writer;
  const cast = ['mover', 'purger', 'restorer', 'session', 'mover', 'reader', 'writer', 'restorer', 'session'];
  const count = 4 + world.random(4);
  await Promise.all(
    cast.slice(0, count).map(async (name) => {
      const role = roles[name];
      if (role !== undefined) await play(world, name, role, kind);
    }),
  );
  await quiet(world);
}

/** Does a role's work, again and again; a process that is killed may be started again. */
async function play(world: SteppedWorld, name: string, role: Role, kind: Kind): Promise<void> {
  for (let start = 0; start < 3; start++) {
    const process = await world.process(name);
    try {
      for (let round = 1 + world.random(2); round > 0 && !process.isDead; round--) {
        await attempt(world, process, async () => {
          await process.clock.sleep(process.random(30_000));
          await role(world, process, kind);
        });
      }
    } finally {
      if (!process.isDead) process.die();
      else world.note(process.name, 'is dead');
    }
    if (world.random(2) === 0) return;
  }
}

/** What fails is an answer like any other; a bug is not. */
async function attempt(
  world: SteppedWorld,
  process: SteppedProcess,
  work: () => Promise<void>,
): Promise<void> {
  try {
    await work();
  } catch (error) {
    if (process.isDead) return;
    const isUnanswered = error instanceof Error && error.name === 'Unanswered';
    if (!(error instanceof TombstonedError) && !isUnanswered) throw error;
    world.note(process.name, `ended in ${error.message}`);
  }
}

const mover: Role = async (world, process) => {
  const { place } = await world.open(process);
  await recover(place);
  const prefix = process.random(2) === 0 ? '' : 'a/';
  await sweep(place, {
    policies: [age({ prefix, olderThan: 0 })],
    guards: NO_GUARDS,
    dryRun: false,
    batchSize: 1 + process.random(3),
  });
};

const purger: Role = async (world, process) => {
  const { place } = await world.open(process);
  await process.clock.sleep(process.random(2 * world.window + 60_000));
  await recover(place);
  await purge(place, { dryRun: false, historyFor: 400 * DAY });
};

const restorer: Role = async (world, process, kind) => {
  const { place } = await world.open(process);
  await process.clock.sleep(process.random(120_000));
  await recover(place);
  const there = place.catalog.tombstones
    .page({ limit: 100 })
    .filter(({ state }) => state === 'pending' || state === 'restored');
  const chosen = there[process.random(Math.max(1, there.length))];
  if (chosen === undefined) return;
  await restore(place, {
    pages: [[chosen]],
    to: null,
    force: false,
    exemptFor: 400 * DAY,
    dryRun: false,
    onOutcome: ({ key, outcome, detail }) => {
      world.note(process.name, `restore of ${chosen.id}: ${outcome} ${detail ?? ''}`);
      if (outcome !== 'restored' || kind.mayWrite) return;
      const live = world.contents.liveEtag(key);
      if (live !== etagOf(chosen.revision))
        world.break('a restore is true', `${key} was reported as restored, and is not live`);
    },
  });
};

const writer: Role = async (world, process) => {
  const key = KEYS[process.random(KEYS.length)];
  if (key === undefined) throw new Error('no keys');
  await process.act(async () => {
    world.note(process.name, `writes ${key}`);
    await world.contents.write(key);
  });
};

const reader: Role = async (world, process) => {
  const { store } = await world.open(process);
  const reads = new Reader(store, { clock: process.clock });
  for (const key of KEYS) {
    try {
      const text = (await reads.bytes(parseKey(key))).toString();
      expect(text.startsWith(`${key}#`)).to.equal(true);
    } catch (error) {
      if (!(error instanceof TombstonedError) || error.code !== 'not-found') throw error;
      if (!world.contents.isTouched(key))
        world.break('no hole', `${process.name} did not find ${key}, which was there all the time`);
    }
  }
};

const session: Role = async (world, process) => {
  const { store } = await world.open(process);
  const prefixes = process.random(3) === 0 ? ['a/'] : [''];
  let early: string | undefined;
  const watch: Watch = {
    prefixes,
    blocks: 'purge',
    onBroken: (what) => {
      early ??= what;
    },
  };
  const open = await openSession(
    store,
    { clock: process.clock, random: process.random, actor: ACTOR },
    { prefixes, ttl: TTL_MS },
  );
  world.note(process.name, `session ${open.id} is open`);
  world.watches.add(watch);
  try {
    for (let round = 0; round < 2; round++) {
      for (const { key, revision } of [...open.view()].flat()) {
        const etag = etagOf(revision);
        try {
          const object = await open.open(key);
          const text = Buffer.concat(await object.read().toArray()).toString();
          if (text !== world.contents.textOf(etag))
            world.break('every listed revision is readable', `${process.name} read ${text} for ${key}`);
        } catch (error) {
          if (!(error instanceof TombstonedError) || error instanceof LeaseLost || process.isDead)
            throw error;
          if (error.code !== 'incomplete' && error.code !== 'not-found') throw error;
          if (!world.contents.isOverwritten(etag))
            world.break('every listed revision is readable', `${process.name}: ${error.message}`);
        }
        // It was handed out, so the lease stands.
        if (early !== undefined && !process.isDead) world.break('nothing early', early);
      }
      await process.clock.sleep(process.random(TTL_MS));
    }
  } catch (error) {
    if (!(error instanceof LeaseLost)) throw error;
    world.note(process.name, error.message);
  } finally {
    world.watches.delete(watch);
    if (!process.isDead) await open.close();
  }
};

function etagOf(revision: Revision): string {
  if (!('etag' in revision)) throw new Error('no revision of S3');
  return revision.etag;
}

/** When all is over: recovery finishes what is left, and catalog and store agree. */
async function quiet(world: SteppedWorld): Promise<void> {
  world.temper = CALM;
  const process = await world.process('last');
  process.frozenUntil = 0;
  for (let wait = 0; wait < 10; wait++) await process.clock.sleep(LATE_MS / 10); // what is late lands, or never does
  const { place, store } = await world.open(process);
  for (let round = 0; round < 3; round++) {
    await recover(place);
    await process.clock.sleep(DEAD_MS);
  }
  const { catalog, row } = place;
  const all = catalog.tombstones.page({ limit: 1000 });
  const stuck = all.filter(({ state }) => ['moving', 'purging', 'restoring'].includes(state));
  expect(stuck, 'stuck').to.deep.equal([]);
  expect(catalog.runs.open(row.n), 'open runs').to.deep.equal([]);
  expect(await listFences(store.control), 'fences').to.deep.equal([]);
  const kept = all.filter(({ state }) => state === 'pending' || state === 'restored');
  const pending = [...(await world.listed()).keys()].filter((name) => name.startsWith(PENDING));
  expect(pending, 'pending copies').to.have.members(kept.map(({ key, id }) => `${PENDING}${key}~${id}`));
  expect(await world.contents.missing(), 'lost').to.deep.equal([]);
}
