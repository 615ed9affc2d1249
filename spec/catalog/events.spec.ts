import Database from 'better-sqlite3';
import { expect } from 'chai';
import { START } from '../support/place.ts';
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

  it('can only be added to', () => {
    temp.catalog.events.add({ store, run, what: 'moved', now: 1, tombstone: 't' });
    const db = new Database(temp.file);
    try {
      expect(() => db.exec(`UPDATE events SET what = 'purged'`)).to.throw('append-only');
    } finally {
      db.close();
    }
    expect(
      temp.catalog.events.of({ id: 't', store: 'a', tombstonedAt: 0 }).map(({ what }) => what),
    ).to.deep.equal(['moved']);
  });
});
