import Database from 'better-sqlite3';
import { expect } from 'chai';
import fc from 'fast-check';
import { Catalog } from '../../lib/catalog/catalog.ts';
import type { PlanItem } from '../../lib/catalog/sweeps.ts';
import { compareKeys, parseKey } from '../../lib/domain/key.ts';
import { START } from '../support/place.ts';
import { revision, TempCatalog } from './temp-catalog.ts';

const UNITS = ['a/', 'a/b/', 'ab/', 'é/', '\x7f/', 'a'];
const NAMES = ['x', '\u{10ffff}', '\u{10ffff}\u{10ffff}y', 'é', '~', '\uffff'];

describe('plans in the catalog', () => {
  let temp: TempCatalog;
  let store: number;
  let run: number;
  let sweep: number;
  let cause: number;
  beforeEach(() => {
    temp = new TempCatalog();
    store = temp.addStore('a').n;
    run = temp.beginRun(store);
    sweep = temp.beginSweep(store, run).n;
    cause = temp.catalog.sweeps.cause('old', 'older than 1d');
  });
  afterEach(() => {
    temp.remove();
  });

  function item(key: string, members: Partial<PlanItem> = {}): PlanItem {
    const whole = { size: 1, revision: revision(1), modifiedAt: START, cause, unit: null, isKept: false };
    return { key: parseKey(key), ...whole, ...members };
  }

  function planned(of = sweep): string[] {
    return temp.catalog.sweeps.planPage(of, '', 1000).map(({ key }) => key);
  }

  it('are paged in the order of the keys’ bytes, each key once, as the first policy named it', () => {
    const { sweeps } = temp.catalog;
    const keys = ['b', 'a', '\x7f', 'é', '\uffff', '\u{10000}', 'a/b'];
    sweeps.plan(
      sweep,
      keys.map((key) => item(key)),
    );
    const other = sweeps.cause('other', null);
    sweeps.plan(sweep, [item('a', { cause: other, size: 9 })]);
    const pages: PlanItem[] = [];
    for (let after = ''; ; after = pages.at(-1)?.key ?? '') {
      const page = sweeps.planPage(sweep, after, 2);
      if (page.length === 0) break;
      pages.push(...page);
    }
    expect(pages.map(({ key }) => key)).to.deep.equal(keys.toSorted(compareKeys));
    expect(pages[0]).to.deep.equal(item('a'));
    expect(sweeps.plannedOf(sweep, other)).to.deep.equal({ count: 0, bytes: 0 });
  });

  it('lose or keep one unit as a whole, whatever its keys are, and nothing beside it', () => {
    const keyOf = (unit: string, name: string): string => (unit.endsWith('/') ? unit + name : unit);
    const pick = fc.record({ unit: fc.constantFrom(...UNITS), name: fc.constantFrom(...NAMES) });
    fc.assert(
      fc.property(
        fc.array(pick, { maxLength: 20 }),
        fc.constantFrom(...UNITS),
        fc.boolean(),
        (picks, gone, keeps) => {
          const { sweeps } = temp.catalog;
          const n = temp.beginSweep(store, run).n;
          const other = sweeps.cause('other', null);
          const units = new Map(picks.map(({ unit, name }) => [keyOf(unit, name), unit]));
          sweeps.plan(
            n,
            [...units].map(([key, unit]) => item(key, { unit })),
          );
          sweeps.plan(n, [item('a/of-another', { unit: 'a/', cause: other })]);
          if (keeps) sweeps.keepUnit(n, cause, gone);
          else sweeps.unplanUnit(n, cause, gone);
          const isGone = (row: PlanItem): boolean => row.unit === gone && row.cause === cause;
          const rows = sweeps.planPage(n, '', 1000);
          for (const row of rows) expect(row.isKept).to.equal(keeps && isGone(row));
          const left = [...units].filter(([, unit]) => keeps || unit !== gone).map(([key]) => key);
          expect(rows.map(({ key }) => key)).to.have.members([...left, 'a/of-another']);
        },
      ),
      { numRuns: 100 },
    );
  });

  it('lose the newest units of a policy, those of one time by their names', () => {
    const { sweeps } = temp.catalog;
    const rows = [
      item('d1/a', { unit: 'd1/', modifiedAt: START }),
      item('d1/b', { unit: 'd1/', modifiedAt: START + 9 }),
      item('d2/a', { unit: 'd2/', modifiedAt: START + 5 }),
      item('d3/a', { unit: 'd3/', modifiedAt: START + 5 }),
      item('x', { modifiedAt: START + 99, cause: sweeps.cause('other', null) }),
    ];
    sweeps.plan(sweep, rows);
    sweeps.unplanNewest(sweep, cause, 2);
    expect(planned()).to.deep.equal(['d2/a', 'x']);
  });

  it('lose what only counted for keepLast, and everything of one policy page by page', () => {
    const { sweeps } = temp.catalog;
    const other = sweeps.cause('other', null);
    sweeps.plan(sweep, [item('a'), item('b', { isKept: true }), item('c', { cause: other, size: 5 })]);
    expect(sweeps.plannedOf(sweep, cause)).to.deep.equal({ count: 1, bytes: 1 });
    sweeps.unplanKept(sweep, cause);
    expect(planned()).to.deep.equal(['a', 'c']);
    sweeps.plan(sweep, [item('b', { cause: other }), item('d', { cause: other })]);
    const out = (after: string): string | null =>
      temp.catalog.waiting.takeOut({ from: sweep, cause: other, to: null, after, limit: 2 });
    expect([out(''), out('c'), out('d')]).to.deep.equal(['c', 'd', null]);
    expect(planned()).to.deep.equal(['a']);
  });

  it('are dropped without those of others, in one transaction', () => {
    const { sweeps } = temp.catalog;
    const mine = Array.from({ length: 5 }, (_, i) => item(`k${i}`));
    for (const others of [true, false]) {
      const other = temp.beginSweep(store, run).n;
      sweeps.plan(sweep, mine);
      if (others) sweeps.plan(other, [item('theirs')]);
      const inside = transactionsOf(temp.file, (catalog) => {
        while (catalog.sweeps.dropPlan(sweep, 2)) continue;
      });
      expect(inside.length).to.be.greaterThan(0);
      expect(inside, 'another process may plan between two statements').not.to.include(false);
      expect(planned()).to.deep.equal([]);
      expect(planned(other)).to.deep.equal(others ? ['theirs'] : []);
      while (sweeps.dropPlan(other, 2)) continue;
    }
  });

  it('have causes, one for each policy and reason, whoever asks', () => {
    const { sweeps } = temp.catalog;
    const causes = [
      [null, null],
      ['p', null],
      [null, 'p'],
      ['p', 'r'],
    ] as const;
    const numbers = causes.map(([policy, reason]) => sweeps.cause(policy, reason));
    expect(new Set(numbers).size).to.equal(4);
    expect(causes.map(([policy, reason]) => sweeps.cause(policy, reason))).to.deep.equal(numbers);
    for (const [i, [policy, reason]] of causes.entries()) {
      expect(sweeps.causeOf(numbers[i] ?? 0)).to.deep.equal({ policy, reason });
    }
  });

  it('belong to sweeps, which end once, and are found by their run while they are open', () => {
    const { sweeps } = temp.catalog;
    expect(sweeps.openOf(run)).to.deep.equal([sweep]);
    sweeps.interrupt(sweep, START + 1);
    expect(sweeps.openOf(run)).to.deep.equal([]);
    sweeps.interrupt(sweep, START + 2);
    const [latest] = sweeps.latest(store, 5);
    expect(latest).to.include({ state: 'interrupted', endedAt: START + 1 });
    expect(sweeps.lastMoving(store)).to.equal(undefined);
    temp.now += 1000;
    const { sweep: moved } = temp.tombstone(store, ['k']);
    expect(sweeps.latest(store, 5).map(({ id }) => id)).to.deep.equal([moved, latest?.id]);
  });
});

/** Whether each statement that changes plans ran in a transaction. */
function transactionsOf(file: string, work: (catalog: Catalog) => void): boolean[] {
  const seen: boolean[] = [];
  const prepare = Reflect.get(Database.prototype, 'prepare') as (sql: string) => Database.Statement;
  const noting = function (this: Database.Database, sql: string): Database.Statement {
    const statement = prepare.call(this, sql);
    if (!sql.startsWith('DELETE FROM plan_items')) return statement;
    const run = statement.run.bind(statement);
    return Object.assign(statement, {
      run: (...values: unknown[]) => {
        seen.push(this.inTransaction);
        return run(...values);
      },
    });
  };
  Reflect.set(Database.prototype, 'prepare', noting);
  const catalog = Catalog.open(file);
  try {
    work(catalog);
  } finally {
    Reflect.set(Database.prototype, 'prepare', prepare);
    catalog.close();
  }
  return seen;
}
