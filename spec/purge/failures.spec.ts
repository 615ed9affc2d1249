import { appendFileSync } from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import type { Place } from '../../lib/run/place.ts';
import { tombstoneByHand } from '../../lib/sweep/by-hand.ts';
import { allTombstones, bringBack, keys, pendingFiles, purgeDue, sweepOld } from '../support/phases.ts';
import { DAY, HOUR, NO_LIMITS, TempPlace } from '../support/place.ts';
import { errno, watchedFs } from '../support/watched-fs.ts';

describe('what merely fails', () => {
  let temp: TempPlace;
  beforeEach(async () => {
    temp = await TempPlace.make();
    temp.write('k', 'old', 3 * DAY);
  });
  afterEach(() => {
    temp.remove();
  });

  /** A process whose renames are refused. */
  function refused(): Place {
    return temp.open({
      fs: watchedFs(({ name }) => {
        if (name === 'rename') throw errno('EACCES');
      }),
    });
  }

  it('leaves no record when it is a move: it is told and counted', async () => {
    const place = refused();
    const told: string[] = [];
    for (let i = 0; i < 3; i++) {
      const { failed } = await sweepOld(place, { onRefusal: ({ key }) => told.push(key) });
      expect(failed).to.equal(1);
    }
    expect(told).to.deep.equal(['k', 'k', 'k']);
    expect(allTombstones(place)).to.deep.equal([]);
    expect(place.catalog.tombstones.tallies(place.row.n)).to.deep.equal([]);
    expect(place.catalog.sweeps.latest(place.row.n, 1)[0]).to.include({ failed: 1, moved: 0, abandoned: 0 });
  });

  it('by hand names no tombstone', async () => {
    const outcomes: unknown[] = [];
    await tombstoneByHand(refused(), {
      keys: keys('k'),
      reason: null,
      guards: null,
      limits: NO_LIMITS,
      dryRun: false,
      onOutcome: ({ id, outcome }) => outcomes.push([id, outcome]),
    });
    expect(outcomes).to.deep.equal([[null, 'failed']]);
  });

  it('is written once of a purge, however often it is tried', async () => {
    const place = temp.open();
    await sweepOld(place);
    temp.clock.advance(temp.window + DAY);
    appendFileSync(path.join(temp.root, 'pending_deletion', pendingFiles(temp)[0] ?? ''), 'more');
    const [tombstone] = allTombstones(place);
    if (tombstone === undefined) throw new Error('not swept');
    for (let i = 0; i < 3; i++) {
      expect((await purgeDue(place)).kept.get('changed')).to.equal(1);
    }
    const told = place.catalog.events.of(tombstone).map(({ what }) => what);
    expect(told).to.deep.equal(['moved', 'purge-kept']);
  });
});

describe('what is back', () => {
  let temp: TempPlace;
  let place: Place;
  beforeEach(async () => {
    temp = await TempPlace.make();
    temp.window = 0;
    temp.write('k', 'old', 3 * DAY);
    place = temp.open();
  });
  afterEach(() => {
    temp.remove();
  });

  it('stays an hour at least, also when a move put it back', async () => {
    const { store } = place;
    store.move = async (items) => items.map(({ revision }) => ({ outcome: 'put-back', revision })); // as a writer came between
    await sweepOld(place);
    const [tombstone] = allTombstones(place);
    expect(tombstone?.state).to.equal('restored');
    expect(tombstone?.purgeAfter).to.equal(temp.clock.wall + HOUR);
  });

  it('is due by a window that counts from the restore, also when that grows', async () => {
    await sweepOld(place);
    temp.clock.advance(DAY);
    await bringBack(place, allTombstones(place));
    temp.clock.advance(2 * HOUR);
    const longer = { ...place, safetyWindow: 3 * HOUR };
    expect((await purgeDue(longer)).due).to.equal(0);
    temp.clock.advance(HOUR);
    expect((await purgeDue(longer)).due).to.equal(1);
  });
});
