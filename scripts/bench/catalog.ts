import { randomInt } from 'node:crypto';
import path from 'node:path';
import { Catalog } from '../../lib/catalog/catalog.ts';
import type { Intent } from '../../lib/catalog/tombstones.ts';
import { makePlainId, systemRandom } from '../../lib/domain/ids.ts';
import { asKey } from '../../lib/domain/key.ts';
import { directoryName, keysOf } from './files.ts';
import { type Bench, type Found, goalOf, median } from './part.ts';
import { markdown } from './report.ts';

const BATCH = 20_000;
const DIRECTORIES = 1000;
/** A sweep each: so many of them move all. */
const SWEEPS = 100;
const DAY = 86_400_000;
const WINDOW = 7 * DAY;
const LIMIT = 100;
const DUE = 1000;
/** How often each query is asked, each time about another place. */
const ASKED = 100;

/** What the queries of the CLI and the daemon take, in the process, on a catalog with very many tombstones. */
export async function catalogQueries(bench: Bench): Promise<Found> {
  const { tombstones: count, say } = bench;
  const file = path.join(bench.scratch, 'catalog.db');
  const began = Date.now() - WINDOW - 2 * DAY;
  say(`writing ${count} tombstones`);
  const started = performance.now();
  const { store, sweeps, ids } = fill(file, count, began);
  const seconds = (performance.now() - started) / 1000;
  say(`wrote them in ${seconds.toFixed(0)} s`);
  const opened = Catalog.open(file);
  const { tombstones, events } = opened;
  const now = Date.now();
  const page = { store, limit: LIMIT };
  const key = (): string => tombstones.get(any(ids))?.key ?? '';
  const queries: readonly { readonly what: string; readonly ask: () => unknown; readonly atMost?: number }[] =
    [
      { what: '`ls`, a page', ask: () => tombstones.page({ ...page, after: any(ids) }), atMost: 10 },
      {
        what: '`ls --state pending`',
        ask: () => tombstones.page({ ...page, state: 'pending', after: any(ids) }),
        atMost: 10,
      },
      {
        what: '`ls --state purged`',
        ask: () => tombstones.page({ ...page, state: 'purged', after: any(ids) }),
        atMost: 10,
      },
      { what: '`ls --prefix`', ask: () => tombstones.page({ ...page, prefix: anyPrefix() }), atMost: 10 },
      { what: '`ls --sweep`', ask: () => tombstones.page({ ...page, sweep: any(sweeps) }), atMost: 10 },
      {
        what: '`ls --due-before`',
        ask: () => tombstones.page({ ...page, dueBefore: now + DAY, after: any(ids) }),
        atMost: 10,
      },
      { what: '`ls --since`', ask: () => tombstones.page({ ...page, since: began + DAY }), atMost: 10 },
      { what: '`show ID`', ask: () => tombstones.get(any(ids)), atMost: 10 },
      {
        what: '`show ID`, its history',
        ask: () => events.of({ id: any(ids), store: 'bench', tombstonedAt: began }),
        atMost: 10,
      },
      { what: '`explain KEY`', ask: () => tombstones.ofKey(store, key(), LIMIT), atMost: 10 },
      {
        what: 'a due batch of 1000',
        ask: () =>
          tombstones.duePage({
            store,
            now,
            window: WINDOW,
            after: { purgeAfter: began + WINDOW + randomInt(DAY), id: '' },
            limit: DUE,
          }),
        atMost: 10,
      },
      { what: '`status`, states', ask: () => tombstones.tallies(store), atMost: 10 },
      {
        what: 'metrics, a part of what is due',
        ask: () => opened.schedule.duePart({ store, now, window: WINDOW, after: null, limit: DUE }),
      },
      {
        what: '`verify`, a page of copies',
        ask: () => tombstones.copyPage({ store, prefix: '', after: key(), limit: DUE }),
      },
      {
        what: '`status`, the schedule of all',
        ask: () => opened.schedule.of(store, WINDOW, [now, now + DAY, now + WINDOW]),
      },
    ];
  say(`asking each of ${queries.length} queries ${ASKED} times`);
  const measured = queries.map(({ what, ask, atMost }) => {
    const samples: number[] = [];
    const from = performance.now();
    for (let i = 0; i < ASKED && performance.now() - from < 20_000; i++) {
      const at = performance.now();
      ask();
      samples.push(performance.now() - at);
    }
    return { what, samples, ...(atMost === undefined ? {} : { atMost }) };
  });
  opened.close();
  return {
    goals: measured.flatMap(({ what, samples, atMost }) =>
      atMost === undefined
        ? []
        : [goalOf(`${what}, ${count.toLocaleString('en')} tombstones`, samples, { unit: 'ms', atMost })],
    ),
    table: markdown(
      ['query', 'ms, median', 'slowest'],
      measured.map(({ what, samples }) => [
        what,
        median(samples).toFixed(2),
        Math.max(...samples).toFixed(1),
      ]),
    ),
    samples: { count, seconds, queries: measured },
  };
}

function any<T>(list: readonly T[]): T {
  const one = list[randomInt(list.length)];
  if (one === undefined) throw new Error('an empty list');
  return one;
}

function anyPrefix(): string {
  return `${directoryName(randomInt(DIRECTORIES))}/`;
}

/** Tombstones of many sweeps, as sweeps record them: half due, a tenth purged. */
function fill(
  file: string,
  count: number,
  began: number,
): { store: number; sweeps: string[]; ids: string[] } {
  const catalog = Catalog.create(file, 'bench', began);
  const url = 'file:///bench';
  const { n: store } = catalog.addStore({
    name: 'bench',
    uuid: 'bench',
    url,
    pendingPrefix: 'pending_deletion/',
  });
  const actor = { pid: process.pid, host: 'bench', boot: 'bench', by: 'bench' };
  const cause = catalog.sweeps.cause('everything', 'older than 1d');
  const revision = { kind: 'local', size: 1024, mtimeNs: 1_700_000_000_000_000_000n } as const;
  const keys = keysOf(count, DIRECTORIES);
  const sweeps: string[] = [];
  const ids: string[] = [];
  let now = began;
  for (let written = 0; written < count; ) {
    now += (2 * DAY) / SWEEPS;
    const run = catalog.runs.begin({
      id: makePlainId('r', now, systemRandom),
      store,
      kind: 'sweep',
      ...actor,
      now,
    });
    const id = makePlainId('s', now, systemRandom);
    const sweep = catalog.sweeps.begin({ id, store, run, reason: null, now });
    sweeps.push(id);
    const end = Math.min(count, written + Math.ceil(count / SWEEPS));
    while (written < end) {
      const items: Intent[] = [];
      for (let i = Math.min(BATCH, end - written); i > 0; i--) {
        const key = asKey(String(keys.next().value));
        if (key === undefined) throw new Error('a name that is no key');
        items.push({ key, revision, size: 1024, cause });
      }
      const open = catalog.transaction(() =>
        catalog.tombstones.intend({ store, run, sweep, items, now, random: systemRandom }),
      );
      catalog.transaction(() => {
        const exceptions = new Map();
        catalog.tombstones.settleMoves({ store, run, open, exceptions, now, at: now, window: WINDOW });
      });
      ids.push(...open.moves.filter((_, i) => i % 1000 === 0).map((move) => move.id));
      written += items.length;
    }
    catalog.runs.end(run, 'done', now);
    if (sweeps.length <= SWEEPS / 10) purge(catalog, store, now + WINDOW, actor);
  }
  catalog.close();
  return { store, sweeps, ids };
}

/** Records that all that is due was purged. */
function purge(
  catalog: Catalog,
  store: number,
  now: number,
  actor: { pid: number; host: string; boot: string; by: string },
): void {
  const { tombstones, runs } = catalog;
  const run = runs.begin({ id: makePlainId('r', now, systemRandom), store, kind: 'purge', ...actor, now });
  for (;;) {
    const due = tombstones.duePage({ store, now, window: WINDOW, after: undefined, limit: BATCH });
    if (due.length === 0) break;
    catalog.transaction(() => {
      const taken = tombstones.takeForPurge({
        store,
        run,
        ids: due.map(({ id }) => id),
        now,
        window: WINDOW,
      });
      const ends = taken.map((tombstone) => ({ tombstone, to: 'purged' as const }));
      tombstones.settlePurges({ store, run, now, at: now, window: WINDOW, ends });
    });
  }
  runs.end(run, 'done', now);
}
