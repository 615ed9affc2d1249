// Every figure that is wanted of this program, measured: whole processes on real files and on a real S3 server, in
// turn with the tools one would use otherwise and with the disk's own limit; the library's reads; the catalog.
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { catalogQueries } from './catalog.ts';
import { CONTENDERS, isInstalled } from './contenders.ts';
import { growth } from './growth.ts';
import { local } from './local.ts';
import { Stopwatch } from './measure.ts';
import type { Bench, Found, Part } from './part.ts';
import { reads } from './reads.ts';
import { goalsTable, isMet } from './report.ts';
import { s3 } from './s3.ts';
import { start } from './start.ts';

const PARTS = { local, s3, start, reads, catalog: catalogQueries, growth } as const satisfies Record<
  string,
  Part
>;
type PartName = keyof typeof PARTS;

const USAGE = `npm run bench -- [--parts NAME,…] [--rounds N] [--only NAME,…] [--in DIR] [--out FILE] …
  --parts        which of ${Object.keys(PARTS).join(', ')} (all)
  --rounds       how often each contender runs (5)
  --only         local: which of ${CONTENDERS.map(({ name }) => name).join(', ')} (all)
  --files        local: files of 1 KiB in each tree (100000)
  --directories  local: directories they are spread over (100)
  --objects      s3: objects of 1 KiB in each bucket (5000)
  --tombstones   catalog: how many it has (10000000)
  --sizes        growth: numbers of files, ascending (10000,100000,1000000)
  --in           where the files are made, not on a tmpfs (this repository's directory)
  --out          where the figures go as JSON (bench.json)
  --chart        where growth is drawn as SVG (docs/growth.svg)`;
const TMPFS_MAGIC = 0x01021994;
const repository = path.resolve(import.meta.dirname, '../..');

function optionsOf(args: readonly string[]) {
  const { values } = parseArgs({
    args: [...args],
    options: {
      help: { type: 'boolean', default: false },
      parts: { type: 'string', default: Object.keys(PARTS).join(',') },
      rounds: { type: 'string', default: '5' },
      only: { type: 'string', default: CONTENDERS.map(({ name }) => name).join(',') },
      files: { type: 'string', default: '100000' },
      directories: { type: 'string', default: '100' },
      objects: { type: 'string', default: '5000' },
      tombstones: { type: 'string', default: '10000000' },
      sizes: { type: 'string', default: '10000,100000,1000000' },
      in: { type: 'string', default: repository },
      out: { type: 'string', default: path.join(repository, 'bench.json') },
      chart: { type: 'string', default: path.join(repository, 'docs', 'growth.svg') },
    },
  });
  const only = values.only.split(',');
  const unknown = only.find((name) => !CONTENDERS.some((contender) => contender.name === name));
  if (unknown !== undefined) throw new Error(`--only ${unknown}: there is no such contender`);
  if (statfsSync(values.in).type === TMPFS_MAGIC) throw new Error(`--in ${values.in}: a tmpfs is no disk`);
  const sizes = values.sizes.split(',').map((size) => countIn('sizes', size));
  if (sizes.some((size, i) => size <= (sizes[i - 1] ?? 0)))
    throw new Error(`--sizes ${values.sizes}: not ascending`);
  return {
    help: values.help,
    parts: values.parts.split(',').map(partIn),
    rounds: countIn('rounds', values.rounds),
    files: countIn('files', values.files),
    directories: countIn('directories', values.directories),
    objects: countIn('objects', values.objects),
    tombstones: countIn('tombstones', values.tombstones),
    sizes,
    only: new Set(only),
    in: values.in,
    out: values.out,
    chart: values.chart,
  };
}

function partIn(name: string): PartName {
  const known = Object.keys(PARTS).find((one): one is PartName => one === name);
  if (known === undefined) throw new Error(`--parts ${name}: there is no such part`);
  return known;
}

function countIn(name: string, text: string): number {
  if (!/^[1-9]\d{0,8}$/.test(text)) throw new Error(`--${name} ${text}: expected a whole number from 1 up`);
  return Number(text);
}

function say(text: string): void {
  console.error(`${new Date().toISOString().slice(11, 19)} ${text}`);
}

async function main(): Promise<void> {
  const { help, parts, in: where, out, chart, ...sizes } = optionsOf(process.argv.slice(2));
  if (help) {
    console.log(USAGE);
    return;
  }
  if (!isInstalled('cc')) throw new Error('a C compiler is needed for the stopwatch: install gcc');
  const machine = machineOf(where);
  const scratch = mkdtempSync(path.join(where, '.bench-'));
  process.once('SIGINT', () => {
    rmSync(scratch, { recursive: true, force: true });
    process.exit(130);
  });
  try {
    const bench: Bench = { ...sizes, stopwatch: new Stopwatch(scratch), scratch, say };
    const found = new Map<PartName, Found>();
    for (const name of parts) {
      say(`part ${name}`);
      const part = await PARTS[name](bench);
      if (part === undefined) continue;
      found.set(name, part);
      console.log(`\n## ${name}\n\n${part.table}\n`);
      if (part.chart !== undefined) writeFileSync(chart, part.chart);
      // After each part: a long run that is stopped leaves what it has.
      writeFileSync(out, `${JSON.stringify({ machine, ...jsonOf(found) }, null, 2)}\n`);
    }
    const goals = [...found.values()].flatMap((part) => part.goals);
    console.log(`## What was wanted, and what there is; rounds: ${sizes.rounds}\n\n${goalsTable(goals)}`);
    console.log(
      `\n${machine.fileSystem}, ${machine.cpus} × ${machine.cpu}, Node ${machine.node}; all of it: ${out}`,
    );
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

function jsonOf(found: ReadonlyMap<PartName, Found>) {
  const goals = [...found.values()].flatMap((part) => part.goals);
  return {
    goals: goals.map((goal) => ({ ...goal, isMet: isMet(goal) })),
    parts: Object.fromEntries([...found].map(([name, { samples }]) => [name, samples])),
  };
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
