import { setImmediate } from 'node:timers/promises';
import { ScratchCopies } from '../../catalog/scratch.ts';
import type { Tombstone } from '../../catalog/tombstones.ts';
import { messageOf, TombstonedError } from '../../domain/errors.ts';
import { pendingName, splitPendingName } from '../../domain/ids.ts';
import { inFlight } from '../../domain/in-flight.ts';
import type { Key } from '../../domain/key.ts';
import { type Revision, sameRevision } from '../../domain/revision.ts';
import type { Place } from '../../run/place.ts';
import { checkIdentity } from '../../store/identity.ts';
import type { LiveObject, PendingCopy } from '../../store/store.ts';
import type { Difference, Remedies } from './difference.ts';
import { judge } from './judge.ts';

const PAGE = 1000;
/** How many suspects are looked at again at a time. */
const LOOKS = 16;

/** What a comparison needs, and whom it tells. */
export interface Comparison {
  readonly place: Place;
  readonly remedies: Remedies;
  /** Only keys below it. */
  readonly prefix: string;
  /** How much clocks may differ, ms. */
  readonly tolerance: number;
  readonly signal: AbortSignal | undefined;
  /** Differences that were looked at twice, a page at a time. */
  readonly tell: (differences: readonly Difference[]) => Promise<void>;
  /** How many more copies, rows or live objects were compared. */
  readonly onCompared: (what: 'copies' | 'rows' | 'live', count: number) => void;
}

interface Suspect {
  readonly key: Key;
  readonly id: string;
}

/** Pending copies against the catalog, and the catalog against them; then live objects against both. */
export async function compareAll(comparison: Comparison): Promise<void> {
  const scratch = new ScratchCopies();
  try {
    await compareCopies(comparison, scratch);
    if (scratch.hasRefused()) await tellRefused(comparison, scratch);
    await compareRows(comparison, scratch);
  } finally {
    await scratch.close();
  }
  await compareLive(comparison);
}

async function compareCopies(comparison: Comparison, scratch: ScratchCopies): Promise<void> {
  const { place, prefix, signal, remedies, onCompared } = comparison;
  const { catalog, store } = place;
  for await (const page of store.listPending(prefix, signal)) {
    await setImmediate(); // a page is listed at once, and compared at once
    const copies = page.filter((item) => item.type === 'pending');
    scratch.add(copies);
    scratch.addRefused(page.flatMap((item) => (item.type === 'refused' ? [item.path] : [])));
    const rows = new Map(catalog.tombstones.getAll(copies.map(({ id }) => id)).map((row) => [row.id, row]));
    const suspects = copies.filter(
      ({ key, id, copy }) =>
        judge(judged(comparison, { key, id, copy, row: rows.get(id) }), remedies).length > 0,
    );
    await confirm(comparison, suspects);
    onCompared('copies', copies.length);
  }
  await scratch.finish();
}

/** What is below the pending prefix and is no pending copy, if it still is when it is listed again. */
async function tellRefused(comparison: Comparison, scratch: ScratchCopies): Promise<void> {
  const { place, prefix, signal, remedies, tell } = comparison;
  for await (const page of place.store.listPending(prefix, signal)) {
    const refused = page.filter((item) => item.type === 'refused');
    const before = scratch.refusedOf(refused.map(({ path }) => path));
    const still = refused.filter(({ path }) => before.has(path));
    await tell(
      still.map(({ path, why }) => ({
        problem: 'malformed-name',
        key: path,
        id: null,
        detail: `it is no pending copy: ${why}`,
        remedy: remedies.away(path),
      })),
    );
  }
}

async function compareRows(comparison: Comparison, scratch: ScratchCopies): Promise<void> {
  const { place, prefix, signal, onCompared } = comparison;
  const { catalog, row } = place;
  for (let after = ''; ; ) {
    await setImmediate();
    signal?.throwIfAborted();
    const page = catalog.tombstones.copyPage({ store: row.n, prefix, after, limit: PAGE });
    const last = page.at(-1);
    if (last === undefined) return;
    after = last.id;
    const unlisted = scratch.unlisted(page).flatMap((i) => page[i] ?? []);
    await confirm(comparison, unlisted);
    onCompared('rows', page.length);
  }
}

function judged(
  { place, tolerance }: Comparison,
  pair: { key: Key; id: string; row: Tombstone | undefined; copy: PendingCopy | undefined },
) {
  const { store, row, clock } = place;
  return { ...pair, store: row.name, pendingPrefix: store.pendingPrefix, latest: clock.now() + tolerance };
}

/** Looks at suspects again, and tells what is still not as it should be. */
async function confirm(comparison: Comparison, suspects: readonly Suspect[]): Promise<void> {
  if (suspects.length === 0) return;
  const { place, signal, tell } = comparison;
  const { store, row, clock } = place;
  if (store.settle > 0) await clock.sleep(store.settle, signal);
  const found = await inFlight(LOOKS, suspects, async (suspect) => confirmOne(comparison, suspect));
  // Before "gone" is believed of anything (R10).
  await checkIdentity(store, row.uuid);
  await tell(found.flat());
}

/** Between two looks at the row that say the same: so what a run changes meanwhile is no difference. */
async function confirmOne(comparison: Comparison, { key, id }: Suspect): Promise<Difference[]> {
  const { place, remedies } = comparison;
  const { catalog, store } = place;
  const before = catalog.tombstones.get(id);
  let copy: PendingCopy | undefined;
  try {
    copy = await store.headPending(key, id);
  } catch (error) {
    if (!isSame(before, catalog.tombstones.get(id))) return [];
    return [unreadable(comparison, { key, id }, error)];
  }
  const found = judge(judged(comparison, { key, id, copy, row: before }), remedies);
  const isRestored = before?.state === 'restored' && copy !== undefined;
  // A restored local file is its pending copy as well: whoever writes to the one changes the other.
  const live = isRestored && found.length > 0 ? await store.head(key) : undefined;
  if (!isSame(before, catalog.tombstones.get(id))) return [];
  const isOneFile = live !== undefined && copy !== undefined && sameContent(live.revision, copy.revision);
  return isOneFile ? found.filter(({ problem }) => problem !== 'changed-copy') : found;
}

/** A pending copy that is there, or not, and can't be looked at. */
export function unreadable(
  { place, remedies }: Comparison,
  { key, id }: Suspect,
  error: unknown,
): Difference {
  const name = pendingName(place.store.pendingPrefix, key, id);
  const hint = error instanceof TombstonedError ? error.hint : undefined;
  const remedy = hint ?? `bring ${name} back from a backup of the store; ${remedies.ctl('show', id)}`;
  return { problem: 'unreadable-copy', key, id, detail: `${name}: ${messageOf(error)}`, remedy };
}

/** Whether a row is as it was. */
export function isSame(a: Tombstone | undefined, b: Tombstone | undefined): boolean {
  return a?.state === b?.state && a?.run === b?.run && a?.goneAt === b?.goneAt;
}

/** The same content, written once: a writer that puts the same bytes again makes a new object. */
function sameContent(a: Revision, b: Revision): boolean {
  if (a.kind === 's3' && b.kind === 's3' && a.modifiedAt !== b.modifiedAt) return false;
  return sameRevision(a, b);
}

async function compareLive(comparison: Comparison): Promise<void> {
  const { place, prefix, signal, tell, onCompared } = comparison;
  const { store, row } = place;
  for await (const page of store.list(prefix, signal)) {
    await setImmediate();
    const live = page.filter((item) => item.type === 'object');
    const found = [...(await liveToo(comparison, live)), ...(await misplaced(comparison, live))];
    if (found.length > 0) {
      await checkIdentity(store, row.uuid);
      await tell(found);
    }
    onCompared('live', live.length);
  }
}

/** Whether what is live is what was tombstoned. */
function isLive({ revision }: Tombstone, at: Revision | undefined): boolean {
  return at !== undefined && sameContent(at, revision);
}

/** Objects that were moved away, and are where they were. */
async function liveToo(comparison: Comparison, live: readonly LiveObject[]): Promise<Difference[]> {
  const { place, remedies } = comparison;
  const { catalog, row, store } = place;
  const seen = new Map(live.map((object) => [object.key, object.revision]));
  const rows = catalog.tombstones.copiesOf(row.n, [...seen.keys()]);
  const back = new Set(
    rows.filter((t) => t.state === 'restored' && isLive(t, seen.get(t.key))).map(({ key }) => key),
  );
  const suspects = rows.filter(
    (t) => t.state === 'pending' && isLive(t, seen.get(t.key)) && !back.has(t.key) && !wasBack(comparison, t),
  );
  const found = await inFlight(LOOKS, suspects, async ({ key, id }): Promise<Difference[]> => {
    const before = catalog.tombstones.get(id);
    const now = await store.head(key);
    const after = catalog.tombstones.get(id);
    if (before?.state !== 'pending' || !isSame(before, after) || !isLive(before, now?.revision)) return [];
    return [
      {
        problem: 'live-too',
        key,
        id,
        detail: 'it was moved away, and the same is live: something else has put it back',
        remedy: `see who did; the copy goes when it is due, the live object stays until a policy takes it: ${remedies.ctl('explain', id)}`,
      },
    ];
  });
  return found.flat();
}

/** Whether the same revision came back by a restore whose own copy has been purged since. */
function wasBack({ place }: Comparison, { key, id, revision }: Tombstone): boolean {
  const { catalog, row } = place;
  return catalog.tombstones
    .ofKey(row.n, key, PAGE)
    .some((other) => other.id > id && other.state === 'purged' && sameRevision(other.revision, revision));
}

/** Pending copies that somebody has moved out of the pending prefix. */
async function misplaced(comparison: Comparison, live: readonly LiveObject[]): Promise<Difference[]> {
  const { place, remedies } = comparison;
  const { catalog, row, store } = place;
  const named = live.flatMap(({ key }) => {
    const split = splitPendingName(key);
    return split === undefined ? [] : [{ at: key, id: split.id }];
  });
  const rows = new Map(catalog.tombstones.getAll(named.map(({ id }) => id)).map((t) => [t.id, t]));
  const found = await inFlight(LOOKS, named, async ({ at, id }): Promise<Difference[]> => {
    const tombstone = rows.get(id);
    const isKept = tombstone?.state === 'pending' || tombstone?.state === 'restored';
    if (!isKept || tombstone.store !== row.name || (await store.head(at)) === undefined) return [];
    const name = pendingName(store.pendingPrefix, tombstone.key, id);
    return [
      {
        problem: 'misplaced-copy',
        key: at,
        id,
        detail: `it has the name of a pending copy, and is not below ${store.pendingPrefix}`,
        remedy: remedies.move(at, name),
      },
    ];
  });
  return found.flat();
}
