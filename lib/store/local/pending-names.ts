import type { BigIntStats } from 'node:fs';
import { inodeOf } from './directories.ts';

/** Ids by the last part of their keys: the pending copies that are in one directory. */
export type IdsByBase = Map<string, string[]>;

interface Reading {
  readonly ids: IdsByBase;
  readonly inode: string;
  readonly changedNs: bigint;
}

/** How many names are remembered, of all directories together. */
export const MOST_NAMES = 50_000;
/** The coarsest times that file systems keep are 2 s apart. ns */
const TICK_NS = 3_000_000_000n;

/**
 * What was last read of a few pending directories, so that a restore which reads
 * one pending object after the other does not read a directory for each. A
 * directory that has changed since, or so shortly before that its times may not
 * tell, is not remembered.
 */
export class PendingNames {
  readonly #readings = new Map<string, Reading>();
  #count = 0;

  /** The ids of a name, newest first, if that directory is still as it was read; undefined: it has to be read. */
  of(path: string, directory: BigIntStats, base: string): string[] | undefined {
    const reading = this.#readings.get(path);
    if (reading === undefined) return undefined;
    if (reading.inode === inodeOf(directory) && reading.changedNs === directory.ctimeNs)
      return reading.ids.get(base);
    this.#forget(path, reading);
    return undefined;
  }

  /** Notes what a steady directory had; `directory` is as it was before it was read. */
  note(path: string, directory: BigIntStats, ids: IdsByBase): void {
    const before = this.#readings.get(path);
    if (before !== undefined) this.#forget(path, before);
    this.#readings.set(path, { ids, inode: inodeOf(directory), changedNs: directory.ctimeNs });
    this.#count += ids.size;
    for (const [oldest, reading] of this.#readings) {
      if (this.#count <= MOST_NAMES) return;
      this.#forget(oldest, reading);
    }
  }

  #forget(path: string, reading: Reading): void {
    this.#readings.delete(path);
    this.#count -= reading.ids.size;
  }
}

/** Whether what is read of a directory now may be remembered: any later change shows in its times. `now`: ms. */
export function isSteadyAt({ ctimeNs }: BigIntStats, now: number): boolean {
  return BigInt(now) * 1_000_000n - ctimeNs > TICK_NS;
}
