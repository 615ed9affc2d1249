import Database from 'better-sqlite3';
import { expect } from 'chai';
import { CatalogLedger, type Find, type Take } from '../../lib/purge/ledger.ts';
import { PurgeLedger } from '../../lib/purge/ledger-thread.ts';
import type { Place } from '../../lib/run/place.ts';
import { again, allTombstones, FAST, sweepOld } from '../support/phases.ts';
import { DAY, TempPlace } from '../support/place.ts';

describe('what a purge writes into the catalog', () => {
  let temp: TempPlace;
  let place: Place;
  let run: number;
  beforeEach(async () => {
    temp = await TempPlace.make(FAST);
    place = temp.open();
    for (const key of ['a', 'b', 'c', 'd']) temp.write(key, key, 3 * DAY);
    await sweepOld(place);
    temp.clock.advance(temp.window + DAY);
    const { pid, host, boot, by } = place.actor;
    const of = { id: 'r-spec', store: place.row.n, pid, host, boot, by, now: place.clock.now() };
    run = place.catalog.runs.begin({ ...of, kind: 'purge', lock: 'spec' });
  });
  afterEach(() => {
    temp.remove();
  });

  /** How many are in each state. */
  function states(): Record<string, number> {
    const { catalog, row } = place;
    return Object.fromEntries(catalog.tombstones.tallies(row.n).map(({ state, count }) => [state, count]));
  }

  function takeOf(page: number): Take {
    return { page, now: place.catalog.clock.counted(place.clock), leases: [], uncovered: new Map() };
  }

  /** A ledger that has taken two, and found the other two. */
  async function halfWay(): Promise<{ ledger: PurgeLedger; first: number; second: Take }> {
    const ledger = new PurgeLedger(place, run, null);
    const now = place.catalog.clock.counted(place.clock);
    const one = await ledger.find({ now, after: undefined }, 2);
    const two = await ledger.find({ now, after: one?.last }, 2);
    if (one === undefined || two === undefined) throw new Error('nothing is due');
    expect((await ledger.take(takeOf(one.page))).copies).to.have.length(2);
    return { ledger, first: one.page, second: takeOf(two.page) };
  }

  it('is nothing where a row is damaged, which is told before anything is taken', async () => {
    const { catalog, row } = place;
    const [id] = catalog.tombstones.page({ store: row.n, limit: 1 }).map((one) => one.id);
    const db = new Database(catalog.file);
    db.prepare('UPDATE tombstones SET revision = ? WHERE id = ?').run('garbage', id);
    db.close();
    const ledger = new PurgeLedger(place, run, null);
    const now = catalog.clock.counted(place.clock);
    const found = ledger.find({ now, after: undefined }, 4).then(() => undefined, String);
    expect(await found).to.include('the catalog holds a value it should not');
    expect(states()).to.deep.equal({ pending: 4 });
  });

  it('is one commit for how a batch ended and the next that is taken', async () => {
    const { ledger, first, second } = await halfWay();
    let transactions = 0;
    const { catalog } = place;
    const real = catalog.transaction.bind(catalog);
    catalog.transaction = (work) => {
      transactions++;
      return real(work);
    };
    const taken = await ledger.recordAndTake({ page: first, ends: new Map() }, second);
    expect(taken?.copies).to.have.length(2);
    expect(transactions).to.equal(1);
    expect(states()).to.deep.equal({ purged: 2, purging: 2 });
  });

  it('is nothing of either where the next can’t be taken, and what was removed is recorded alone', async () => {
    const { ledger, first, second } = await halfWay();
    const record = { page: first, ends: new Map() };
    const { holds } = place.catalog;
    const real = holds.covering.bind(holds);
    holds.covering = () => {
      throw new Error('it is damaged');
    };
    expect(await ledger.recordAndTake(record, second)).to.equal(undefined);
    expect(states()).to.deep.equal({ pending: 2, purging: 2 });
    await ledger.record(record);
    expect(states()).to.deep.equal({ pending: 2, purged: 2 });
    const error: unknown = await ledger.take(second).catch((thrown: unknown) => thrown);
    expect(error).to.be.an('error').with.property('message', 'it is damaged');
    holds.covering = real;
    expect((await ledger.take(second)).copies).to.have.length(2);
  });

  it('is nothing of either where somebody else has changed what was taken, and the others can be taken alone', async () => {
    const { ledger, first, second } = await halfWay();
    const { catalog, row } = place;
    const [stolen] = catalog.tombstones.taken(run, 'purging', '', 1);
    if (stolen === undefined) throw new Error('nothing is taken');
    const at = place.clock.now();
    const settle = { store: row.n, run, now: at, at, window: 0 };
    catalog.tombstones.settlePurges({ ...settle, ends: [{ tombstone: stolen, to: 'prior' }] });
    const record = { page: first, ends: new Map() };
    expect(await ledger.recordAndTake(record, second)).to.equal(undefined);
    expect(states()).to.deep.equal({ pending: 3, purging: 1 });
    const error: unknown = await ledger.record(record).catch((thrown: unknown) => thrown);
    expect(error).to.be.an('error').with.property('message').that.contains('changed by another process');
    expect(states()).to.deep.equal({ pending: 3, purging: 1 });
    expect((await ledger.take(second)).copies).to.have.length(2);
    expect(again(place, stolen)?.state).to.equal('pending');
  });

  it('are no pages that were never found, or are recorded already', () => {
    const ledger = new CatalogLedger(place, run, null);
    const find: Omit<Find, 'page'> = {
      ...takeOf(0),
      after: undefined,
      most: 4,
      mostBytes: null,
      isTold: true,
    };
    expect(() => ledger.take(takeOf(7))).to.throw('there is no page 7');
    const found = ledger.find({ ...find, page: 7 });
    expect(found?.rows.map(({ key }) => key)).to.have.members(allTombstones(place).map(({ key }) => key));
    ledger.take(takeOf(7));
    ledger.record({ page: 7, ends: new Map() });
    expect(states()).to.deep.equal({ purged: 4 });
    expect(() => ledger.record({ page: 7, ends: new Map() })).to.throw('there is no page 7');
  });
});
