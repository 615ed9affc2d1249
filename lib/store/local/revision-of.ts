import type { BigIntStats } from 'node:fs';
import type { LocalRevision } from '../../domain/revision.ts';

/** The revision of a file: size, and mtime in ns. Not ctime, which a move changes. */
export function revisionOf(stats: BigIntStats): LocalRevision {
  return { kind: 'local', size: Number(stats.size), mtimeNs: stats.mtimeNs };
}

/** What a date can say at the most, ms before and after 1970; disks can say more. */
const FARTHEST = 8_640_000_000_000_000n;

/**
 * When a file was modified, ms since 1970. A time that no date can say counts as
 * the farthest future: nothing takes it for old.
 */
export function modifiedAt({ mtimeMs }: BigIntStats): number {
  return Number(mtimeMs > FARTHEST || mtimeMs < -FARTHEST ? FARTHEST : mtimeMs);
}

/** Whether two looks were at one inode; only within one process. */
export function sameInode(a: BigIntStats, b: BigIntStats): boolean {
  return a.ino === b.ino && a.dev === b.dev;
}
