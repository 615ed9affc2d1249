import path from 'node:path';
import { setTimeout as passed } from 'node:timers/promises';
import { parseKey } from '../../lib/domain/key.ts';
import type { Reader } from '../../lib/reader/reader.ts';
import { initialised } from './contenders.ts';
import { keysOf, makeFiles } from './files.ts';
import { type Bench, type Found, goalOf, inTurn, median } from './part.ts';
import { markdown } from './report.ts';

const FILES = 10_000;
/** A directory that changed just now is read anew for each look. ms */
const STEADY = 4000;
const DIRECTORIES = 10;

/** Reads in the library, one after the other: of what is live, and of what was moved and is found by falling back. */
export async function reads(bench: Bench): Promise<Found> {
  const scratch = path.join(bench.scratch, 'reads');
  const moved = path.join(scratch, 'moved', 'live');
  const live = path.join(scratch, 'live', 'live');
  for (const root of [moved, live]) makeFiles(root, FILES, DIRECTORIES);
  // As programs load it: what runs from the sources has slower errors.
  const built = path.resolve(import.meta.dirname, '../../dist/index.js');
  const { openReader }: typeof import('../../lib/index.ts') = await import(built);
  const stores: { readonly what: 'live' | 'fallback'; readonly reader: Reader; readonly ms: number[] }[] = [];
  for (const [what, root] of [
    ['live', live],
    ['fallback', moved],
  ] as const) {
    const ctl = await initialised(bench.stopwatch, root, path.dirname(root));
    if (root === moved) await bench.stopwatch.run([...ctl, 'sweep']);
    stores.push({ what, reader: await openReader({ url: `file://${root}` }), ms: [] });
  }
  const keys = [...keysOf(FILES, DIRECTORIES)].map(parseKey);
  bench.say(`reading ${FILES} live and ${FILES} pending files, ${bench.rounds + 1} times`);
  await passed(STEADY);
  // Once more than is counted: the first time the code is cold.
  await inTurn(bench.rounds + 1, stores, async ({ reader, ms }) => {
    const began = performance.now();
    for (const key of keys) await reader.bytes(key);
    ms.push(performance.now() - began);
  });
  for (const { reader } of stores) reader.close();
  const [first = [], second = []] = stores.map(({ ms }) => ms.slice(1));
  return {
    goals: [
      goalOf(
        'fallback read over a live read, time, in the library, local',
        second.map((ms, i) => ms / (first[i] ?? Number.NaN)),
        { unit: 'times', atMost: 1.2 },
      ),
    ],
    table: markdown(
      ['read', 'µs each'],
      stores.map(({ what, ms }) => [what, ((median(ms.slice(1)) * 1000) / FILES).toFixed(1)]),
    ),
    samples: { files: FILES, live: first, fallback: second },
  };
}
