import { inBatch } from '../run/batch.ts';
import type { Place } from '../run/place.ts';
import { settle } from './move.ts';

const PAGE = 1000;

/**
 * Finishes or abandons what a dead run has left in `moving`, by what the store
 * holds (design, section 5). Its lock must be held. May run twice, with the same
 * end. Gives how many were finished and abandoned.
 */
export async function recoverMoves(place: Place, run: number): Promise<{ moved: number; abandoned: number }> {
  const { catalog, store, clock } = place;
  const sum = { moved: 0, abandoned: 0 };
  for (
    let open = catalog.tombstones.openBatch(run);
    open !== undefined;
    open = catalog.tombstones.openBatch(run)
  ) {
    const batch = open;
    await inBatch(place, async () => {
      const outcomes = await store.move(batch.moves, { resume: true });
      await settle(place, run, batch, outcomes);
      const moved = batch.moves.filter((_, i) => outcomes[i]?.outcome === 'moved');
      const bytes = moved.reduce((total, move) => total + move.size, 0);
      catalog.sweeps.addRecovered(batch.sweep, moved.length, batch.moves.length - moved.length, bytes);
      sum.moved += moved.length;
      sum.abandoned += batch.moves.length - moved.length;
    });
  }
  for (const sweep of catalog.sweeps.openOf(run)) {
    while (catalog.sweeps.dropPlan(sweep, PAGE)) continue;
    catalog.sweeps.interrupt(sweep, clock.now());
  }
  return sum;
}
