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
  for (const batchAt of catalog.tombstones.openBatches(run)) {
    for (;;) {
      const moves = catalog.tombstones.moving(run, batchAt, '', PAGE);
      if (moves.length === 0) break;
      await inBatch(place, async () => {
        const outcomes = await store.move(moves, { resume: true });
        const sweep = catalog.tombstones.get(moves[0]?.id ?? '')?.sweep;
        const n = sweep === undefined ? undefined : catalog.sweeps.rowOf(sweep);
        if (n === undefined) throw new TypeError(`no sweep for batch ${batchAt}`);
        await settle(place, run, n, batchAt, moves, outcomes, false);
        const moved = outcomes.filter(({ outcome }) => outcome === 'moved');
        const bytes = moves.reduce(
          (total, m, i) => total + (outcomes[i]?.outcome === 'moved' ? m.size : 0),
          0,
        );
        catalog.sweeps.addRecovered(n, moved.length, moves.length - moved.length, bytes);
        sum.moved += moved.length;
        sum.abandoned += moves.length - moved.length;
      });
    }
    catalog.tombstones.closeBatch(run, batchAt);
  }
  for (const sweep of catalog.sweeps.openOf(run)) {
    while (catalog.sweeps.dropPlan(sweep, PAGE)) continue;
    catalog.sweeps.interrupt(sweep, clock.now());
  }
  return sum;
}
