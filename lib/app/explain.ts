import type { Tombstone } from '../catalog/tombstones.ts';
import { isoTime } from '../domain/clock.ts';
import { messageOf, TombstonedError } from '../domain/errors.ts';
import { isCopyOf, parseTombstoneId } from '../domain/ids.ts';
import type { Key } from '../domain/key.ts';
import { formatDuration } from '../domain/quantities.ts';
import { sameRevision } from '../domain/revision.ts';
import { COPY_STATES } from '../domain/state.ts';
import { guard } from '../policy/policy.ts';
import { refreshHolds } from '../run/batch.ts';
import { fenceOverlaps } from '../store/fences.ts';
import { leaseCovers } from '../store/leases.ts';
import { checkOwner } from '../store/owner.ts';
import type { LiveObject } from '../store/store.ts';
import { ctlOf } from './claim-place.ts';
import { verdictOf } from './explain-policy.ts';
import {
  type Because,
  becauseOfFence,
  becauseOfHold,
  becauseOfLease,
  type ExplainedCopy,
  type ExplainedLive,
  type Explanation,
  refusePendingName,
  shellWord,
} from './explanation.ts';
import { keptDetail, standingOf } from './kept.ts';
import { guardsOf, type OpenPlace, policiesOf } from './open.ts';
import { claimsIn, type StoreClaims } from './standing-claims.ts';

/** When somebody looks, and what is claimed then. */
interface Moment {
  readonly now: number;
  readonly claims: StoreClaims;
}

/** How many of a key's tombstones are looked at. */
const MOST = 100;

/** Explains a key of a store; undefined when neither the store nor the catalog has heard of it. */
export async function explainKey(
  place: OpenPlace,
  key: Key,
  signal?: AbortSignal,
): Promise<Explanation | undefined> {
  const { store, catalog, row, clock, config } = place;
  refusePendingName(store, key);
  await refreshHolds(place);
  const now = catalog.clock.sureTime(clock);
  const claims = await claimsIn({ ...place, known: place });
  const object = await store.head(key);
  const live = object === undefined ? null : await explainLive(place, object, { now, claims }, signal);
  const rows = new Map(catalog.tombstones.ofKey(row.n, key, MOST).map((t) => [t.id, t]));
  const ids = [...new Set([...rows.keys(), ...(await store.pendingIds(key))])].toSorted().toReversed();
  const copies: ExplainedCopy[] = [];
  for (const id of ids)
    copies.push(await explainCopy(place, { key, id, tombstone: rows.get(id) }, { now, claims }));
  return live === null && copies.length === 0 ? undefined : { key, store: config.name, live, copies };
}

async function explainLive(
  place: OpenPlace,
  live: LiveObject,
  { now, claims }: Moment,
  signal: AbortSignal | undefined,
): Promise<ExplainedLive> {
  const { config, catalog, row } = place;
  const ctl = ctlOf(config.name);
  const kept: Because[] = [];
  const not = await ownerSays(place);
  if (not !== undefined) kept.push(not);
  for (const { hold } of catalog.holds.covering(row.n, now, [live])) {
    if (hold.kind === 'exempt' || hold.blocks === 'sweep')
      kept.push(becauseOfHold(hold, ctl, command(place, live.key)));
  }
  for (const lease of claims.leases) {
    const { blocks } = lease.lease;
    if (lease.isDead !== true && blocks === 'sweep' && leaseCovers(lease.lease, live.key))
      kept.push(becauseOfLease(lease, ctl));
  }
  const guarded = guard(guardsOf(config), live, now);
  if (guarded !== null) kept.push(guardSays(place, live, guarded));
  const policies = policiesOf(config).filter((policy) => policy.selects(live.key));
  if (policies.length === 0) {
    const change = `${command(place, live.key)}, or a policy in ${config.name}'s config that selects it`;
    kept.push({ reason: 'no-policy', until: null, detail: 'no policy selects it', change });
  }
  let takenBy: string | null = null;
  const against: Because[] = [];
  for (const policy of policies) {
    const settings = config.policies.find(({ name }) => name === policy.name);
    const olderThan = settings?.type === 'age' ? settings.olderThan : 0;
    const verdict = await verdictOf({ place, policy, olderThan, live, now, signal });
    const limit = verdict === 'takes' ? limitSays(place, policy.name, live, now) : undefined;
    if (limit !== undefined) against.push(limit);
    else if (verdict === 'takes') takenBy ??= policy.name;
    else against.push({ ...verdict, change: `${verdict.change}, or ${command(place, live.key)}` });
  }
  if (takenBy === null) kept.push(...against);
  if (kept.length > 0) takenBy = null;
  // A sweep that is about it right now, or died so: nothing that keeps it from the next.
  for (const fence of claims.fences) {
    if (fence.fence.kind !== 'purge' && fenceOverlaps(fence.fence, [live.key]))
      kept.push(becauseOfFence(fence, ctl));
  }
  return { size: live.size, modifiedAt: live.modifiedAt, takenBy, kept };
}

/** That a policy's plan with this object is over a limit, and waits. */
function limitSays(
  { catalog, row, config }: OpenPlace,
  policy: string,
  live: LiveObject,
  now: number,
): Because | undefined {
  const plan = catalog.waiting.ofStore(row.n, now).find((one) => one.policy === policy);
  const then = plan === undefined ? undefined : catalog.waiting.revisions(plan.n, [live.key]).get(live.key);
  if (plan === undefined || then === undefined || !sameRevision(then, live.revision)) return undefined;
  return {
    reason: 'limit',
    until: null,
    detail: `policy ${policy} is over a limit (${plan.over}), and its plan ${plan.sweep} waits for approval until ${isoTime(plan.expiresAt)}`,
    change: `${ctlOf(config.name)} approve ${plan.sweep}`,
  };
}

function command({ config }: OpenPlace, key: Key): string {
  return `tombstonectl --store ${config.name} tombstone ${shellWord(key)}`;
}

async function ownerSays({ store, catalog }: OpenPlace): Promise<Because | undefined> {
  try {
    await checkOwner(store, catalog.uuid);
    return undefined;
  } catch (error) {
    if (!(error instanceof TombstonedError) || error.code !== 'blocked') throw error;
    return { reason: 'owner', until: null, detail: messageOf(error), change: error.hint ?? '' };
  }
}

function guardSays(
  { config }: OpenPlace,
  live: LiveObject,
  guarded: { reason: 'protected' | 'too-young' | 'error'; detail: string | null },
): Because {
  const { reason, detail } = guarded;
  const where = `in ${config.name}'s config`;
  switch (reason) {
    case 'protected':
      return {
        reason,
        until: null,
        detail: `a glob of protect ${where} matches it`,
        change: `protect ${where}`,
      };
    case 'too-young':
      return {
        reason,
        until: live.modifiedAt + config.minimumAge,
        detail: `it is younger than minimumAge, ${formatDuration(config.minimumAge)}`,
        change: `minimumAge ${where}`,
      };
    case 'error':
      return {
        reason,
        until: null,
        detail: `it can't be moved: ${detail ?? 'unknown'}`,
        change: 'make it a regular file that this user may move',
      };
  }
}

async function explainCopy(
  place: OpenPlace,
  { key, id, tombstone }: { key: Key; id: string; tombstone: Tombstone | undefined },
  { claims }: Moment,
): Promise<ExplainedCopy> {
  const { store, catalog, row, config, safetyWindow } = place;
  const copy = await store.headPending(key, id);
  const tombstonedAt = parseTombstoneId(id)?.at ?? 0;
  const base = { id, size: copy?.size ?? null, tombstonedAt };
  if (tombstone === undefined) {
    const detail = 'the catalog does not know it, so no purge takes it';
    const change = `it can be read: tombstonectl --store ${config.name} cat ${shellWord(key)}`;
    return { ...base, state: null, dueAt: null, kept: [{ reason: 'error', until: null, detail, change }] };
  }
  const kept: Because[] = [];
  const restoreIt = `tombstonectl --store ${config.name} restore ${id}`;
  const ctl = ctlOf(config.name);
  const [standing] = standingOf(catalog, row, { safetyWindow, clock: place.clock, claims }, [tombstone]);
  for (const one of standing?.kept ?? []) {
    switch (one.reason) {
      case 'exempt': // told of the live object: it keeps no copy from the purge
        break;
      case 'hold':
        kept.push(becauseOfHold(one.hold, ctl, null));
        break;
      case 'lease':
        kept.push(becauseOfLease(one.lease, ctl));
        break;
      case 'fence': {
        const { detail } = keptDetail(one);
        const change = 'its run ends it, or, when that has died, any sweep, purge or restore';
        kept.push(
          one.fence === null
            ? { reason: one.reason, until: null, detail, change }
            : becauseOfFence(one.fence, ctl),
        );
        break;
      }
      case 'object-lock': {
        const change = 'release the lock in the store; the first purge after that time looks again';
        kept.push({ reason: one.reason, until: one.until, detail: one.detail, change });
        break;
      }
      case 'clock':
        kept.push({ ...one, change: `if the clock is right: tombstonectl clock accept` });
        break;
      case 'window': {
        const detail = `its safety window of ${formatDuration(safetyWindow)} has not passed`;
        const isBack = tombstone.state === 'restored';
        const change = isBack ? 'it is live again, and this copy goes by itself' : restoreIt;
        kept.push({ reason: one.reason, until: one.until, detail, change });
      }
    }
  }
  const isThere = COPY_STATES.some((state) => state === tombstone.state);
  if (isThere && copy === undefined) {
    const detail = 'its pending copy is not in the store';
    kept.push({ reason: 'error', until: null, detail, change: 'the next purge notes it as purged' });
  } else if (isThere && copy !== undefined && !isCopyOf(id, copy.revision, tombstone.revision)) {
    const detail = 'its pending copy is not what was tombstoned, so no purge takes it';
    kept.push({
      reason: 'changed',
      until: null,
      detail,
      change: 'see what changed it; it can be read with cat',
    });
  }
  return {
    ...base,
    state: tombstone.state,
    dueAt: standing?.dueAt ?? null,
    kept,
  };
}
