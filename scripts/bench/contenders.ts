import { accessSync, constants, mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { countFiles } from './files.ts';
import type { Stopwatch, Usage } from './measure.ts';
import { numberIn } from './measure.ts';

/** What is compared. `move`: the moving of a sweep alone. */
export const TASKS = ['fetch', 'sweep', 'move', 'purge'] as const;
export type Task = (typeof TASKS)[number];

export interface Sample extends Usage {
  readonly task: Task;
  /** The command, as the table names it. */
  readonly command: string;
}

/** One way to copy a tree of files, to move one away, and to remove what was moved. */
export interface Contender {
  readonly name: string;
  /** The program it runs, which may not be installed. */
  readonly program: string;
  /** Moves and removes the files below `live`; its other files go into `scratch`. Throws if a file was left out. */
  run(stopwatch: Stopwatch, live: string, scratch: string): Promise<Sample[]>;
  /** Copies the files below `live`, which stays as it is, into `scratch`. */
  copy?(stopwatch: Stopwatch, live: string, scratch: string): Promise<Sample[]>;
}

export const TOMBSTONECTL = path.resolve(import.meta.dirname, '../../dist/cli/main.js');
/** Files between two fsyncs of the limit: what one batch of ours moves. */
const SYNC_EVERY = '1000';

/** An empty name keeps rclone from looking for a config, and from remarking that there is none. */
const RCLONE = ['rclone', '--config', ''];

/** Ours comes first: the others are what it is compared with. */
export const CONTENDERS: readonly Contender[] = [
  { name: 'tombstonectl', program: process.execPath, run: runTombstonectl, copy: copyByTombstonectl },
  { name: 'mover', program: process.execPath, run: runMover },
  { name: 'mv', program: 'xargs', run: runMv, copy: copyByCp },
  { name: 'rclone', program: 'rclone', run: runRclone, copy: copyByRclone },
  { name: 'limit', program: 'cc', run: runLimit },
];

/** Whether a program is on the PATH, or there as an absolute path. */
export function isInstalled(program: string): boolean {
  return (process.env['PATH'] ?? '').split(':').some((directory) => {
    try {
      accessSync(path.resolve(directory, program), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

/** The command line of a `tombstonectl` for which the tree is a store. */
export async function initialised(stopwatch: Stopwatch, live: string, scratch: string): Promise<string[]> {
  const config = path.join(scratch, 'tombstoned.yaml');
  writeFileSync(config, configOf(live, scratch));
  const ctl = [process.execPath, TOMBSTONECTL, '--config', config];
  await stopwatch.run([...ctl, 'init', '--store', 'bench']);
  return ctl;
}

async function copyByTombstonectl(stopwatch: Stopwatch, live: string, scratch: string): Promise<Sample[]> {
  const ctl = await initialised(stopwatch, live, scratch);
  const files = countFiles(path.join(live)) - countFiles(path.join(live, '.tombstoned'));
  const to = path.join(scratch, 'copy');
  const { stdout, ...usage } = await stopwatch.run([...ctl, '--json', 'fetch', '', '--to', to]);
  expectAll('fetched', numberIn(lastLine(stdout), 'objects'), files);
  return [{ task: 'fetch', command: 'tombstonectl fetch', ...usage }];
}

async function copyByCp(stopwatch: Stopwatch, live: string, scratch: string): Promise<Sample[]> {
  const to = path.join(scratch, 'copy');
  const usage = await usageOf(stopwatch, ['cp', '-r', live, to]);
  expectAll('copied by cp', countFiles(to), countFiles(live));
  return [{ task: 'fetch', command: 'cp -r', ...usage }];
}

async function copyByRclone(stopwatch: Stopwatch, live: string, scratch: string): Promise<Sample[]> {
  const to = path.join(scratch, 'copy');
  const usage = await usageOf(stopwatch, [...RCLONE, 'copy', live, to]);
  expectAll('copied by rclone', countFiles(to), countFiles(live));
  return [{ task: 'fetch', command: 'rclone copy', ...usage }];
}

async function runTombstonectl(stopwatch: Stopwatch, live: string, scratch: string): Promise<Sample[]> {
  const files = countFiles(live);
  const ctl = await initialised(stopwatch, live, scratch);
  const { stdout: swept, ...sweep } = await stopwatch.run([...ctl, '--json', 'sweep']);
  expectAll('swept', numberIn(lastLine(swept), 'moved'), files);
  const { stdout: purged, ...purge } = await stopwatch.run([...ctl, '--json', 'purge']);
  expectAll('purged', numberIn(lastLine(purged), 'purged'), files);
  return [
    { task: 'sweep', command: 'tombstonectl sweep', ...sweep },
    { task: 'purge', command: 'tombstonectl purge', ...purge },
  ];
}

async function runMover(stopwatch: Stopwatch, live: string, scratch: string): Promise<Sample[]> {
  const files = countFiles(live);
  await initialised(stopwatch, live, scratch);
  const program = path.join(import.meta.dirname, 'mover.mjs');
  const config = path.join(scratch, 'tombstoned.yaml');
  const { stdout, ...usage } = await stopwatch.run([process.execPath, program, config]);
  const told = lastLine(stdout);
  expectAll('moved', numberIn(told, 'moved'), files);
  return [{ task: 'move', command: 'tombstonectl’s mover', ...usage, seconds: numberIn(told, 'seconds') }];
}

/** A config is YAML, so JSON will do. */
function configOf(live: string, scratch: string): string {
  const store = {
    name: 'bench',
    url: pathToFileURL(live).href,
    safetyWindow: '0s',
    minimumAge: '0s',
    limits: { maxObjects: null, maxFraction: null, maxBytes: null },
    policies: [{ name: 'everything', type: 'age', olderThan: '1s' }],
  };
  return JSON.stringify({ catalog: path.join(scratch, 'catalog.db'), stores: [store] });
}

async function runMv(stopwatch: Stopwatch, live: string, scratch: string): Promise<Sample[]> {
  const moved = path.join(scratch, 'moved');
  const files = countFiles(live);
  mkdirSync(moved);
  const script = 'find "$1" -type f -print0 | xargs -0 mv -t "$2"';
  const sweep = await usageOf(stopwatch, ['sh', '-c', script, 'sh', live, moved]);
  expectAll('moved by mv', countFiles(moved), files);
  const purge = await usageOf(stopwatch, ['rm', '-rf', moved]);
  return [
    { task: 'sweep', command: 'find | xargs mv', ...sweep },
    { task: 'purge', command: 'rm -rf', ...purge },
  ];
}

async function runRclone(stopwatch: Stopwatch, live: string, scratch: string): Promise<Sample[]> {
  const moved = path.join(scratch, 'moved');
  const files = countFiles(live);
  // Were there no destination, rclone would rename the whole tree at once and move no file by itself.
  mkdirSync(moved);
  const sweep = await usageOf(stopwatch, [...RCLONE, 'move', live, moved]);
  expectAll('moved by rclone', countFiles(moved), files);
  const purge = await usageOf(stopwatch, [...RCLONE, 'delete', moved]);
  expectAll('left by rclone', countFiles(moved), 0);
  return [
    { task: 'sweep', command: 'rclone move', ...sweep },
    { task: 'purge', command: 'rclone delete', ...purge },
  ];
}

async function runLimit(stopwatch: Stopwatch, live: string, scratch: string): Promise<Sample[]> {
  const moved = path.join(scratch, 'moved');
  const files = countFiles(live);
  mkdirSync(moved);
  const sweep = await usageOf(stopwatch, [stopwatch.native, 'rename', live, moved, SYNC_EVERY]);
  expectAll('moved by rename', countFiles(moved), files);
  const purge = await usageOf(stopwatch, ['find', moved, '-type', 'f', '-delete']);
  expectAll('left by find -delete', countFiles(moved), 0);
  return [
    { task: 'sweep', command: 'rename + fsync in C', ...sweep },
    { task: 'move', command: 'rename + fsync in C', ...sweep },
    { task: 'purge', command: 'find -delete', ...purge },
  ];
}

async function usageOf(stopwatch: Stopwatch, command: readonly string[]): Promise<Usage> {
  const { stdout: _, ...usage } = await stopwatch.run(command);
  return usage;
}

/** What a command says last, as JSON. */
export function lastLine(text: string): unknown {
  return JSON.parse(text.trimEnd().split('\n').at(-1) ?? '');
}

function expectAll(what: string, count: number, files: number): void {
  if (count !== files) throw new Error(`${what}: ${count} files instead of ${files}`);
}
