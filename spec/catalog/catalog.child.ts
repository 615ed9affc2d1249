// A second process at a catalog. Says `ready`, does what it is told by its first message, and answers once.
import Database from 'better-sqlite3';
import { Catalog } from '../../lib/catalog/catalog.ts';
import { say } from '../run/say.ts';
import { seeded } from '../support/place.ts';
import { intent } from './temp-catalog.ts';

const [file = '', seed = '1'] = process.argv.slice(2);
const random = seeded(Number(seed));

/** What a spec may ask of it. */
export type Task =
  | { readonly do: 'create' }
  | { readonly do: 'settings' }
  | { readonly do: 'hold-transaction'; readonly ms: number }
  | { readonly do: 'log'; readonly store: number; readonly times: number }
  | { readonly do: 'move-and-take'; readonly store: number; readonly now: number };

export interface Answer {
  readonly uuid?: string;
  readonly settings?: unknown[];
  readonly batches?: number[];
  readonly taken?: string[];
  readonly logged?: number[];
}

process.once('message', (task: Task) => {
  say(answer(task));
  if (task.do !== 'hold-transaction') process.disconnect();
});
say('ready');

function answer(task: Task): Answer {
  if (task.do === 'hold-transaction') return holdTransaction(task.ms);
  const catalog = task.do === 'create' ? Catalog.create(file, `uuid-${seed}`, 1) : Catalog.open(file);
  try {
    switch (task.do) {
      case 'create':
        return { uuid: catalog.uuid };
      case 'settings':
        return {
          settings: (['journal_mode', 'synchronous', 'foreign_keys'] as const).map((name) =>
            catalog.pragma(name),
          ),
        };
      case 'log':
        return { logged: log(catalog, task.store, task.times) };
      case 'move-and-take':
        return { batches: move(catalog, task.store, task.now), taken: take(catalog, task.store, task.now) };
    }
  } finally {
    catalog.close();
  }
}

/** Holds a write transaction open for a while, then commits it. */
function holdTransaction(ms: number): Answer {
  const db = new Database(file);
  db.exec(`BEGIN IMMEDIATE; UPDATE stores SET url = 'file:///changed'`);
  setTimeout(() => {
    db.exec('COMMIT');
    db.close();
    process.disconnect();
  }, ms);
  return {};
}

function begin(catalog: Catalog, store: number): number {
  const id = `r-${seed}-${random(2 ** 30)}`;
  return catalog.runs.begin({
    id,
    store,
    kind: 'purge',
    pid: process.pid,
    host: '',
    boot: '',
    by: '',
    now: 1,
  });
}

/** Adds entries to the log, each in a transaction of its own; gives their numbers. */
function log(catalog: Catalog, store: number, times: number): number[] {
  const who = { by: `child ${seed}` };
  return Array.from({ length: times }, (_, i) => {
    pause(3); // for others to have their turns, however quick this one is
    return catalog.transaction(() => {
      catalog.events.addAll([
        { store, run: null, who, what: 'held', now: i },
        { store, run: null, who, what: 'hold-released', now: i },
      ]);
      return catalog.events.ends().head.n;
    });
  });
}

/** Blocks this process. */
function pause(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}

/** Makes batches of intents; gives their times. */
function move(catalog: Catalog, store: number, now: number): number[] {
  const run = begin(catalog, store);
  const sweep = catalog.sweeps.begin({ id: `s-${seed}`, store, run, reason: null, now });
  const cause = catalog.sweeps.cause('old', `of ${Number(seed) % 2}`);
  return Array.from({ length: 60 }, () => {
    const items = [intent('k', cause)];
    return catalog.transaction(() => catalog.tombstones.intend({ store, run, sweep, items, now, random }))
      .batchAt;
  });
}

/** Takes what is due, a few at a time, until nothing is left; gives the ids it got. */
function take(catalog: Catalog, store: number, now: number): string[] {
  const run = begin(catalog, store);
  const taken: string[] = [];
  for (;;) {
    const page = catalog.tombstones.duePage({ store, now, window: 0, after: undefined, limit: 7 });
    if (page.length === 0) return taken;
    const ids = page.map(({ id }) => id);
    const got = catalog.transaction(() =>
      catalog.tombstones.takeForPurge({ store, run, ids, now, window: 0 }),
    );
    taken.push(...got.map(({ id }) => id));
  }
}
