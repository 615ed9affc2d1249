import { existsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import type { RandomSource } from '../../lib/domain/ids.ts';

/** Where the catalogs are: no disk to wait for, where there is such a place. */
export const FAST = existsSync('/dev/shm') ? '/dev/shm' : tmpdir();

/** Numbers that come again with the same seed (mulberry32). */
export function seeded(seed: number): RandomSource {
  let state = seed >>> 0;
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 2 ** 32) * below);
  };
}
