import { execFileSync } from 'node:child_process';
import {
  linkSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import path from 'node:path';
import { expect } from 'chai';
import { TombstonedError } from '../../lib/domain/errors.ts';
import { parseKey } from '../../lib/domain/key.ts';
import { Reader } from '../../lib/reader/reader.ts';
import type { Place } from '../../lib/run/place.ts';
import type { Refusal } from '../../lib/sweep/plan.ts';
import type { SweepResult } from '../../lib/sweep/sweep.ts';
import {
  allTombstones,
  FAST,
  filesBelow,
  pendingFiles,
  purgeDue,
  readThrough,
  sweepOld,
} from '../support/phases.ts';
import { DAY, TempPlace } from '../support/place.ts';
import { watchedFs } from '../support/watched-fs.ts';

describe('what is no regular file', () => {
  let temp: TempPlace;
  let place: Place;
  let outside: string;
  beforeEach(async () => {
    temp = await TempPlace.make(FAST);
    place = temp.open();
    outside = path.join(temp.directory, 'outside');
    mkdirSync(outside);
    writeOld(path.join(outside, 'x'));
  });
  afterEach(() => {
    expect(filesBelow(outside), 'outside').to.deep.equal(['x']);
    expect(readFileSync(path.join(outside, 'x'), 'utf8')).to.equal('outside');
    temp.remove();
  });

  function writeOld(file: string): void {
    writeFileSync(file, 'outside');
    const at = (temp.clock.wall - 3 * DAY) / 1000;
    utimesSync(file, at, at);
  }

  function inRoot(name: string): string {
    return path.join(temp.root, name);
  }

  /** Sweeps, beside a file that goes; gives what was refused. */
  async function refusals(): Promise<Refusal[]> {
    temp.write('fine', 'fine', 3 * DAY);
    const refused: Refusal[] = [];
    const { moved, failed } = await sweepOld(place, { onRefusal: (refusal) => refused.push(refusal) });
    expect([moved, failed]).to.deep.equal([1, 0]);
    return refused;
  }

  const LINKS: [what: string, target: () => string][] = [
    ['a link to a file outside', () => path.join(outside, 'x')],
    ['a link to a file of the store', () => inRoot('other')],
    ['a link to a directory outside', () => outside],
    ['a link to nothing', () => '/nowhere/at/all'],
    ['a link to itself', () => inRoot('dir/it')],
  ];
  for (const [what, target] of LINKS) {
    it(`is refused and never followed: ${what}`, async () => {
      temp.write('other', 'other');
      mkdirSync(inRoot('dir'));
      symlinkSync(target(), inRoot('dir/it'));
      const refused = await refusals();
      expect(refused).to.deep.equal([{ key: 'dir/it', why: 'it is a symbolic link, not a regular file' }]);
      expect(lstatSync(inRoot('dir/it')).isSymbolicLink()).to.equal(true);
      for (const key of ['dir/it', 'dir/it/x']) {
        const error = await readThrough(place, key).catch((e: unknown) => e);
        expect(error).to.be.instanceOf(TombstonedError);
        expect((error as TombstonedError).code, 'never as missing').to.equal('failed');
        expect((error as TombstonedError).message).to.include('symbolic link');
      }
    });
  }

  it('is refused and not waited for: a FIFO', async () => {
    execFileSync('mkfifo', [inRoot('it')]);
    expect(await refusals()).to.deep.equal([{ key: 'it', why: 'it is a FIFO, not a regular file' }]);
    const error = await readThrough(place, 'it').catch((e: unknown) => e);
    expect((error as TombstonedError).code).to.equal('failed');
  });

  it('is refused: a socket', async () => {
    const server = createServer();
    await new Promise<void>((resolve) => {
      server.listen(inRoot('it'), resolve);
    });
    try {
      expect(await refusals()).to.deep.equal([{ key: 'it', why: 'it is a socket, not a regular file' }]);
      const error = await readThrough(place, 'it').catch((e: unknown) => e);
      expect((error as TombstonedError).code).to.equal('failed');
    } finally {
      server.close();
    }
  });

  it('is refused: a device (needs root)', async function () {
    if (process.geteuid?.() !== 0) this.skip();
    execFileSync('mknod', [inRoot('it'), 'c', '1', '3']);
    expect(await refusals()).to.deep.equal([{ key: 'it', why: 'it is a device, not a regular file' }]);
    const error = await readThrough(place, 'it').catch((e: unknown) => e);
    expect((error as TombstonedError).code).to.equal('failed');
  });

  it('is not an object where a prefix leads through it: that listing is an error', async () => {
    symlinkSync(outside, inRoot('way'));
    for (const prefix of ['way/', 'way/x', 'way/below/']) {
      const error = await new Reader(place.store)
        .liveKeys(prefix)
        .next()
        .catch((e: unknown) => e);
      expect(error, prefix).to.be.instanceOf(TombstonedError);
      expect((error as TombstonedError).message)
        .to.include('way')
        .and.to.include('symbolic link');
    }
  });

  it('is nothing to fear in another name of a file: each name is an object', async () => {
    temp.write('a', 'shared', 3 * DAY);
    linkSync(inRoot('a'), inRoot('b'));
    await sweepOld(place);
    expect(pendingFiles(temp)).to.have.length(2);
    temp.clock.advance(temp.window + DAY);
    expect((await purgeDue(place)).purged).to.equal(2);
  });

  describe('in a directory’s place', () => {
    /** A sweep; just before the nth call of this name on such a path, the directory `way` becomes a link. */
    async function swapAt(name: string, end: string, nth: number, refused: Refusal[]): Promise<SweepResult> {
      temp.write('way/x', 'inside', 3 * DAY);
      temp.write('zz', 'after it', 3 * DAY);
      let count = 0;
      const fs = watchedFs((call) => {
        if (
          call.name !== name ||
          !call.values.some((value) => String(value).endsWith(end)) ||
          ++count !== nth
        )
          return;
        renameSync(inRoot('way'), path.join(temp.directory, 'moved-away'));
        symlinkSync(outside, inRoot('way'));
      });
      const swept = temp.open({ fs, seed: 5 });
      const result = await sweepOld(swept, { onRefusal: (refusal) => refused.push(refusal) });
      expect(count, 'the swap took place').to.be.greaterThanOrEqual(nth);
      return result;
    }

    it('between planning and moving: told for its key, and the rest goes on', async () => {
      const refused: Refusal[] = [];
      const { moved, failed } = await swapAt('open', '/way', 2, refused);
      expect([moved, failed]).to.deep.equal([1, 1]);
      expect(refused.map(({ key }) => key)).to.deep.equal(['way/x']);
      expect(refused[0]?.why).to.include('symbolic link');
      expect(allTombstones(place).map(({ key, state }) => [key, state])).to.deep.equal([['zz', 'pending']]);
    });

    for (const [name, end, nth] of [
      ['lstat', '/x', 2],
      ['rename', '/way', 1], // the pending directory that was made gets its name
      ['rename', '/x', 1],
    ] as const) {
      it(`just before the mover’s ${name} of ${end}: it moves what was meant, never what the link leads to`, async () => {
        const { moved } = await swapAt(name, end, nth, []);
        expect(moved).to.equal(2);
        expect(filesBelow(path.join(temp.directory, 'moved-away'))).to.deep.equal([]);
        const contents = pendingFiles(temp).map((file) => temp.live(`pending_deletion/${file}`));
        expect(contents).to.have.members(['inside', 'after it']);
      });
    }

    it('does not keep purges of others from going on', async () => {
      temp.write('way/x', 'inside', 3 * DAY);
      temp.write('fine', 'fine', 3 * DAY);
      expect((await sweepOld(place)).moved).to.equal(2);
      rmSync(inRoot('way'), { recursive: true });
      symlinkSync(outside, inRoot('way'));
      temp.clock.advance(temp.window + DAY);
      expect((await purgeDue(place)).purged).to.equal(2);
      expect(pendingFiles(temp)).to.deep.equal([]);
    });
  });

  describe('where the store’s own directories should be', () => {
    it('is refused: a link, or a file, as the pending directory', async () => {
      await refusals();
      renameSync(inRoot('pending_deletion'), inRoot('elsewhere'));
      symlinkSync(inRoot('elsewhere'), inRoot('pending_deletion'));
      expect(() => temp.open({ seed: 5 })).to.throw(TombstonedError, /pending_deletion.* is a symbolic link/);
      const error = await readThrough(place, 'fine').catch((e: unknown) => e);
      expect((error as TombstonedError).code, 'never as missing').to.equal('failed');
      rmSync(inRoot('pending_deletion'));
      writeFileSync(inRoot('pending_deletion'), '');
      expect(() => temp.open({ seed: 5 })).to.throw(TombstonedError, /pending_deletion.* is not a directory/);
    });

    it('is refused: a link as the pending directory that comes in the middle of a sweep', async () => {
      temp.write('fine', 'fine', 3 * DAY);
      const fs = watchedFs(({ name, values }) => {
        if (name === 'rename' && String(values[1]).endsWith('/pending_deletion')) {
          symlinkSync(outside, inRoot('pending_deletion'));
        }
      });
      const { moved, failed } = await sweepOld(temp.open({ fs, seed: 5 }));
      expect([moved, failed]).to.deep.equal([0, 1]);
      expect(temp.live('fine')).to.equal('fine');
    });

    it('is refused: a link as `.tombstoned`', async () => {
      temp.write('fine', 'fine', 3 * DAY);
      renameSync(inRoot('.tombstoned'), path.join(temp.directory, 'control'));
      symlinkSync(path.join(temp.directory, 'control'), inRoot('.tombstoned'));
      const error = await sweepOld(place).catch((e: unknown) => e);
      expect(error).to.be.instanceOf(TombstonedError);
      expect((error as TombstonedError).message).to.include('.tombstoned');
      expect(temp.live('fine')).to.equal('fine');
      const read = await new Reader(place.store).open(parseKey('none')).catch((e: unknown) => e);
      expect((read as TombstonedError).code, 'never as missing').to.equal('failed');
    });

    it('is followed in one place: the path of the root itself', async () => {
      temp.write('fine', 'fine', 3 * DAY);
      renameSync(temp.root, path.join(temp.directory, 'real'));
      symlinkSync(path.join(temp.directory, 'real'), temp.root);
      const linked = temp.open({ seed: 5 });
      expect((await sweepOld(linked)).moved).to.equal(1);
      expect(await readThrough(linked, 'fine')).to.equal('fine');
    });
  });
});
