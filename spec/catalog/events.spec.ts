import Database from 'better-sqlite3';
import { expect } from 'chai';
import { DAY, START } from '../support/place.ts';
import { TempCatalog } from './temp-catalog.ts';

describe('the audit log', () => {
  let temp: TempCatalog;
  let store: number;
  let run: number;
  beforeEach(() => {
    temp = new TempCatalog();
    store = temp.addStore('a').n;
    run = temp.beginRun(store);
  });
  afterEach(() => {
    temp.remove();
  });

  it('tells of a tombstone, and of the batch its id names, in the order of writing', () => {
    const { events } = temp.catalog;
    events.add({ store, run, what: 'moved', now: 5, batchAt: START, count: 3, bytes: 30 });
    events.add({ store, run, what: 'abandoned', now: 4, tombstone: 'other', batchAt: START });
    events.add({ store, run, what: 'moved', now: 4, batchAt: START + 1, count: 1, bytes: 1 });
    events.add({ store, run, what: 'restored', now: 3, tombstone: 'mine', detail: 'to elsewhere' });
    const told = events.of({ id: 'mine', store: 'a', tombstonedAt: START });
    expect(told.map(({ at, what, count, bytes, detail }) => [at, what, count, bytes, detail])).to.deep.equal([
      [5, 'moved', 3, 30, null],
      [3, 'restored', null, null, 'to elsewhere'],
    ]);
    expect(told[0]?.by).to.equal('spec@spec-host');
    expect(told[0]?.run).to.match(/^r-/);
  });

  it('tells no batch’s line of another store, nor of a tombstone that ended otherwise', () => {
    const { events } = temp.catalog;
    const other = temp.addStore('b').n;
    events.add({ store: other, run, what: 'moved', now: 1, batchAt: START, count: 9, bytes: 90 });
    events.add({ store, run, what: 'moved', now: 2, batchAt: START, count: 3, bytes: 30 });
    events.add({ store, run, what: 'abandoned', now: 2, tombstone: 'not-moved', detail: 'gone' });
    const told = (id: string): unknown[] =>
      events.of({ id, store: 'a', tombstonedAt: START }).map(({ what, count }) => [what, count]);
    expect(told('moved')).to.deep.equal([['moved', 3]]);
    expect(told('not-moved')).to.deep.equal([['abandoned', null]]);
  });

  it('can only be added to, at its end', () => {
    for (const id of ['t', 'u'])
      temp.catalog.events.add({ store, run, what: 'moved', now: 1, tombstone: id });
    const db = new Database(temp.file);
    try {
      expect(() => db.exec(`UPDATE events SET what = 'purged'`)).to.throw('append-only');
      expect(() => db.exec(`DELETE FROM events WHERE n = 1`)).to.throw('by retention only');
      const copy = (n: number): string =>
        `INSERT INTO events SELECT ${n}, at, store, run, by, uid, via, what, tombstone, key, batch_at, count,
           bytes, cause, detail, rows, hash, hash FROM events WHERE n = 1`;
      expect(() => db.exec(copy(4)), 'after a gap').to.throw('follow one another');
      expect(() => db.exec(copy(3)), 'after another one').to.throw('follow one another');
      expect(() => db.exec('UPDATE log_ends SET head_n = 1')).to.throw('only grows');
      expect(() => db.exec('UPDATE log_ends SET removed_n = 3')).to.throw('only grows');
      expect(() => db.exec('DELETE FROM log_ends')).to.throw('only grows');
    } finally {
      db.close();
    }
    expect(
      temp.catalog.events.of({ id: 't', store: 'a', tombstonedAt: 0 }).map(({ what }) => what),
    ).to.deep.equal(['moved']);
  });

  it('says who did it: who began the run, or who acts for that one now', () => {
    const { runs, events } = temp.catalog;
    const who = { id: 'r-who', by: 'ops@host', uid: 1000, via: 'tombstonectl purge' };
    const own = runs.begin({ ...who, store, kind: 'purge', pid: 1, host: 'host', boot: 'b', now: 1 });
    events.add({ store, run: own, what: 'purged', now: 1, count: 1 });
    events.add({ store, run: own, what: 'recovered', now: 2, who: { by: 'root@host', uid: 0 } });
    events.add({ store, run: null, what: 'held', now: 3 });
    const told = events.following(0, 10).map(({ by, uid, via, run: id }) => [id, by, uid, via]);
    expect(told).to.deep.equal([
      ['r-who', 'ops@host', 1000, 'tombstonectl purge'],
      ['r-who', 'root@host', 0, null],
      [null, null, null, null],
    ]);
  });

  it('is read in the order of time, from and up to a time, page by page, for a store or all', () => {
    const { events } = temp.catalog;
    const other = temp.addStore('b').n;
    const times = [5, 3, 3, 9, 3, 7]; // a clock was wrong
    for (const [i, now] of times.entries())
      events.add({ store: i % 2 === 0 ? store : other, run, what: 'held', now, detail: `${i}` });
    const head = events.ends().head.n;
    const read = (filter: { store?: number; since?: number; until?: number }, newest?: number): string => {
      const found: string[] = [];
      let after = newest === undefined ? undefined : events.placeBefore({ ...filter, head }, newest);
      for (;;) {
        const [next] = events.page({ ...filter, head, after, limit: 1 });
        if (next === undefined) return found.join('');
        found.push(next.detail ?? '');
        after = next;
      }
    };
    expect(read({})).to.equal('124053');
    expect(read({ store })).to.equal('240');
    expect(read({ since: 5 })).to.equal('053');
    expect(read({ since: 3, until: 7 })).to.equal('1240');
    expect(read({}, 2)).to.equal('53');
    expect(read({ store: other }, 2)).to.equal('53');
    expect(read({ until: 9 }, 2)).to.equal('05');
    expect(read({ since: 4 }, 100)).to.equal('053');
    events.add({ store, run, what: 'held', now: 4, detail: 'new' });
    expect(read({}), 'up to a head').to.equal('124053');
  });

  describe('is kept for a while', () => {
    /** Adds entries of these days. */
    function add(...days: number[]): void {
      for (const day of days) temp.catalog.events.add({ store, run, what: 'held', now: day * DAY });
    }
    const about = (day: number): { store: number; run: number; now: number; slack: number } => ({
      store,
      run,
      now: day * DAY,
      slack: DAY,
    });
    const days = (): number[] => temp.catalog.events.following(0, 100).map(({ at }) => at / DAY);

    it('then goes from its beginning, a part at a time, once the oldest is a day over it', () => {
      const { events } = temp.catalog;
      add(1, 2, 3, 4, 5);
      expect(events.forget(2 * DAY, 10, about(9)), 'not a day over it').to.equal(0);
      expect(events.forget(4 * DAY, 2, about(9))).to.equal(2);
      expect(days()).to.deep.equal([3, 4, 5, 9]);
      expect(events.forget(5 * DAY, 10, about(9))).to.equal(2);
      expect(days()).to.deep.equal([5, 9, 9]);
      expect(events.forget(100 * DAY, 10, about(9)), 'all of it').to.equal(3);
      expect(events.following(0, 10).map(({ n, what }) => [n, what])).to.deep.equal([[8, 'log-removed']]);
    });

    it('also behind what is from the future, and never beyond what is newer', () => {
      const { events } = temp.catalog;
      add(900, 1, 2, 8, 3);
      expect(events.forget(5 * DAY, 10, about(9))).to.equal(3);
      expect(days()).to.deep.equal([8, 3, 9]);
    });
  });
});
