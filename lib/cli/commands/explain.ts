import { explainKey } from '../../app/explain.ts';
import { explainFromStore } from '../../app/explain-store.ts';
import type {
  Because,
  ExplainedCopy,
  ExplainedLive,
  ExplainedRequest,
  Explanation,
} from '../../app/explanation.ts';
import { openForReading } from '../../app/open-store.ts';
import { realSurroundings } from '../../app/surroundings.ts';
import type { Catalog } from '../../catalog/catalog.ts';
import type { Config } from '../../config/config.ts';
import { selectStores } from '../../config/load.ts';
import { storeConfigFromUrl } from '../../config/store-url.ts';
import { isoTime } from '../../domain/clock.ts';
import { TombstonedError } from '../../domain/errors.ts';
import { type Key, printable } from '../../domain/key.ts';
import { formatSize } from '../../domain/quantities.ts';
import type { Call, OptionTable, Page } from '../command.ts';
import { configOf } from '../config-of.ts';
import { usageError } from '../fail.ts';
import { withCatalog, withPlace } from '../opened.ts';
import type { Output } from '../output.ts';
import { urlOf } from '../reading.ts';
import { keyOnly, type Target, targetsOf } from '../targets.ts';
import { until } from '../wording.ts';

export const manual = {
  synopsis: ['explain KEY|ID', '--url URL explain KEY'],
  description: [
    'Tells of a key, or of one tombstone: whether it is live, which policy takes it or why',
    'none does, which requests name it, which pending copies there are and when they go, or',
    'when they went and by whom; which holds, leases and batches are about it; and for each',
    'reason when it ends, and what would change it. With --url, what the store alone can tell.',
  ],
  examples: [
    ['explain metadata/a.meta', 'why is this still here?'],
    ['--json explain metadata/a.meta | jq .live.kept', 'for a program'],
  ],
} as const satisfies Page;

export const options = {} as const satisfies OptionTable;

export async function run(call: Call<typeof options>): Promise<number> {
  const { named } = await targetsOf(call);
  const [target] = named;
  if (target === undefined || named.length > 1) {
    throw usageError('explain needs one key or id', 'see tombstonectl explain --help');
  }
  const url = urlOf(call);
  const found = url === undefined ? await byConfig(call, target) : await byUrl(call, url, target);
  if (found.length === 0) {
    const name = target.by === 'key' ? target.key : target.id;
    throw new TombstonedError(
      'not-found',
      `${printable(name)} is neither live nor pending nor in the catalog`,
      {
        key: name,
        hint: 'see what there is: tombstonectl keys --no-lease, tombstonectl ls',
      },
    );
  }
  for (const one of found) call.out.result(objectOf(one), () => textOf(call.out, one));
  return 0;
}

async function byUrl({ out }: Call, url: string, target: Target): Promise<Explanation[]> {
  const store = await openForReading(storeConfigFromUrl(url));
  try {
    const key = keyOnly(target, 'explain --url');
    const explanation = await explainFromStore(store, key, realSurroundings(out.report));
    return explanation === undefined ? [] : [explanation];
  } finally {
    store.close();
  }
}

async function byConfig(call: Call, target: Target): Promise<Explanation[]> {
  const config = configOf(call);
  return withCatalog(config, async (catalog) => {
    const found: Explanation[] = [];
    for (const { store, key, id } of placesOf(catalog, config, call.options.store, target)) {
      const explanation = await withPlace(catalog, store, call.out, async (place) => explainKey(place, key));
      if (explanation === undefined) continue;
      const copies = explanation.copies.filter((copy) => id === null || copy.id === id);
      found.push({ ...explanation, copies });
    }
    return found;
  });
}

/** Which key to look for in which stores. */
function placesOf(catalog: Catalog, config: Config, name: string | undefined, target: Target) {
  const stores = selectStores(config, name);
  if (target.by === 'key') return stores.map((store) => ({ store, key: target.key, id: null }));
  const tombstone = catalog.tombstones.get(target.id);
  if (tombstone === undefined) return [];
  const { key, id } = tombstone;
  return stores.filter((store) => store.name === tombstone.store).map((store) => ({ store, key, id }));
}

function objectOf({ key, store, live, copies, requests }: Explanation) {
  return {
    type: 'explain',
    key,
    store,
    live:
      live === null
        ? null
        : { ...live, modifiedAt: isoTime(Math.trunc(live.modifiedAt)), kept: live.kept.map(becauseObject) },
    copies: copies.map((copy) => ({
      ...copy,
      tombstonedAt: isoTime(copy.tombstonedAt),
      dueAt: isoTime(copy.dueAt),
      ended: copy.ended === null ? null : { ...copy.ended, at: isoTime(copy.ended.at) },
      kept: copy.kept.map(becauseObject),
    })),
    requests,
  } as const;
}

function becauseObject({ reason, until: ends, detail, change }: Because) {
  return { reason, until: isoTime(ends === null ? null : Math.trunc(ends)), detail, change };
}

function textOf(out: Output, { key, store, live, copies, requests }: Explanation): string {
  const title = out.styled('bold', `${shown(key)}  (${store})`);
  return [title, ...liveLines(live), ...requests.map(requestLine), ...copies.flatMap(copyLines)].join('\n');
}

function requestLine({ name, policy, isWaiting, sweep, reason }: ExplainedRequest): string {
  const why = reason === null ? '' : ` (${printable(reason)})`;
  const plan = sweep === null ? '' : ` as ${sweep}`;
  const how = isWaiting ? `waits${plan}: it is over a limit` : 'is served by the next sweep';
  return `  asked for by request ${printable(name)} of policy ${policy}${why}, which ${how}`;
}

function shown(key: Key): string {
  return printable(key);
}

function liveLines(live: ExplainedLive | null): string[] {
  if (live === null) return ['  not live'];
  const { size, modifiedAt, takenBy, wouldTake, kept } = live;
  const lines = [`  live: ${formatSize(size)}, modified ${isoTime(Math.trunc(modifiedAt))}`];
  if (takenBy !== null) lines.push(`    goes with the next sweep: policy ${takenBy}`);
  if (wouldTake !== null) lines.push(`    policy ${wouldTake} takes it when nothing keeps it`);
  return [...lines, ...kept.flatMap(becauseLines)];
}

function copyLines({ id, state, size, tombstonedAt, dueAt, ended, kept }: ExplainedCopy): string[] {
  const where = size === null ? 'no pending copy' : `pending copy of ${formatSize(size)}`;
  const lines = [`  ${id}: ${state ?? 'pending'}, ${where}, tombstoned ${isoTime(tombstonedAt)}`];
  if (ended !== null) {
    const by = ended.by === null ? '' : ` by ${ended.by}`;
    const how = ended.detail === null ? '' : `: ${printable(ended.detail)}`;
    lines.push(`    ${state} ${isoTime(ended.at)}${by}${how}`);
  }
  const isDue = dueAt !== null && dueAt <= Date.now();
  if (isDue && kept.length === 0) lines.push('    goes with the next purge');
  return [...lines, ...kept.flatMap(becauseLines)];
}

function becauseLines({ reason, until: ends, detail, change }: Because): string[] {
  const when = ends === null ? '' : `, ends ${isoTime(Math.trunc(ends))} (${until(ends, Date.now())})`;
  return [`    kept by ${reason}: ${printable(detail)}${when}`, `      to change that: ${change}`];
}
