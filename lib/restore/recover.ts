import { inBatch } from '../run/batch.ts';
import type { Place } from '../run/place.ts';
import { checkIdentity } from '../store/control-objects.ts';
import { settleRestores } from './restore.ts';

const PAGE = 100;

/**
 * Finishes what a dead run has left in `restoring` (design, section 5). The
 * run's lock must be held. Gives how many were looked at.
 */
export async function recoverRestores(place: Place, run: number): Promise<number> {
  const { catalog, row, store, safetyWindow } = place;
  let count = 0;
  for (;;) {
    const taken = catalog.tombstones.taken(run, 'restoring', '', PAGE);
    if (taken.length === 0) return count;
    await inBatch(place, async () => {
      const items = taken.map((t) => ({
        key: t.key,
        id: t.id,
        revision: t.revision,
        to: catalog.tombstones.restoreOf(t.id)?.target ?? t.key,
      }));
      const outcomes = await store.putBack(items);
      await checkIdentity(store, row.uuid);
      settleRestores(place, run, taken, outcomes, safetyWindow);
    });
    count += taken.length;
  }
}
