import { expect } from 'chai';
import { recover } from '../../lib/app/recover.ts';
import type { Place } from '../../lib/run/place.ts';
import { dieAt } from '../support/dying.ts';
import { allTombstones, bringBack, purgeDue, sweepOld } from '../support/phases.ts';
import { age, DAY, TempPlace } from '../support/place.ts';
import { errno, watchedFs } from '../support/watched-fs.ts';

const KEYS = ['a', 'b', 'c'];

describe('a recovery that meets an object which can’t be looked at', () => {
  let temp: TempPlace;
  beforeEach(async () => {
    temp = await TempPlace.make();
    for (const key of KEYS) temp.write(key, `content of ${key}`, 3 * DAY);
  });
  afterEach(() => {
    temp.remove();
  });

  /** A process on whose disk the pending copy of `b` has a bad inode. */
  function onBadDisk(): Place {
    const fs = watchedFs(({ name, values }) => {
      if (name === 'lstat' && /(^|\/)b~[^/]*$/.test(String(values[0]))) throw errno('EIO');
    });
    return temp.open({ fs, seed: 31 });
  }

  function states(place: Place): string[] {
    return allTombstones(place)
      .map(({ key, state }) => `${key} ${state}`)
      .toSorted();
  }

  const openRuns = (place: Place): number => place.catalog.runs.open(place.row.n).length;

  /** What is left now, and what becomes of it when the disk is well again. */
  async function check(left: string[], end: string[]): Promise<void> {
    const bad = onBadDisk();
    await recover(bad);
    expect(states(bad)).to.deep.equal(left);
    expect(openRuns(bad)).to.equal(1);
    expect(temp.talk.join('\n')).to.match(/error: b\b.*EIO/);
    await recover(bad); // and its lock was freed
    expect(states(bad)).to.deep.equal(left);
    temp.write('other/d', 'other', 3 * DAY);
    const { moved } = await sweepOld(bad, { policies: [age({ prefix: 'other/' })] });
    expect(moved).to.equal(1);
    temp.close(bad);
    const well = temp.open({ seed: 32 });
    await recover(well);
    expect(states(well).filter((line) => !line.startsWith('other'))).to.deep.equal(end);
    expect(openRuns(well)).to.equal(0);
  }

  it('says it of so many, and how many more there are, where it is so with all of them', async () => {
    for (let i = 0; i < 30; i++) temp.write(`many/${i}`, 'x', 3 * DAY);
    await dieAt(temp, 'move', 'after', async (dying) => sweepOld(dying, { batchSize: 100 }));
    const fs = watchedFs(({ name, values }) => {
      if (name === 'lstat' && String(values[0]).includes('~')) throw errno('EIO');
    });
    temp.talk.splice(0);
    await recover(temp.open({ fs, seed: 31 }));
    const errors = temp.talk.filter((line) => line.startsWith('error: '));
    expect(errors).to.have.length(21);
    expect(errors.at(-1)).to.equal('error: and 13 more of level error');
  });

  it('settles the other moves, and leaves that one for when it can', async () => {
    await dieAt(temp, 'move', 'after', sweepOld);
    await check(['a pending', 'b moving', 'c pending'], ['a pending', 'b pending', 'c pending']);
  });

  it('counts and tells of each move once, also of one that was left at first', async () => {
    await dieAt(temp, 'move', 'after', sweepOld);
    const bad = onBadDisk();
    await recover(bad);
    temp.close(bad);
    const well = temp.open({ seed: 32 });
    await recover(well);
    const [crashed] = well.catalog.sweeps.latest(well.row.n, 1);
    expect(crashed).to.include({ moved: 3, abandoned: 0, failed: 0 });
    for (const tombstone of allTombstones(well)) {
      const lines = well.catalog.events.of(tombstone).map(({ what }) => what);
      expect(lines, tombstone.key).to.deep.equal(['moved']);
    }
    expect(well.catalog.tombstones.tallies(well.row.n)).to.have.length(1);
  });

  it('settles the other purges', async () => {
    const place = temp.open();
    await sweepOld(place);
    temp.close(place);
    temp.clock.advance(temp.window + DAY);
    await dieAt(temp, 'remove', 'after', purgeDue);
    await check(['a purged', 'b purging', 'c purged'], ['a purged', 'b purged', 'c purged']);
  });

  it('asks about no other purge when a store that is not there takes long to say so', async () => {
    const place = temp.open();
    await sweepOld(place);
    temp.close(place);
    temp.clock.advance(temp.window + DAY);
    await dieAt(temp, 'remove', 'after', purgeDue);
    const far = temp.open({ seed: 34 });
    const look = far.store.headPending.bind(far.store);
    let asked = 0;
    far.store.headPending = async () => {
      asked += 1;
      temp.clock.advance(30_000); // so long was it tried again
      throw new Error('the store does not answer');
    };
    await recover(far);
    expect(states(far)).to.deep.equal(['a purging', 'b purging', 'c purging']);
    expect(asked).to.equal(2);
    for (const key of KEYS)
      expect(temp.talk.join('\n')).to.match(RegExp(`error: ${key}: the store does not`));
    far.store.headPending = look;
    await recover(far);
    expect(states(far)).to.deep.equal(['a purged', 'b purged', 'c purged']);
  });

  it('finishes the other restores', async () => {
    const place = temp.open();
    await sweepOld(place);
    temp.close(place);
    await dieAt(temp, 'putBack', 'before', async (dying) => bringBack(dying, allTombstones(dying)));
    const bad = onBadDisk();
    await recover(bad);
    for (const key of ['a', 'c']) expect(temp.live(key)).to.equal(`content of ${key}`);
    expect(states(bad)).to.include.members(['a restored', 'c restored']);
    temp.close(bad);
    const well = temp.open({ seed: 32 });
    await recover(well);
    expect(states(well).filter((line) => line.endsWith('ing') && !line.endsWith('pending'))).to.deep.equal(
      [],
    );
    expect(openRuns(well)).to.equal(0);
  });

  it('goes on to other runs past one that can’t be finished, which stays open', async () => {
    await dieAt(temp, 'move', 'after', sweepOld);
    temp.write('later', 'later', 3 * DAY);
    const policies = [age({ prefix: 'later' })];
    await dieAt(temp, 'move', 'after', async (dying) => sweepOld(dying, { policies }), 10);
    const place = temp.open({ seed: 33 });
    const { tombstones } = place.catalog;
    const settle = tombstones.settleRows.bind(tombstones);
    tombstones.settleRows = (batch) => {
      if (batch.open.rows.length === KEYS.length) throw new Error('damaged');
      settle(batch);
    };
    await recover(place);
    expect(states(place)).to.deep.equal(['a moving', 'b moving', 'c moving', 'later pending']);
    expect(temp.talk.join('\n')).to.match(/warn: run r-\S+ can't be recovered now: damaged/);
    tombstones.settleRows = settle;
    await recover(place);
    expect(openRuns(place)).to.equal(0);
  });
});

describe('a recovery of a sweep', () => {
  let temp: TempPlace;
  beforeEach(async () => {
    temp = await TempPlace.make();
    temp.write('k', 'content', 3 * DAY);
  });
  afterEach(() => {
    temp.remove();
  });

  it('moves nothing more: what was live stays so, and the next sweep plans it again', async () => {
    await dieAt(temp, 'move', 'before', sweepOld);
    const place = temp.open({ seed: 11 });
    await recover(place);
    expect(temp.live('k')).to.equal('content');
    const [abandoned] = allTombstones(place);
    if (abandoned === undefined) throw new Error('no tombstone');
    expect(abandoned.state).to.equal('abandoned');
    const told = place.catalog.events.of(abandoned).map(({ what, detail }) => [what, detail]);
    expect(told).to.deep.equal([['abandoned', 'it had not been moved']]);
    expect(place.catalog.sweeps.latest(place.row.n, 1)[0]).to.include({ moved: 0, abandoned: 1 });
    expect((await sweepOld(place)).moved).to.equal(1);
  });
});
