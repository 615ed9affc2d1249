import { recover } from '../../lib/app/recover.ts';
import type { RandomSource } from '../../lib/domain/ids.ts';
import { generationOf } from './disk.ts';
import * as roles from './roles.ts';
import { play } from './roles.ts';
import { type Temper, Violation } from './scheduler.ts';
import { seeded } from './surroundings.ts';
import { type Setting, World } from './world.ts';

/** What a seed has come to. */
export interface Ended {
  readonly seed: number;
  /** What broke, or undefined. */
  readonly failure: Error | undefined;
  readonly steps: number;
  readonly setting: Setting;
  readonly trace: readonly string[];
}

export interface SeedOptions {
  readonly isTraced?: boolean;
}

const CALM: Temper = { stick: 0.5, slow: 0, wake: 0, freeze: 0, jump: 0, race: 0, late: 0, answer: 0 };

/** Runs one seed, from its setting to the last look at what is left. */
export async function runSeed(seed: number, { isTraced = false }: SeedOptions = {}): Promise<Ended> {
  const random = seeded(seed);
  const setting = settingOf(random);
  const world = new World(random, setting, isTraced);
  let failure: Error | undefined;
  try {
    await world.scheduler.run(history(world, castOf(random, setting)));
  } catch (error) {
    failure = error instanceof Error ? error : new Error(String(error));
  } finally {
    world.close();
  }
  const { steps, trace } = world.scheduler;
  return { seed, failure, steps, setting, trace };
}

function settingOf(random: RandomSource): Setting {
  const chance = (percent: number): boolean => random(100) < percent;
  const temper: Temper = {
    stick: random(10) / 10,
    slow: chance(50) ? 0 : 0.03,
    wake: chance(30) ? 0 : 0.05,
    freeze: chance(60) ? 0 : 0.01,
    jump: chance(70) ? 0 : 0.01,
    race: chance(95) ? 0 : 0.01,
    late: chance(75) ? 0 : 0.1,
    answer: chance(50) ? 0 : 0.3,
  };
  const isStale = chance(15);
  return {
    manner: chance(50) ? 'local' : 's3',
    keys: ['a/1', 'a/2', 'b/3'].slice(0, 2 + random(2)),
    window: chance(80) ? 0 : 3_600_000,
    settle: isStale ? 5000 : 0,
    staleness: isStale ? 5000 : 0,
    temper,
    longestFreeze: 100_000,
    doom: chance(50) ? 0 : 0.4,
  };
}

interface Part {
  readonly name: string;
  readonly at: 'daemonHost' | 'readerHost' | 'otherHost';
  readonly role: Parameters<typeof play>[3];
}

/** Who takes part. */
function castOf(random: RandomSource, _setting: Setting): Part[] {
  const cast: Part[] = [
    { name: 'mover', at: 'daemonHost', role: roles.mover() },
    { name: 'purger', at: 'daemonHost', role: roles.purger() },
  ];
  const others: Part[] = [
    { name: 'session', at: 'readerHost', role: roles.session },
    { name: 'session', at: 'readerHost', role: roles.session },
    { name: 'writer', at: 'otherHost', role: roles.writer },
    { name: 'writer', at: 'otherHost', role: roles.writer },
    { name: 'restorer', at: 'daemonHost', role: roles.restorer() },
    { name: 'restorer', at: 'daemonHost', role: roles.restorer() },
    { name: 'reader', at: 'readerHost', role: roles.plainReader },
    { name: 'recovery', at: 'daemonHost', role: roles.recovery() },
    { name: 'mover', at: 'daemonHost', role: roles.mover() },
    { name: 'purger', at: 'daemonHost', role: roles.purger() },
    { name: 'with-lease', at: 'readerHost', role: roles.withLease },
    { name: 'holder', at: 'otherHost', role: roles.holder },
    { name: 'lease-breaker', at: 'otherHost', role: roles.leaseBreaker },
    { name: 'fence-breaker', at: 'daemonHost', role: roles.fenceBreaker },
    { name: 'new-owner', at: 'otherHost', role: roles.newOwner },
    { name: 'old-copy', at: 'otherHost', role: roles.oldCopy },
  ];
  const count = 2 + random(4);
  for (let i = 0; i < count; i++) {
    const [part] = others.splice(random(others.length), 1);
    if (part !== undefined) cast.push(part);
  }
  return cast;
}

async function history(world: World, cast: readonly Part[]): Promise<void> {
  await Promise.all(cast.map(({ name, at, role }) => play(world, name, world[at], role)));
  await quiet(world);
}

/** When all is over: recovery finishes what is left, and catalog and store agree. */
async function quiet(world: World): Promise<void> {
  const { scheduler, truth } = world;
  scheduler.temper = CALM;
  const process = world.process('last', world.daemonHost, { isImmortal: true });
  await process.clock.sleep(60_000); // what is under way lands, or never does
  const place = world.place(process);
  await recover(place);
  if (truth.isShared) return;
  const { catalog, row } = place;
  const there = new Map(
    [...truth.copies()].map(([name, { generation }]) => [name.slice(name.lastIndexOf('~') + 1), generation]),
  );
  for (const { id, key, state, revision } of catalog.tombstones.page({ limit: 1000 })) {
    const generation = there.get(id);
    there.delete(id);
    const isKept = state === 'pending' || state === 'restored';
    if (state === 'moving' || state === 'purging' || state === 'restoring')
      throw new Violation('recovery ends', `${key}~${id} is still ${state}`);
    if (isKept && generation !== generationOf(revision))
      throw new Violation('what is recorded is true', `${key}~${id} is ${state}, and its copy is #${generation}`);
    if (!isKept && generation !== undefined)
      throw new Violation('what is recorded is true', `${key}~${id} is ${state}, and its copy is there`);
  }
  for (const [id, generation] of there)
    throw new Violation('what is recorded is true', `copy ~${id} of #${generation} is in no catalog`);
  const open = catalog.runs.open(row.n);
  if (open.length > 0) throw new Violation('recovery ends', `run ${open[0]?.id} is still open`);
}
