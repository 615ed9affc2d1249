import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import path from 'node:path';
import { builtProgram } from '../support/built-cli.ts';
import type { TempStore } from '../support/temp-store.ts';

/** System calls by what they are for. Those that wait, or get memory, hang on the machine, and are in no kind. */
const CALLS = {
  rename: ['rename', 'renameat', 'renameat2'],
  link: ['link', 'linkat'],
  unlink: ['unlink', 'unlinkat', 'rmdir'],
  look: ['stat', 'lstat', 'fstat', 'newfstatat', 'statx', 'access', 'faccessat', 'faccessat2'],
  open: ['open', 'openat', 'openat2', 'creat'],
  directory: ['mkdir', 'mkdirat', 'getdents64', 'chdir', 'fchdir', 'getcwd'],
  mode: ['chmod', 'fchmod', 'fchmodat', 'chown', 'fchown', 'lchown', 'fchownat', 'utimensat'],
  sync: ['fsync', 'fdatasync', 'syncfs', 'sync_file_range', 'sync'],
  database: ['pread64', 'pwrite64', 'ftruncate', 'fcntl'],
} as const;

type Call = keyof typeof CALLS;

/** What a command did: system calls of each kind, all of these, SQL statements and transactions. */
export type Counts = Readonly<Record<Call | 'total' | 'statement' | 'transaction', number>>;

const KINDS = Object.entries(CALLS) as [Call, readonly string[]][];

/** Why calls can't be counted here; undefined where they can. */
export function whyNotCounted(): string | undefined {
  const { status, stderr, error } = spawnSync('strace', ['-o', '/dev/null', 'true'], { encoding: 'utf8' });
  if (status === 0) return undefined;
  return error === undefined ? `strace may not trace: ${stderr.trim()}` : 'strace is not installed';
}

/** Runs the built `tombstonectl` to its end, which must be a good one, and counts what it does. */
export function countedRun(store: TempStore, ...args: readonly string[]): Counts {
  const directory = mkdtempSync(path.join(store.directory, 'counted-'));
  const [calls, statements] = [path.join(directory, 'calls'), path.join(directory, 'statements')];
  try {
    const names = KINDS.flatMap(([, list]) => list.map((name) => `?${name}`));
    const program = [process.execPath, builtProgram('cli'), '--config', store.configFile, ...args];
    const { status, stderr } = spawnSync(
      'strace',
      ['-f', '--seccomp-bpf', '-c', '-o', calls, '-e', `trace=${names.join(',')}`, ...program],
      {
        encoding: 'utf8',
        env: {
          PATH: process.env['PATH'],
          LC_ALL: 'C.UTF-8',
          NODE_OPTIONS: `--require=${path.resolve(import.meta.dirname, 'statements.cjs')}`,
          COUNTS_FILE: statements,
        },
      },
    );
    if (status !== 0) throw new Error(`${args.join(' ')} ended with ${status}: ${stderr}`);
    const { statement, transaction } = JSON.parse(readFileSync(statements, 'utf8')) as Counts;
    return { ...callsOf(readFileSync(calls, 'utf8')), statement, transaction };
  } finally {
    rmSync(directory, { recursive: true });
  }
}

/** What `strace -c` has written: "% time, seconds, usecs/call, calls, errors or nothing, name" in each line. */
function callsOf(text: string): Record<Call | 'total', number> {
  const byName = new Map<string, number>();
  for (const line of text.split('\n')) {
    const [, calls, name] = /^\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?(\w+)$/.exec(line) ?? [];
    if (name !== undefined) byName.set(name, Number(calls));
  }
  const counts = KINDS.map(([kind, names]): [Call, number] => [
    kind,
    names.reduce((sum, name) => sum + (byName.get(name) ?? 0), 0),
  ]);
  const total = counts.reduce((sum, [, count]) => sum + count, 0);
  return { ...(Object.fromEntries(counts) as Record<Call, number>), total };
}
