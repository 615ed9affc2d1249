import Database from 'better-sqlite3';
import { expect } from 'chai';
import { Catalog } from '../../lib/catalog/catalog.ts';
import { planText } from '../../lib/catalog/sweeps.ts';
import type { PageFilter } from '../../lib/catalog/tombstones.ts';
import { DAY, seeded } from '../support/place.ts';
import { intent, revision, TempCatalog, WINDOW } from './temp-catalog.ts';

/** What may be read from end to end: a list that was bound, stores, batches in flight, a row each, the log’s ends. */
const SMALL = /^SCAN (json_each|i|m|o|b|s|stores|catalog|log_ends)\b/;
/** What sorts by its nature: the ranking of a plan, and few rows that another index has found. */
const SORTS = [
  /ORDER BY max\(modified_at\)/,
  /SELECT id FROM tombstones INDEXED BY tombstones_(by_key|due) .*ORDER BY id LIMIT/,
];

/** Every statement that is prepared while `work` runs, with values it was run with. */
function statementsOf(work: () => void): Map<string, unknown[]> {
  const seen = new Map<string, unknown[]>();
  const prepare = Reflect.get(Database.prototype, 'prepare') as (sql: string) => Database.Statement;
  const noting = function (this: Database.Database, sql: string): Database.Statement {
    const statement = prepare.call(this, sql);
    for (const name of ['run', 'all'] as const) {
      const real = statement[name].bind(statement) as (...values: unknown[]) => unknown;
      Object.assign(statement, {
        [name]: (...values: unknown[]) => {
          seen.set(sql.replaceAll(/\s+/g, ' ').trim(), values);
          return real(...values);
        },
      });
    }
    return statement;
  };
  Reflect.set(Database.prototype, 'prepare', noting);
  try {
    work();
  } finally {
    Reflect.set(Database.prototype, 'prepare', prepare);
  }
  return seen;
}

/** A catalog's parts, each noting which of its methods were called. */
function noted(catalog: Catalog, called: Set<string>): Catalog {
  const part = <T extends object>(object: T): T =>
    new Proxy(object, {
      get: (target, name) => {
        const value: unknown = Reflect.get(target, name, target);
        if (typeof value !== 'function') return value;
        called.add(`${target.constructor.name}.${String(name)}`);
        return value.bind(target) as unknown;
      },
    });
  return new Proxy(catalog, {
    get: (target, name) => {
      const value: unknown = Reflect.get(target, name, target);
      if (typeof value === 'function') return value.bind(target) as unknown;
      return typeof value === 'object' && value !== null ? part(value) : value;
    },
  });
}

/** Calls everything that a catalog's parts can do. */
function useAll(catalog: Catalog, temp: TempCatalog): void {
  const { tombstones, sweeps, waiting, runs, events, holds, leaseWatch, schedule, rebuilding } = catalog;
  const store = catalog.storeByName('a')?.n ?? 0;
  const { now } = temp;
  const run = runs.begin({
    id: 'r-1',
    store,
    kind: 'sweep',
    pid: 1,
    host: '',
    boot: '',
    by: '',
    now,
  });
  const sweep = sweeps.begin({ id: 's-1', store, run, reason: null, now });
  const cause = sweeps.cause('policy', null);
  sweeps.causeOf(cause);
  const item = { key: intent('a/b', cause).key, size: 1, revision: revision(1), modifiedAt: now, cause };
  sweeps.plan(sweep, [{ ...item, unit: 'a/', isKept: false }]);
  sweeps.planFromText(sweep, planText([{ ...item, unit: 'a/', isKept: false }]));
  sweeps.unplanUnit(sweep, cause, 'x/');
  sweeps.keepUnit(sweep, cause, 'x/');
  sweeps.unplanNewest(sweep, cause, 0);
  sweeps.plannedOf(sweep, cause);
  sweeps.planPage(sweep, '', 10);
  const rows = sweeps.planRows(sweep, '', 10);
  sweeps.plannedPage(sweep, cause, '', 10);
  sweeps.plannedBelow(sweep, 'x/');
  sweeps.unplan(sweep, ['x/y']);
  const random = seeded(1);
  const open = tombstones.intend({ store, run, sweep, items: [intent('a/b', cause)], now, random });
  tombstones.movingElsewhere(store, run, ['k']);
  tombstones.movingBelow(store, 'a/', { run, batchAt: open.batchAt });
  tombstones.openBatch(run);
  tombstones.settleMoves({ store, run, open, exceptions: new Map(), now, at: now, window: 0 });
  const again = tombstones.intendRows({ store, run, sweep, items: rows, now, random });
  const untried = new Map(again.rows.map(({ id }) => [id, { id, to: 'untried' as const }]));
  tombstones.settleRows({ store, run, open: again, exceptions: untried, now, at: now, window: 0 });
  const due = tombstones.duePage({ store, now: now + DAY, window: 0, after: undefined, limit: 10 });
  tombstones.dueRows({ store, now: now + DAY, window: 0, after: undefined, limit: 10 });
  const ids = due.map(({ id }) => id);
  const claim = { store, run, ids, now: now + DAY, window: 0 };
  const settle = { store, run, now, at: now, window: WINDOW };
  const purge = (to: 'prior' | 'purged'): void => {
    const ends = tombstones.takeForPurge(claim).map((one) => ({ tombstone: one, to }));
    if (ends.length === 0) throw new Error('nothing was due');
    tombstones.settlePurges({ ...settle, ends });
  };
  purge('prior');
  let [tombstone] = tombstones.takeForRestore(claim);
  if (tombstone === undefined) throw new Error('nothing to restore');
  tombstones.taken(run, 'restoring', '', 10);
  tombstones.noteRestores([{ id: tombstone.id, target: 'a/b', exemption: 'h' }]);
  tombstones.restoreOf(tombstone.id);
  tombstones.settleRestore({ store, run, tombstone, to: 'prior', now, window: 0 });
  tombstones.copyPage({ store, prefix: '', after: '', limit: 10 });
  tombstones.copiesOf(store, ['a/b']);
  tombstones.stuckPage(store, '', 10);
  tombstones.oddIntents(store);
  [tombstone] = tombstones.takeNamed({ store, run, ids, from: ['pending', 'restored'] });
  if (tombstone === undefined) throw new Error('nothing was taken');
  tombstones.settlePurges({ ...settle, ends: [{ tombstone, to: 'prior' }] });
  purge('purged');
  tombstones.get(tombstone.id);
  tombstones.getAll([tombstone.id]);
  tombstones.ofKey(store, 'a/b', 10);
  for (const filter of filters(store, ids[0] ?? '', now)) tombstones.page(filter);
  tombstones.tallies(store);
  schedule.of(store, DAY, [now, now + DAY]);
  schedule.duePart({ store, now: now + DAY, window: 0, after: null, limit: 1 });
  schedule.lockedPart({ store, now, after: null, limit: 1 });
  tombstones.forget(now, 10);
  const event = { store, run, what: 'moved' as const, now, tombstone: tombstone.id };
  events.add(event);
  events.of(tombstone);
  events.lastDetail(tombstone.id, 'purge-kept');
  useLog(catalog, store, run, now);
  tombstones.rowsById([tombstone.id]);
  tombstones.rowsOfBatch(store, now, 10);
  tombstones.rowsPurged(run, now, 10);
  tombstones.rowsRebuilt(run, now, 10);
  rebuilding.known(store, [tombstone.id]);
  const later = { id: 'one', goneAt: now, purgeAfter: now };
  const { key } = tombstone;
  rebuilding.add({
    store,
    run,
    sweep,
    cause,
    rows: [{ ...later, key, revision: revision(1), state: 'pending' }],
  });
  rebuilding.delay(store, [{ ...later, goneAt: now + 1 }]);
  rebuilding.markRestored(store, [later]);
  rebuilding.noteNewest(store, now);
  rebuilding.noteTimes(sweep, now, now);
  const hold = { kind: 'hold', blocks: 'sweep', scope: 'keys', prefix: null, until: null } as const;
  const text = { name: 'h.json', reason: '', by: '', host: '', createdAt: '', problem: null };
  holds.add(store, { ...hold, ...text }, ['a/b']);
  holds.covering(store, now, [{ key: 'a/b', id: tombstone.id }]);
  holds.names(store);
  holds.unclear(store);
  holds.inForce(store, now);
  holds.endedExemptions(store, now, 10);
  holds.drop(store, 'h.json');
  leaseWatch.seen({ store, name: 'l.json', renewal: 0, boot: 'b', began: 0, done: 1 });
  leaseWatch.count(store);
  leaseWatch.keepOnly(store, ['l.json']);
  sweeps.progress(sweep, 'moving', 0, null);
  sweeps.count(sweep, { moved: 0, abandoned: 0, failed: 0, bytes: 0 });
  sweeps.openOf(run);
  sweeps.get('s-1');
  sweeps.latest(store, 10);
  sweeps.last(store);
  sweeps.lastMoving(store);
  sweeps.unplanKept(sweep, cause);
  sweeps.unplanCause(sweep, cause);
  sweeps.dropPlan(sweep, 10);
  waiting.takeOut({ from: sweep, cause, to: sweep + 1, after: '', limit: 10 });
  const plan = { sweep, store, policy: 'policy', cause, over: '', objects: 1, bytes: 1 };
  waiting.file({ ...plan, now, expiresAt: now + DAY });
  waiting.get('s-1');
  waiting.ofStore(store, now);
  waiting.page(sweep, '', 10);
  waiting.revisions(sweep, ['a/b']);
  waiting.take({ plan: sweep, run, now });
  waiting.giveBack(sweep, run);
  waiting.approved(sweep, run, now);
  waiting.reject(sweep, '', now);
  waiting.expire(store, now);
  waiting.leftovers();
  waiting.dropKeys(sweep, 10);
  sweeps.interrupt(sweep, now);
  runs.open(store);
  runs.get(run);
  runs.byId('r-1');
  runs.deadSince(run, now);
  runs.actsAgain(run);
  runs.forgetLock(run);
  runs.end(run, 'done', now);
  runs.last(store, 'purge');
  runs.lastDone(store, 'purge');
}

/** Calls what the log can do beside. */
function useLog({ events }: Catalog, store: number, run: number, now: number): void {
  const rows = [{ id: 'one', tombstonedAt: now, run, endedAt: now, state: 'purged' as const }];
  events.addAll([{ store, run, what: 'purged', now, count: 1, key: 'a/b' }]);
  for (const bits of [0, 1, 2, 3, 4, 5, 6, 7]) {
    const filter = {
      ...((bits & 1) === 0 ? {} : { store }),
      ...((bits & 2) === 0 ? {} : { since: now }),
      ...((bits & 4) === 0 ? {} : { until: now + 1 }),
      head: events.ends().head.n,
    };
    events.page({ ...filter, after: events.placeBefore(filter, 1), limit: 10 });
    events.page({ ...filter, after: undefined, limit: 10 });
  }
  events.about({ store, tombstones: rows, key: 'a/b', after: 0, limit: 10 });
  events.following(0, 10);
  events.headText();
  for (const entry of events.chain(0, 10)) events.hasTwin(entry);
  events.hasStrays();
  events.begunApart(['one']);
  events.forgotTombstones(now);
  events.forget(now + 2 * DAY, 10, { store, run, now: now + 2 * DAY, slack: DAY });
}

/** Filters with every choice of members. */
function filters(store: number, after: string, now: number): PageFilter[] {
  const members: Partial<PageFilter>[] = [
    { store },
    { state: 'pending' },
    { prefix: 'a/' },
    { sweep: 's-1' },
    { since: now },
    { dueBefore: now },
    { after },
  ];
  const moving: PageFilter = { state: 'moving', limit: 10 };
  const choices = Array.from({ length: 2 ** members.length }, (_, bits) =>
    members.filter((__, i) => ((bits >> i) & 1) === 1),
  );
  return [moving, ...choices.map((choice) => Object.assign({ limit: 10 }, ...choice) as PageFilter)];
}

describe('the catalog’s statements', () => {
  let temp: TempCatalog;
  let seen: Map<string, unknown[]>;
  const called = new Set<string>();
  before(() => {
    temp = new TempCatalog();
    const store = temp.addStore('a');
    temp.tombstone(store.n, ['a/x', 'a/y']);
    seen = statementsOf(() => {
      const catalog = Catalog.open(temp.file);
      useAll(noted(catalog, called), temp);
      catalog.close();
    });
  });
  after(() => {
    temp.remove();
  });

  it('are all looked at here', () => {
    const { tombstones, sweeps, waiting, runs, events, holds, leaseWatch, schedule, rebuilding } =
      temp.catalog;
    const parts = [tombstones, sweeps, waiting, runs, events, holds, leaseWatch, schedule, rebuilding];
    const methods = parts.flatMap((part) =>
      Object.getOwnPropertyNames(Object.getPrototypeOf(part))
        .filter((name) => name !== 'constructor')
        .map((name) => `${part.constructor.name}.${name}`),
    );
    expect([...called]).to.have.members(methods);
    expect(seen.size).to.be.greaterThan(60);
  });

  it('find rows by an index, and never read a table that grows from end to end', () => {
    for (const [sql, plan] of plans()) {
      for (const step of plan) {
        if (step.startsWith('SCAN') && !step.startsWith('SCAN (subquery')) expect(step, sql).to.match(SMALL);
      }
    }
  });

  it('get rows in order from an index, and sort only what is few', () => {
    let sorting = 0;
    for (const [sql, plan] of plans()) {
      if (!plan.some((step) => step.includes('TEMP B-TREE'))) continue;
      sorting++;
      expect(
        SORTS.some((known) => known.test(sql)),
        `${sql}\n${plan.join('\n')}`,
      ).to.equal(true);
    }
    expect(sorting).to.be.greaterThan(0);
  });

  it('find tombstones that are named by their ids alone', () => {
    let byId = 0;
    for (const [sql, plan] of plans()) {
      if (!/tombstones .*\bid IN \(SELECT value FROM json_each/.test(sql)) continue;
      byId++;
      expect(plan.join('\n'), sql).to.match(/SEARCH (t|tombstones) USING PRIMARY KEY \(id=\?\)/);
    }
    expect(byId).to.be.greaterThan(3);
  });

  it('find what is due, and count what waits, without a look at the tombstones themselves', () => {
    const due = plans().filter(([sql]) => sql.includes('gone_at'));
    const steps = due.flatMap(([, plan]) => plan.filter((step) => step.includes('INDEX tombstones_due')));
    expect(steps.length).to.be.greaterThan(1);
    for (const step of steps) expect(step).to.include('USING COVERING INDEX');
  });

  it('find what holds an object by that object, however many members all holds have', () => {
    const covering = plans().filter(([sql]) => sql.includes('hold_members m'));
    expect(covering).to.have.length(1);
    const members = covering.flatMap(([, plan]) => plan.filter((step) => / m USING /.test(step)));
    expect(members).to.have.length(2);
    for (const step of members) expect(step).to.equal('SEARCH m USING PRIMARY KEY (store=? AND member=?)');
  });

  /** The plan of each statement that finds rows. */
  function plans(): [string, string[]][] {
    const db = new Database(temp.file);
    try {
      return [...seen]
        .filter(([sql]) => /^(SELECT|UPDATE|DELETE|WITH)/.test(sql))
        .map(([sql, values]) => {
          const rows = db.prepare(`EXPLAIN QUERY PLAN ${sql}`).all(...values) as { detail: string }[];
          return [sql, rows.map(({ detail }) => detail)];
        });
    } finally {
      db.close();
    }
  }
});
