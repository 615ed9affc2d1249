import {
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import type { Tombstone } from '../../lib/catalog/tombstones.ts';
import { parseKey } from '../../lib/domain/key.ts';
import type { Place } from '../../lib/run/place.ts';
import {
  again,
  allTombstones,
  bringBack,
  FAST,
  filesBelow,
  pendingFile,
  pendingFiles,
  sweepOld,
  tombstonesOf,
} from '../support/phases.ts';
import { age, DAY, HOUR, TempPlace } from '../support/place.ts';
import { watchedFs } from '../support/watched-fs.ts';

const KEY = 'logs/a.meta';

describe('a restore', () => {
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

  /** Everything that a restore could change: files, states, holds. */
  function everything(): unknown {
    return [
      filesBelow(temp.root).map((name) => [name, readFileSync(path.join(temp.root, name), 'utf8')]),
      allTombstones(place).map(({ id, state, purgeAfter }) => [id, state, purgeAfter]),
      place.catalog.holds.names(place.row.n),
    ];
  }

  it('brings back the same bytes, time and mode, and leaves the pending copy', async () => {
    const tombstone = await tombstoned();
    const [outcome] = await bringBack(place, [tombstone]);
    expect(outcome?.outcome).to.equal('restored');
    expect(temp.live(KEY)).to.equal('old');
    expect(lstatSync(path.join(temp.root, KEY)).ino).to.equal(lstatSync(pendingFile(temp, tombstone)).ino);
    expect(again(place, tombstone)?.state).to.equal('restored');
  });

  it('done again says that it is unchanged', async () => {
    const tombstone = await tombstoned();
    await bringBack(place, [tombstone]);
    const before = everything();
    const [outcome] = await bringBack(place, [again(place, tombstone)]);
    expect(outcome?.outcome).to.equal('unchanged');
    expect(everything()).to.deep.equal(before);
  });

  it('of a key that was made again is a conflict, and nothing changes, no exemption either', async () => {
    const tombstone = await tombstoned();
    temp.write(KEY, 'made again');
    const before = everything();
    const [outcome] = await bringBack(place, [tombstone]);
    expect(outcome?.outcome).to.equal('conflict');
    expect(everything()).to.deep.equal(before);
    expect(filesBelow(path.join(temp.root, '.tombstoned/holds'))).to.deep.equal([]);
  });

  it('leaves no exemption when the key is made again just before the link', async () => {
    const tombstone = await tombstoned();
    const fs = watchedFs(({ name, values }) => {
      const isPutBack = name === 'link' && String(values[1]).endsWith('/a.meta');
      if (isPutBack && temp.live(KEY) === undefined) temp.write(KEY, 'made again');
    });
    const other = temp.open({ fs, seed: 3 });
    const [outcome] = await bringBack(other, [tombstone]);
    expect(outcome?.outcome).to.equal('conflict');
    expect(temp.live(KEY)).to.equal('made again');
    expect(again(place, tombstone)?.state).to.equal('pending');
    expect(filesBelow(path.join(temp.root, '.tombstoned/holds'))).to.deep.equal([]);
    expect(place.catalog.holds.names(place.row.n)).to.deep.equal([]);
  });

  it('by force tombstones what is in the way first: both contents survive', async () => {
    const tombstone = await tombstoned();
    temp.write(KEY, 'made again');
    const [outcome] = await bringBack(place, [tombstone], { force: true });
    expect(outcome?.outcome).to.equal('restored');
    expect(temp.live(KEY)).to.equal('old');
    const [newest] = tombstonesOf(place, KEY);
    if (newest === undefined) throw new Error('nothing made way');
    expect(newest.id > tombstone.id).to.equal(true);
    expect(readFileSync(pendingFile(temp, newest), 'utf8')).to.equal('made again');
    expect(newest.state).to.equal('pending');
  });

  it('by force does nothing to something that is no file', async () => {
    const tombstone = await tombstoned();
    symlinkSync('/etc/hostname', path.join(temp.root, KEY));
    const [outcome] = await bringBack(place, [tombstone], { force: true });
    expect(outcome?.outcome).to.equal('failed');
    expect(lstatSync(path.join(temp.root, KEY)).isSymbolicLink()).to.equal(true);
    expect(again(place, tombstone)?.state).to.equal('pending');
  });

  it('of a key where a directory is by now is a conflict, by force too', async () => {
    const tombstone = await tombstoned();
    mkdirSync(path.join(temp.root, KEY));
    for (const force of [false, true]) {
      expect((await bringBack(place, [tombstone], { force }))[0]?.outcome).to.equal('conflict');
    }
    expect(statSync(path.join(temp.root, KEY)).isDirectory()).to.equal(true);
    expect(again(place, tombstone)?.state).to.equal('pending');
  });

  it('makes live directories again, with the mode of the pending ones', async () => {
    temp.write('logs/deep/a', 'old', 3 * DAY);
    const mode = 0o40710;
    const live = path.join(temp.root, 'logs/deep');
    rmSync(live, { recursive: true });
    mkdirSync(live, { mode: 0o710 });
    const tombstone = await tombstoned('logs/deep/a');
    rmSync(path.join(temp.root, 'logs'), { recursive: true });
    const [outcome] = await bringBack(place, [tombstone]);
    expect(outcome?.outcome).to.equal('restored');
    expect(statSync(live).mode).to.equal(mode);
  });

  it('goes on past a key that it can’t bring back', async () => {
    temp.write('way/a', 'behind a link', 3 * DAY);
    const open = await tombstoned();
    const [blocked] = tombstonesOf(place, 'way/a');
    rmSync(path.join(temp.root, 'way'), { recursive: true });
    mkdirSync(path.join(temp.directory, 'outside'));
    symlinkSync(path.join(temp.directory, 'outside'), path.join(temp.root, 'way'));
    const outcomes = await bringBack(place, [blocked, open]);
    expect(outcomes.map(({ key, outcome }) => [key, outcome])).to.have.deep.members([
      ['way/a', 'failed'],
      [KEY, 'restored'],
    ]);
    expect(filesBelow(path.join(temp.directory, 'outside'))).to.deep.equal([]);
    expect(again(place, blocked)?.state).to.equal('pending');
  });

  it('goes on past a key whose directory becomes a link just before it is brought back', async () => {
    temp.write('way/a', 'behind a link', 3 * DAY);
    const open = await tombstoned();
    const [blocked] = tombstonesOf(place, 'way/a');
    mkdirSync(path.join(temp.directory, 'outside'));
    const fs = watchedFs(({ name, values }) => {
      if (name !== 'link' || !String(values[1]).includes('.json')) return;
      rmSync(path.join(temp.root, 'way'), { recursive: true });
      symlinkSync(path.join(temp.directory, 'outside'), path.join(temp.root, 'way'));
    });
    const outcomes = await bringBack(temp.open({ fs, seed: 3 }), [blocked, open]);
    expect(outcomes.map(({ key, outcome }) => [key, outcome])).to.have.deep.members([
      ['way/a', 'failed'],
      [KEY, 'restored'],
    ]);
    expect(filesBelow(path.join(temp.directory, 'outside'))).to.deep.equal([]);
    expect(place.catalog.runs.open(place.row.n)).to.deep.equal([]);
  });

  describe('to another key', () => {
    const TO = parseKey('elsewhere/deep/b.meta');

    it('makes bytes of its own, and the tombstone stays pending', async () => {
      const tombstone = await tombstoned();
      const before = again(place, tombstone);
      const [outcome] = await bringBack(place, [tombstone], { to: TO });
      expect(outcome?.outcome).to.equal('restored');
      expect(again(place, tombstone)).to.deep.equal({ ...before, run: again(place, tombstone)?.run });
      writeFileSync(path.join(temp.root, TO), 'changed in place');
      expect(readFileSync(pendingFile(temp, tombstone), 'utf8')).to.equal('old');
      expect(temp.live(KEY)).to.equal(undefined);
      expect(filesBelow(path.join(temp.root, '.tombstoned/tmp'))).to.deep.equal([]);
    });

    it('also when a crash had left its temporary copy, which may be a live file’s bytes', async () => {
      const tombstone = await tombstoned();
      await bringBack(place, [tombstone], { to: parseKey('first') });
      mkdirSync(path.join(temp.root, `.tombstoned/tmp/copy-${tombstone.id}`), { mode: 0o700 });
      const left = path.join(temp.root, `.tombstoned/tmp/copy-${tombstone.id}/copy`);
      const live = path.join(temp.root, 'first');
      writeFileSync(live, 'changed since');
      linkSync(live, left);
      const [outcome] = await bringBack(place, [tombstone], { to: TO });
      expect(outcome?.outcome).to.equal('restored');
      expect(temp.live('first')).to.equal('changed since');
      expect(temp.live(TO)).to.equal('old');
    });

    it('is a conflict where another object is, and never goes below the pending directory', async () => {
      const tombstone = await tombstoned();
      temp.write(TO, 'another');
      expect((await bringBack(place, [tombstone], { to: TO }))[0]?.outcome).to.equal('conflict');
      expect(temp.live(TO)).to.equal('another');
      const below = parseKey('pending_deletion/b.meta');
      expect((await bringBack(place, [tombstone], { to: below }))[0]?.outcome).to.equal('failed');
      expect(pendingFiles(temp)).to.have.length(1);
      expect(filesBelow(path.join(temp.root, '.tombstoned/holds'))).to.deep.equal([]);
    });
  });

  describe('sets an exemption', () => {
    it('that sweeps respect until it ends', async () => {
      const tombstone = await tombstoned();
      await bringBack(place, [tombstone], { exemptFor: 2 * DAY });
      const kept = await sweepOld(place);
      expect([kept.moved, kept.kept.get('exempt')]).to.deep.equal([0, 1]);
      temp.clock.advance(2 * DAY + 1);
      expect((await sweepOld(place)).moved).to.equal(1);
    });

    it('on the key it went to, for another process too', async () => {
      const tombstone = await tombstoned();
      const to = parseKey('copy.meta');
      await bringBack(place, [tombstone], { to });
      temp.clock.advance(HOUR);
      const other = temp.open({ seed: 3 });
      const result = await sweepOld(other, { policies: [age()] });
      expect([result.moved, result.kept.get('exempt')]).to.deep.equal([0, 1]);
      expect(temp.live(to)).to.equal('old');
    });

    it('or none where it is told so', async () => {
      const tombstone = await tombstoned();
      await bringBack(place, [tombstone], { exemptFor: 0 });
      expect(readdirSync(path.join(temp.root, '.tombstoned/holds'))).to.deep.equal([]);
      expect((await sweepOld(place)).moved).to.equal(1);
    });
  });
});
