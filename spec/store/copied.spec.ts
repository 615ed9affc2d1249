import { execFileSync } from 'node:child_process';
import { lstatSync, mkdtempSync, rmSync, statSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect } from 'chai';
import type { Place } from '../../lib/run/place.ts';
import {
  allTombstones,
  bringBack,
  FAST,
  pendingFiles,
  purgeDue,
  readThrough,
  sweepOld,
  tombstonesOf,
} from '../support/phases.ts';
import { DAY, TempPlace } from '../support/place.ts';

const KEYS = ['a', 'logs/b', 'logs/deep/c', 'restored', 'odd\nname'];

describe('a store that was copied to another disk', () => {
  let temp: TempPlace;
  let disk: string;
  let place: Place;
  beforeEach(async () => {
    temp = await TempPlace.make(tmpdir());
    disk = mkdtempSync(path.join(FAST, 'tombstoned-disk-'));
    for (const key of KEYS) temp.write(key, `content of ${key}`, 3 * DAY);
    const before = temp.open({ seed: 1 });
    await sweepOld(before);
    await bringBack(before, tombstonesOf(before, 'restored'));
    temp.close(before);
    const inode = lstatSync(path.join(temp.root, 'pending_deletion/logs')).ino;
    execFileSync('cp', ['--archive', temp.root, path.join(disk, 'store')]);
    rmSync(temp.root, { recursive: true });
    symlinkSync(path.join(disk, 'store'), temp.root);
    expect(statSync(path.join(temp.root, 'pending_deletion/logs')).ino).not.to.equal(inode);
    place = temp.open({ seed: 2 });
  });
  afterEach(() => {
    temp.remove();
    rmSync(disk, { recursive: true });
  });

  it('is read as before', async () => {
    for (const key of KEYS) expect(await readThrough(place, key)).to.equal(`content of ${key}`);
  });

  it('is restored from as before', async () => {
    const outcomes = await bringBack(place, allTombstones(place));
    expect(outcomes.map(({ key, outcome }) => `${key} ${outcome}`)).to.have.members(
      KEYS.map((key) => `${key} ${key === 'restored' ? 'unchanged' : 'restored'}`),
    );
    for (const key of KEYS) expect(temp.live(key)).to.equal(`content of ${key}`);
  });

  it('is purged as before, and keeps what was restored', async () => {
    temp.clock.advance(temp.window + DAY);
    const { purged, kept } = await purgeDue(place);
    expect([purged, [...kept]]).to.deep.equal([KEYS.length, []]);
    expect(pendingFiles(temp)).to.deep.equal([]);
    expect(temp.live('restored')).to.equal('content of restored');
  });

  it('is swept as before', async () => {
    temp.write('later', 'later', 3 * DAY);
    expect((await sweepOld(place)).moved).to.equal(1);
    expect(await readThrough(place, 'later')).to.equal('later');
  });
});
