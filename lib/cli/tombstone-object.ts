import { keptDetail, reasonsOf, type StandingTombstone } from '../app/kept.ts';
import { isoTime } from '../domain/clock.ts';
import { pendingName } from '../domain/ids.ts';
import { revisionText } from '../domain/revision.ts';

/** A tombstone as `--json` has it (design, section 7). */
export function tombstoneObject(
  { tombstone, purgeAfter, dueAt, kept }: StandingTombstone,
  pendingPrefix: string,
) {
  const { id, store, key, state, size, revision, reason, policy, sweep } = tombstone;
  const hasCopy = state !== 'purged' && state !== 'abandoned';
  return {
    type: 'tombstone',
    id,
    store,
    key,
    pendingKey: hasCopy ? pendingName(pendingPrefix, key, id) : null,
    state,
    size,
    revision: revisionText(revision),
    reason,
    policy,
    sweep,
    tombstonedAt: isoTime(tombstone.tombstonedAt),
    purgeAfter: isoTime(purgeAfter),
    dueAt: isoTime(dueAt),
    kept: reasonsOf(kept),
    keptBy: kept.map((one) => ({ reason: one.reason, until: isoTime(one.until), ...keptDetail(one) })),
  } as const;
}
