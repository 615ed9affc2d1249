import type { Tombstone } from '../catalog/tombstones.ts';
import { Coverage } from '../cover/coverage.ts';
import { uncoveredOf } from '../cover/purgeable.ts';
import { TombstonedError } from '../domain/errors.ts';
import { isCopyOf, parseTombstoneId } from '../domain/ids.ts';
import type { Key } from '../domain/key.ts';
import { formatDuration } from '../domain/quantities.ts';
import { sameRevision } from '../domain/revision.ts';
import { COPY_STATES } from '../domain/state.ts';
import { guard, type Policy, prepared } from '../policy/policy.ts';
import { refreshHolds } from '../run/batch.ts';
import { fenceOverlaps } from '../store/fences.ts';
import { leaseCovers } from '../store/leases.ts';
import { ownerRefusal } from '../store/owner.ts';
import type { LiveObject } from '../store/store.ts';
import { ctlOf } from './claim-place.ts';
import { verdictOf } from './explain-policy.ts';
import { explainedRequest, limitSays, requestSays, requestsNaming } from './explain-requests.ts';
import {
  type Because,
  becauseOfFence,
  becauseOfHold,
  becauseOfLease,
  type ExplainedCopy,
  type ExplainedEnd,
  type ExplainedLive,
  type Explanation,
  refusePendingName,
  shellWord,
} from './explanation.ts';
import { historyOf } from './history.ts';
import { keptDetail, standingOf } from './kept.ts';
import { guardsOf, type OpenPlace, policiesOf } from './open.ts';
import { claimsIn, type StoreClaims } from './standing-claims.ts';

/** When somebody looks, and what is claimed then. */
interface Moment {
  readonly now: number;
  readonly claims: StoreClaims;
  /** That the store is another catalog's. */
  readonly owner: Because | undefined;
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
  const owner = await ownerSays(place);
  const moment = { now, claims, owner };
  const object = await store.head(key);
  const live = object === undefined ? null : await explainLive(place, object, moment, signal);
  const rows = new Map(catalog.tombstones.ofKey(row.n, key, MOST).map((t) => [t.id, t]));
  const ids = [...new Set([...rows.keys(), ...(await store.pendingIds(key))])].toSorted().toReversed();
  const copies: ExplainedCopy[] = [];
  for (const id of ids) {
    const tombstone = rows.get(id);
    copies.push(await explainCopy(place, { key, id, tombstone, live: object }, moment));
  }
  const requests = requestsNaming(place, key).map(explainedRequest);
  const isKnown = live !== null || copies.length > 0 || requests.length > 0;
  return isKnown ? { key, store: config.name, live, copies, requests } : undefined;
}

async function explainLive(
  place: OpenPlace,
  live: LiveObject,
  { now, claims, owner }: Moment,
  signal: AbortSignal | undefined,
): Promise<ExplainedLive> {
  const { config, catalog, row } = place;
  const ctl = ctlOf(config.name);
  const kept: Because[] = [];
  if (owner !== undefined) kept.push(owner);
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
  const look = { store: place.store, now, isProtected: guardsOf(config).isProtected, signal };
  const policies: Policy[] = [];
  for (const policy of policiesOf(config)) {
    if (!policy.selects(live.key)) continue;
    try {
      policies.push(await prepared(policy, look));
    } catch (error) {
      if (!(error instanceof TombstonedError)) throw error;
      kept.push(coverageSays(place, error.message)); // so the sweep says it
    }
  }
  const byHand = command(place, live.key);
  const requests = requestsNaming(place, live.key);
  const isSelected = policies.length > 0 || kept.some(({ reason }) => reason === 'coverage');
  if (!isSelected && requests.length === 0) {
    const change = `${byHand}, or a policy in ${config.name}'s config that selects it`;
    kept.push({ reason: 'no-policy', until: null, detail: 'no policy selects it', change });
  }
  let takes: string | null = null;
  const against: Because[] = [];
  for (const policy of policies) {
    const settings = config.policies.find(({ name }) => name === policy.name);
    const olderThan = settings?.type === 'age' ? settings.olderThan : null;
    const verdict = await verdictOf({ place, policy, olderThan, live, now, signal });
    const limit = verdict === 'takes' ? limitSays(place, policy, live, now) : undefined;
    if (limit !== undefined) against.push(limit);
    else if (verdict === 'takes') takes ??= policy.name;
    else against.push({ ...verdict, change: `${verdict.change}, or ${byHand}` });
  }
  for (const line of requests) {
    const says = requestSays(place, line, live, now, byHand);
    if (says === undefined) takes ??= line.request.policy;
    else against.push(says);
  }
  if (takes === null) kept.push(...against);
  const isTold = kept.some(({ reason }) => reason === 'coverage');
  const needed = takes === null || isTold ? null : ((await Coverage.of(place)?.ofKey(live)) ?? null);
  if (needed !== null) kept.push(coverageSays(place, needed));
  const isKept = kept.length > 0;
  // A sweep that is about it right now, or died so: nothing that keeps it from the next.
  for (const fence of claims.fences) {
    if (fence.fence.kind !== 'purge' && fenceOverlaps(fence.fence, [live.key]))
      kept.push(becauseOfFence(fence, ctl));
  }
  const { size, modifiedAt } = live;
  return { size, modifiedAt, takenBy: isKept ? null : takes, wouldTake: isKept ? takes : null, kept };
}

function coverageSays({ config }: OpenPlace, detail: string): Because {
  const change = `${ctlOf(config.name)} aptos status says what is live; it may go once other live metadata has the same lines`;
  return { reason: 'coverage', until: null, detail, change };
}

function command({ config }: OpenPlace, key: Key): string {
  return `tombstonectl --store ${config.name} tombstone ${shellWord(key)}`;
}

async function ownerSays({ store, catalog }: OpenPlace): Promise<Because | undefined> {
  const refusal = await ownerRefusal(store, catalog.uuid);
  if (refusal === undefined) return undefined;
  return { reason: 'owner', until: null, detail: refusal.message, change: refusal.hint ?? '' };
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
  asked: { key: Key; id: string; tombstone: Tombstone | undefined; live: LiveObject | undefined },
  { now, claims, owner }: Moment,
): Promise<ExplainedCopy> {
  const { key, id, tombstone, live } = asked;
  const { store, catalog, row, config, safetyWindow } = place;
  const copy = await store.headPending(key, id);
  const tombstonedAt = parseTombstoneId(id)?.at ?? 0;
  const base = { id, size: copy?.size ?? null, tombstonedAt };
  if (tombstone === undefined) {
    const detail = 'the catalog does not know it, so no purge takes it';
    const change = `see what to do: ${ctlOf(config.name)} verify; it can be read: ${ctlOf(config.name)} cat ${shellWord(key)}`;
    const error = { reason: 'error', until: null, detail, change } as const;
    return { ...base, state: null, dueAt: null, ended: null, kept: [error] };
  }
  const kept: Because[] = [];
  const ctl = ctlOf(config.name);
  const isThere = COPY_STATES.some((state) => state === tombstone.state);
  if (owner !== undefined && isThere) kept.push(owner);
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
      case 'coverage': // below, as it is now
        break;
      case 'clock':
        kept.push({ ...one, change: `if the clock is right: tombstonectl clock accept` });
        break;
      case 'window':
        kept.push(windowSays(place, tombstone, live, one.until));
    }
  }
  const uncovered = isThere ? (await uncoveredOf(place, [tombstone])).get(0) : undefined;
  if (uncovered !== undefined) kept.push(coverageSays(place, uncovered));
  const isBack = live !== undefined && sameRevision(live.revision, tombstone.revision);
  const isInWindow = kept.some(({ reason }) => reason === 'window');
  if (tombstone.state === 'restored' && !isBack && !isInWindow)
    kept.push(windowSays(place, tombstone, live, now));
  if (isThere && copy === undefined) {
    const detail = 'its pending copy is not in the store';
    const change = `${ctl} verify --repair, or the first purge after its window, notes that it has gone`;
    kept.push({ reason: 'error', until: null, detail, change });
  } else if (isThere && copy !== undefined && !isCopyOf(id, copy.revision, tombstone.revision)) {
    const detail = 'its pending copy is not what was tombstoned, so no purge takes it';
    kept.push({
      reason: 'changed',
      until: null,
      detail,
      change: `see what to do: ${ctl} verify`,
    });
  }
  return {
    ...base,
    state: tombstone.state,
    dueAt: standing?.dueAt ?? null,
    ended: endOf(place, tombstone),
    kept,
  };
}

/** What its window keeps, and what ends it sooner. */
function windowSays(
  { config, safetyWindow }: OpenPlace,
  { id, state, revision }: Tombstone,
  live: LiveObject | undefined,
  until: number | null,
): Because {
  const ctl = ctlOf(config.name);
  const detail = `its safety window of ${formatDuration(safetyWindow)} has not passed`;
  const now = `${ctl} purge --now ${id} --reason TEXT`;
  if (state !== 'restored')
    return { reason: 'window', until, detail, change: `${ctl} restore ${id}, or to purge it now ${now}` };
  if (live !== undefined && sameRevision(live.revision, revision))
    return { reason: 'window', until, detail, change: 'it is live again, and this copy goes by itself' };
  return {
    reason: 'window',
    until: until === null ? null : until + safetyWindow,
    detail: `it was restored, and is not live any more: the purge after its window takes it as pending again, with another of ${formatDuration(safetyWindow)}`,
    change: `${ctl} restore ${id}, or to purge it now ${now}`,
  };
}

/** How a tombstone came to its end, or null. */
function endOf({ catalog }: OpenPlace, tombstone: Tombstone): ExplainedEnd | null {
  const { endedAt, state } = tombstone;
  if (endedAt === null) return null;
  const last = historyOf(catalog, tombstone).findLast(({ what }) => what === state);
  return { at: endedAt, by: last?.by ?? null, detail: last?.detail ?? null };
}
