import { execFileSync, spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, readdirSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';

const ROOT = path.resolve(import.meta.dirname, '../..');
const HOST_UNITS = '/usr/lib/systemd/system';

/** Where thousands of files are made soon: in memory, where that has room for them. */
export function quickPlace(): string {
  const memory = '/dev/shm';
  if (!existsSync(memory)) return tmpdir();
  const { bavail, bsize } = statfsSync(memory);
  return bavail * bsize > 1 << 30 ? memory : tmpdir();
}

/** Runs one of the scripts; throws, with what it said, when it fails. */
export function script(name: string, args: readonly string[], env: Readonly<Record<string, string>>): string {
  return execFileSync(path.join(ROOT, 'scripts', name), args, {
    encoding: 'utf8',
    stdio: 'pipe',
    env: { PATH: process.env['PATH'], LC_ALL: 'C.UTF-8', TMPDIR: quickPlace(), ...env },
  });
}

/** All files and links below a directory, sorted, but those of packages that the program brings along. */
export function filesBelow(directory: string): string[] {
  return readdirSync(directory, { recursive: true, withFileTypes: true, encoding: 'utf8' })
    .filter((entry) => !entry.isDirectory() && !entry.parentPath.includes('/node_modules/'))
    .map((entry) => path.relative(directory, path.join(entry.parentPath, entry.name)))
    .toSorted();
}

export const hasTool = (name: string): boolean => spawnSync('which', [name]).status === 0;

/** What `systemd-analyze verify` says of the units below a prefix in a root, beside those of this machine. */
export function verifyUnits(root: string, prefix: string): string {
  const stubs = [path.join(root, 'usr/lib/systemd/system'), path.join(root, 'bin')] as const;
  const [units, bin] = stubs;
  for (const directory of stubs) mkdirSync(directory, { recursive: true });
  try {
    for (const name of readdirSync(HOST_UNITS)) {
      if (/\.(?:target|slice|mount)$/.test(name)) cpSync(path.join(HOST_UNITS, name), path.join(units, name));
    }
    cpSync(path.join(root, prefix, 'lib/systemd/system'), units, { recursive: true });
    writeFileSync(path.join(bin, 'kill'), '', { mode: 0o755 });
    const ours = readdirSync(units)
      .filter((name) => name.startsWith('tombstoned'))
      .map((name) => name.replace('@.', '@archive.'));
    const verify = ['verify', `--root=${root}`, '--man=no', ...ours];
    const { stdout, stderr } = spawnSync('systemd-analyze', verify, { encoding: 'utf8' });
    return stdout + stderr;
  } finally {
    rmSync(path.join(root, 'usr'), { recursive: true });
    rmSync(bin, { recursive: true });
  }
}
