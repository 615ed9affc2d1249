import { rmSync } from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { recover } from '../../lib/app/recover.ts';
import type { Tombstone } from '../../lib/catalog/tombstones.ts';
import { dieAt } from '../support/dying.ts';
import { again, allTombstones, bringBack, pendingFiles, sweepOld, tombstonesOf } from '../support/phases.ts';
import { DAY, TempPlace } from '../support/place.ts';

const FORCE = { force: true };

describe('a restore by force', () => {
  let temp: TempPlace;
  let tombstone: Tombstone | undefined;
  beforeEach(async () => {
    temp = await TempPlace.make();
    temp.write('k', 'old', 3 * DAY);
    const place = temp.open();
    await sweepOld(place);
    tombstone = allTombstones(place)[0];
    temp.close(place);
    temp.write('k', 'newer');
  });
  afterEach(() => {
    temp.remove();
  });

  for (const dryRun of [true, false]) {
    it(`leaves the live object when there is nothing to bring back${dryRun ? ', in a dry run too' : ''}`, async () => {
      for (const name of pendingFiles(temp)) rmSync(path.join(temp.root, 'pending_deletion', name));
      const place = temp.open({ seed: 11 });
      const [outcome] = await bringBack(place, [tombstone], { ...FORCE, dryRun });
      expect(outcome).to.include({ outcome: 'gone', detail: 'its pending copy is not in the store' });
      expect(temp.live('k')).to.equal('newer');
      expect(tombstonesOf(place, 'k')).to.have.length(1);
    });
  }

  it('leaves the live object when another run takes the tombstone first', async () => {
    const place = temp.open({ seed: 11 });
    const { tombstones } = place.catalog;
    const take = tombstones.takeForRestore.bind(tombstones);
    tombstones.takeForRestore = ({ ids, ...of }) => {
      // Another process is at it meanwhile.
      const now = temp.clock.wall + 100 * temp.window;
      tombstones.takeForPurge({ ...of, ids, now, window: temp.window });
      return take({ ...of, ids });
    };
    const [outcome] = await bringBack(place, [tombstone], FORCE);
    expect(outcome?.outcome).to.equal('blocked');
    expect(temp.live('k')).to.equal('newer');
    expect(tombstonesOf(place, 'k')).to.have.length(1);
  });

  it('is finished by recovery when it dies after the way was cleared', async () => {
    await dieAt(temp, 'putBack', 'before', async (place) => bringBack(place, [tombstone], FORCE));
    expect(temp.live('k')).to.equal(undefined);
    const place = temp.open({ seed: 11 });
    await recover(place);
    expect(temp.live('k')).to.equal('old');
    expect(again(place, tombstone)?.state).to.equal('restored');
    expect(tombstonesOf(place, 'k').map(({ state }) => state)).to.deep.equal(['pending', 'restored']);
  });

  it('that dies before anything made way has changed nothing', async () => {
    await dieAt(temp, 'move', 'before', async (place) => bringBack(place, [tombstone], FORCE));
    const place = temp.open({ seed: 11 });
    await recover(place);
    expect(temp.live('k')).to.equal('newer');
    expect(again(place, tombstone)?.state).to.equal('pending');
    expect(place.catalog.runs.open(place.row.n)).to.deep.equal([]);
  });
});
