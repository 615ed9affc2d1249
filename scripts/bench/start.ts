import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { initialised, TOMBSTONECTL } from './contenders.ts';
import { makeFiles } from './files.ts';
import { type Bench, type Found, goalOf, inTurn, median } from './part.ts';
import { markdown } from './report.ts';

const FILES = 1000;
/** Starts of each command in a round. */
const STARTS = 8;
const KEY = 'epoch-0000/part-00000000.chunk';
const DROP_CACHES = '/proc/sys/vm/drop_caches';

/** What it takes from a process’s start to the last byte of its answer. */
export async function start(bench: Bench): Promise<Found> {
  const { stopwatch, rounds, say } = bench;
  const scratch = path.join(bench.scratch, 'start');
  const live = path.join(scratch, 'live');
  makeFiles(live, FILES, 10);
  const byConfig = await initialised(stopwatch, live, scratch);
  const byUrl = [process.execPath, TOMBSTONECTL, '--url', `file://${live}`];
  // A key of its own for each that is deleted.
  let next = 0;
  const name = (): string => {
    next += 1;
    return `epoch-${String(next % 10).padStart(4, '0')}/part-${String(next).padStart(8, '0')}.chunk`;
  };
  const commands: readonly { readonly what: string; readonly command: () => readonly string[] }[] = [
    { what: 'node -e 0', command: () => [process.execPath, '-e', '0'] },
    { what: '--url URL cat KEY', command: () => [...byUrl, 'cat', KEY] },
    { what: 'cat KEY', command: () => [...byConfig, 'cat', KEY] },
    { what: '--url URL keys', command: () => [...byUrl, 'keys', '--prefix', 'epoch-0000/'] },
    { what: 'keys', command: () => [...byConfig, 'keys', '--prefix', 'epoch-0000/'] },
    { what: 'delete KEY', command: () => [...byConfig, 'delete', '--reason', 'bench', name()] },
  ];
  const warm = new Map(commands.map(({ what }) => [what, new Array<number>()]));
  const cpu = new Map(commands.map(({ what }) => [what, new Array<number>()]));
  say(`starting each of ${commands.length} commands ${rounds * STARTS} times`);
  await inTurn(rounds * STARTS, commands, async ({ what, command }) => {
    const { seconds, userSeconds, systemSeconds } = await stopwatch.run(command());
    warm.get(what)?.push(seconds * 1000);
    cpu.get(what)?.push((userSeconds + systemSeconds) * 1000);
  });
  const cold = new Map(commands.map(({ what }) => [what, new Array<number>()]));
  if (canDropCaches()) {
    say(`starting each with nothing in the page cache, ${rounds} times`);
    await inTurn(rounds, commands, async ({ what, command }) => {
      const { seconds } = await stopwatch.run(command(), {}, dropCaches);
      cold.get(what)?.push(seconds * 1000);
    });
  } else say(`skipped: cold starts (${DROP_CACHES} can't be written)`);
  const wanted = { unit: 'ms', atMost: 150 } as const;
  return {
    goals: [
      goalOf(
        '`tombstonectl --url URL cat KEY`, start to last byte',
        warm.get('--url URL cat KEY') ?? [],
        wanted,
      ),
      goalOf('`tombstonectl cat KEY`, start to last byte', warm.get('cat KEY') ?? [], wanted),
    ],
    table: markdown(
      ['command', 'warm', 'CPU', 'cold'],
      commands.map(({ what }) => [
        `\`${what}\``,
        text(warm.get(what)),
        text(cpu.get(what)),
        text(cold.get(what)),
      ]),
    ),
    samples: { warm: Object.fromEntries(warm), cpu: Object.fromEntries(cpu), cold: Object.fromEntries(cold) },
  };
}

function text(values: readonly number[] = []): string {
  return values.length === 0 ? '–' : `${median(values).toFixed(0)} ms`;
}

function dropCaches(): void {
  writeFileSync(DROP_CACHES, '3');
}

function canDropCaches(): boolean {
  try {
    dropCaches();
    return true;
  } catch {
    return false; // a container may not
  }
}
