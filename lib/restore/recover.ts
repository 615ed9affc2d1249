import type { Tombstone } from '../catalog/tombstones.ts';
import { look } from '../run/batch.ts';
import type { DeadRun } from '../run/dead-run.ts';
import { itemByItem } from '../run/item-by-item.ts';
import type { Place } from '../run/place.ts';
import { reportLeft } from '../run/report-left.ts';
import { checkIdentity } from '../store/identity.ts';
import type { PutBackOutcome } from '../store/store.ts';
import { settleRestores } from './restore.ts';

const PAGE = 100;

/**
 * Finishes what a dead run has left in `restoring` (design, section 5). The
 * run's lock must be held. What can't be looked at is reported and left. Gives
 * how many were settled and left.
 */
export async function recoverRestores(
  place: Place,
  dead: DeadRun,
): Promise<{ restores: number; left: number }> {
  const { catalog, row, store } = place;
  const sum = { restores: 0, left: 0 };
  for (let after = ''; ; ) {
    const taken = catalog.tombstones.taken(dead.n, 'restoring', after, PAGE);
    const last = taken.at(-1);
    if (last === undefined) return sum;
    after = last.id;
    await look(place);
    const items = taken.map((t) => ({
      key: t.key,
      id: t.id,
      revision: t.revision,
      to: catalog.tombstones.restoreOf(t.id)?.target ?? t.key,
    }));
    const found = await itemByItem(items, place.clock, async (some) => store.putBack(some));
    await checkIdentity(store, row.uuid);
    const settled: Tombstone[] = [];
    const outcomes: PutBackOutcome[] = [];
    for (const [i, tombstone] of taken.entries()) {
      const outcome = found[i];
      if (outcome === undefined || outcome instanceof Error) {
        reportLeft(place, tombstone, outcome);
        sum.left++;
      } else {
        settled.push(tombstone);
        outcomes.push(outcome);
      }
    }
    settleRestores(place, dead.n, settled, outcomes);
    sum.restores += settled.length;
  }
}
