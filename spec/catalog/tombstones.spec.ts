import { expect } from 'chai';
import { Catalog } from '../../lib/catalog/catalog.ts';
import type { Tombstone } from '../../lib/catalog/tombstones.ts';
import { TombstonedError } from '../../lib/domain/errors.ts';
import { idTime } from '../../lib/domain/ids.ts';
import { DAY, HOUR, START } from '../support/place.ts';
import { intent, revision, TempCatalog, WINDOW } from './temp-catalog.ts';

describe('tombstones in the catalog', () => {
  let temp: TempCatalog;
  let store: number;
  beforeEach(() => {
    temp = new TempCatalog();
    store = temp.addStore('a').n;
  });
  afterEach(() => {
    temp.remove();
  });

  function states(): string[] {
    return temp.catalog.tombstones.page({ limit: 100 }).map(({ state }) => state);
  }

  function one(id: string | undefined): Tombstone {
    const tombstone = temp.catalog.tombstones.get(id ?? '');
    if (tombstone === undefined) throw new Error(`no tombstone ${id}`);
    return tombstone;
  }

  it('get ids that grow, also when the clock steps back or stands still', () => {
    const ids: string[] = [];
    for (const step of [0, 5 * DAY, -3 * DAY, -DAY, 0, HOUR]) {
      temp.now += step;
      ids.push(...temp.tombstone(store, ['x']).ids);
    }
    expect(ids).to.deep.equal(ids.toSorted());
    expect(new Set(ids).size).to.equal(6);
    expect(ids[2]?.slice(0, 19)).to.equal(idTime(START + 5 * DAY + 1));
  });

  it('get ids that grow when another process has moved meanwhile, whose clock is ahead', () => {
    const other = Catalog.open(temp.file);
    const run = temp.beginRun(store);
    const sweep = temp.beginSweep(store, run).n;
    const cause = other.sweeps.cause('old', null);
    const { random } = temp;
    const batch = { store, run, sweep, items: [intent('x', cause)], now: temp.now + HOUR, random };
    const [ahead] = other.transaction(() => other.tombstones.intend(batch)).moves;
    other.close();
    const [mine] = temp.intend(store, run, sweep, [intent('x', cause)]).moves;
    const ids = [ahead?.id ?? 'none', mine?.id ?? 'none'];
    expect(ids).to.deep.equal(ids.toSorted());
  });

  it('are known while they move, and are due a window after their object was gone', () => {
    const run = temp.beginRun(store);
    const sweep = temp.beginSweep(store, run);
    const cause = temp.catalog.sweeps.cause('old', 'older than 1d');
    const open = temp.intend(store, run, sweep.n, [intent('k', cause, 7)]);
    const id = open.moves[0]?.id;
    const moving = { store: 'a', key: 'k', state: 'moving', size: 7, policy: 'old', sweep: sweep.id, run };
    expect(one(id)).to.include({ ...moving, reason: 'older than 1d', goneAt: null, purgeAfter: null });
    expect(temp.catalog.tombstones.openBatch(run)).to.deep.equal(open);
    temp.now += HOUR;
    temp.settle(store, run, open);
    expect(temp.catalog.tombstones.openBatch(run)).to.equal(undefined);
    expect(one(id)).to.include({ state: 'pending', goneAt: temp.now, purgeAfter: temp.now + WINDOW });
    expect(one(id).tombstonedAt).to.equal(START);
  });

  it('take the revision that was moved in truth', () => {
    const run = temp.beginRun(store);
    const sweep = temp.beginSweep(store, run).n;
    const cause = temp.catalog.sweeps.cause('old', null);
    const open = temp.intend(
      store,
      run,
      sweep,
      ['k', 'l', 'm'].map((key) => intent(key, cause, 7)),
    );
    const [k = '', l = '', m = ''] = open.moves.map(({ id }) => id);
    temp.settle(store, run, open, [
      { id: k, to: 'restored', revision: revision(8) },
      { id: l, to: 'pending', revision: revision(9) },
      { id: m, to: 'abandoned', why: 'gone' },
    ]);
    expect(one(k)).to.deep.include({ state: 'restored', size: 8, revision: revision(8) });
    expect(one(l)).to.deep.include({ state: 'pending', size: 9, revision: revision(9) });
    expect(one(m)).to.include({ state: 'abandoned', goneAt: null, purgeAfter: null, endedAt: temp.now });
  });

  it('are settled once: a batch that is closed changes nothing any more', () => {
    const run = temp.beginRun(store);
    const sweep = temp.beginSweep(store, run).n;
    const open = temp.intend(store, run, sweep, [intent('k', temp.catalog.sweeps.cause('old', null))]);
    const other = temp.beginRun(store);
    expect(() => temp.settle(store, other, open)).to.throw(TombstonedError, 'changed by another process');
    temp.settle(store, run, open);
    expect(() => temp.settle(store, run, open)).to.throw(TombstonedError, 'changed by another process');
    expect(states()).to.deep.equal(['pending']);
    expect(temp.catalog.tombstones.tallies(store)).to.deep.equal([{ state: 'pending', count: 1, bytes: 1 }]);
  });

  it('are taken for a purge only when both their recorded time and today’s window have passed', () => {
    const { ids } = temp.tombstone(store, ['k']);
    const run = temp.beginRun(store, 'purge');
    const take = (now: number, window: number): number =>
      temp.catalog.tombstones.takeForPurge({ store, run, ids, now, window }).length;
    expect(take(START + WINDOW - 1, WINDOW)).to.equal(0);
    expect(take(START + WINDOW - 1, 0), 'a shorter window is for new ones').to.equal(0);
    expect(take(START + WINDOW, 2 * WINDOW), 'a longer one applies at once').to.equal(0);
    expect(take(START + 2 * WINDOW, 2 * WINDOW)).to.equal(1);
  });

  it('are taken by one run, and given back or ended by that run alone', () => {
    const { tombstones } = temp.catalog;
    const { ids } = temp.tombstone(store, ['k', 'l']);
    const [run, other] = [temp.beginRun(store, 'purge'), temp.beginRun(store, 'purge')];
    const now = START + WINDOW;
    const claim = { store, ids, now, window: WINDOW };
    const taken = tombstones.takeForPurge({ ...claim, run });
    const asTaken = tombstones.getAll(taken.map(({ id }) => id));
    expect(asTaken.map(({ state, prior }) => [state, prior])).to.deep.equal([
      ['purging', 'pending'],
      ['purging', 'pending'],
    ]);
    expect(tombstones.takeForPurge({ ...claim, run: other })).to.deep.equal([]);
    expect(tombstones.takeForRestore({ store, ids, run: other })).to.deep.equal([]);
    expect(tombstones.taken(other, 'purging', '', 10)).to.deep.equal([]);
    for (const to of ['purged', 'prior', 'pending'] as const) {
      const ends = taken.map((tombstone) => ({ tombstone, to }));
      const settle = { store, run: other, now, at: now, window: WINDOW, ends };
      const settled = (): void => temp.catalog.transaction(() => tombstones.settlePurges(settle));
      expect(settled, to).to.throw('changed by another process');
    }
    expect(states()).to.deep.equal(['purging', 'purging']);
    const ends = taken.map((tombstone, i) => ({ tombstone, to: i === 0 ? 'purged' : 'prior' }) as const);
    temp.catalog.transaction(() =>
      tombstones.settlePurges({ store, run, now, at: now, window: WINDOW, ends }),
    );
    expect(states()).to.deep.equal(['purged', 'pending']);
  });

  it('change all or none of a batch: one that was changed meanwhile stops the others', () => {
    const { tombstones } = temp.catalog;
    const { ids } = temp.tombstone(store, ['k', 'l']);
    const run = temp.beginRun(store, 'restore');
    const [first, second] = tombstones.takeForRestore({ store, run, ids });
    if (first === undefined || second === undefined) throw new Error('not taken');
    const settle = { store, run, to: 'restored', now: temp.now, window: WINDOW } as const;
    tombstones.settleRestore({ ...settle, tombstone: second });
    const both = (): void =>
      temp.catalog.transaction(() => {
        for (const tombstone of [first, second]) tombstones.settleRestore({ ...settle, tombstone });
      });
    expect(both).to.throw('changed by another process');
    expect(states()).to.deep.equal(['restoring', 'restored']);
  });

  it('remember where a purge or a restore took them from', () => {
    const { tombstones } = temp.catalog;
    const { ids } = temp.tombstone(store, ['k']);
    const run = temp.beginRun(store, 'restore');
    const now = START + 3 * WINDOW;
    const [tombstone] = tombstones.takeForRestore({ store, run, ids });
    if (tombstone === undefined) throw new Error('not taken');
    tombstones.noteRestores([{ id: tombstone.id, target: 'elsewhere', exemption: 'h-1.json' }]);
    expect(tombstones.restoreOf(tombstone.id)).to.deep.equal({ target: 'elsewhere', exemption: 'h-1.json' });
    tombstones.settleRestore({ store, run, tombstone, to: 'restored', now: now - WINDOW, window: WINDOW });
    expect(tombstones.restoreOf(tombstone.id)).to.equal(undefined);
    const [taken] = tombstones.takeForPurge({ store, run, ids, now, window: WINDOW });
    if (taken === undefined) throw new Error('not taken');
    expect(taken.prior).to.equal('restored');
    const settle = { store, run, now, at: now, window: WINDOW };
    tombstones.settlePurges({ ...settle, ends: [{ tombstone: taken, to: 'prior' }] });
    expect(one(ids[0])).to.include({ state: 'restored', prior: null, purgeAfter: now });
    const [again] = tombstones.takeForPurge({ store, run, ids, now, window: WINDOW });
    if (again === undefined) throw new Error('not taken');
    tombstones.settlePurges({ ...settle, ends: [{ tombstone: again, to: 'pending' }] });
    expect(one(ids[0])).to.include({ state: 'pending', goneAt: now, purgeAfter: now + WINDOW });
  });

  it('are not due before the lock ends that a purge has found, and say until when', () => {
    const { tombstones } = temp.catalog;
    const { ids } = temp.tombstone(store, ['k', 'l']);
    const run = temp.beginRun(store, 'purge');
    const now = START + 3 * WINDOW;
    const taken = tombstones.takeForPurge({ store, run, ids, now, window: WINDOW });
    // One that ends before the window does is no reason to purge earlier.
    const ends = taken.map((tombstone, i) => ({
      tombstone,
      to: 'prior' as const,
      lockedUntil: i === 0 ? now + 1000 : START,
    }));
    tombstones.settlePurges({ store, run, now, at: now, window: WINDOW, ends });
    const [first, second] = taken.map(({ id }) => id);
    expect(one(first)).to.include({ state: 'pending', lockedUntil: now + 1000, purgeAfter: now + 1000 });
    expect(one(second)).to.include({ state: 'pending', lockedUntil: START });
    expect(one(second)?.purgeAfter).to.be.greaterThan(START);
    const due = (at: number): string[] =>
      tombstones.duePage({ store, now: at, window: WINDOW, after: undefined, limit: 9 }).map(({ id }) => id);
    expect(due(now + 999)).to.deep.equal([second]);
    expect(due(now + 1000)).to.have.members([first, second]);
  });

  it('of one key come newest first, though others have names around it', () => {
    const first = temp.tombstone(store, ['k', 'k0', 'k/1']).ids;
    temp.now += DAY;
    const second = temp.tombstone(store, ['k']).ids;
    temp.tombstone(temp.addStore('b').n, ['k']);
    const found = temp.catalog.tombstones.ofKey(store, 'k', 10).map(({ id }) => id);
    expect(found).to.deep.equal([second[0], first[0]]);
    expect(temp.catalog.tombstones.ofKey(store, 'k', 1)).to.have.length(1);
  });

  it('are forgotten when they ended before a time, no more than asked for', () => {
    const { tombstones } = temp.catalog;
    const { ids } = temp.tombstone(store, ['a', 'b', 'c', 'd', 'e']);
    const run = temp.beginRun(store, 'purge');
    const now = START + WINDOW;
    const due = { store, run, ids: ids.slice(0, 4), now, window: WINDOW };
    const ends = tombstones.takeForPurge(due).map((tombstone) => ({ tombstone, to: 'purged' as const }));
    tombstones.settlePurges({ store, run, now, at: now, window: WINDOW, ends });
    expect(tombstones.forget(now, 10)).to.equal(0);
    expect(tombstones.forget(now + 1, 3)).to.equal(3);
    expect(states().toSorted()).to.deep.equal(['pending', 'purged']);
    expect(tombstones.forget(now + 1, 3)).to.equal(1);
    expect(tombstones.forget(now + 1, 3)).to.equal(0);
    expect(states()).to.deep.equal(['pending']);
  });
});
