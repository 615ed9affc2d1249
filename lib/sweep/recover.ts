import type { OpenBatch } from '../catalog/tombstones.ts';
import { TombstonedError } from '../domain/errors.ts';
import { commonPrefix } from '../domain/key.ts';
import { begin } from '../run/batch.ts';
import { type Keeper, keepersOf, keeperText, reasonOf } from '../run/claims.ts';
import type { DeadRun } from '../run/dead-run.ts';
import { itemByItem } from '../run/item-by-item.ts';
import type { Place } from '../run/place.ts';
import { inRun } from '../run/run.ts';
import { checkIdentity } from '../store/identity.ts';
import type { MoveOutcome } from '../store/store.ts';
import { CatalogLedger } from './ledger.ts';
import { settle } from './move.ts';

const PAGE = 1000;

interface Sum {
  moved: number;
  abandoned: number;
  left: number;
}

/**
 * Finishes or abandons what a dead run has left in `moving`, by what the store
 * holds (design, section 5): under the fence that it left, without a look at
 * leases or holds; where that has gone, under one of its own, and what a claim
 * covers by then is left for later. May run twice, with the same end. What can't
 * be looked at is reported and left. Gives how many were finished, abandoned and left.
 */
export async function recoverMoves(place: Place, dead: DeadRun): Promise<Sum> {
  const { catalog, clock } = place;
  const sum: Sum = { moved: 0, abandoned: 0, left: 0 };
  for (let after = 0; ; ) {
    const open = catalog.tombstones.openBatch(dead.n, after);
    if (open === undefined) break;
    after = open.batchAt;
    if (dead.isFenced(open.moves)) {
      await checkIdentity(place.store, place.row.uuid);
      await finish(place, dead, open, new Map(), sum);
    } else await underOwnFence(place, dead, open, sum);
  }
  for (const sweep of catalog.sweeps.openOf(dead.n)) {
    while (catalog.sweeps.dropPlan(sweep, PAGE)) continue;
    catalog.sweeps.interrupt(sweep, clock.now());
  }
  return sum;
}

async function underOwnFence(place: Place, dead: DeadRun, open: OpenBatch, sum: Sum): Promise<void> {
  const { moves } = open;
  const prefix = moves.reduce((common, { key }) => commonPrefix(common, key), moves[0]?.key ?? '');
  await inRun(place, 'sweep', async (run) => {
    const batch = await begin(place, run, { kind: 'sweep', prefixes: [prefix] });
    if (batch === undefined) throw new TypeError('nothing has stopped this');
    const keepers = keepersOf(place, batch.leases, moves, 'hand');
    await finish(place, dead, open, keepers, sum);
    await batch.end();
    const [first] = keepers.values();
    if (first === undefined) return;
    const text = `${keepers.size} objects that run ${dead.id} has left in moving stay so for now`;
    place.report('info', `${text}: kept by ${keeperText(first)}`);
  });
}

async function finish(
  place: Place,
  dead: DeadRun,
  open: OpenBatch,
  keepers: ReadonlyMap<number, Keeper>,
  sum: Sum,
): Promise<void> {
  const free = open.moves.filter((_, i) => !keepers.has(i));
  const found = await itemByItem(free, place.clock, async (moves) =>
    place.store.move(moves, { resume: true }),
  );
  let next = 0;
  const outcomes = open.moves.map((_, i): MoveOutcome => {
    const keeper = keepers.get(i);
    if (keeper !== undefined) return { outcome: 'failed', error: kept(keeper) };
    const outcome = found[next++];
    if (outcome === undefined) throw new TypeError('an outcome is missing');
    return outcome instanceof Error ? { outcome: 'failed', error: outcome } : outcome;
  });
  const ledger = new CatalogLedger(place, dead.n, place.actor);
  for (const one of await settle(place, ledger, open, outcomes, true)) {
    if (one?.outcome === 'moved') sum.moved++;
    else if (one?.outcome === 'failed') sum.left++;
    else sum.abandoned++;
  }
}

function kept(keeper: Keeper): TombstonedError {
  return new TombstonedError('blocked', `kept by ${keeperText(keeper)}`, { reason: reasonOf(keeper) });
}
