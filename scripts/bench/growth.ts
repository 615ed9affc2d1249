import { readFileSync, rmSync } from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { growthChart } from './chart.ts';
import { initialised, lastLine } from './contenders.ts';
import { makeFiles } from './files.ts';
import { numberIn, type Usage } from './measure.ts';
import { type Bench, type Found, type Goal, goalOf } from './part.ts';
import { markdown } from './report.ts';

const FILES_IN_DIRECTORY = 1000;
const PROBE = pathToFileURL(path.join(import.meta.dirname, 'loop-delay.mjs')).href;

/** One command at one size. */
export interface Grown extends Usage {
  readonly files: number;
  readonly command: string;
  /** How late the event loop was at the most, ms. */
  readonly loopMs: number;
}

const COMMANDS: readonly { readonly name: string; readonly words: (to: string) => readonly string[] }[] = [
  { name: 'fetch', words: (to) => ['fetch', '', '--to', to] },
  { name: 'keys', words: () => ['keys'] },
  { name: 'sweep', words: () => ['sweep'] },
  { name: 'ls', words: () => ['ls', '--limit', '0'] },
  { name: 'verify', words: () => ['verify'] },
  { name: 'purge', words: () => ['purge'] },
];
/** What says how many objects it has done. */
const DONE: Readonly<Record<string, string>> = { fetch: 'objects', sweep: 'moved', purge: 'purged' };

/** Each phase as a whole process at growing numbers of files: its time, its memory, and how late its event loop is. */
export async function growth(bench: Bench): Promise<Found> {
  const { sizes, say } = bench;
  const grown: Grown[] = [];
  for (const files of sizes) {
    say(`${files} files: making them`);
    const scratch = path.join(bench.scratch, `growth-${files}`);
    const live = path.join(scratch, 'live');
    makeFiles(live, files, Math.ceil(files / FILES_IN_DIRECTORY));
    const ctl = await initialised(bench.stopwatch, live, scratch);
    const to = path.join(scratch, 'copy');
    for (const { name, words } of COMMANDS) {
      say(`${files} files: ${name}`);
      const loop = path.join(scratch, 'loop.json');
      const { stdout, ...usage } = await bench.stopwatch.run([...ctl, '--json', ...words(to)], {
        NODE_OPTIONS: `--import=${PROBE}`,
        BENCH_LOOP_DELAY: loop,
      });
      const done = DONE[name];
      if (done !== undefined) expectAll(name, numberIn(lastLine(stdout), done), files);
      const loopMs = numberIn(JSON.parse(readFileSync(loop, 'utf8')), 'ms');
      grown.push({ files, command: name, loopMs, ...usage });
      if (name === 'fetch') rmSync(to, { recursive: true });
    }
    rmSync(scratch, { recursive: true });
  }
  return {
    goals: goalsOf(grown, sizes),
    table: tableOf(grown, sizes),
    samples: grown,
    ...(sizes.length > 1 ? { chart: growthChart(grown) } : {}),
  };
}

function goalsOf(grown: readonly Grown[], sizes: readonly number[]): Goal[] {
  const of = (command: string, files: number | undefined): Grown | undefined =>
    grown.find((one) => one.command === command && one.files === files);
  const [most, fewer] = [sizes.at(-1), sizes.at(-2)];
  return COMMANDS.flatMap(({ name }) => {
    const [large, small] = [of(name, most), of(name, fewer)];
    if (large === undefined) return [];
    const isBounded = name === 'sweep' || name === 'purge';
    const all = `${name} of ${large.files.toLocaleString('en')} files`;
    const memory = goalOf(`${all}, peak memory`, [large.peakKiB / 1024], {
      unit: 'MiB',
      ...(isBounded ? { atMost: 150 } : {}),
    });
    const loop = goalOf(`${all}, event loop late by at most`, [large.loopMs], { unit: 'ms', atMost: 50 });
    if (small === undefined) return [memory, loop];
    const before = `as at ${small.files.toLocaleString('en')}`;
    return [
      memory,
      goalOf(`${all}, memory ${before}`, [large.peakKiB / small.peakKiB], {
        unit: 'times',
        ...(isBounded ? { atMost: 1.2 } : {}),
      }),
      goalOf(`${all}, time a file ${before}`, [large.seconds / large.files / (small.seconds / small.files)], {
        unit: 'times',
      }),
      loop,
    ];
  });
}

function tableOf(grown: readonly Grown[], sizes: readonly number[]): string {
  return markdown(
    ['command', ...sizes.map((files) => `${files.toLocaleString('en')} files`)],
    COMMANDS.map(({ name }) => [
      name,
      ...sizes.map((files) => {
        const one = grown.find((each) => each.command === name && each.files === files);
        if (one === undefined) return '–';
        return `${one.seconds.toFixed(1)} s, ${(one.peakKiB / 1024).toFixed(0)} MiB, loop ${one.loopMs.toFixed(0)} ms`;
      }),
    ]),
  );
}

function expectAll(what: string, count: number, files: number): void {
  if (count !== files) throw new Error(`${what}: ${count} files instead of ${files}`);
}
