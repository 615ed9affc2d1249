import { copyFileSync, renameSync } from 'node:fs';
import { expect } from 'chai';
import { recover } from '../../lib/app/recover.ts';
import { newestOfKey } from '../../lib/app/restorable.ts';
import { runLockFile } from '../../lib/catalog/run-lock.ts';
import { BATCH } from '../../lib/sweep/move.ts';
import { dieAt } from '../support/dying.ts';
import { allTombstones, bringBack, sweepOld } from '../support/phases.ts';
import { DAY, TempPlace } from '../support/place.ts';

describe('a sweep whose process died', () => {
  let temp: TempPlace;
  beforeEach(async () => {
    temp = await TempPlace.make();
    temp.write('k', 'first', 3 * DAY);
  });
  afterEach(() => {
    temp.remove();
  });

  it('is the last that moved something, before its recovery and after it', async () => {
    await dieAt(temp, 'move', 'after', sweepOld);
    const place = temp.open({ seed: 11 });
    const [crashed] = place.catalog.sweeps.latest(place.row.n, 1);
    expect(place.catalog.sweeps.lastMoving(place.row.n)).to.deep.equal(crashed);
    await recover(place);
    await sweepOld(place); // it moves nothing
    const last = place.catalog.sweeps.lastMoving(place.row.n);
    expect(last).to.include({ id: crashed?.id, moved: 1, bytes: 5 });
  });

  it('has counted the batches that it recorded', async () => {
    for (let i = 0; i < BATCH; i++) temp.write(`many/${i}`, 'x', 3 * DAY);
    const place = temp.open();
    const { store } = place;
    const move = store.move.bind(store);
    let batches = 0;
    store.move = async (...values) => {
      if (++batches === 2) throw new Error('died');
      return move(...values);
    };
    let died: unknown;
    await sweepOld(place).catch((error: unknown) => {
      died = error;
    });
    expect(String(died)).to.contain('died');
    expect(place.catalog.sweeps.latest(place.row.n, 1)[0]).to.include({ planned: BATCH + 1, moved: BATCH });
  });

  it('has the newest tombstone of a key while it moves: a restore does not take an older one', async () => {
    const place = temp.open();
    await sweepOld(place);
    temp.close(place);
    temp.write('k', 'second', 2 * DAY);
    await dieAt(temp, 'move', 'after', sweepOld);
    const later = temp.open({ seed: 11 });
    const newest = newestOfKey(later.catalog, later.row, 'k');
    expect(newest?.state).to.equal('moving');
    expect(later.catalog.tombstones.ofKey(later.row.n, 'k', 10)).to.have.length(2);
    expect((await bringBack(later, [newest])).map(({ outcome }) => outcome)).to.deep.equal(['blocked']);
    expect(temp.live('k')).to.equal(undefined);
    await recover(later);
    await bringBack(later, [newestOfKey(later.catalog, later.row, 'k')]);
    expect(temp.live('k')).to.equal('second');
  });

  it('is left alone where its lock file is but a copy, which proves nothing', async () => {
    await dieAt(temp, 'move', 'after', sweepOld);
    const place = temp.open({ seed: 11 });
    const [run] = place.catalog.runs.open(place.row.n);
    const file = runLockFile(temp.catalogFile, run?.id ?? '');
    renameSync(file, `${file}.own`);
    copyFileSync(`${file}.own`, file);
    await recover(place);
    expect(allTombstones(place).map(({ state }) => state)).to.deep.equal(['moving']);
    expect(temp.talk.join('\n')).to.contain('is open and has not its lock file');
    renameSync(`${file}.own`, file);
    await recover(place);
    expect(allTombstones(place).map(({ state }) => state)).to.deep.equal(['pending']);
  });
});
