import {
  chmodSync,
  chownSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect } from 'chai';
import { asUser, type Came, type Deed, mayActAsOthers } from '../support/as-user.ts';
import { filesBelow, sweepOld } from '../support/phases.ts';
import { DAY, START, TempPlace } from '../support/place.ts';

const USER = 12_345;
const GROUP = 12_346;
const OLD = (START - 3 * DAY) / 1000;

describe('an unprivileged user’s sweep (needs root, to become one, and sources that others may read)', () => {
  let directory: string;
  before(function () {
    if (!mayActAsOthers()) this.skip();
  });
  beforeEach(() => {
    directory = mkdtempSync(path.join(tmpdir(), 'tombstoned-'));
    chownSync(directory, USER, GROUP);
    dir('', USER, 0o755);
  });
  afterEach(() => {
    rmSync(directory, { recursive: true });
  });

  function inRoot(name: string): string {
    return path.join(directory, 'store', name);
  }

  function dir(name: string, uid: number, mode: number, gid = GROUP): void {
    mkdirSync(inRoot(name), { recursive: true });
    chownSync(inRoot(name), uid, gid);
    chmodSync(inRoot(name), mode);
  }

  function file(name: string, uid: number, mode: number): void {
    writeFileSync(inRoot(name), `content of ${name}`);
    utimesSync(inRoot(name), OLD, OLD);
    chownSync(inRoot(name), uid, uid === USER ? GROUP : 0);
    chmodSync(inRoot(name), mode);
  }

  function did(...deeds: Deed[]): Came[] {
    return asUser(USER, GROUP, directory, deeds);
  }

  const isProtected = readFileSync('/proc/sys/fs/protected_hardlinks', 'utf8').trim() === '1';

  it('tells at planning which files could not be linked back or moved, and moves the rest', function () {
    this.timeout(20_000);
    dir('own', USER, 0o755);
    file('own/mine', USER, 0o600);
    file('own/writable', 0, 0o666);
    file('own/readable', 0, 0o644);
    file('own/closed', 0, 0o600);
    file('own/setuid', 0, 0o4777);
    file('own/setgid', 0, 0o2777);
    dir('sticky', 0, 0o1777);
    file('sticky/mine', USER, 0o600);
    file('sticky/theirs', 0, 0o666);
    dir('my-sticky', USER, 0o1777);
    file('my-sticky/theirs', 0, 0o666);
    dir('read-only', 0, 0o755);
    file('read-only/mine', USER, 0o600);
    dir('group', 0, 0o770);
    file('group/mine', USER, 0o640);
    const [swept, mine, restored] = did(
      { do: 'sweep', prefix: '' },
      { do: 'read', key: 'own/mine' },
      { do: 'restore' },
    );
    const foreign = "it is another owner's file, and protected_hardlinks would not let it be linked back";
    const unlinkable = ['own/readable', 'own/closed', 'own/setuid', 'own/setgid'];
    expect(swept?.refused).to.have.members([
      ...(isProtected ? unlinkable.map((key) => `${key}: ${foreign}`) : []),
      "sticky/theirs: it is another owner's file in a sticky directory",
      "read-only/mine: its directory can't be written by this user",
    ]);
    const moved = ['own/mine', 'own/writable', 'sticky/mine', 'my-sticky/theirs', 'group/mine'];
    expect([swept?.moved, swept?.failed]).to.deep.equal([moved.length + (isProtected ? 0 : 4), 0]);
    expect(mine?.content).to.equal('content of own/mine');
    expect(restored?.restored).to.include.members(moved.map((key) => `${key} restored`));
    for (const key of moved) expect(readFileSync(inRoot(key), 'utf8')).to.equal(`content of ${key}`);
  });

  it('can not begin in a store of a group it is not of, and is told what would help', function () {
    this.timeout(20_000);
    dir('', USER, 0o755, 0);
    const [swept] = did({ do: 'sweep', prefix: '' });
    expect(swept?.error?.message).to.match(
      /store is of group 0, and this user can't make a directory of that/,
    );
    expect(readdirSync(inRoot('')), 'nothing that a later try would take as it is').to.deep.equal([]);
  });

  it('that meets a directory it may not read is an error that names it; so is a read there', function () {
    this.timeout(20_000);
    dir('own', USER, 0o755);
    file('own/mine', USER, 0o600);
    file('own/theirs', 0, 0o600);
    expect(did({ do: 'sweep', prefix: 'none/' })[0]?.moved).to.equal(0);
    dir('closed', 0, 0o700);
    file('closed/x', 0, 0o644);
    dir('listed', 0, 0o744);
    file('listed/x', 0, 0o644);
    const [all, own, listed, ...reads] = did(
      { do: 'sweep', prefix: '' },
      { do: 'sweep', prefix: 'own/' },
      { do: 'sweep', prefix: 'listed/' },
      ...['closed/x', 'closed/none', 'listed/x', 'own/theirs'].map((key) => ({ do: 'read', key }) as const),
    );
    expect(all?.error?.message).to.match(
      /store\/(closed|listed)\/ can't be listed: EACCES: permission denied/,
    );
    expect([own?.moved, own?.failed]).to.deep.equal([1, 0]);
    expect(listed?.error?.message).to.match(/store\/listed\/ can't be listed: EACCES: permission denied/);
    for (const { error } of reads) {
      expect(error?.code, 'never as missing').to.equal('failed');
      expect(error?.message).to.include('EACCES');
      expect(error?.message).not.to.include('/proc/');
    }
  });

  it('that moved another owner’s file by a race gives it a tombstone of its own: it could not go back', function () {
    this.timeout(20_000);
    if (!isProtected) this.skip();
    dir('own', USER, 0o755);
    file('own/mine', USER, 0o600);
    dir('aside', USER, 0o755);
    file('aside/theirs', 0, 0o644);
    const [swept, read] = did(
      { do: 'raced sweep', prefix: 'own/', from: 'aside/theirs', to: 'own/mine' },
      { do: 'read', key: 'own/mine' },
    );
    const content = 'content of aside/theirs';
    expect(swept?.tombstones).to.deep.equal([`own/mine pending ${content.length}`]);
    expect(read?.content).to.equal(content);
  });

  it('makes pending directories with the mode and group of the live ones, or does not move', function () {
    this.timeout(20_000);
    dir('a', USER, 0o2750);
    dir('a/b', USER, 0o711);
    file('a/b/x', USER, 0o600);
    dir('foreign-group', USER, 0o750, 0);
    file('foreign-group/x', USER, 0o600);
    const [swept] = did({ do: 'sweep', prefix: '' });
    expect([swept?.moved, swept?.failed]).to.deep.equal([1, 1]);
    expect(swept?.refused).to.have.length(1);
    expect(swept?.refused?.[0]).to.match(/^foreign-group\/x: .*can't be given the group 0: EPERM/);
    for (const name of ['a', 'a/b']) {
      const { mode, gid, uid } = statSync(inRoot(name));
      const pending = statSync(inRoot(`pending_deletion/${name}`));
      expect([pending.mode, pending.gid, pending.uid], name).to.deep.equal([mode, gid, uid]);
    }
    expect(filesBelow(inRoot('foreign-group'))).to.deep.equal(['x']);
  });

  it('into pending directories that it may not write tells so at planning, and moves the rest', function () {
    this.timeout(20_000);
    for (const name of ['a', 'a/b', 'c']) dir(name, USER, 0o755);
    for (const name of ['a/x', 'a/b/x', 'c/x']) file(name, USER, 0o600);
    dir('pending_deletion', USER, 0o755);
    dir('pending_deletion/a', 0, 0o755);
    const [swept] = did({ do: 'sweep', prefix: '' });
    expect([swept?.moved, swept?.failed]).to.deep.equal([1, 0]);
    const why = "its pending directory can't be written by this user";
    expect(swept?.refused).to.have.members([`a/x: ${why}`, `a/b/x: ${why}`]);
    chownSync(inRoot('pending_deletion'), 0, 0);
    file('c/y', USER, 0o600);
    file('top', USER, 0o600);
    const [again] = did({ do: 'sweep', prefix: '' });
    expect(again?.refused).to.include.members([`top: ${why}`]);
    expect([again?.moved, again?.failed]).to.deep.equal([1, 0]);
  });
});

describe('pending directories', () => {
  let temp: TempPlace;
  beforeEach(async () => {
    temp = await TempPlace.make();
  });
  afterEach(() => {
    temp.remove();
  });

  it('take mode and group of the live ones, and of root the owner too', async () => {
    temp.write('a/b/x', 'old', 3 * DAY);
    chmodSync(path.join(temp.root, 'a'), 0o700);
    chmodSync(path.join(temp.root, 'a/b'), 0o2751);
    if (process.geteuid?.() === 0) chownSync(path.join(temp.root, 'a'), USER, GROUP);
    await sweepOld(temp.open());
    for (const name of ['', 'a', 'a/b']) {
      const { mode, gid, uid } = statSync(path.join(temp.root, name));
      const pending = statSync(path.join(temp.root, 'pending_deletion', name));
      expect([pending.mode, pending.gid, pending.uid], name).to.deep.equal([mode, gid, uid]);
    }
  });
});
