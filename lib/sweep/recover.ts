import { inBatch } from '../run/batch.ts';
import { itemByItem } from '../run/item-by-item.ts';
import type { Place } from '../run/place.ts';
import type { MoveOutcome } from '../store/store.ts';
import { CatalogLedger } from './ledger.ts';
import { settle } from './move.ts';

const PAGE = 1000;

/**
 * Finishes or abandons what a dead run has left in `moving`, by what the store
 * holds (design, section 5). Its lock must be held. May run twice, with the same
 * end. What can't be looked at is reported and left. Gives how many were
 * finished, abandoned and left.
 */
export async function recoverMoves(
  place: Place,
  run: number,
): Promise<{ moved: number; abandoned: number; left: number }> {
  const { catalog, store, clock } = place;
  const sum = { moved: 0, abandoned: 0, left: 0 };
  const ledger = new CatalogLedger(place, run);
  for (let after = 0; ; ) {
    const open = catalog.tombstones.openBatch(run, after);
    if (open === undefined) break;
    after = open.batchAt;
    await inBatch(place, async () => {
      const found = await itemByItem(open.moves, async (moves) => store.move(moves, { resume: true }));
      const outcomes = found.map(
        (outcome): MoveOutcome =>
          outcome instanceof Error ? { outcome: 'failed', error: outcome } : outcome,
      );
      for (const { outcome } of await settle(place, ledger, open, outcomes, true)) {
        if (outcome === 'moved') sum.moved++;
        else if (outcome === 'failed') sum.left++;
        else sum.abandoned++;
      }
    });
  }
  for (const sweep of catalog.sweeps.openOf(run)) {
    while (catalog.sweeps.dropPlan(sweep, PAGE)) continue;
    catalog.sweeps.interrupt(sweep, clock.now());
  }
  return sum;
}
