import Database from 'better-sqlite3';
import { expect } from 'chai';
import { checkLog, type LogCheck } from '../../lib/app/check-log.ts';
import type { Place } from '../../lib/run/place.ts';
import { bringBack, FAST, purgeDue, sweepOld, tombstonesOf } from '../support/phases.ts';
import { ACTOR, DAY, TempPlace } from '../support/place.ts';

/** What a tamperer needs to get past the triggers. */
const UNGUARDED = [
  'events_append_only',
  'events_in_order',
  'events_stay',
  'log_ends_grow',
  'log_ends_stay',
].map((name) => `DROP TRIGGER ${name}`);

describe('the check of the log', () => {
  let temp: TempPlace;
  let place: Place;
  beforeEach(async () => {
    temp = await TempPlace.make(FAST);
    place = temp.open();
  });
  afterEach(() => {
    temp.remove();
  });

  /** A sweep of keys, one restored, and a purge of the others: entries 2, 3 and 4, after the store's. */
  async function live(...keys: string[]): Promise<void> {
    for (const key of keys) temp.write(key, key, 3 * DAY);
    await sweepOld(place);
    await bringBack(place, tombstonesOf(place, keys[0] ?? ''), { exemptFor: 1000 * DAY });
    temp.clock.advance(temp.window);
    await purgeDue(place, { historyFor: 40 * DAY });
  }

  /** Writes into the catalog as nobody should. */
  function tamper(...statements: string[]): void {
    const db = new Database(temp.catalogFile);
    for (const sql of [...UNGUARDED, ...statements]) db.exec(sql);
    db.close();
  }

  async function broken(): Promise<LogCheck['broken']> {
    return (await checkLog(place.catalog)).broken;
  }

  it('finds every entry whole, and its tombstones as they were written', async () => {
    await live('a', 'b', 'c');
    const { entries, removed, head, compared, broken: none } = await checkLog(place.catalog);
    expect({ entries, removed, head: head.n, compared, none }).to.deep.equal({
      entries: 4,
      removed: 0,
      head: 4,
      compared: 2,
      none: null,
    });
    expect(`${head.n}:${head.hash}`).to.equal(place.catalog.events.headText());
  });

  const CHANGES: Record<string, [sql: string, n: number, says: RegExp]> = {
    'that was changed': [`UPDATE events SET detail = 'nothing' WHERE n = 3`, 3, /changed/],
    'whose time was changed': ['UPDATE events SET at = at + 1 WHERE n = 2', 2, /changed/],
    'whose user was changed': [`UPDATE events SET by = 'other@host' WHERE n = 2`, 2, /changed/],
    'that is missing': ['DELETE FROM events WHERE n = 3', 3, /missing/],
    'that is missing with its number': [
      'DELETE FROM events WHERE n = 3; UPDATE events SET n = 3 WHERE n = 4',
      3,
      /does not follow/,
    ],
    'that was the newest, and is missing': ['DELETE FROM events WHERE n = 4', 4, /missing/],
    'beyond the end': [
      `INSERT INTO events SELECT 5, at, store, run, by, uid, via, what, tombstone, key, batch_at, count, bytes,
         cause, detail, rows, hash, hash FROM events WHERE n = 4`,
      5,
      /beyond the end/,
    ],
    'from the beginning on, as if retention had removed it': [
      `UPDATE log_ends SET removed_n = 1, removed_hash = (SELECT hash FROM events WHERE n = 1);
       DELETE FROM events WHERE n = 1`,
      2,
      /no entry says that they were removed/,
    ],
    'whose tombstone has another key': [`UPDATE tombstones SET key = 'z' WHERE key = 'b'`, 2, /not those/],
    'whose tombstone has another size': ["UPDATE tombstones SET size = 9 WHERE key = 'a'", 2, /not those/],
    'one of whose tombstones is gone': [`DELETE FROM tombstones WHERE key = 'c'`, 2, /are 2 of 3/],
    'of a purge, of which a tombstone is said not to be': [
      `UPDATE tombstones SET state = 'pending' WHERE key = 'c'`,
      4,
      /are 2 of 3/,
    ],
  };
  for (const [what, [sql, n, says]] of Object.entries(CHANGES)) {
    it(`names the first entry ${what}`, async () => {
      await live('a', 'b', 'c');
      tamper(sql);
      const found = await broken();
      expect(found?.n).to.equal(n);
      expect(found?.problem).to.match(says);
    });
  }

  it('finds that a whole new chain is not the one that was seen', async () => {
    await live('a', 'b');
    const { head: seen } = await checkLog(place.catalog);
    expect((await checkLog(place.catalog, { seen })).broken).to.equal(null);
    tamper(
      'UPDATE log_ends SET head_n = 2, head_hash = (SELECT hash FROM events WHERE n = 2)',
      'DELETE FROM events WHERE n > 2',
      'DELETE FROM tombstones WHERE 0',
    );
    expect(await broken(), 'the chain alone looks whole').to.equal(null);
    expect((await checkLog(place.catalog, { seen })).broken).to.deep.include({ n: 3 });
    const other = { ...seen, n: 2 };
    expect((await checkLog(place.catalog, { seen: other })).broken).to.deep.include({ n: 2 });
  });

  it('knows of objects that ended otherwise than their batch', async () => {
    for (const key of ['a', 'b', 'c']) temp.write(key, key, 3 * DAY);
    let isFirst = true;
    const racing = temp.open({
      seed: 9,
      catalog: (catalog) =>
        new Proxy(catalog, {
          get: (target, name) => {
            const value: unknown = Reflect.get(target, name, target);
            if (name === 'transaction' && isFirst && catalog.tombstones.openBatch(2) !== undefined) {
              isFirst = false;
              temp.write('b', 'another b', 0);
            }
            return typeof value === 'function' ? (value.bind(target) as unknown) : value;
          },
        }),
    });
    await sweepOld(racing);
    const { compared, broken: none } = await checkLog(place.catalog);
    expect(none).to.equal(null);
    expect(compared).to.be.greaterThan(0);
  });

  it('is as good after retention, which leaves an entry with the hash of the last it removed', async () => {
    await live('a', 'b');
    temp.clock.advance(30 * DAY);
    await live('c', 'd');
    const before = place.catalog.events.chain(0, 100);
    temp.clock.advance(9 * DAY);
    await purgeDue(place, { historyFor: 40 * DAY });
    const { entries, removed, head, broken: none } = await checkLog(place.catalog);
    expect(none).to.equal(null);
    expect(removed).to.be.greaterThan(3);
    expect(entries).to.equal(head.n - removed);
    const last = place.catalog.events.following(0, 100).at(-1);
    const gone = before.find(({ n }) => n === removed);
    expect(last).to.include({ what: 'log-removed', count: 1 });
    expect(last?.detail).to.equal(`up to ${removed}, whose hash is ${gone?.hash.toString('hex')}`);
    tamper(`UPDATE log_ends SET removed_hash = zeroblob(32)`);
    expect((await broken())?.n).to.equal(removed + 1);
  });

  it('says that an entry which was seen is too old to be compared', async () => {
    await live('a');
    const [, seen] = place.catalog.events.following(0, 2);
    temp.clock.advance(50 * DAY);
    await live('b');
    const error: unknown = await checkLog(place.catalog, { seen }).catch((thrown: unknown) => thrown);
    expect(error).to.be.an('error').and.include({ code: 'not-found' });
  });

  it('ends when it is told to', async () => {
    await live('a');
    const result = await checkLog(place.catalog, { signal: AbortSignal.abort() });
    expect(result).to.include({ isCut: true, entries: 0 });
  });

  it('takes texts as they are kept, whatever is in them', async () => {
    const detail = 'a\0b\u001B[31m"\\\n\u2028\uD800 é 🙂';
    place.catalog.events.add({
      store: null,
      run: null,
      who: ACTOR,
      what: 'held',
      now: 1,
      key: detail,
      detail,
    });
    expect(await broken()).to.equal(null);
    expect(place.catalog.events.following(1, 1)[0]?.detail).to.equal(detail.toWellFormed());
  });
});
