import { Coverage } from '../cover/coverage.ts';
import { TombstonedError } from '../domain/errors.ts';
import { makePlainId } from '../domain/ids.ts';
import { commonPrefix, type Key } from '../domain/key.ts';
import { type Guards, guard, type Limits } from '../policy/policy.ts';
import type { Place } from '../run/place.ts';
import { checkPlace, inRun, type Run } from '../run/run.ts';
import type { LiveObject, Store } from '../store/store.ts';
import { ended, GUARD_TEXT, type HandOutcome, outcomeOf } from './hand-outcome.ts';
import { CatalogLedger } from './ledger.ts';
import { moveBatches } from './move.ts';
import { overOfStore } from './store-limits.ts';
import { planItems, tryTo } from './sweep.ts';

export interface ByHand {
  readonly keys: Iterable<Key> | AsyncIterable<Key>;
  readonly reason: string | null;
  /** The policy that they are tombstoned for, which then respects exemptions; not given of keys that an operator names. */
  readonly policy?: string | undefined;
  /** Null where the guards have no say: an object in the way of a forced restore. */
  readonly guards: Guards | null;
  readonly limits: Limits;
  /** What comes back at once to the key that makes way: its lines need no other file. */
  readonly comesBack?: { readonly key: Key; readonly id: string } | undefined;
  /** Damaged metadata files of which the caller has made sure that other files have what is left of them. */
  readonly damaged?: ReadonlySet<string> | undefined;
  readonly dryRun: boolean;
  readonly onOutcome: (outcome: HandOutcome) => void;
  readonly signal?: AbortSignal | undefined;
}

/** Tombstones keys that an operator names, as one sweep. Gives the sweep's id, or null of a dry run. */
export async function tombstoneByHand(place: Place, options: ByHand): Promise<string | null> {
  await checkPlace(place, options.dryRun);
  return inRun(place, 'sweep', async (run) => byHandIn(place, run, options));
}

/** The same, within a run. */
export async function byHandIn(place: Place, run: Run, options: ByHand): Promise<string | null> {
  const { catalog, row, clock, random } = place;
  const id = makePlainId('s', clock.now(), random);
  const { reason, dryRun: isDry } = options;
  const n = catalog.sweeps.begin({ id, store: row.n, run: run.n, reason, isDry, now: clock.now() });
  const cause = catalog.sweeps.cause(options.policy ?? null, options.reason);
  const coverage = Coverage.of(place, options.damaged);
  const ledger = new CatalogLedger(place, run.n);
  let count = 0;
  try {
    const prefix = await plan(place, { n, cause, coverage }, options);
    const planned = catalog.sweeps.plannedOf(n, cause);
    count = planned.count;
    const over = await overOfStore(place, options, { objects: planned.count, bytes: planned.bytes });
    catalog.sweeps.progress(n, 'moving', count, null);
    if (over !== null || options.dryRun) {
      for (const { key } of planItems(place, n)) {
        if (over === null) options.onOutcome(ended(key, null, 'tombstoned', 'would be'));
        else options.onOutcome(ended(key, null, 'blocked', over, 'limit'));
      }
    } else {
      const { signal } = options;
      const asker = options.policy === undefined ? 'hand' : 'policy';
      const move = { sweep: n, asker, prefixes: [prefix], coverage, signal } as const;
      for await (const { ends } of moveBatches(place, run, ledger, move)) {
        for (const end of ends) options.onOutcome(outcomeOf(end));
      }
    }
    catalog.sweeps.progress(n, over === null ? 'done' : 'blocked', count, clock.now());
    await ledger.dropPlan(n);
  } catch (error) {
    await tryTo(place, () => catalog.sweeps.progress(n, 'failed', count, clock.now()));
    await tryTo(place, async () => ledger.dropPlan(n));
    throw error;
  }
  return options.dryRun ? null : id;
}

/** Plans the keys; gives what they all begin with. */
async function plan(place: Place, to: Planning, options: ByHand): Promise<string> {
  let prefix: string | undefined;
  for await (const key of options.keys) {
    prefix = prefix === undefined ? key : commonPrefix(prefix, key);
    await planOne(place, to, key, options);
  }
  return prefix ?? '';
}

/** Where keys are planned: row numbers of the sweep, and of why. */
interface Planning {
  readonly n: number;
  readonly cause: number;
  readonly coverage: Coverage | undefined;
}

async function planOne(
  place: Place,
  { n, cause, coverage }: Planning,
  key: Key,
  options: ByHand,
): Promise<void> {
  const { store, catalog, clock } = place;
  if (`${key}/`.startsWith(store.pendingPrefix)) {
    options.onOutcome(ended(key, null, 'failed', `it is below ${store.pendingPrefix}`));
    return;
  }
  const live = await lookAt(store, key);
  if ('outcome' in live) {
    options.onOutcome(live);
    return;
  }
  const kept =
    options.guards === null
      ? live.refusal === null
        ? null
        : ({ reason: 'error', detail: live.refusal } as const)
      : guard(options.guards, live, catalog.clock.sureTime(clock));
  if (kept !== null) {
    const as = kept.reason === 'error' ? 'failed' : 'blocked';
    options.onOutcome(ended(key, null, as, kept.detail ?? GUARD_TEXT[kept.reason], kept.reason));
    return;
  }
  if (options.comesBack !== undefined) await coverage?.comesBack(key, options.comesBack);
  const needed = (await coverage?.ofKey(live)) ?? null;
  if (needed !== null) {
    options.onOutcome(ended(key, null, 'blocked', needed, 'coverage'));
    return;
  }
  const { size, revision, modifiedAt } = live;
  catalog.sweeps.plan(n, [{ key, size, revision, modifiedAt, cause, unit: null, isKept: false }]);
}

/** The live object, or how it ends for this key: one that can't be looked at does not stop the others. */
async function lookAt(store: Store, key: Key): Promise<LiveObject | HandOutcome> {
  try {
    const live = await store.head(key);
    if (live !== undefined) return live;
    const newest = (await store.pendingIds(key))[0];
    if (newest === undefined) return ended(key, null, 'gone', 'there is no such object');
    return ended(key, newest, 'already', 'it is pending already');
  } catch (error) {
    if (!(error instanceof TombstonedError)) throw error;
    return ended(key, null, 'failed', error.message, 'error');
  }
}
