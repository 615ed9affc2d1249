// Whole processes side by side on real files: what a sweep and a purge cost, against the tools one would use
// otherwise and against the disk's own limit. Each round runs every contender on a fresh tree of its own.
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import type { Contender, Sample } from './contenders.ts';
import { CONTENDERS, isInstalled } from './contenders.ts';
import { makeFiles } from './files.ts';
import { Stopwatch } from './measure.ts';
import { rowsOf, tableOf } from './report.ts';

const USAGE = `npm run bench -- [--files N] [--directories N] [--rounds N] [--only NAME,…] [--in DIR] [--out FILE]
  --files        files of 1 KiB in each tree (100000)
  --directories  directories they are spread over (100)
  --rounds       how often each contender runs (3)
  --skip         leave out fetch, or move (sweep and purge)
  --only         which of ${CONTENDERS.map(({ name }) => name).join(', ')} (all)
  --in           where the trees are made, not on a tmpfs (this repository's directory)
  --out          where the figures go as JSON (bench.json)`;
const TMPFS_MAGIC = 0x01021994;
const OURS = 'tombstonectl';
const repository = path.resolve(import.meta.dirname, '../..');

function optionsOf(args: readonly string[]) {
  const { values } = parseArgs({
    args: [...args],
    options: {
      help: { type: 'boolean', default: false },
      files: { type: 'string', default: '100000' },
      directories: { type: 'string', default: '100' },
      rounds: { type: 'string', default: '3' },
      skip: { type: 'string', default: '' },
      only: { type: 'string', default: CONTENDERS.map(({ name }) => name).join(',') },
      in: { type: 'string', default: repository },
      out: { type: 'string', default: path.join(repository, 'bench.json') },
    },
  });
  const names = values.only.split(',');
  const unknown = names.find((name) => !CONTENDERS.some((contender) => contender.name === name));
  if (unknown !== undefined) throw new Error(`--only ${unknown}: there is no such contender`);
  if (statfsSync(values.in).type === TMPFS_MAGIC) throw new Error(`--in ${values.in}: a tmpfs is no disk`);
  if (!['', 'fetch', 'move'].includes(values.skip)) throw new Error(`--skip ${values.skip}: fetch or move`);
  return {
    help: values.help,
    skip: values.skip,
    files: countIn('files', values.files),
    directories: countIn('directories', values.directories),
    rounds: countIn('rounds', values.rounds),
    chosen: CONTENDERS.filter(({ name }) => names.includes(name)),
    in: values.in,
    out: values.out,
  };
}

function countIn(name: string, text: string): number {
  if (!/^[1-9]\d{0,8}$/.test(text)) throw new Error(`--${name} ${text}: expected a whole number from 1 up`);
  return Number(text);
}

async function main(): Promise<void> {
  const {
    help,
    skip,
    files,
    directories,
    rounds: count,
    chosen,
    in: where,
    out,
  } = optionsOf(process.argv.slice(2));
  if (help) {
    console.log(USAGE);
    return;
  }
  const contenders = chosen.filter(({ program }) => isInstalled(program));
  for (const { name, program } of chosen) {
    if (!isInstalled(program)) console.log(`skipped: ${name} (${program} is not installed)`);
  }
  if (contenders.length === 0) throw new Error('none of the contenders is installed');
  if (!isInstalled('cc')) throw new Error('a C compiler is needed for the stopwatch: install gcc');
  const machine = machineOf(where);
  const scratch = mkdtempSync(path.join(where, '.bench-'));
  process.once('SIGINT', () => {
    rmSync(scratch, { recursive: true, force: true });
    process.exit(130);
  });
  try {
    const stopwatch = new Stopwatch(scratch);
    const treeOf = (round: number, name: string): string => path.join(scratch, `${name}-${round}`);
    // All trees first: while deletions are fresh, ext4 without a journal is slow to make files anew.
    // What is copied is one tree, which stays as it is.
    const moved = skip === 'move' ? 0 : count * contenders.length;
    console.log(`making ${moved + (skip === 'fetch' ? 0 : 1)} trees`);
    const copied = path.join(scratch, 'copied');
    if (skip !== 'fetch') makeFiles(copied, files, directories);
    for (let round = 0; round < count; round++) {
      for (const { name } of contenders) {
        mkdirSync(treeOf(round, name));
        if (skip !== 'move') makeFiles(path.join(treeOf(round, name), 'live'), files, directories);
      }
    }
    const rounds: Sample[][] = Array.from({ length: count }, () => []);
    const each = async (
      what: string,
      act: (contender: Contender, directory: string) => Promise<Sample[]>,
    ): Promise<void> => {
      for (const [round, samples] of rounds.entries()) {
        // Each is first, second, … in turn: what the one before leaves to the disk hits all alike.
        const first = round % contenders.length;
        for (const contender of [...contenders.slice(first), ...contenders.slice(0, first)]) {
          console.log(`round ${round + 1} of ${count}: ${contender.name} ${what}`);
          samples.push(...(await act(contender, treeOf(round, contender.name))));
        }
      }
    };
    if (skip !== 'fetch') {
      await each('copies', async (contender, directory) => {
        rmSync(path.join(copied, '.tombstoned'), { recursive: true, force: true });
        return (await contender.copy?.(stopwatch, copied, directory)) ?? [];
      });
    }
    if (skip !== 'move') {
      await each('moves', async (contender, directory) => {
        for (const name of readdirSync(directory)) {
          if (name.startsWith('catalog.db')) rmSync(path.join(directory, name), { recursive: true });
        }
        return contender.run(stopwatch, path.join(directory, 'live'), directory);
      });
    }
    const rows = rowsOf(rounds, files, OURS);
    console.log(`\n${files} files of 1 KiB in ${directories} directories; rounds: ${count}, medians\n`);
    console.log(tableOf(rows, OURS));
    writeFileSync(out, `${JSON.stringify({ files, directories, machine, rows, rounds }, null, 2)}\n`);
    console.log(
      `\n${machine.fileSystem}, ${machine.cpus} × ${machine.cpu}, Node ${machine.node}; all of it: ${out}`,
    );
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

function machineOf(directory: string) {
  const fileSystem = execFileSync('findmnt', ['-no', 'FSTYPE,OPTIONS', '-T', directory], {
    encoding: 'utf8',
  });
  // An unpacked tarball has no commit.
  const git = spawnSync('git', ['describe', '--always', '--dirty'], { cwd: repository, encoding: 'utf8' });
  const cpus = os.cpus();
  return {
    at: new Date().toISOString(),
    commit: git.status === 0 ? git.stdout.trim() : null,
    fileSystem: fileSystem.trim().replaceAll(/\s+/g, ' '),
    kernel: os.release(),
    cpus: cpus.length,
    cpu: cpus[0]?.model ?? 'unknown',
    node: process.versions.node,
  };
}

try {
  await main();
} catch (error) {
  console.error(`bench: ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = 1;
}
