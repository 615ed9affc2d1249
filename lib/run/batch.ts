import { setImmediate } from 'node:timers/promises';
import type { CachedHold } from '../catalog/holds.ts';
import { listHolds, readHold } from '../store/holds.ts';
import { checkIdentity } from '../store/identity.ts';
import { checkOwner } from '../store/owner.ts';
import type { Store } from '../store/store.ts';
import type { Place } from './place.ts';

/** A batch that is announced. */
export interface Batch {
  /** Takes the announcement down: the batch is over, and what became of it recorded. */
  end(): Promise<void>;
}

/**
 * Begins one batch: announces it, and looks at what forbids it (identity, owner,
 * holds: R10, R5). Movers, purgers and restores all come through here.
 */
export async function begin(place: Place): Promise<Batch> {
  await setImmediate(); // a local batch blocks: signals and timers get their turn before it
  await look(place);
  return { end: async () => undefined };
}

/** Does one batch between its announcement and the end of that. */
export async function inBatch<T>(place: Place, act: () => Promise<T>): Promise<T> {
  const batch = await begin(place);
  try {
    return await act();
  } finally {
    await batch.end();
  }
}

/** Reads what the store says about identity, owner and holds; the catalog's cache is up to date after it. */
async function look(place: Place): Promise<void> {
  await checkIdentity(place.store, place.row.uuid);
  await checkOwner(place.store, place.catalog.uuid);
  await refreshHolds(place);
}

/** What each process has said of unclear holds: once is enough. */
const told = new WeakMap<Store, Set<string>>();

/**
 * Brings the cache of holds up to date. Holds never change once written, so only
 * new names are read, and those again that were unclear: somebody may mend them.
 */
export async function refreshHolds(
  place: Pick<Place, 'store' | 'catalog' | 'row' | 'report'>,
): Promise<void> {
  const { store, catalog, row, report } = place;
  // In this order: what a restore adds to both meanwhile is not taken as dropped.
  const unclear = new Map(catalog.holds.unclear(row.n).map(({ name, problem }) => [name, problem]));
  const known = new Set(catalog.holds.names(row.n));
  const names = new Set(await listHolds(store.control));
  const added: { hold: CachedHold; members: readonly string[] }[] = [];
  for (const name of names) {
    if (known.has(name) && !unclear.has(name)) continue;
    const hold = await readHold(store.control, name);
    if (hold === undefined) continue; // released between the two looks
    if (hold.problem !== null && isNews(store, `${name} ${hold.problem}`)) {
      report('error', `.tombstoned/holds/${name} ${hold.problem}: it counts as a hold on everything`, {
        hint: 'bring the file back, or remove it by hand if nobody needs that hold',
      });
    }
    if (hold.problem !== null && hold.problem === unclear.get(name)) continue;
    const { scope, ...rest } = hold;
    added.push({
      hold: { ...rest, name, scope: scope.by, prefix: scope.by === 'prefix' ? scope.prefix : null },
      members: scope.by === 'keys' ? scope.keys : scope.by === 'ids' ? scope.ids : [],
    });
  }
  const read = new Set(added.map(({ hold }) => hold.name));
  const dropped = [...known].filter((name) => !names.has(name) || read.has(name));
  if (added.length === 0 && dropped.length === 0) return;
  catalog.transaction(() => {
    for (const name of dropped) catalog.holds.drop(row.n, name);
    for (const { hold, members } of added) catalog.holds.add(row.n, hold, members);
  });
}

function isNews(store: Store, text: string): boolean {
  const said = told.get(store) ?? new Set();
  told.set(store, said);
  if (said.has(text)) return false;
  said.add(text);
  return true;
}

/**
 * What holds keep, of a list of objects: the hold, by place in the list. Called
 * in the transaction that takes the objects (R7). `for` says who asks: policies
 * respect exemptions, an operator's own command does not; a purge is kept by
 * holds of both kinds of blocking, a move only by those that block sweeps.
 */
export function claimsOn(
  place: Pick<Place, 'catalog' | 'row' | 'clock'>,
  objects: readonly { key: string; id?: string }[],
  asker: 'policy' | 'hand' | 'purge',
): Map<number, CachedHold> {
  const claims = new Map<number, CachedHold>();
  for (const { hold, index } of place.catalog.holds.covering(place.row.n, place.clock.now(), objects)) {
    const keeps = hold.kind === 'exempt' ? asker === 'policy' : asker === 'purge' || hold.blocks === 'sweep';
    if (keeps && claims.get(index)?.kind !== 'hold') claims.set(index, hold);
  }
  return claims;
}
