import { recover } from '../../lib/app/recover.ts';
import type { RandomSource } from '../../lib/domain/ids.ts';
import { listHolds, removeHoldNamed } from '../../lib/store/holds.ts';
import { generationOf } from './contents.ts';
import { drillOf } from './drills.ts';
import {
  FENCE_BREAKER,
  HOLDER,
  LEASE_BREAKER,
  MOVER,
  NEW_OWNER,
  OLD_COPY,
  type Part,
  PURGER,
  READER,
  RECOVERY,
  RESTORER,
  SESSION,
  type Theme,
  WITH_LEASE,
  WRITER,
} from './parts.ts';
import { play, TTL_MS } from './roles.ts';
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

const CALM: Temper = {
  stick: 0.5,
  slow: 0,
  wake: 0,
  freeze: 0,
  jump: 0,
  race: 0,
  late: 0,
  between: 0,
  answer: 0,
};

/** Runs one seed, from its setting to the last look at what is left. */
export async function runSeed(seed: number, { isTraced = false }: SeedOptions = {}): Promise<Ended> {
  const random = seeded(seed);
  const drill = drillOf(seed);
  const theme = drill ?? THEMES[random(THEMES.length)] ?? {};
  const setting = settingOf(random, theme);
  const world = new World(random, setting, isTraced);
  let failure: Error | undefined;
  try {
    await world.scheduler.run(history(world, drill?.cast ?? castOf(random, theme)));
  } catch (error) {
    failure = error instanceof Error ? error : new Error(String(error));
  } finally {
    world.close();
  }
  const { steps, trace } = world.scheduler;
  return { seed, failure, steps, setting, trace };
}

const ALL: readonly Part[] = [
  MOVER,
  PURGER,
  SESSION,
  SESSION,
  WRITER,
  WRITER,
  RESTORER,
  RESTORER,
  READER,
  RECOVERY,
  WITH_LEASE,
  HOLDER,
  LEASE_BREAKER,
  FENCE_BREAKER,
  NEW_OWNER,
  OLD_COPY,
];

/** Half of all seeds are of the first kind: of everything. */
const THEMES: readonly Theme[] = [
  {},
  {},
  {},
  {},
  {},
  {},
  {},
  { temper: { freeze: 0.02 }, setting: { doom: 0 }, cast: [SESSION, SESSION, WITH_LEASE] },
  {
    temper: { late: 0.2 },
    setting: { manner: 's3', window: 0 },
    cast: [RESTORER, RESTORER, RESTORER, SESSION],
  },
  { temper: { race: 0.02 }, setting: { doom: 0.5, window: 0 }, cast: [SESSION, SESSION, PURGER] },
  { setting: { settle: 5000, staleness: 5000 }, cast: [SESSION, WITH_LEASE, HOLDER] },
  { setting: { window: 0 }, cast: [RESTORER, RESTORER, RESTORER, PURGER, SESSION] },
  { setting: { manner: 'disk', settle: 0, staleness: 0 } },
  {
    setting: { manner: 'disk', settle: 0, staleness: 0, window: 0 },
    temper: { between: 0.1 },
    cast: [RESTORER, RESTORER, RESTORER, SESSION],
  },
  { setting: { manner: 's3', doom: 0.5 }, cast: [WITH_LEASE, HOLDER, MOVER, RECOVERY, FENCE_BREAKER] },
  { setting: { doom: 0.7 }, cast: [SESSION, WITH_LEASE, HOLDER, MOVER, RECOVERY] },
];

function settingOf(random: RandomSource, theme: Theme): Setting {
  const chance = (percent: number): boolean => random(100) < percent;
  const temper: Temper = {
    stick: random(10) / 10,
    slow: chance(50) ? 0 : 0.03,
    wake: chance(30) ? 0 : 0.05,
    freeze: chance(60) ? 0 : 0.01,
    jump: chance(70) ? 0 : 0.01,
    race: chance(97) ? 0 : 0.01,
    late: chance(75) ? 0 : 0.1,
    between: chance(50) ? 0 : 0.03,
    answer: chance(50) ? 0 : 0.3,
    ...theme.temper,
  };
  const isStale = chance(10);
  return {
    manner: chance(50) ? 'local' : 's3',
    keys: ['a/1', 'a/2', 'b/3'].slice(0, 2 + random(2)),
    window: chance(80) ? 0 : 3_600_000,
    settle: isStale ? 5000 : 0,
    staleness: isStale ? 5000 : 0,
    longestFreeze: 100_000,
    doom: chance(50) ? 0 : 0.4,
    ...theme.setting,
    temper,
  };
}

/** Who takes part. */
function castOf(random: RandomSource, theme: Theme): Part[] {
  const others = [
    ...(theme.cast ?? []),
    ...(theme.cast === undefined ? ALL : [WRITER, MOVER, PURGER, RESTORER]),
  ];
  const cast = [MOVER, PURGER];
  const count = 2 + random(4);
  for (let i = 0; i < count; i++) cast.push(...others.splice(random(others.length), 1));
  return cast;
}

async function history(world: World, cast: readonly Part[]): Promise<void> {
  const playing = cast.map(({ name, at, role, isSteady = false }) =>
    play(world, name, world[at], role, { isSteady }),
  );
  await Promise.all(playing);
  await quiet(world);
}

/** When all is over: recovery finishes what is left, and catalog and store agree. */
async function quiet(world: World): Promise<void> {
  const { scheduler, truth } = world;
  scheduler.temper = CALM;
  const process = world.process('last', world.daemonHost, { isImmortal: true });
  await process.clock.sleep(60_000); // what is under way lands, or never does
  const place = world.place(process);
  // Where a dead run's fence was broken, what claims cover is left until they are over.
  truth.watches.clear();
  for (const name of await listHolds(place.store.control)) await removeHoldNamed(place.store.control, name);
  await recover(place);
  await process.clock.sleep(3 * TTL_MS);
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
      throw new Violation(
        'what is recorded is true',
        `${key}~${id} is ${state}, and its copy is #${generation}`,
      );
    if (!isKept && generation !== undefined)
      throw new Violation('what is recorded is true', `${key}~${id} is ${state}, and its copy is there`);
  }
  for (const [id, generation] of there)
    throw new Violation('what is recorded is true', `copy ~${id} of #${generation} is in no catalog`);
  const open = catalog.runs.open(row.n);
  if (open.length > 0) throw new Violation('recovery ends', `run ${open[0]?.id} is still open`);
}
