import type { Key } from '../../lib/domain/key.ts';
import { modifiedNs, type Revision } from '../../lib/domain/revision.ts';

export const PENDING = 'pending_deletion/';

/** A content of a key. */
export interface Content {
  readonly key: Key;
  readonly generation: number;
  readonly revision: Revision;
  /** ms since 1970. */
  readonly modifiedAt: number;
}

/** What all contents were modified at, at the earliest: a policy's age is never in doubt. */
const MODIFIED = Date.parse('2025-01-01T00:00:00.000Z');

export function bytesOf({ key, generation }: { key: string; generation: number }): Buffer {
  return Buffer.from(`${key}#${generation}\n`);
}

export function contentOf(key: Key, generation: number): Content {
  const modifiedAt = MODIFIED + generation * 1000;
  const size = bytesOf({ key, generation }).length;
  return {
    key,
    generation,
    modifiedAt,
    revision: { kind: 'local', size, mtimeNs: BigInt(modifiedAt) * 1_000_000n },
  };
}

/** Which content of its key a revision is. */
export function generationOf(revision: Revision): number {
  return (Number(modifiedNs(revision) / 1_000_000n) - MODIFIED) / 1000;
}
