import { acceptClock, type ClockState, clockState } from '../../app/accept-clock.ts';
import { knownStores } from '../../app/known-stores.ts';
import { realSurroundings } from '../../app/surroundings.ts';
import { isoTime } from '../../domain/clock.ts';
import { quote } from '../../domain/key.ts';
import { formatDuration } from '../../domain/quantities.ts';
import type { Call, OptionTable, Page } from '../command.ts';
import { configOf } from '../config-of.ts';
import { usageError } from '../fail.ts';
import { withCatalog } from '../opened.ts';

export const manual = {
  synopsis: ['clock', 'clock accept [--reason TEXT] [--dry-run]'],
  description: [
    'Shows whether the clock is trusted, or accepts it as it is. Nothing is purged while it is',
    'off by more than clockTolerance: from where time since the start of this machine, or since',
    "it was last seen before that, says it should be, or from an S3 store's own. That ends when",
    'the clock is right again, or is accepted. No window ends sooner by it: they count only time',
    'in which this machine ran, or which NTP vouches for. See docs/clock.md.',
  ],
  examples: [
    ['clock', 'whether it is trusted, and why not'],
    ['clock accept --reason "was off for a week"', 'it is right: purges go on'],
  ],
} as const satisfies Page;

export const options = {
  reason: { takes: 'TEXT', says: 'With accept: why, for the record.' },
  'dry-run': { says: 'With accept: shows what would be accepted, and changes nothing.' },
} as const satisfies OptionTable;

export async function run(call: Call<typeof options>): Promise<number> {
  const { operands, out, options: given } = call;
  const [action, more] = operands;
  const see = 'see tombstonectl clock --help';
  if (action !== undefined && action !== 'accept')
    throw usageError(`there is no clock ${quote(action)}`, see, action);
  if (more !== undefined) throw usageError(`clock accept takes no ${quote(more)}`, see, more);
  const dryRun = given['dry-run'];
  if (action === undefined && (given.reason !== undefined || dryRun))
    throw usageError(`clock takes no --${dryRun ? 'dry-run' : 'reason'}`, see);
  const config = configOf(call);
  return withCatalog(config, async (catalog) => {
    // The clock is one for all stores, so each has its part, whatever --store names.
    const known = knownStores(
      catalog,
      config.stores.filter(({ name }) => catalog.storeByName(name) !== undefined),
    );
    const surroundings = realSurroundings(out.report);
    const state = await clockState(catalog, known, surroundings);
    if (action === undefined) {
      out.result(objectOf(state, catalog.clock.tolerance), () => textOf(state, catalog.clock.tolerance));
      return 0;
    }
    const problems = problemsOf(state);
    const outcome = problems.length === 0 ? 'already' : dryRun ? 'would be' : 'accepted';
    if (outcome === 'accepted') {
      acceptClock(catalog, known, state, { ...surroundings, reason: given.reason ?? null });
    }
    out.result({ type: 'clock-accepted', outcome, problems }, () => {
      if (outcome === 'already') return 'the clock is right: there is nothing to accept';
      return `${outcome === 'accepted' ? 'accepted' : 'would be accepted'}: ${problems.join('; ')}`;
    });
    return 0;
  });
}

function problemsOf({ problem, stores }: ClockState): string[] {
  const ofStores = stores.flatMap((store) =>
    store.problem === null ? [] : [`${store.name}: ${store.problem}`],
  );
  return problem === null ? ofStores : [problem, ...ofStores];
}

function objectOf({ standing, problem, stores }: ClockState, tolerance: number) {
  const { isRight, wall, vouched, off, isRestarted } = standing;
  return {
    type: 'clock',
    trusted: isRight && stores.every((store) => store.problem === null),
    problem,
    now: isoTime(wall),
    expected: isoTime(vouched),
    offSeconds: off / 1000,
    restarted: isRestarted,
    toleranceSeconds: tolerance / 1000,
    stores: stores.map(({ name, ahead, accepted, problem: ofStore }) => ({
      name,
      aheadSeconds: ahead === null ? null : ahead / 1000,
      acceptedSeconds: accepted / 1000,
      problem: ofStore,
    })),
  } as const;
}

function textOf(state: ClockState, tolerance: number): string {
  const { standing, stores } = state;
  const problems = problemsOf(state);
  const lines = [
    `clock      ${isoTime(standing.wall)}`,
    `expected   ${isoTime(standing.vouched)}, by ${formatDuration(tolerance)} more or less`,
  ];
  for (const { name, ahead } of stores) {
    if (ahead === null) continue;
    const side = ahead < 0 ? 'behind' : 'ahead of';
    lines.push(`${name.padEnd(9)}  ${formatDuration(Math.abs(ahead))} ${side} the store's clock`);
  }
  if (problems.length === 0) return [...lines, 'it is trusted: purges go on'].join('\n');
  return [
    ...lines,
    ...problems.map((problem) => `nothing is purged: ${problem}`),
    'if it is right now: tombstonectl clock accept',
  ].join('\n');
}
