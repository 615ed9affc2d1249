import { readdirSync } from 'node:fs';
import path from 'node:path';
import Database from 'better-sqlite3';
import { expect } from 'chai';
import type { Place } from '../../lib/run/place.ts';
import { allTombstones, bringBack, FAST, purgeDue, sweepOld } from '../support/phases.ts';
import { age, DAY, HOUR, TempPlace } from '../support/place.ts';

/** How long history is kept here. */
const HISTORY = 100 * DAY;

describe('what a purge forgets', () => {
  let temp: TempPlace;
  let place: Place;
  beforeEach(async () => {
    temp = await TempPlace.make(FAST);
    place = temp.open();
  });
  afterEach(() => temp.remove());

  const purge = async (): Promise<unknown> => purgeDue(place, { historyFor: HISTORY });
  const exemptions = (): number => readdirSync(path.join(temp.root, '.tombstoned/holds')).length;

  /** The values of one column. */
  function column(sql: string): unknown[] {
    const db = new Database(temp.catalogFile);
    try {
      return db.prepare(sql).pluck().all();
    } finally {
      db.close();
    }
  }

  const count = (table: string): unknown => column(`SELECT count(*) FROM ${table}`)[0];

  function change(sql: string): void {
    const db = new Database(temp.catalogFile);
    db.pragma('foreign_keys = ON');
    db.exec(sql);
    db.close();
  }

  /** A sweep while the clock was so much ahead. */
  async function withClockAhead(ms: number): Promise<void> {
    temp.clock.wall += ms;
    await sweepOld(place);
    temp.clock.wall -= ms;
  }

  /** Some days on which nothing was due. */
  async function days(n: number): Promise<void> {
    for (let i = 0; i < n; i++) {
      temp.clock.advance(DAY);
      await sweepOld(place);
      await purge();
    }
  }

  it('are runs and sweeps that ended before and that nothing refers to; the newest of a kind stay', async () => {
    await days(6);
    await bringBack(place, []);
    temp.clock.advance(HISTORY - 3 * DAY - HOUR);
    await purge();
    // Of the last four days, the restore, and this purge.
    expect(column('SELECT kind FROM runs ORDER BY n')).to.have.length(10);
    temp.clock.advance(30 * DAY);
    await purge();
    expect(column('SELECT kind FROM runs ORDER BY n')).to.deep.equal(['sweep', 'restore', 'purge', 'purge']);
    expect(count('sweeps')).to.equal(1);
    expect(place.catalog.runs.lastDone(place.row.n, 'sweep')).to.be.a('number');
    expect(place.catalog.sweeps.last(place.row.n)?.state).to.equal('done');
  });

  it('are runs that ended after one that ended by a clock that was years ahead', async () => {
    await days(1);
    await withClockAhead(4000 * DAY);
    for (let i = 0; i < 3; i++) {
      await days(4);
      temp.clock.advance(HISTORY + 10 * DAY);
    }
    await days(3);
    expect(column(`SELECT count(*) FROM runs WHERE ended_at < ${temp.clock.wall - HISTORY}`)).to.deep.equal([
      0,
    ]);
  });

  it('are not those that an entry of the log names which stays behind one from a clock that was ahead', async () => {
    await days(1);
    await withClockAhead(50 * DAY);
    temp.write('k', 'x', 3 * DAY);
    await days(10);
    temp.clock.advance(HISTORY + 10 * DAY);
    await days(2);
    expect(count('tombstones')).to.equal(0);
    expect(column('SELECT count(*) FROM events WHERE run IS NOT NULL')[0]).to.be.greaterThan(1);
    expect(column('SELECT what FROM events WHERE run NOT IN (SELECT n FROM runs)')).to.deep.equal([]);
  });

  it('are not those that a tombstone refers to, so that it has its sweep, its reason and its history', async () => {
    temp.write('held', 'x', 3 * DAY);
    await sweepOld(place);
    const [before] = allTombstones(place);
    await days(2);
    temp.clock.advance(HISTORY + 10 * DAY);
    change('UPDATE tombstones SET purge_after = 9e15'); // a window that does not end
    await days(2);
    const [after] = allTombstones(place);
    expect(after).to.deep.equal({ ...before, purgeAfter: after?.purgeAfter });
    expect(place.catalog.sweeps.get(before?.sweep ?? '')).to.not.equal(undefined);
    expect(place.catalog.runs.get(before?.run ?? 0)).to.not.equal(undefined);
    expect(
      column('SELECT count(*) FROM runs WHERE ended_at < (SELECT max(ended_at) FROM runs) - 864000000'),
    ).to.deep.equal([1]);
  });

  for (const [what, sql] of [
    [
      'a plan that waits',
      `INSERT INTO waiting_plans (sweep, store, policy, cause, state, over, objects, bytes, filed_at, expires_at)
       SELECT 1, 1, 'p', n, 'waiting', '', 1, 1, 0, 9e15 FROM causes LIMIT 1`,
    ],
    ['keys of a plan', `INSERT INTO plan_items VALUES (1, 'k', 1, '1|1', 0, 1, NULL, 0)`],
    [
      'a request',
      `INSERT INTO requests (id, store, policy, directory, name, state, run, sweep, taken_at)
       VALUES ('q', 1, 'p', '/d', 'n', 'taken', 1, 1, 0)`,
    ],
    ['an open batch', `INSERT INTO open_batches VALUES (1, 1, 1, 1, '[]')`],
  ] as const) {
    it(`are not a sweep and its run to which ${what} refers`, async () => {
      await days(1);
      place.catalog.sweeps.cause('p', null);
      change(sql);
      temp.clock.advance(HISTORY + 10 * DAY);
      await days(3);
      expect(column('SELECT n FROM sweeps ORDER BY n')[0]).to.equal(1);
      expect(column('SELECT n FROM runs ORDER BY n')[0]).to.equal(1);
    });
  }

  it('are plans that were decided about, with their sweeps', async () => {
    await days(1);
    place.catalog.sweeps.cause('p', null);
    change(`INSERT INTO waiting_plans (sweep, store, policy, cause, state, over, objects, bytes, filed_at, expires_at)
       SELECT 1, 1, 'p', n, 'rejected', '', 1, 1, 0, 0 FROM causes LIMIT 1`);
    temp.clock.advance(HISTORY + 10 * DAY);
    await days(2);
    expect(count('waiting_plans')).to.equal(0);
    expect(column('SELECT min(n) FROM sweeps')[0]).to.be.greaterThan(1);
  });

  it('are causes that nothing refers to, unless another run is under way, which may be about to', async () => {
    temp.write('k', 'x', 3 * DAY);
    await sweepOld(place, { policies: [age({ name: 'once' })] });
    temp.clock.advance(temp.window + DAY);
    await purge();
    temp.clock.advance(HISTORY + 10 * DAY);
    const other = temp.open({ seed: 99 });
    const of = {
      id: 'r-other',
      store: place.row.n,
      kind: 'sweep',
      pid: 1,
      host: '',
      boot: '',
      by: '',
    } as const;
    const run = other.catalog.runs.begin({ ...of, now: temp.clock.now() });
    await purge();
    expect(count('tombstones')).to.equal(0);
    expect(column('SELECT policy FROM causes')).to.deep.equal(['once']);
    other.catalog.runs.end(run, 'done', temp.clock.now());
    temp.clock.advance(2 * DAY);
    await purge();
    expect(count('causes')).to.equal(0);
    await sweepOld(place);
  });

  it('looks for runs no more often than once a day', async () => {
    await days(3);
    temp.clock.advance(HISTORY + 10 * DAY);
    await purge();
    const before = column('SELECT runs_before FROM retention');
    temp.clock.advance(23 * HOUR);
    await purge();
    expect(column('SELECT runs_before FROM retention')).to.deep.equal(before);
    temp.clock.advance(HOUR);
    await purge();
    expect(column('SELECT runs_before FROM retention')).to.not.deep.equal(before);
  });

  it('are exemptions that ended a day and a window ago, and no hold, nor one that a restore under way is about', async () => {
    for (const key of ['a', 'b']) temp.write(key, 'x', 3 * DAY);
    await sweepOld(place);
    const [first, second] = allTombstones(place);
    await bringBack(place, [first], { exemptFor: HOUR });
    await bringBack(place, [second], { exemptFor: 3 * DAY });
    temp.clock.advance(DAY);
    await purge();
    expect(exemptions()).to.equal(2);
    temp.clock.advance(temp.window);
    change(`INSERT INTO restores SELECT '${first?.id ?? ''}', 'a', name FROM holds ORDER BY until LIMIT 1`);
    await purge();
    expect(exemptions()).to.equal(2);
    change('DELETE FROM restores');
    await purge();
    expect(exemptions()).to.equal(1);
    expect(count('holds')).to.equal(1);
    expect(column(`SELECT count FROM events WHERE what = 'hold-released'`)).to.deep.equal([1]);
    change(`UPDATE holds SET kind = 'hold', until = 1`);
    await purge();
    expect(exemptions()).to.equal(1);
  });
});
