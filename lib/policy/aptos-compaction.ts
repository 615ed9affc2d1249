import { formatDuration } from '../domain/quantities.ts';
import type { Aged, Decision, Limits, Policy, PolicyLook } from './policy.ts';

export interface AptosCompactionSettings {
  readonly name: string;
  /** ms. */
  readonly removeAfter: number;
  readonly limits: Limits;
}

/** Since when metadata files are replaced by compacted ones, seconds since 1970; null of one that is not. */
export type ReplacedAt = (key: string) => bigint | null;

/**
 * The `aptos-compaction` policy: the metadata files that the newest timestamps of the original compactor
 * say are replaced for longer than `removeAfter`.
 */
export function aptosCompactionPolicy(
  { name, removeAfter, limits }: AptosCompactionSettings,
  lookAtTimestamps: (look: PolicyLook) => Promise<ReplacedAt>,
): Policy {
  const of = { selects: (key: string) => METADATA.test(key), unitOf: () => null };
  return {
    name,
    prefix: 'metadata/',
    reason: `replaced by compacted metadata for longer than ${formatDuration(removeAfter)}`,
    keepLast: 0,
    limits,
    ...of,
    isExpired: () => false,
    prepare: async (look): Promise<Decision> => {
      const replacedAt = await lookAtTimestamps(look);
      const isExpired = ({ key }: Aged, now: number): boolean => {
        const at = replacedAt(key);
        return at !== null && at <= BigInt(Math.max(0, Math.floor((now - removeAfter) / 1000)));
      };
      return { ...of, isExpired };
    },
  };
}

const METADATA = /^metadata\/[^/]*\.meta$/;
