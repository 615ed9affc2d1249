// Replays a seed of the simulation, or runs many:
//   npm run simulate -- SEED [--trace] [--without MUTATION]
//   npm run simulate -- --from SEED [--count N | --seconds S] [--until-failure] [--without MUTATION]
//   npm run simulate -- --find [MUTATION…]     renews spec/simulation/caught.json
// Seeds from 1000000 on are of drills (spec/simulation/drills.ts), a million each.
import { spawnSync } from 'node:child_process';
import { existsSync, writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { CAUGHT, type Caught, caught } from '../spec/simulation/caught.ts';
import { firstSeedOf } from '../spec/simulation/drills.ts';
import { MUTATIONS } from '../spec/simulation/mutations.ts';
import { runSeed } from '../spec/simulation/seed.ts';
import { TestBuild } from '../spec/simulation/test-build.ts';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    trace: { type: 'boolean', default: false },
    from: { type: 'string', default: '1' },
    count: { type: 'string' },
    seconds: { type: 'string' },
    'until-failure': { type: 'boolean', default: false },
    without: { type: 'string' },
    find: { type: 'boolean', default: false },
  },
});
const { trace, seconds, 'until-failure': untilFailure, without, find } = values;
const count = values.count ?? (seconds === undefined ? '1' : 'Infinity');

if (find) await findAll(positionals);
else {
  const from = Number(positionals[0] ?? values.from);
  if (without === undefined) await run(from);
  else {
    const args = ['--from', String(from), '--count', count];
    if (trace) args.push('--trace');
    if (untilFailure) args.push('--until-failure');
    process.exitCode = runWithout(without, args, 'inherit').status ?? 1;
  }
}

/** Runs in a copy of the sources from which a rule is left out. */
function runWithout(
  name: string,
  args: readonly string[],
  stderr: 'inherit' | 'pipe',
): ReturnType<typeof spawnSync> {
  const mutation = MUTATIONS.find((one) => one.name === name);
  if (mutation === undefined)
    throw new Error(`no mutation ${name}: ${MUTATIONS.map((one) => one.name).join(' ')}`);
  const build = new TestBuild(mutation);
  try {
    const [node = '', ...command] = build.command;
    return spawnSync(node, [...command, ...args], { stdio: ['ignore', 'inherit', stderr], encoding: 'utf8' });
  } finally {
    build.remove();
  }
}

/** Looks for a seed that fails without each rule, and holds with it. */
async function findAll(names: readonly string[]): Promise<void> {
  const known: Record<string, Caught> = existsSync(CAUGHT) ? { ...caught() } : {};
  for (const { name, drill } of MUTATIONS) {
    if (names.length > 0 && !names.includes(name)) continue;
    const first = drill === undefined ? 1 : firstSeedOf(drill);
    const seed = known[name]?.seed ?? first;
    const found = (await findOne(name, seed)) ?? (seed === first ? undefined : await findOne(name, first));
    if (found === undefined) {
      console.error(`${name}: none found`);
      process.exitCode = 1;
      continue;
    }
    known[name] = found;
    console.log(`${name}: seed ${found.seed}: ${found.breaks}`);
    const inOrder = MUTATIONS.flatMap((one) =>
      known[one.name] === undefined ? [] : [[one.name, known[one.name]]],
    );
    writeFileSync(CAUGHT, `${JSON.stringify(Object.fromEntries(inOrder), null, 2)}\n`);
  }
}

async function findOne(name: string, from: number): Promise<Caught | undefined> {
  for (let seed = from; ; seed++) {
    const args = ['--from', String(seed), '--count', '10000', '--until-failure'];
    const { stderr, status } = runWithout(name, args, 'pipe');
    const [, at, breaks = ''] = /^seed (\d+): (.*)$/m.exec(String(stderr)) ?? [];
    if (at === undefined && status !== 0)
      throw new Error(`${name}: the test build failed: ${String(stderr)}`);
    if (at === undefined) return undefined;
    seed = Number(at);
    if ((await runSeed(seed)).failure === undefined) return { seed, breaks: breaks.split(':')[0] ?? '' };
  }
}

async function run(first: number): Promise<void> {
  const began = performance.now();
  let done = 0;
  let failed = 0;
  let steps = 0;
  const isTime = (): boolean => seconds === undefined || performance.now() - began < Number(seconds) * 1000;
  for (let seed = first; seed < first + Number(count) && isTime(); seed++) {
    const ended = await runSeed(seed, { isTraced: trace });
    done += 1;
    steps += ended.steps;
    if (trace) console.log(`${JSON.stringify(ended.setting)}\n${ended.trace.join('\n')}`);
    if (ended.failure === undefined) continue;
    failed += 1;
    console.error(`seed ${seed}: ${trace ? ended.failure.stack : ended.failure.message}`);
    if (untilFailure) break;
  }
  const took = (performance.now() - began) / 1000;
  console.log(`${done} seeds from ${first} on, ${failed} failed, ${steps} steps, ${took.toFixed(1)} s`);
  process.exitCode = failed > 0 ? 1 : 0;
}
