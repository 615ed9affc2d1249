import { formatDuration } from '../domain/quantities.ts';
import type { Aged, Decision, Limits, Policy, PolicyLook } from './policy.ts';

export interface AptosPayloadSettings {
  readonly name: string;
  /** ms. */
  readonly olderThan: number;
  /** At least 1; null: every snapshot stays. */
  readonly keepSnapshots: number | null;
  readonly limits: Limits;
}

/** What is in use today. */
export interface PayloadInUse {
  /** Whether live or pending metadata refers to a directory, or to something in it. */
  readonly isReferredTo: (directory: string) => boolean;
  /** The metadata files that say nothing but old snapshots. */
  readonly retiredFiles: ReadonlySet<string>;
  readonly isRetired: (line: string) => boolean;
}

/**
 * The `aptos-payload` policy: directories of payload that no live or pending metadata refers to, when
 * the newest object in one is older than `olderThan`; and the metadata of snapshots that are older than the
 * newest `keepSnapshots`. Their payload follows when that metadata is purged.
 */
export function aptosPayloadPolicy(
  settings: AptosPayloadSettings,
  lookAtUse: (look: PolicyLook, keepSnapshots: number | null) => Promise<PayloadInUse>,
): Policy {
  const { name, olderThan, keepSnapshots, limits } = settings;
  const of = {
    selects: (key: string) => PAYLOAD.test(key) || (keepSnapshots !== null && SNAPSHOTS.test(key)),
    unitOf: (key: string) => PAYLOAD.exec(key)?.[0] ?? null,
  };
  return {
    name,
    prefix: '',
    reason: `no metadata refers to it, and older than ${formatDuration(olderThan)}${
      keepSnapshots === null ? '' : `; or snapshots but for ${NEWEST} ${keepSnapshots}`
    }`,
    keepLast: 0,
    limits,
    ...of,
    isExpired: () => false,
    prepare: async (look): Promise<Decision> => {
      const use = await lookAtUse(look, keepSnapshots);
      const isExpired = ({ key, modifiedAt }: Aged, now: number): boolean => {
        const directory = of.unitOf(key);
        if (directory === null) return use.retiredFiles.has(key);
        return !use.isReferredTo(directory) && modifiedAt <= now - olderThan;
      };
      return { ...of, isExpired, retires: (line) => use.isRetired(line) };
    },
  };
}

const PAYLOAD = /^(?:epoch_ending|state_epoch|transaction)_[^/]*\//;
const SNAPSHOTS = /^metadata\/state_snapshot_[^/]*\.meta$/;
const NEWEST = 'the newest';

/** How many snapshots the policy kept that gave this reason; null where it lets none go. */
export function keptSnapshots(reason: string | null): number | null {
  const kept = /^no metadata refers to it, .*; or snapshots but for the newest (\d{1,9})$/.exec(
    reason ?? '',
  )?.[1];
  return kept === undefined ? null : Number(kept);
}
