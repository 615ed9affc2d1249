import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect } from 'chai';
import { recover } from '../../lib/app/recover.ts';
import { Catalog } from '../../lib/catalog/catalog.ts';
import type { Place } from '../../lib/run/place.ts';
import { allTombstones, bringBack, purgeDue, readThrough, sweepOld } from '../support/phases.ts';
import { age, DAY } from '../support/place.ts';
import { watchedFs } from '../support/watched-fs.ts';
import { contentOf, DiskPlace, failure } from './disk-place.ts';
import { LoopDisk, mayMountDisks } from './loop-disk.ts';

const KEYS = Array.from({ length: 300 }, (_, i) => `d${i % 30}/file-${i}`);
const FULL = /full|ENOSPC|no space/;

/** The store is on the small disk; the catalog there too, or by itself on it, or elsewhere. */
const LAYOUTS = ['both', 'catalog', 'store'] as const;

describe('a full disk (needs root, mkfs.ext4 and loop mounts)', function () {
  this.timeout(60_000);
  let disk: LoopDisk;
  let elsewhere: string;
  let at: DiskPlace;
  before(function () {
    if (!mayMountDisks()) this.skip();
  });
  beforeEach(() => {
    disk = new LoopDisk(32);
    elsewhere = mkdtempSync(path.join(tmpdir(), 'tombstoned-'));
  });
  afterEach(() => {
    at.closeAll();
    disk.remove();
    rmSync(elsewhere, { recursive: true });
  });

  async function make(layout: (typeof LAYOUTS)[number]): Promise<void> {
    const store = layout === 'catalog' ? elsewhere : disk.directory;
    at = new DiskPlace(store, layout === 'store' ? elsewhere : disk.directory);
    await at.init();
    at.write(KEYS);
  }

  async function checkReadable(place: Place): Promise<void> {
    for (const key of KEYS) expect(await readThrough(place, key)).to.equal(contentOf(key));
  }

  function states(place: Place): Record<string, number> {
    return Object.fromEntries(
      place.catalog.tombstones.tallies(place.row.n).map(({ state, count }) => [state, count]),
    );
  }

  /** After there is room again: everything goes on, and nothing is missing. */
  async function checkResumes(): Promise<void> {
    disk.drain();
    const place = await at.open();
    await recover(place);
    await checkReadable(place);
    expect(place.catalog.runs.open(place.row.n)).to.deep.equal([]);
    await sweepOld(place);
    expect(states(place)['pending']).to.equal(KEYS.length);
    await checkReadable(place);
    at.close(place);
  }

  for (const layout of LAYOUTS) {
    it(`stops a sweep before it begins, with what to do, and nothing is lost (${layout} on it)`, async () => {
      await make(layout);
      disk.fill();
      const error = await failure(async () => {
        const place = await at.open();
        await recover(place);
        await sweepOld(place);
      });
      expect(error.message).to.match(FULL);
      expect(error.hint).to.match(/free some space|purge/);
      at.closeAll();
      await checkResumes();
    });

    it(`stops a sweep in the middle of a batch, and nothing is lost (${layout} on it)`, async () => {
      await make(layout);
      let renames = 0;
      const fs = watchedFs(({ name }) => {
        if (name === 'rename' && ++renames === 100) disk.fill();
      });
      const place = await at.open({ fs });
      const end = await sweepOld(place).catch((e: unknown) => e);
      if (layout !== 'catalog') expect(end).to.have.property('message').that.matches(FULL);
      await checkReadable(place);
      at.close(place);
      await checkResumes();
    });

    it(`does not stop a purge: it frees the space and records that (${layout} on it)`, async () => {
      await make(layout);
      const sweeping = await at.open();
      await sweepOld(sweeping);
      at.close(sweeping);
      at.clock.advance(at.window + DAY);
      disk.fill();
      const place = await at.open({ purges: true });
      await recover(place);
      const { purged, failed } = await purgeDue(place);
      expect({ purged, failed }).to.deep.equal({ purged: KEYS.length, failed: 0 });
      expect(states(place)).to.deep.equal({ purged: KEYS.length });
      expect(place.catalog.runs.open(place.row.n)).to.deep.equal([]);
      at.close(place);
      expect(disk.freeBytes).to.be.greaterThan(layout === 'catalog' ? -1 : 300 * 4096);
      disk.drain();
      const after = await at.open({ purges: true });
      await purgeDue(after);
      expect(statSync(`${at.catalogFile}.reserve`).size).to.be.at.least(8 * 1024 * 1024);
    });
  }

  it('lets purges go on, again and again, although others fill it again each time', async () => {
    await make('catalog');
    const place = await at.open();
    for (const prefix of ['d0', 'd1', '']) {
      await sweepOld(place, { policies: [age({ prefix })] });
      at.clock.advance(2 * DAY);
    }
    at.close(place);
    at.clock.advance(at.window - 5 * DAY);
    for (let round = 1; round <= 3; round++) {
      disk.fill();
      const purging = await at.open({ purges: true });
      await recover(purging);
      expect((await purgeDue(purging)).purged, `round ${round}`).to.be.greaterThan(0);
      at.close(purging);
      at.clock.advance(2 * DAY);
    }
    const after = await at.open({ purges: true });
    expect(states(after)).to.deep.equal({ purged: KEYS.length });
  });

  it('lets a purge go on after a sweep that it stopped, and that left its run open', async () => {
    await make('both');
    const first = await at.open();
    await sweepOld(first);
    at.close(first);
    at.clock.advance(at.window + DAY);
    at.write(KEYS.map((key) => `more/${key}`));
    const fs = watchedFs(({ name }) => {
      if (name === 'rename') disk.fill();
    });
    const sweeping = await at.open({ fs });
    await failure(async () => sweepOld(sweeping));
    at.close(sweeping);
    const place = await at.open({ purges: true });
    expect(place.catalog.runs.open(place.row.n), 'nothing was left open').to.have.length(1);
    await recover(place);
    expect(place.catalog.runs.open(place.row.n)).to.deep.equal([]);
    expect((await purgeDue(place)).purged).to.equal(KEYS.length);
    for (const key of KEYS)
      expect(await readThrough(place, `more/${key}`)).to.equal(contentOf(`more/${key}`));
  });

  it('is told when a catalog is opened there for anything but a purge, and by its hint', async () => {
    await make('catalog');
    disk.fill();
    let opened: Catalog | undefined;
    const error = await failure(async () => {
      opened = Catalog.open(at.catalogFile);
      opened.addStore({ name: 'other', uuid: 'u', url: 'file:///x', pendingPrefix: 'p/' });
    });
    opened?.close();
    expect(error.key).to.equal(at.catalogFile);
    expect(error.hint).to.include('full');
    const purging = Catalog.open(at.catalogFile, { mayUseReserve: true });
    expect(purging.storeByName('spec')).to.not.equal(undefined);
    purging.close();
  });

  it('keeps a restore from half a copy: each object is back whole, or is not', async () => {
    await make('both');
    const place = await at.open();
    await sweepOld(place);
    disk.fill();
    const outcomes = await bringBack(place, allTombstones(place)).catch((e: unknown) => e);
    if (!Array.isArray(outcomes)) expect(outcomes).to.have.property('message').that.matches(FULL);
    await checkReadable(place);
    disk.drain();
    await recover(place);
    await bringBack(
      place,
      allTombstones(place).filter(({ state }) => state === 'pending'),
    );
    expect(states(place)).to.deep.equal({ restored: KEYS.length });
    await checkReadable(place);
  });
});
