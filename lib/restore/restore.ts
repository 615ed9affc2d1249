import type { CachedHold } from '../catalog/holds.ts';
import type { Tombstone } from '../catalog/tombstones.ts';
import { messageOf, TombstonedError } from '../domain/errors.ts';
import { isCopyOf, makePlainId } from '../domain/ids.ts';
import type { KeptReason } from '../domain/kept-reason.ts';
import { type Key, printable } from '../domain/key.ts';
import { sameRevision } from '../domain/revision.ts';
import { look } from '../run/batch.ts';
import type { Place } from '../run/place.ts';
import { inRun, type Run } from '../run/run.ts';
import { fencesAfterWait, fenceText } from '../run/wait-for-fences.ts';
import { type Fence, fenceOverlaps } from '../store/fences.ts';
import { createHold, type Hold, removeHold } from '../store/holds.ts';
import { checkIdentity } from '../store/identity.ts';
import { checkOwner } from '../store/owner.ts';
import type { LiveObject, PutBackOutcome } from '../store/store.ts';
import { byHandIn } from '../sweep/by-hand.ts';

/** What became of one tombstone that was to be restored. */
export interface RestoreOutcome {
  readonly key: string;
  readonly id: string;
  readonly outcome: 'restored' | 'unchanged' | 'conflict' | 'gone' | 'blocked' | 'failed';
  readonly detail: string | null;
  readonly reason: KeptReason | null;
}

export interface RestoreOptions {
  /** Pages of tombstones; a key occurs once in a page. */
  readonly pages: Iterable<readonly Tombstone[]> | AsyncIterable<readonly Tombstone[]>;
  /** Another live key to make; then there is one tombstone. */
  readonly to: Key | null;
  /** Tombstones a live object that is in the way, first. */
  readonly force: boolean;
  /** How long policies leave the restored keys alone, ms. */
  readonly exemptFor: number;
  readonly dryRun: boolean;
  /** How long to wait for batches that are under way, ms. */
  readonly fenceTimeout?: number | undefined;
  readonly onOutcome: (outcome: RestoreOutcome) => void;
  readonly signal?: AbortSignal | undefined;
}

/** Brings tombstones back as live objects (R4, R8); never over a live object. */
export async function restore(place: Place, options: RestoreOptions): Promise<void> {
  await checkIdentity(place.store, place.row.uuid);
  await checkOwner(place.store, place.catalog.uuid);
  await inRun(place, 'restore', async (run) => {
    for await (const page of options.pages) {
      if (options.signal?.aborted === true) return;
      await restorePage(place, run, page, options);
    }
  });
}

async function restorePage(
  place: Place,
  run: Run,
  page: readonly Tombstone[],
  options: RestoreOptions,
): Promise<void> {
  const ready: Ready[] = [];
  for (const tombstone of page) {
    const end = await before(place, tombstone, options);
    if ('tombstone' in end) ready.push(end);
    else options.onOutcome(end);
  }
  if (ready.length === 0) return;
  if (options.dryRun) {
    for (const { tombstone } of ready) {
      const as = otherKey(options);
      options.onOutcome(ended(tombstone, 'restored', as === null ? 'would be' : `would be ${as}`));
    }
    return;
  }
  await look(place);
  await restoreBatch(place, run, ready, options);
}

/** A tombstone that can be restored. */
interface Ready {
  readonly tombstone: Tombstone;
  /** Whether another object is at its key, which makes way by force. */
  readonly isInTheWay: boolean;
}

/** What can be said before anything is done: how it ends, or that it can be restored. */
async function before(
  place: Place,
  tombstone: Tombstone,
  options: RestoreOptions,
): Promise<RestoreOutcome | Ready> {
  const { store } = place;
  switch (tombstone.state) {
    case 'purged':
    case 'abandoned':
      return ended(tombstone, 'gone', `it is ${tombstone.state}`);
    case 'moving':
    case 'purging':
    case 'restoring':
      return ended(tombstone, 'blocked', `another run is at it (${tombstone.state}): try again`, 'fence');
    case 'pending':
    case 'restored':
  }
  const to = options.to ?? tombstone.key;
  let live: LiveObject | undefined;
  try {
    live = await store.head(to);
  } catch (error) {
    // One key that can't be looked at does not keep the others from coming back.
    if (!(error instanceof TombstonedError)) throw error;
    return ended(tombstone, 'failed', error.message, 'error');
  }
  if (live === undefined) return { tombstone, isInTheWay: false };
  if (sameRevision(live.revision, tombstone.revision)) {
    // A crash or another restore may have left it so: the catalog must know.
    return tombstone.state === 'restored' || options.to !== null
      ? ended(tombstone, 'unchanged', otherKey(options))
      : { tombstone, isInTheWay: false };
  }
  if (!options.force)
    return ended(tombstone, 'conflict', `another object is at ${printable(to)}; --force tombstones it first`);
  return (await whyNotBack(place, tombstone)) ?? { tombstone, isInTheWay: true };
}

/** Nothing makes way for a copy that can't come back: how that ends, or undefined. */
async function whyNotBack(place: Place, tombstone: Tombstone): Promise<RestoreOutcome | undefined> {
  const { store, row } = place;
  try {
    const copy = await store.headPending(tombstone.key, tombstone.id);
    if (copy === undefined) {
      await checkIdentity(store, row.uuid);
      return ended(tombstone, 'gone', 'its pending copy is not in the store');
    }
    if (isCopyOf(tombstone.id, copy.revision, tombstone.revision)) return undefined;
    return ended(tombstone, 'failed', 'its pending copy is not what was tombstoned', 'changed');
  } catch (error) {
    if (!(error instanceof TombstonedError)) throw error;
    return ended(tombstone, 'failed', error.message, 'error');
  }
}

/** Tombstones what is at the key, so that both contents survive. */
async function clearTheWay(
  place: Place,
  run: Run,
  tombstone: Tombstone,
  to: Key,
): Promise<RestoreOutcome | undefined> {
  let failure: RestoreOutcome | undefined;
  await byHandIn(place, run, {
    keys: [to],
    reason: `made way for the restore of ${tombstone.id}`,
    guards: null,
    comesBack: { key: tombstone.key, id: tombstone.id },
    limits: { maxObjects: null, maxFraction: null, maxBytes: null },
    dryRun: false,
    onOutcome: ({ outcome, detail, reason }) => {
      if (outcome === 'tombstoned' || outcome === 'gone' || outcome === 'already') return;
      failure = ended(
        tombstone,
        outcome === 'changed' ? 'conflict' : outcome,
        `${to} stays: ${detail ?? ''}`,
        reason,
      );
    },
  });
  return failure;
}

async function restoreBatch(
  place: Place,
  run: Run,
  ready: readonly Ready[],
  options: RestoreOptions,
): Promise<void> {
  const { catalog, row, store } = place;
  const targetOf = (tombstone: Tombstone): Key => options.to ?? tombstone.key;
  const tombstones = ready.map(({ tombstone }) => tombstone);
  // The claim comes first, then the look at what others are about to do (R5).
  const exemption = await exempt(place, tombstones.map(targetOf), options.exemptFor);
  const standing = await standingFences(place, tombstones.map(targetOf), options).catch(
    async (error: unknown) => {
      if (exemption !== undefined) await removeHold(store.control, exemption.id);
      throw error;
    },
  );
  const clear = tombstones.filter((tombstone) => {
    const fence = standing.find((one) => fenceOverlaps(one, [targetOf(tombstone)]));
    if (fence === undefined) return true;
    const detail = `${fenceText(fence)} is not over: try again, or see tombstonectl fence ls`;
    options.onOutcome(ended(tombstone, 'blocked', detail, 'fence'));
    return false;
  });
  const taken = catalog.transaction(() => {
    if (exemption !== undefined) catalog.holds.add(row.n, exemption.cached, exemption.keys);
    const got = catalog.tombstones.takeForRestore({
      store: row.n,
      run: run.n,
      ids: clear.map(({ id }) => id),
    });
    catalog.tombstones.noteRestores(
      got.map((t) => ({ id: t.id, target: targetOf(t), exemption: exemption?.cached.name ?? '' })),
    );
    return got;
  });
  const forced = new Set(ready.flatMap(({ tombstone, isInTheWay }) => (isInTheWay ? [tombstone.id] : [])));
  const free = taken.filter(({ id }) => !forced.has(id));
  let isAnyBack = await putBack(place, run, free, targetOf, options);
  // Only what is taken makes others go, and at once takes their place; a crash between leaves it to recovery.
  for (const tombstone of taken) {
    if (!forced.has(tombstone.id)) continue;
    const failure = await clearTheWay(place, run, tombstone, targetOf(tombstone));
    if (failure === undefined) {
      isAnyBack = (await putBack(place, run, [tombstone], targetOf, options)) || isAnyBack;
    } else {
      settleRestores(place, run.n, [tombstone], [{ outcome: 'conflict' }]);
      options.onOutcome(failure);
    }
  }
  if (exemption !== undefined && !isAnyBack) {
    await removeHold(store.control, exemption.id);
    catalog.transaction(() => catalog.holds.drop(row.n, exemption.cached.name));
  }
  const got = new Set(taken.map(({ id }) => id));
  for (const tombstone of clear) {
    if (got.has(tombstone.id)) continue;
    options.onOutcome(ended(tombstone, 'blocked', 'another run took it meanwhile: try again', 'fence'));
  }
}

/** Waits for the batches that are about these keys (R5); gives the fences of those that are not over in time. */
async function standingFences(place: Place, keys: readonly Key[], options: RestoreOptions): Promise<Fence[]> {
  const { store, clock, report } = place;
  return fencesAfterWait(store, keys, {
    clock,
    timeout: options.fenceTimeout,
    signal: options.signal,
    onWait: ([first]) => first && report('info', `waiting for ${fenceText(first)}`),
  });
}

/** Puts back what is taken, and records it; says whether anything is back. */
async function putBack(
  place: Place,
  run: Run,
  taken: readonly Tombstone[],
  targetOf: (tombstone: Tombstone) => Key,
  options: RestoreOptions,
): Promise<boolean> {
  const { store, row } = place;
  if (taken.length === 0) return false;
  const items = taken.map((t) => ({ key: t.key, id: t.id, revision: t.revision, to: targetOf(t) }));
  const outcomes = await store.putBack(items);
  if (outcomes.length !== taken.length)
    throw new TypeError(`${outcomes.length} outcomes for ${taken.length}`);
  if (outcomes.some(({ outcome }) => outcome === 'gone')) await checkIdentity(store, row.uuid);
  settleRestores(place, run.n, taken, outcomes);
  for (const [i, tombstone] of taken.entries()) options.onOutcome(outcomeOf(tombstone, outcomes[i], options));
  return outcomes.some(({ outcome }) => outcome === 'restored' || outcome === 'unchanged');
}

/** Records how restores of a run ended, each with its event, in one transaction. */
export function settleRestores(
  place: Place,
  run: number,
  taken: readonly Tombstone[],
  outcomes: readonly PutBackOutcome[],
): void {
  const { catalog, row, clock } = place;
  catalog.transaction(() => {
    const now = catalog.clock.count(clock);
    const at = clock.now();
    for (const [i, tombstone] of taken.entries()) {
      const outcome = outcomes[i];
      const note = catalog.tombstones.restoreOf(tombstone.id);
      const isBack = outcome?.outcome === 'restored' || outcome?.outcome === 'unchanged';
      const isElsewhere = note !== undefined && note.target !== tombstone.key;
      catalog.tombstones.settleRestore({
        store: row.n,
        run,
        tombstone,
        to: isBack && !isElsewhere ? 'restored' : 'prior',
        now,
        window: place.safetyWindow,
      });
      catalog.events.add({
        store: row.n,
        run,
        who: place.actor,
        now: at,
        what: isBack ? 'restored' : 'restore-failed',
        tombstone: tombstone.id,
        detail: isElsewhere
          ? `to ${note.target}: ${outcome?.outcome}`
          : isBack
            ? undefined
            : outcome?.outcome,
      });
    }
  });
}

interface Exemption {
  readonly id: string;
  readonly cached: CachedHold;
  readonly keys: readonly string[];
}

/** Writes an exemption into the store: policies leave these keys alone for a while. */
async function exempt(place: Place, keys: readonly Key[], exemptFor: number): Promise<Exemption | undefined> {
  if (exemptFor === 0) return undefined;
  const { store, catalog, clock, random, actor } = place;
  const now = clock.now();
  // Of a clock that is behind, it would end too soon.
  const latest = Math.max(now, catalog.clock.standing(clock).vouched);
  const hold: Hold = {
    id: makePlainId('h', now, random),
    kind: 'exempt',
    blocks: 'sweep',
    scope: { by: 'keys', keys },
    until: latest + exemptFor,
    reason: 'restored',
    by: actor.by,
    host: actor.host,
    createdAt: new Date(now).toISOString(),
    problem: null,
  };
  await createHold(store.control, hold);
  const { scope: _, ...rest } = hold;
  return { id: hold.id, cached: { ...rest, name: `${hold.id}.json`, scope: 'keys', prefix: null }, keys };
}

/** Where it is restored to, when that is not its own key. */
function otherKey({ to }: Pick<RestoreOptions, 'to'>): string | null {
  return to === null ? null : `as ${printable(to)}`;
}

function outcomeOf(
  tombstone: Tombstone,
  outcome: PutBackOutcome | undefined,
  options: Pick<RestoreOptions, 'to'>,
): RestoreOutcome {
  switch (outcome?.outcome) {
    case 'restored':
    case 'unchanged':
      return ended(tombstone, outcome.outcome, otherKey(options));
    case 'conflict':
      return ended(tombstone, 'conflict', 'another object came to its key meanwhile');
    case 'gone':
      return ended(tombstone, 'gone', 'its pending copy is not in the store');
    case 'failed':
      return ended(tombstone, 'failed', messageOf(outcome.error), 'error');
    case undefined:
      throw new TypeError(`no outcome for ${tombstone.id}`);
  }
}

function ended(
  { key, id }: Tombstone,
  outcome: RestoreOutcome['outcome'],
  detail: string | null,
  reason: KeptReason | null = null,
): RestoreOutcome {
  return { key, id, outcome, detail, reason };
}
