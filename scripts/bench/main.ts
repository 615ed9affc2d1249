// Whole processes side by side on real files: what a sweep and a purge cost, against the tools one would use
// otherwise and against the disk's own limit. Each round runs every contender on a fresh tree of its own.
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import type { Sample } from './contenders.ts';
import { CONTENDERS, isInstalled } from './contenders.ts';
import { makeFiles } from './files.ts';
import { Stopwatch } from './measure.ts';
import { rowsOf, tableOf } from './report.ts';

const USAGE = `npm run bench -- [--files N] [--directories N] [--rounds N] [--only NAME,…] [--in DIR] [--out FILE]
  --files        files of 1 KiB in each tree (100000)
  --directories  directories they are spread over (100)
  --rounds       how often each contender runs (3)
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
      only: { type: 'string', default: CONTENDERS.map(({ name }) => name).join(',') },
      in: { type: 'string', default: repository },
      out: { type: 'string', default: path.join(repository, 'bench.json') },
    },
  });
  const names = values.only.split(',');
  const unknown = names.find((name) => !CONTENDERS.some((contender) => contender.name === name));
  if (unknown !== undefined) throw new Error(`--only ${unknown}: there is no such contender`);
  if (statfsSync(values.in).type === TMPFS_MAGIC) throw new Error(`--in ${values.in}: a tmpfs is no disk`);
  return {
    help: values.help,
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
    console.log(`making ${count * contenders.length} trees`);
    for (let round = 0; round < count; round++) {
      for (const { name } of contenders) {
        makeFiles(path.join(treeOf(round, name), 'live'), files, directories);
      }
    }
    const rounds: Sample[][] = [];
    for (let round = 0; round < count; round++) {
      const samples: Sample[] = [];
      // Each is first, second, … in turn: what the one before leaves to the disk hits all alike.
      const first = round % contenders.length;
      for (const contender of [...contenders.slice(first), ...contenders.slice(0, first)]) {
        console.log(`round ${round + 1} of ${count}: ${contender.name}`);
        const directory = treeOf(round, contender.name);
        samples.push(...(await contender.run(stopwatch, path.join(directory, 'live'), directory)));
      }
      rounds.push(samples);
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
