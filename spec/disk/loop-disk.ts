import { execFileSync, spawnSync } from 'node:child_process';
import {
  closeSync,
  fsyncSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  rmSync,
  statfsSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { errnoOf } from '../../lib/domain/errors.ts';

let isAllowed: boolean | undefined;

/** Whether this process may make and mount a small disk; tried once. Only root may. */
export function mayMountDisks(): boolean {
  if (isAllowed === undefined) {
    try {
      new LoopDisk(4).remove();
      isAllowed = true;
    } catch {
      isAllowed = false;
    }
  }
  return isAllowed;
}

/** A small ext4 disk of its own, in a file; nothing on it is reserved for root. */
export class LoopDisk {
  /** Where it is mounted. */
  readonly directory: string;
  readonly #home = mkdtempSync(path.join(tmpdir(), 'tombstoned-disk-'));
  readonly #image = path.join(this.#home, 'image');
  #isMounted = false;

  constructor(mebibytes: number) {
    this.directory = path.join(this.#home, 'disk');
    mkdirSync(this.directory);
    try {
      writeFileSync(this.#image, '');
      truncateSync(this.#image, mebibytes * 1024 * 1024);
      execFileSync('mkfs.ext4', ['-q', '-m', '0', this.#image], { stdio: 'pipe' });
      this.mount();
    } catch (error) {
      this.remove();
      throw error;
    }
  }

  mount(): void {
    execFileSync('mount', ['-o', 'loop', this.#image, this.directory], { stdio: 'pipe' });
    this.#isMounted = true;
  }

  /** Takes it away; although it is in use, where it must be. */
  unmount(): void {
    if (!this.#isMounted) return;
    const isDown = spawnSync('umount', [this.directory], { stdio: 'pipe' }).status === 0;
    if (!isDown) execFileSync('umount', ['--lazy', this.directory], { stdio: 'pipe' });
    this.#isMounted = false;
  }

  remount(how: 'ro' | 'rw'): void {
    execFileSync('mount', ['-o', `remount,${how}`, this.directory], { stdio: 'pipe' });
  }

  get freeBytes(): number {
    const { bavail, bsize } = statfsSync(this.directory);
    return bavail * bsize;
  }

  /** Leaves no byte free. */
  fill(): void {
    const fd = openSync(path.join(this.directory, 'filler'), 'a');
    try {
      for (let size = 1024 * 1024; size > 0; size = size > 512 ? size / 4 : 0) {
        while (hasWritten(fd, size)) continue;
      }
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
    if (this.freeBytes > 0) throw new Error(`${this.freeBytes} bytes are still free`);
  }

  /** Gives the room back that `fill` took. */
  drain(): void {
    rmSync(path.join(this.directory, 'filler'), { force: true });
  }

  remove(): void {
    this.unmount();
    rmSync(this.#home, { recursive: true, force: true });
  }
}

function hasWritten(fd: number, size: number): boolean {
  try {
    return writeSync(fd, Buffer.alloc(size, 1)) === size;
  } catch (error) {
    if (errnoOf(error) === 'ENOSPC') return false;
    throw error;
  }
}
