import { parseTombstoneId } from '../domain/ids.ts';
import { isBelowPrefix, type Key } from '../domain/key.ts';
import { fenceOverlaps } from '../store/fences.ts';
import { type Hold, listHolds, readHold } from '../store/holds.ts';
import { leaseCovers } from '../store/leases.ts';
import type { Store } from '../store/store.ts';
import { ctlOfUrl } from './claim-place.ts';
import {
  type Because,
  becauseOfFence,
  becauseOfHold,
  becauseOfLease,
  type ExplainedCopy,
  type Explanation,
  refusePendingName,
} from './explanation.ts';
import { claimsIn } from './standing-claims.ts';
import type { Surroundings } from './surroundings.ts';

/** What a store can tell of a key by itself, without config and catalog; undefined when it has no such key. */
export async function explainFromStore(
  store: Store,
  key: Key,
  { clock, actor }: Pick<Surroundings, 'clock' | 'actor'>,
): Promise<Explanation | undefined> {
  refusePendingName(store, key);
  const object = await store.head(key);
  const ids = await store.pendingIds(key);
  if (object === undefined && ids.length === 0) return undefined;
  const ctl = ctlOfUrl(store.url);
  const holds = await holdsInForce(store, clock.now());
  const { leases, fences } = await claimsIn({ store, clock, actor, known: null });
  const leased = leases.filter(({ lease, isDead }) => isDead !== true && leaseCovers(lease, key));
  const fenced = fences.filter(({ fence }) => fenceOverlaps(fence, [key]));
  const copies: ExplainedCopy[] = [];
  for (const id of ids) {
    copies.push({
      id,
      state: null,
      size: (await store.headPending(key, id))?.size ?? null,
      tombstonedAt: parseTombstoneId(id)?.at ?? 0,
      dueAt: null,
      ended: null,
      kept: [
        ...because(
          holds.filter((hold) => hold.kind === 'hold' && covers(hold, key, id)),
          ctl,
        ),
        ...leased.map((lease) => becauseOfLease(lease, ctl)),
        ...fenced.filter(({ fence }) => fence.kind !== 'sweep').map((fence) => becauseOfFence(fence, ctl)),
      ],
    });
  }
  const sweeping = holds.filter((hold) => hold.kind === 'exempt' || hold.blocks === 'sweep');
  const kept = [
    ...because(
      sweeping.filter((hold) => covers(hold, key, null)),
      ctl,
    ),
    ...leased.filter(({ lease }) => lease.blocks === 'sweep').map((lease) => becauseOfLease(lease, ctl)),
    ...fenced.filter(({ fence }) => fence.kind !== 'purge').map((fence) => becauseOfFence(fence, ctl)),
  ];
  const live =
    object === undefined
      ? null
      : { size: object.size, modifiedAt: object.modifiedAt, takenBy: null, wouldTake: null, kept };
  return { key, store: store.url, live, copies, requests: [] };
}

async function holdsInForce(store: Store, now: number): Promise<Hold[]> {
  const holds: Hold[] = [];
  for (const name of await listHolds(store.control)) {
    const hold = await readHold(store.control, name);
    if (hold !== undefined && (hold.until === null || hold.until > now)) holds.push(hold);
  }
  return holds;
}

function covers({ scope }: Hold, key: Key, id: string | null): boolean {
  switch (scope.by) {
    case 'keys':
      return scope.keys.includes(key);
    case 'prefix':
      return isBelowPrefix(key, scope.prefix);
    case 'ids':
      return id !== null && scope.ids.includes(id);
  }
}

function because(holds: readonly Hold[], ctl: string): Because[] {
  return holds.map((hold) => becauseOfHold({ ...hold, name: `${hold.id}.json` }, ctl, null));
}
