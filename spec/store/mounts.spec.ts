import { cpSync, mkdirSync, readdirSync, rmSync } from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { recover } from '../../lib/app/recover.ts';
import { TombstonedError } from '../../lib/domain/errors.ts';
import { parseKey } from '../../lib/domain/key.ts';
import { Reader } from '../../lib/reader/reader.ts';
import type { Place } from '../../lib/run/place.ts';
import type { LocalFs } from '../../lib/store/local/local-fs.ts';
import { Mounts, mayMount } from '../support/mounts.ts';
import {
  allTombstones,
  bringBack,
  pendingFiles,
  purgeDue,
  readThrough,
  sweepOld,
} from '../support/phases.ts';
import { age, DAY, TempPlace } from '../support/place.ts';
import { watchedFs } from '../support/watched-fs.ts';

describe('mounts and a local store (needs the right to mount)', () => {
  let temp: TempPlace;
  let mounts: Mounts;
  before(function () {
    if (!mayMount()) this.skip();
  });
  beforeEach(async () => {
    mounts = new Mounts();
    temp = await TempPlace.make();
  });
  afterEach(() => {
    mounts.remove();
    temp.remove();
  });

  function inRoot(name: string): string {
    return path.join(temp.root, name);
  }

  async function failure(work: () => Promise<unknown>): Promise<TombstonedError> {
    const error = await work().catch((e: unknown) => e);
    if (!(error instanceof TombstonedError)) throw new Error(`no clear error: ${String(error)}`);
    return error;
  }

  describe('below the root', () => {
    it('are another file system: a listing that comes there is an error that names it', async () => {
      temp.write('logs/a', 'old', 3 * DAY);
      mounts.tmpfs(inRoot('mnt'));
      temp.write('mnt/b', 'old', 3 * DAY);
      const place = temp.open();
      const error = await failure(async () => sweepOld(place));
      expect(error.message).to.match(/store\/mnt\/ is on another file system than the store's root/);
      expect(allTombstones(place)).to.deep.equal([]);
      expect((await sweepOld(place, { policies: [age({ prefix: 'logs/' })] })).moved).to.equal(1);
    });

    it('that come between planning and moving stop the sweep, and nothing is marked as gone', async () => {
      temp.write('a/x', 'old', 3 * DAY);
      temp.write('b/x', 'old', 3 * DAY);
      const fs = watchedFs(({ name }) => {
        if (name === 'rename' && readdirSync(inRoot('b')).length === 1) mounts.tmpfs(inRoot('b'));
      });
      const error = await failure(async () => sweepOld(temp.open({ fs })));
      expect(error.message).to.include('/b is on another file system');
      const place = temp.open({ seed: 3 });
      await recover(place);
      expect(allTombstones(place).map(({ key, state }) => [key, state])).to.deep.equal([
        ['a/x', 'pending'],
        ['b/x', 'abandoned'],
      ]);
      mounts.unmount(inRoot('b'));
      expect(temp.live('b/x')).to.equal('old');
    });

    it('as the pending directory are refused at the start', () => {
      mounts.tmpfs(inRoot('pending_deletion'));
      expect(() => temp.open()).to.throw(TombstonedError, /pending_deletion is on another file system/);
    });

    it('as the pending directory are refused at the start also where they are of the same file system', () => {
      mkdirSync(path.join(temp.directory, 'same-disk'));
      mounts.bind(path.join(temp.directory, 'same-disk'), inRoot('pending_deletion'));
      expect(() => temp.open()).to.throw(TombstonedError, /pending_deletion is a mount of its own/);
    });

    it('of the same file system are told for each key, and the rest goes on', async () => {
      temp.write('a', 'old', 3 * DAY);
      mkdirSync(path.join(temp.directory, 'same-disk'));
      mounts.bind(path.join(temp.directory, 'same-disk'), inRoot('mnt'));
      temp.write('mnt/b', 'old', 3 * DAY);
      const refused: string[] = [];
      const { moved, failed } = await sweepOld(temp.open(), {
        onRefusal: ({ key, why }) => refused.push(`${key}: ${why}`),
      });
      expect([moved, failed]).to.deep.equal([1, 1]);
      expect(refused).to.have.length(1);
      expect(refused[0]).to.match(/^mnt\/b: .*EXDEV/);
      expect(temp.live('mnt/b')).to.equal('old');
    });
  });

  describe('under the root', () => {
    let disk: string;
    beforeEach(() => {
      // The store moves to a disk of its own, which is then mounted where it was.
      disk = mounts.tmpfs(path.join(temp.directory, 'disk'));
      cpSync(temp.root, disk, { recursive: true, preserveTimestamps: true });
      rmSync(temp.root, { recursive: true });
      mounts.bind(disk, temp.root);
    });

    /** A disk that is unmounted just before the nth look at the root by its path. */
    function unmountedAt(nth: number): { fs: LocalFs; looks: () => number } {
      let looks = 0;
      const fs = watchedFs(({ name, values }) => {
        if (name === 'open' && values[0] === temp.root && ++looks === nth) mounts.unmount(temp.root);
      });
      return { fs, looks: () => looks };
    }

    /** Does the work again and again, and each time the disk goes a look later; until it stays. */
    async function always(
      work: (place: Place) => Promise<unknown>,
      check: (place: Place) => void,
    ): Promise<void> {
      for (let nth = 2; ; nth++) {
        const { fs, looks } = unmountedAt(nth);
        const place = temp.open({ fs, seed: nth });
        const end = await work(place).catch((error: unknown) => error);
        temp.close(place);
        if (looks() < nth) {
          expect(nth).to.be.greaterThan(5);
          expect(end).not.to.be.instanceOf(Error);
          return;
        }
        expect(end, `gone at ${nth}`).to.be.instanceOf(TombstonedError);
        expect((end as TombstonedError).message).to.match(
          /no longer the directory this run began with|not our store/,
        );
        expect(readdirSync(temp.root), 'the mount point').to.deep.equal([]);
        mounts.bind(disk, temp.root);
        const after = temp.open({ seed: nth + 100 });
        await recover(after);
        check(after);
        temp.close(after);
      }
    }

    it('that go at any look of a sweep end it with a clear error, and nothing is marked as gone', async () => {
      await always(
        async (place) => {
          temp.write(`key-${place.clock.now()}`, 'old', 3 * DAY);
          temp.clock.advance(1000);
          await sweepOld(place);
        },
        (place) => {
          for (const { state } of allTombstones(place)) expect(state).to.equal('pending');
        },
      );
    });

    it('that go at any look of a purge: nothing is marked as purged that is not', async () => {
      const keys = ['a', 'b'];
      for (const key of keys) temp.write(key, key, 3 * DAY);
      const place = temp.open();
      await sweepOld(place);
      temp.close(place);
      temp.clock.advance(temp.window + DAY);
      await always(
        async (purging) => purgeDue(purging),
        (after) => {
          const purged = allTombstones(after).filter(({ state }) => state === 'purged');
          expect(pendingFiles(temp)).to.have.length(keys.length - purged.length);
        },
      );
    });

    it('that go at any look of a restore: nothing is marked as restored that is not', async () => {
      temp.write('a', 'old', 3 * DAY);
      const place = temp.open();
      await sweepOld(place);
      temp.close(place);
      await always(
        async (restoring) => bringBack(restoring, allTombstones(restoring)),
        (after) => {
          const [tombstone] = allTombstones(after);
          expect(tombstone?.state).to.equal(temp.live('a') === undefined ? 'pending' : 'restored');
        },
      );
      expect(temp.live('a')).to.equal('old');
    });

    it('that are gone: a reader never says missing', async () => {
      temp.write('a', 'old', 3 * DAY);
      const place = temp.open();
      expect(await readThrough(place, 'a')).to.equal('old');
      mounts.unmount(temp.root);
      const reader = new Reader(place.store);
      expect((await failure(async () => reader.open(parseKey('none')))).code).to.equal('failed');
      expect((await failure(async () => reader.liveKeys('').next())).code).to.equal('failed');
      const later = temp.open({ seed: 3 });
      expect((await failure(async () => new Reader(later.store).open(parseKey('a')))).code).to.equal(
        'failed',
      );
      expect((await failure(async () => sweepOld(later))).message).to.include('not our store');
    });
  });
});
