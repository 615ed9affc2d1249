import type { Tombstone } from '../../catalog/tombstones.ts';
import { messageOf } from '../../domain/errors.ts';
import { commonPrefix, printable } from '../../domain/key.ts';
import { begin, refreshHolds } from '../../run/batch.ts';
import { keepersOf } from '../../run/claims.ts';
import { lookAtLeases } from '../../run/leases.ts';
import type { Place } from '../../run/place.ts';
import { inRun, type Run } from '../../run/run.ts';
import { checkIdentity } from '../../store/identity.ts';

/**
 * Records of tombstones whose pending copies are missing that they are gone: under
 * a fence, after another look at each (R5, R10), and never of what a hold or lease
 * covers. Nothing in the store is touched. Gives the ids of those recorded, or in a
 * dry run of those that would be.
 */
export async function recordMissing(
  place: Place,
  ids: readonly string[],
  { isDry, signal }: { isDry: boolean; signal: AbortSignal | undefined },
): Promise<ReadonlySet<string>> {
  const page = place.catalog.tombstones.getAll(ids);
  if (page.length === 0) return new Set();
  if (!isDry) return inRun(place, 'purge', async (run) => record(place, run, page, signal));
  await refreshHolds(place);
  const leases = await lookAtLeases(place, { mayBreak: false });
  const keepers = keepersOf(place, leases, page, 'purge');
  return new Set(page.filter((_, i) => !keepers.has(i)).map(({ id }) => id));
}

async function record(
  place: Place,
  run: Run,
  page: readonly Tombstone[],
  signal: AbortSignal | undefined,
): Promise<ReadonlySet<string>> {
  const { catalog, store, row, clock, safetyWindow } = place;
  const common = page.reduce((prefix, { key }) => commonPrefix(prefix, key), page[0]?.key ?? '');
  const batch = await begin(place, run, { kind: 'purge', prefixes: [common] }, signal);
  if (batch === undefined) return new Set();
  const taken = catalog.transaction(() => {
    const keepers = keepersOf(place, batch.leases, page, 'purge');
    const ids = page.filter((_, i) => !keepers.has(i)).map(({ id }) => id);
    return catalog.tombstones.takeNamed({ store: row.n, run: run.n, ids, from: ['pending', 'restored'] });
  });
  const ends: { tombstone: Tombstone; to: 'purged' | 'prior' }[] = [];
  for (const tombstone of taken) {
    await batch.pulse();
    ends.push({ tombstone, to: (await isGone(place, tombstone)) ? 'purged' : 'prior' });
  }
  await checkIdentity(store, row.uuid);
  const gone = ends.filter(({ to }) => to === 'purged').map(({ tombstone }) => tombstone);
  catalog.transaction(() => {
    const at = clock.now();
    const now = catalog.clock.count(clock);
    catalog.tombstones.settlePurges({ store: row.n, run: run.n, now, at, window: safetyWindow, ends });
    for (const { id } of gone) {
      const detail = 'its pending copy was missing, before it was due: recorded by verify --repair';
      catalog.events.add({ store: row.n, run: run.n, now: at, what: 'copy-missing', tombstone: id, detail });
    }
  });
  await batch.end();
  return new Set(gone.map(({ id }) => id));
}

async function isGone({ store, report }: Place, { key, id }: Tombstone): Promise<boolean> {
  try {
    return (await store.headPending(key, id)) === undefined;
  } catch (error) {
    report('warn', `${printable(key)}: ${messageOf(error)}`, { id });
    return false;
  }
}
