import { setImmediate } from 'node:timers/promises';
import { type StandingTombstone, standingOf } from '../../app/kept.ts';
import { type KnownStore, knownStores, lookAtClaims } from '../../app/known-stores.ts';
import { NO_CLAIMS, type StoreClaims } from '../../app/standing-claims.ts';
import { realSurroundings } from '../../app/surroundings.ts';
import type { Catalog } from '../../catalog/catalog.ts';
import type { PageFilter } from '../../catalog/tombstones.ts';
import { selectStores } from '../../config/load.ts';
import { systemClock } from '../../domain/clock.ts';
import { printable } from '../../domain/key.ts';
import { formatSize } from '../../domain/quantities.ts';
import type { State } from '../../domain/state.ts';
import { type Call, type OptionTable, type Page, refuseOperands } from '../command.ts';
import { configOf } from '../config-of.ts';
import { afterOf, limitOf, prefixOf, stateOf, timeOf } from '../filters.ts';
import { withCatalog } from '../opened.ts';
import type { Output, Style } from '../output.ts';
import { sweepIdOf } from '../sweep-choice.ts';
import { tombstoneObject } from '../tombstone-object.ts';
import { until } from '../wording.ts';

const PAGE = 250;

export const manual = {
  synopsis: [
    'ls [--state STATE] [--prefix P] [--sweep ID|last] [--due-before T] [--limit N]',
    'ls ... --after ID',
  ],
  description: [
    'Shows what was tombstoned: its id, its state, its size, when it goes for good, or what',
    'keeps it when it is due, and its key. States are moving, pending, purging, purged,',
    'restoring, restored and abandoned. A time is ISO 8601, now, or a duration from now.',
  ],
  examples: [
    ['ls --state pending --prefix metadata/', 'what waits below metadata/'],
    ['ls --due-before 24h', 'what goes within a day'],
    ['--json ls --sweep last --limit 0', 'all of the last sweep, for a program'],
  ],
} as const satisfies Page;

export const options = {
  state: { takes: 'STATE', says: 'Only in this state.' },
  prefix: { takes: 'P', says: 'Only keys that begin so.' },
  sweep: { takes: 'ID', says: 'Only of this sweep; last is the newest that moved something.' },
  'due-before': { takes: 'T', says: 'Only what a purge may take before then.' },
  limit: { takes: 'N', says: 'At most so many; 0 is all.', default: '100' },
  after: { takes: 'ID', says: 'Only what comes after this one: the next page.' },
} as const satisfies OptionTable;

export async function run(call: Call<typeof options>): Promise<number> {
  refuseOperands(call, 'ls');
  const { out, options: given } = call;
  const limit = limitOf(given.limit);
  const dueBefore =
    given['due-before'] === undefined ? undefined : timeOf('--due-before', given['due-before'], 'ahead');
  const filter = {
    state: given.state === undefined ? undefined : stateOf(given.state),
    prefix: given.prefix === undefined ? undefined : prefixOf(given.prefix),
    after: given.after === undefined ? undefined : afterOf(given.after),
    dueBefore,
  };
  const config = configOf(call);
  return withCatalog(config, async (catalog) => {
    const known = knownStores(catalog, selectStores(config, given.store));
    const rows = known.map(({ row }) => row);
    const sweep = given.sweep === undefined ? undefined : sweepIdOf(catalog, rows, given.sweep);
    const claims = await lookAtClaims(catalog, known, realSurroundings(out.report));
    const all = merged(
      known.map((store) => {
        const of = claims.get(store.config.name) ?? NO_CLAIMS;
        return standing(catalog, store, { ...filter, sweep }, of);
      }),
    );
    await list(out, all, known, limit);
    return 0;
  });
}

type Filter = Omit<PageFilter, 'limit' | 'store'>;

/** A store's tombstones in id order, page by page. */
async function* standing(
  catalog: Catalog,
  { config, row }: KnownStore,
  filter: Filter,
  claims: StoreClaims,
): AsyncGenerator<StandingTombstone> {
  const { safetyWindow } = config;
  const ahead = catalog.clock.ahead(systemClock);
  const counted = filter.dueBefore === undefined ? undefined : filter.dueBefore - ahead;
  for (let after = filter.after; ; ) {
    const page = catalog.tombstones.page({ ...filter, dueBefore: counted, store: row.n, after, limit: PAGE });
    const last = page.at(-1);
    if (last === undefined) return;
    for (const one of standingOf(catalog, row, { safetyWindow, clock: systemClock, claims }, page)) {
      // The catalog goes by the recorded time; a longer window today counts too.
      const isDue = filter.dueBefore === undefined || (one.dueAt ?? Infinity) < filter.dueBefore;
      if (isDue) yield one;
    }
    after = last.id;
    await setImmediate(); // timers get their turn
  }
}

/** Several stores' tombstones in one order. */
async function* merged(
  sources: readonly AsyncGenerator<StandingTombstone>[],
): AsyncGenerator<StandingTombstone> {
  const heads = await Promise.all(sources.map(async (source) => ({ source, next: await source.next() })));
  for (;;) {
    let least: (typeof heads)[number] | undefined;
    for (const head of heads) {
      if (head.next.done === true) continue;
      if (least === undefined || head.next.value.tombstone.id < (least.next.value?.tombstone.id ?? '')) {
        least = head;
      }
    }
    if (least === undefined || least.next.done === true) return;
    yield least.next.value;
    least.next = await least.source.next();
  }
}

async function list(
  out: Output,
  all: AsyncIterable<StandingTombstone>,
  known: readonly KnownStore[],
  limit: number,
): Promise<void> {
  const prefixes = new Map(known.map(({ row }) => [row.name, row.pendingPrefix]));
  const names = known.length > 1 ? Math.max(...known.map(({ row }) => row.name.length), 5) : 0;
  let count = 0;
  let last = '';
  for await (const one of all) {
    if (out.isClosed) return;
    if (limit > 0 && count === limit) {
      out.talk(`there are more: add --after ${last}, or --limit 0 for all`);
      return;
    }
    if (count === 0 && !out.isJson) out.line(out.styled('bold', heading(names)));
    out.result(tombstoneObject(one, prefixes.get(one.tombstone.store) ?? ''), () =>
      tableRow(out, one, names),
    );
    last = one.tombstone.id;
    count++;
  }
  if (count === 0 && !out.isJson) out.talk('no tombstones');
}

function heading(names: number): string {
  const store = names === 0 ? '' : `${'STORE'.padEnd(names)}  `;
  return `${'ID'.padEnd(34)}  ${store}${'STATE'.padEnd(9)}  ${'SIZE'.padStart(8)}  ${'GOES'.padEnd(10)}  KEY`;
}

const STYLES: Partial<Record<State, Style>> = {
  pending: 'yellow',
  restored: 'green',
  purged: 'dim',
  abandoned: 'dim',
};

function tableRow(out: Output, one: StandingTombstone, names: number): string {
  const { tombstone } = one;
  const { id, state, size, key } = tombstone;
  const store = names === 0 ? '' : `${tombstone.store.padEnd(names)}  `;
  const goes = goesText(one);
  const shown = out.styled(STYLES[state] ?? 'reset', state.padEnd(9));
  return `${id}  ${store}${shown}  ${formatSize(size).padStart(8)}  ${goes.padEnd(10)}  ${printable(key)}`;
}

/** When it goes; or, of what is due and stays all the same, what keeps it. */
function goesText({ dueAt, kept }: StandingTombstone): string {
  const now = Date.now();
  if (dueAt === null) return '-';
  const keeper = kept.find(({ reason }) => reason === 'hold' || reason === 'lease' || reason === 'clock');
  return keeper !== undefined && dueAt <= now ? `kept: ${keeper.reason}` : until(dueAt, now);
}
