import type { Tombstone } from '../catalog/tombstones.ts';
import type { DeadRun } from '../run/dead-run.ts';
import { itemByItem } from '../run/item-by-item.ts';
import type { Place } from '../run/place.ts';
import { reportLeft } from '../run/report-left.ts';
import { checkIdentity } from '../store/identity.ts';
import type { Store } from '../store/store.ts';

const PAGE = 1000;

/**
 * Takes what a dead run has left in `purging` on or back, by what the store
 * holds: without a pending copy it is purged, with one it is what it was before.
 * The run's lock must be held. What can't be looked at is reported and left.
 * Gives how many are purged, back and left.
 */
export async function recoverPurges(
  place: Place,
  dead: DeadRun,
): Promise<{ purged: number; back: number; left: number }> {
  const { catalog, row, store, clock, safetyWindow } = place;
  const sum = { purged: 0, back: 0, left: 0 };
  for (let after = ''; ; ) {
    const taken = catalog.tombstones.taken(dead.n, 'purging', after, PAGE);
    const last = taken.at(-1);
    if (last === undefined) return sum;
    after = last.id;
    const ends: { tombstone: Tombstone; to: 'purged' | 'prior' }[] = [];
    const found = await itemByItem(taken, clock, async (some) => looksAt(store, some));
    for (const [i, tombstone] of taken.entries()) {
      const look = found[i];
      if (look === undefined || look instanceof Error) {
        reportLeft(place, tombstone, look);
        sum.left++;
      } else ends.push({ tombstone, to: look.isGone ? 'purged' : 'prior' });
    }
    await checkIdentity(store, row.uuid);
    const purged = ends.filter(({ to }) => to === 'purged');
    const at = clock.now();
    catalog.transaction(() => {
      const now = catalog.clock.count(clock);
      catalog.tombstones.settlePurges({ store: row.n, run: dead.n, now, at, window: safetyWindow, ends });
      for (const { tombstone, to } of ends) {
        const detail = to === 'purged' ? 'the purge had removed it' : 'the purge had not removed it';
        catalog.events.add({
          store: row.n,
          run: dead.n,
          who: place.actor,
          now: at,
          what: 'recovered',
          tombstone: tombstone.id,
          detail,
        });
      }
    });
    sum.purged += purged.length;
    sum.back += ends.length - purged.length;
  }
}

async function isGone(store: Store, { key, id }: Tombstone): Promise<boolean> {
  return store.isRemoved === undefined
    ? (await store.headPending(key, id)) === undefined
    : store.isRemoved(key, id);
}

async function looksAt(store: Store, tombstones: readonly Tombstone[]): Promise<{ isGone: boolean }[]> {
  const looks: { isGone: boolean }[] = [];
  for (const tombstone of tombstones) looks.push({ isGone: await isGone(store, tombstone) });
  return looks;
}
