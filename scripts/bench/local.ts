import { mkdirSync, readdirSync, rmSync } from 'node:fs';
import path from 'node:path';
import { CONTENDERS, type Contender, isInstalled, type Sample } from './contenders.ts';
import { makeFiles } from './files.ts';
import { type Bench, type Found, inTurn } from './part.ts';
import { ratiosIn, rowsOf, tableOf } from './report.ts';

const OURS = 'tombstonectl';

/** Whole processes side by side on real files: a fetch, a sweep, its mover alone, and a purge. */
export async function local(bench: Bench): Promise<Found | undefined> {
  const { stopwatch, files, directories, rounds: count, only, say } = bench;
  const chosen = CONTENDERS.filter(({ name }) => only.has(name));
  for (const { name, program } of chosen) {
    if (!isInstalled(program)) say(`skipped: ${name} (${program} is not installed)`);
  }
  const contenders = chosen.filter(({ program }) => isInstalled(program));
  if (contenders.length === 0) return undefined;
  const scratch = path.join(bench.scratch, 'local');
  const treeOf = (round: number, name: string): string => path.join(scratch, `${name}-${round}`);
  // All trees first: while deletions are fresh, ext4 without a journal is slow to make files anew.
  // What is copied is one tree, which stays as it is.
  say(`making ${count * contenders.length + 1} trees of ${files} files`);
  const copied = path.join(scratch, 'copied');
  makeFiles(copied, files, directories);
  for (let round = 0; round < count; round++) {
    for (const { name } of contenders) {
      mkdirSync(treeOf(round, name), { recursive: true });
      makeFiles(path.join(treeOf(round, name), 'live'), files, directories);
    }
  }
  const rounds: Sample[][] = Array.from({ length: count }, () => []);
  const each = async (
    what: string,
    act: (contender: Contender, directory: string) => Promise<Sample[]>,
  ): Promise<void> =>
    inTurn(count, contenders, async (contender, round) => {
      say(`round ${round + 1} of ${count}: ${contender.name} ${what}`);
      rounds[round]?.push(...(await act(contender, treeOf(round, contender.name))));
    });
  await each('copies', async (contender, directory) => {
    rmSync(path.join(copied, '.tombstoned'), { recursive: true, force: true });
    const samples = (await contender.copy?.(stopwatch, copied, directory)) ?? [];
    for (const name of readdirSync(directory)) {
      if (name.startsWith('catalog.db')) rmSync(path.join(directory, name), { recursive: true });
    }
    return samples;
  });
  await each('moves', async (contender, directory) =>
    contender.run(stopwatch, path.join(directory, 'live'), directory),
  );
  const rows = rowsOf(rounds, files, OURS);
  const goals = ratiosIn(
    rows,
    [
      { task: 'sweep', command: 'find | xargs mv', atLeast: 1 },
      { task: 'sweep', command: 'rclone move', atLeast: 1.5 },
      { task: 'move', command: 'rename + fsync in C', atLeast: 0.8 },
      { task: 'purge', command: 'rclone delete', atLeast: 1.5 },
      { task: 'purge', command: 'find -delete' },
      { task: 'fetch', command: 'rclone copy', atLeast: 1 },
      { task: 'fetch', command: 'cp -r' },
    ],
    'local ',
  );
  // The trees go at the end of all: deletions slow down what comes after them.
  return { goals, table: tableOf(rows, OURS), samples: { files, directories, rows, rounds } };
}
