import type { BigIntStats } from 'node:fs';
import type { LocalRevision } from '../../domain/revision.ts';

/** The revision of a file: size, and mtime in ns. Not ctime, which a move changes. */
export function revisionOf(stats: BigIntStats): LocalRevision {
  return { kind: 'local', size: Number(stats.size), mtimeNs: stats.mtimeNs };
}

/** Whether two looks were at one inode; only within one process. */
export function sameInode(a: BigIntStats, b: BigIntStats): boolean {
  return a.ino === b.ino && a.dev === b.dev;
}
