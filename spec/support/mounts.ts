import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmdirSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';

let isAllowed: boolean | undefined;

/** Whether this process may mount file systems; tried once. */
export function mayMount(): boolean {
  if (isAllowed === undefined) {
    const probe = mkdtempSync(path.join(tmpdir(), 'tombstoned-mount-'));
    isAllowed = spawnSync('mount', ['-t', 'tmpfs', 'tmpfs', probe]).status === 0;
    if (isAllowed) execFileSync('umount', [probe]);
    rmdirSync(probe);
  }
  return isAllowed;
}

/** File systems that one spec mounts, and takes down at its end. */
export class Mounts {
  readonly #points: string[] = [];
  readonly #images: string[] = [];

  /** A file system in memory; the directory is made where it is missing. */
  tmpfs(directory: string, size = '64m'): string {
    mkdirSync(directory, { recursive: true });
    return this.#mount(['-t', 'tmpfs', '-o', `size=${size}`, 'tmpfs'], directory);
  }

  /** Another place for a directory that is there already. */
  bind(from: string, directory: string): string {
    mkdirSync(directory, { recursive: true });
    return this.#mount(['--bind', from], directory);
  }

  /** Makes a mount of `bind` read-only. */
  readonly(directory: string): void {
    execFileSync('mount', ['-o', 'remount,bind,ro', directory]);
  }

  /** A file system of a type, in a file; undefined where it can't be made or mounted. */
  image(
    type: 'btrfs' | 'ext2' | 'ext4' | 'xfs',
    directory: string,
    megabytes: number,
    options: readonly string[] = [],
  ): string | undefined {
    const file = `${directory}.img`;
    mkdirSync(directory, { recursive: true });
    writeFileSync(file, '');
    this.#images.push(file);
    truncateSync(file, megabytes * 1024 * 1024);
    if (spawnSync(`mkfs.${type}`, ['-q', ...options, file]).status !== 0) return undefined;
    if (spawnSync('mount', ['-o', 'loop', file, directory]).status !== 0) return undefined;
    this.#points.push(directory);
    return directory;
  }

  #mount(args: string[], directory: string): string {
    execFileSync('mount', [...args, directory]);
    this.#points.push(directory);
    return directory;
  }

  /** Takes one down, although it is in use. */
  unmount(directory: string): void {
    execFileSync('umount', ['--lazy', directory]);
    this.#points.splice(this.#points.lastIndexOf(directory), 1);
  }

  remove(): void {
    for (const directory of this.#points.toReversed()) this.unmount(directory);
    for (const file of this.#images.splice(0)) rmSync(file);
  }
}
