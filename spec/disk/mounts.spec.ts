import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect } from 'chai';
import { openReader } from '../../lib/app/reading.ts';
import { recover } from '../../lib/app/recover.ts';
import { Catalog } from '../../lib/catalog/catalog.ts';
import { parseKey } from '../../lib/domain/key.ts';
import type { Place } from '../../lib/run/place.ts';
import { allTombstones, bringBack, purgeDue, readThrough, sweepOld } from '../support/phases.ts';
import { DAY } from '../support/place.ts';
import { watchedFs } from '../support/watched-fs.ts';
import { contentOf, DiskPlace, failure } from './disk-place.ts';
import { LoopDisk, mayMountDisks } from './loop-disk.ts';

const KEYS = ['a/1', 'a/2', 'b/3', 'b/4', '5'];
const NEW = ['new/1', 'new/2'];
const READ_ONLY = /read-only|EROFS/;

describe('a disk that goes read-only, or away (needs root, mkfs.ext4 and loop mounts)', function () {
  this.timeout(30_000);
  let disk: LoopDisk;
  let elsewhere: string;
  let at: DiskPlace;
  before(function () {
    if (!mayMountDisks()) this.skip();
  });
  beforeEach(async () => {
    disk = new LoopDisk(8);
    elsewhere = mkdtempSync(path.join(tmpdir(), 'tombstoned-'));
    at = new DiskPlace(disk.directory, elsewhere);
    await at.init();
    at.write(KEYS);
    const place = await at.open();
    await sweepOld(place);
    at.close(place);
    at.clock.advance(at.window + DAY);
    at.write(NEW);
  });
  afterEach(() => {
    at.closeAll();
    disk.remove();
    rmSync(elsewhere, { recursive: true });
  });

  /** Everything is where it was, and is known to be there. */
  async function checkUntouched(): Promise<void> {
    const place = await at.open();
    await recover(place);
    for (const key of KEYS) {
      expect(await readThrough(place, key)).to.equal(contentOf(key));
      const states = place.catalog.tombstones.ofKey(place.row.n, key, 10).map(({ state }) => state);
      expect(states).to.deep.equal(['pending']);
    }
    for (const key of NEW) expect(await readThrough(place, key)).to.equal(contentOf(key));
    expect(place.catalog.runs.open(place.row.n)).to.deep.equal([]);
    at.close(place);
  }

  /** After something was interrupted: what the catalog says is what the disk has, and nothing else is missing. */
  async function checkAccounted(): Promise<void> {
    const place = await at.open();
    await recover(place);
    expect(place.catalog.runs.open(place.row.n)).to.deep.equal([]);
    const gone = new Set<string>();
    for (const { key, id, state } of allTombstones(place)) {
      expect(['pending', 'abandoned', 'restored', 'purged']).to.include(state);
      const isThere = (await place.store.headPending(key, id)) !== undefined;
      expect(isThere, `${key} ${state}`).to.equal(state === 'pending' || state === 'restored');
      if (state === 'purged') gone.add(key);
    }
    for (const key of [...KEYS, ...NEW].filter((k) => !gone.has(k))) {
      expect(await readThrough(place, key)).to.equal(contentOf(key));
    }
    at.close(place);
  }

  /** Once the disk is back, everything goes on. */
  async function checkGoesOn(): Promise<void> {
    const place = await at.open();
    await recover(place);
    expect((await purgeDue(place)).purged).to.equal(KEYS.length);
    await sweepOld(place);
    for (const key of NEW) expect(await readThrough(place, key)).to.equal(contentOf(key));
    expect(allTombstones(place).filter(({ state }) => state === 'pending')).to.have.length(NEW.length);
    at.close(place);
  }

  const WORKS: Record<'sweep' | 'purge' | 'restore', (place: Place) => Promise<unknown>> = {
    sweep: async (place) => sweepOld(place),
    purge: async (place) => purgeDue(place),
    restore: async (place) => bringBack(place, allTombstones(place)),
  };
  /** The call by which each does its work. */
  const CALLS = { sweep: 'rename', purge: 'unlinkAsync', restore: 'link' } as const;

  for (const name of ['sweep', 'purge', 'restore'] as const) {
    it(`read-only: a ${name} ends in a clear error, before it begins`, async () => {
      disk.remount('ro');
      const place = await at.open();
      const error = await failure(async () => WORKS[name](place));
      expect(error.message).to.match(READ_ONLY);
      at.close(place);
      disk.remount('rw');
      await checkUntouched();
      await checkGoesOn();
    });

    it(`read-only in the middle: a ${name} ends in a clear error, and what it did is known`, async () => {
      const place = await at.open({ fs: fsThat(CALLS[name], () => disk.remount('ro')) });
      const error = await failure(async () => WORKS[name](place));
      expect(error.message).to.match(READ_ONLY);
      at.close(place);
      disk.remount('rw');
      await checkAccounted();
    });

    it(`taken away before: a ${name} is refused, and nothing is marked as gone`, async () => {
      disk.unmount();
      const error = await failure(async () => WORKS[name](await at.open()));
      expect(error.hint).to.include('mounted');
      disk.mount();
      await checkUntouched();
      await checkGoesOn();
    });

    it(`taken away with a directory in its place: a ${name} is refused`, async () => {
      disk.unmount();
      mkdirSync(path.join(disk.directory, 'store'));
      const error = await failure(async () => WORKS[name](await at.open()));
      expect(error.message).to.include('no .tombstoned/store.json');
      rmSync(path.join(disk.directory, 'store'), { recursive: true });
      disk.mount();
      await checkUntouched();
      await checkGoesOn();
    });

    it(`taken away after a ${name} has opened the store: refused, nothing is marked as gone`, async () => {
      const place = await at.open();
      disk.unmount();
      await failure(async () => WORKS[name](place));
      mkdirSync(path.join(disk.directory, 'store'));
      const error = await failure(async () => WORKS[name](place));
      expect(error.message).to.include('no longer the directory this run began with');
      rmSync(path.join(disk.directory, 'store'), { recursive: true });
      at.close(place);
      disk.mount();
      await checkUntouched();
      await checkGoesOn();
    });

    it(`taken away in the middle of a ${name}: what was done on it is known once it is back`, async () => {
      const place = await at.open({ fs: fsThat(CALLS[name], () => disk.unmount()) });
      const end = await WORKS[name](place).catch((e: unknown) => e);
      at.close(place);
      disk.mount();
      expect(end, 'it had nothing to do').not.to.equal(undefined);
      await checkAccounted();
    });
  }

  it('read-only: everything can be read', async () => {
    disk.remount('ro');
    const reader = await openReader({ url: `file://${at.root}` });
    try {
      for (const key of [...KEYS, ...NEW]) {
        expect((await reader.bytes(parseKey(key))).toString()).to.equal(contentOf(key));
      }
      const keys: string[] = [];
      for await (const page of reader.pendingKeys('')) keys.push(...page.map(({ key }) => key));
      for await (const page of reader.liveKeys('')) keys.push(...page.map(({ key }) => key));
      expect(keys.toSorted()).to.deep.equal([...KEYS, ...NEW].toSorted());
    } finally {
      reader.close();
    }
  });

  it('read-only with the catalog on it: a clear error, for the catalog is written to at each start', async () => {
    const there = new DiskPlace(mkdir(path.join(disk.directory, 'both')), path.join(disk.directory, 'both'));
    await there.init();
    disk.remount('ro');
    const error = await failure(async () => Catalog.open(there.catalogFile));
    expect(error.key).to.equal(there.catalogFile);
    expect(error.hint).to.match(/written|read-only/);
    const made = path.join(disk.directory, 'fresh.db');
    const unmade = await failure(async () => Catalog.create(made, 'u', 1));
    expect(unmade.key).to.equal(made);
    expect(unmade.hint).to.match(/written|read-only/);
  });

  it('a store whose catalog is gone with its disk is not opened with a new one', async () => {
    const both = new DiskPlace(elsewhere, disk.directory);
    await both.init();
    disk.unmount();
    const error = await failure(async () => both.open());
    expect(error.message).to.equal(`there is no catalog at ${both.catalogFile}`);
    expect((await failure(async () => both.init())).code).to.equal('blocked');
    writeFileSync(both.catalogFile, '');
    expect((await failure(async () => both.open())).message).to.include('is empty');
    rmSync(both.catalogFile);
    disk.mount();
    both.close(await both.open());
  });
});

/** A disk to which something happens just before the second call of a kind. */
function fsThat(call: string, happens: () => void) {
  let n = 0;
  return watchedFs(({ name }) => {
    if (name === call && ++n === 2) happens();
  });
}

function mkdir(directory: string): string {
  mkdirSync(directory);
  return directory;
}
