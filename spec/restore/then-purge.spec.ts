import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import type { Tombstone } from '../../lib/catalog/tombstones.ts';
import type { Place } from '../../lib/run/place.ts';
import {
  again,
  bringBack,
  FAST,
  pendingFile,
  pendingFiles,
  purgeDue,
  readThrough,
  replaceLive,
  sweepOld,
  tombstonesOf,
} from '../support/phases.ts';
import { DAY, HOUR, TempPlace } from '../support/place.ts';

const KEY = 'logs/a.meta';

describe('a purge after a restore', () => {
  let temp: TempPlace;
  let place: Place;
  beforeEach(async () => {
    temp = await TempPlace.make(FAST);
    place = temp.open();
  });
  afterEach(() => {
    temp.remove();
  });

  async function tombstoned(key = KEY, content = 'old'): Promise<Tombstone> {
    temp.write(key, content, 3 * DAY);
    await sweepOld(place);
    const [tombstone] = tombstonesOf(place, key);
    if (tombstone === undefined) throw new Error(`${key} has no tombstone`);
    return tombstone;
  }

  it('removes the copy no sooner than a window, and at least an hour, after the restore', async () => {
    for (const window of [0, 3 * DAY]) {
      temp.window = window;
      const process = temp.open({ seed: window + 9 });
      const key = `window/${window}`;
      const tombstone = await tombstoned(key);
      temp.clock.advance(2 * HOUR);
      await bringBack(process, [tombstone]);
      expect(again(place, tombstone)?.purgeAfter).to.equal(temp.clock.wall + Math.max(window, HOUR));
      temp.clock.advance(Math.max(window, HOUR) - 1);
      await purgeDue(process);
      expect(again(place, tombstone)?.state).to.equal('restored');
      temp.clock.advance(1);
      await purgeDue(process);
      expect(again(place, tombstone)?.state).to.equal('purged');
      expect(temp.live(key)).to.equal('old');
    }
  });

  it('leaves a live file that was changed in place, with the name that it shared its bytes with gone', async () => {
    const tombstone = await tombstoned();
    await bringBack(place, [tombstone]);
    writeFileSync(path.join(temp.root, KEY), 'changed in place');
    temp.clock.advance(temp.window + DAY);
    expect((await purgeDue(place)).purged).to.equal(1);
    expect(temp.live(KEY)).to.equal('changed in place');
    expect(pendingFiles(temp)).to.deep.equal([]);
  });

  it('takes the copy back to pending, with a full window, when the live file is gone', async () => {
    const tombstone = await tombstoned();
    await bringBack(place, [tombstone]);
    rmSync(path.join(temp.root, KEY));
    temp.clock.advance(temp.window + DAY);
    expect((await purgeDue(place)).purged).to.equal(0);
    const back = again(place, tombstone);
    expect(back?.state).to.equal('pending');
    expect(back?.purgeAfter).to.equal(temp.clock.wall + temp.window);
    expect(await readThrough(place, KEY)).to.equal('old');
    temp.clock.advance(temp.window - 1);
    expect((await purgeDue(place)).due).to.equal(0);
    temp.clock.advance(1);
    expect((await purgeDue(place)).purged).to.equal(1);
  });

  it('takes it back to pending also when another file has its place', async () => {
    const tombstone = await tombstoned();
    await bringBack(place, [tombstone]);
    replaceLive(temp, KEY, 'another');
    temp.clock.advance(temp.window + DAY);
    await purgeDue(place);
    expect(again(place, tombstone)?.state).to.equal('pending');
    expect(readFileSync(pendingFile(temp, tombstone), 'utf8')).to.equal('old');
    expect(temp.live(KEY)).to.equal('another');
  });

  it('of both generations by force leaves what is live', async () => {
    const tombstone = await tombstoned();
    temp.write(KEY, 'made again');
    await bringBack(place, [tombstone], { force: true });
    temp.clock.advance(temp.window + DAY);
    expect((await purgeDue(place)).purged).to.equal(2);
    expect(temp.live(KEY)).to.equal('old');
  });
});
