import { copyFileSync, existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import type { OpenPlace } from '../../lib/app/open.ts';
import { recover } from '../../lib/app/recover.ts';
import { takeOver } from '../../lib/app/take-over.ts';
import { TombstonedError } from '../../lib/domain/errors.ts';
import { putUpFence } from '../../lib/store/fences.ts';
import { replaceOwner } from '../../lib/store/owner.ts';
import { allTombstones, bringBack, purgeDue, sweepOld, tombstonesOf } from '../support/phases.ts';
import { DAY } from '../support/place.ts';
import { verified } from './damaged-place.ts';
import { OwnedStore } from './owned-store.ts';

describe('another catalog that takes a store over', function () {
  this.timeout(30_000);
  let owned: OwnedStore;
  let place: OpenPlace;
  beforeEach(async () => {
    owned = await OwnedStore.make();
    place = await owned.open();
  });
  afterEach(() => {
    owned.remove();
  });

  const write = (key: string, content?: string): void => owned.write(key, content);
  const control = (name: string): string => path.join(owned.temp.root, '.tombstoned', name);

  async function errorOf(work: Promise<unknown>): Promise<TombstonedError> {
    const error = await work.then(
      () => undefined,
      (thrown: unknown) => thrown,
    );
    if (error instanceof TombstonedError) return error;
    throw new Error('it was not refused', { cause: error });
  }

  /** A fence as a process of another catalog has it up. */
  async function fenceElsewhere(): Promise<string> {
    return putUpFence(place.store.control, {
      run: 'r-20261122T101500123Z-k3v0q8',
      batch: 1,
      catalog: 'another catalog',
      boot: 'another boot',
      kind: 'sweep',
      prefixes: [''],
      host: 'elsewhere',
      pid: 7,
      startedAt: '2026-11-22T10:15:00.123Z',
      passing: false,
    });
  }

  it('is refused, with nothing changed, while the old owner is at a batch, and goes on when that is over', async () => {
    write('a');
    await sweepOld(place);
    const { owner } = owned;
    const fence = await fenceElsewhere();
    const before = readdirSync(owned.temp.root, { recursive: true });
    owned.lose();
    for (const work of [async () => owned.rebuild(), async () => owned.adopt()]) {
      const error = await errorOf(work());
      expect(error).to.include({ code: 'blocked', reason: 'owner' });
      expect(error.message).to.contain('may still be at work').and.contain('elsewhere, pid 7');
      expect(error.hint).to.contain('fence break');
    }
    expect(readdirSync(owned.temp.root, { recursive: true })).to.deep.equal(before);
    expect({ owner: owned.owner, isMade: existsSync(owned.temp.catalogFile) }).to.deep.equal({
      owner,
      isMade: false,
    });
    rmSync(control(`fences/${fence}`));
    expect(await owned.rebuild()).to.include({ added: 1 });
  });

  it('stops what still runs with the old one before its next batch, and that says whose the store is', async () => {
    write('a');
    await sweepOld(place);
    write('b');
    // It has begun to plan when it is taken over.
    const { uuid } = place.catalog;
    const inner = place.store.list.bind(place.store);
    place.store.list = async function* (...asked) {
      yield* inner(...asked);
      const { control: space } = place.store;
      await replaceOwner(space, { catalog: 'the new one', host: 'elsewhere', since: '' });
    };
    const error = await errorOf(sweepOld(place));
    expect(error).to.include({ code: 'blocked', reason: 'owner' });
    expect(error.message).to.contain('the new one on elsewhere');
    expect({ live: owned.temp.live(), uuid }).to.deep.equal({ live: { b: 'b' }, uuid: place.catalog.uuid });
  });

  it('that was interrupted leaves everything held, and is finished by the same again', async () => {
    write('a');
    await sweepOld(place);
    const backup = await owned.backUp();
    owned.lose();
    copyFileSync(backup, owned.temp.catalogFile);
    // As far as adopt goes before it compares.
    const asked = { holdReason: 'adopted', mayTakeOver: true, fenceTimeout: 0 } as const;
    const half = await takeOver(owned.config, owned.storeConfig, owned.surroundings(), asked);
    half.place.store.close();
    half.place.catalog.close();
    place = await owned.open();
    owned.clock.advance(30 * DAY);
    write('b');
    expect(await sweepOld(place)).to.include({ moved: 0 });
    expect(await purgeDue(place)).to.include({ due: 1, purged: 0 });
    expect(await owned.adopt()).to.include({ outcome: 'adopted', from: null, hold: null });
    expect(await sweepOld(place)).to.include({ moved: 1 });
    expect(await purgeDue(place)).to.include({ due: 1, purged: 1 });
    expect(await owned.adopt()).to.include({ outcome: 'already' });
  });

  it('is told only to somebody who says so: a rebuild without it is refused', async () => {
    const backup = await owned.backUp();
    owned.lose();
    expect(await errorOf(owned.rebuild({ mayTakeOver: false }))).to.include({ code: 'failed' });
    expect(existsSync(owned.temp.catalogFile)).to.equal(false);
    copyFileSync(backup, owned.temp.catalogFile);
    const error = await errorOf(owned.rebuild({ mayTakeOver: false }));
    expect(error).to.include({ code: 'blocked', reason: 'owner' });
    expect(error.hint).to.contain('rebuild --take-over');
  });

  it('takes one over whose owner can’t be read, or is nobody', async () => {
    for (const spoil of [
      () => writeFileSync(control('owner.json'), '{'),
      () => rmSync(control('owner.json')),
    ]) {
      spoil();
      expect(await errorOf(sweepOld(place))).to.include({ code: 'blocked', reason: 'owner' });
      expect((await owned.adopt()).outcome).to.equal('adopted');
      await sweepOld(place);
    }
  });

  it('is not begun by adopt without a catalog: only a rebuild makes one', async () => {
    const { owner } = owned;
    owned.lose();
    for (const spoil of [() => undefined, () => rmSync(control('owner.json'))]) {
      spoil();
      const error = await errorOf(owned.adopt());
      expect(error).to.include({ code: 'failed', key: owned.temp.catalogFile });
      expect(error.hint).to.contain('rebuild --take-over');
    }
    expect(owner).to.include({ catalog: place.catalog.uuid });
    expect(existsSync(owned.temp.catalogFile)).to.equal(false);
    expect(readdirSync(control('holds'))).to.deep.equal([]);
  });

  it('makes none beside the log that another has left, which SQLite would take for its own', async () => {
    write('a');
    await sweepOld(place);
    const backup = await owned.backUp();
    const wal = `${owned.temp.catalogFile}-wal`;
    const left = readFileSync(wal);
    owned.lose();
    writeFileSync(wal, left);
    for (const bring of [() => undefined, () => copyFileSync(backup, owned.temp.catalogFile)]) {
      bring();
      for (const work of [async () => owned.rebuild(), async () => owned.adopt()]) {
        const error = await errorOf(work());
        expect(error.message).to.contain(`${wal} is left of another one`);
        expect(error.hint).to.contain('mv ');
      }
    }
    expect(readFileSync(wal).equals(left)).to.equal(true);
    rmSync(wal);
    expect(await owned.rebuild()).to.include({ known: 1 });
  });

  describe('from a backup', () => {
    let backup: string;

    /** The backup is in the lost catalog's place. */
    async function bringBackup(): Promise<void> {
      owned.lose();
      copyFileSync(backup, owned.temp.catalogFile);
      place = await owned.open();
    }

    it('acts only when it is adopted, and at once where nothing has happened since', async () => {
      for (const key of ['a', 'b']) write(key);
      await sweepOld(place);
      await bringBack(place, tombstonesOf(place, 'a'));
      backup = await owned.backUp();
      const before = allTombstones(place);
      await bringBackup();
      for (const work of [sweepOld, purgeDue]) {
        expect(await errorOf(work(place))).to.include({ code: 'blocked', reason: 'owner' });
      }
      const { outcome, hold, compared } = await owned.adopt();
      expect({ outcome, hold, known: compared?.known }).to.deep.equal({
        outcome: 'adopted',
        hold: null,
        known: 2,
      });
      expect(allTombstones(place)).to.deep.equal(before);
      expect(readdirSync(control('holds'))).to.have.length(1); // the exemption
    });

    it('of before a restore: its copy stays as long as R4 says, with every row that is missing, and none purged early', async () => {
      for (const key of ['due', 'back', 'back-then-written']) write(key);
      await sweepOld(place);
      owned.clock.advance(5 * DAY);
      backup = await owned.backUp();
      // What the backup does not know: two restores, a purge, and what was moved since.
      await bringBack(place, tombstonesOf(place, 'back'), { exemptFor: 100 * DAY });
      await bringBack(place, tombstonesOf(place, 'back-then-written'));
      owned.clock.advance(3 * DAY);
      expect(await purgeDue(place)).to.include({ purged: 1 });
      write('new');
      rmSync(path.join(owned.temp.root, 'back-then-written')); // as careful writers do: another file
      write('back-then-written', 'another');
      await sweepOld(place);
      const lost = new Map(allTombstones(place).map((tombstone) => [tombstone.id, tombstone]));
      await bringBackup();
      expect((await owned.adopt()).hold).to.be.a('string'); // it is older than the store
      const { place: found, added, told } = await owned.rebuild();
      expect({ added, told }).to.deep.equal({ added: lost.size - 3, told: [] });
      await owned.resume(found);
      for (const { id, key, state, purgeAfter } of allTombstones(found)) {
        const then = lost.get(id);
        if (then?.state === 'purged')
          expect(state, key).to.equal('pending'); // its copy is gone, which a purge will find
        else expect(purgeAfter ?? 0, key).to.be.at.least((then?.purgeAfter ?? Infinity) - 1000);
      }
      // Day by day: no copy goes before the lost catalog would have let it.
      for (let day = 0; day < 30; day++) {
        owned.clock.advance(DAY);
        const there = new Set(owned.temp.pending());
        await purgeDue(found);
        const left = new Set(owned.temp.pending());
        for (const name of there) {
          if (left.has(name)) continue;
          const then = lost.get(name.slice(name.lastIndexOf('~') + 1));
          expect(found.catalog.clock.counted(owned.clock), name).to.be.at.least(
            (then?.purgeAfter ?? Infinity) - 1000,
          );
        }
      }
      expect(owned.temp.pending()).to.deep.equal([]);
      expect(owned.temp.live()).to.have.property('back', 'back');
      const { problems } = await verified(found);
      expect(problems.filter((problem) => !problem.startsWith('expired-exemption'))).to.deep.equal([]);
    });

    it('of the middle of a sweep: what the batch did is finished by what the store holds', async () => {
      for (const key of ['a', 'b', 'c']) write(key);
      const inner = place.store.move.bind(place.store);
      place.store.move = async (batch, options) => {
        const [first, ...rest] = batch;
        if (first === undefined) return [];
        const outcomes = await inner([first], options);
        backup = await owned.backUp(); // its intents are there, and no outcome
        return [...outcomes, ...(await inner(rest, options))];
      };
      await sweepOld(place);
      const lost = allTombstones(place);
      await bringBackup();
      expect(allTombstones(place).map(({ state }) => state)).to.deep.equal(['moving', 'moving', 'moving']);
      const { place: found, added } = await owned.rebuild();
      expect(added).to.equal(0); // its own run has them
      await owned.resume(found);
      await recover(found);
      expect(allTombstones(found).map(({ id, state }) => ({ id, state }))).to.deep.equal(
        lost.map(({ id, state }) => ({ id, state })),
      );
      expect((await verified(found)).problems).to.deep.equal([]);
      owned.clock.advance(8 * DAY);
      expect(await purgeDue(found)).to.include({ purged: 3, failed: 0 });
    });

    it('of the middle of a purge and of a restore: what they had taken is purged or pending, as the store says', async () => {
      for (const key of ['a', 'b', 'c']) write(key);
      await sweepOld(place);
      owned.clock.advance(8 * DAY);
      const inner = place.store.remove.bind(place.store);
      place.store.remove = async (batch, options) => {
        backup = await owned.backUp();
        return inner(batch.slice(0, 1), options).then(async (first) => [
          ...first,
          ...batch.slice(1).map(() => ({ outcome: 'failed', error: new Error('the disk fails') }) as const),
        ]);
      };
      await purgeDue(place);
      const left = owned.temp.pending();
      await bringBackup();
      expect(new Set(allTombstones(place).map(({ state }) => state))).to.deep.equal(new Set(['purging']));
      const { place: found, added } = await owned.rebuild();
      expect(added).to.equal(0);
      await recover(found);
      expect(
        allTombstones(found)
          .map(({ state }) => state)
          .toSorted(),
      ).to.deep.equal(['pending', 'pending', 'purged']);
      await owned.resume(found);
      expect((await verified(found)).problems).to.deep.equal([]);
      expect(await purgeDue(found)).to.include({ purged: left.length, failed: 0 });
    });

    it('leaves the runs of a catalog that is in use alone', async () => {
      write('a');
      const inner = place.store.move.bind(place.store);
      let error: unknown;
      place.store.move = async (batch, options) => {
        error = await errorOf(owned.rebuild({ mayTakeOver: false }));
        return inner(batch, options);
      };
      await sweepOld(place);
      expect(error).to.include({ code: 'blocked', reason: 'fence' });
      expect(allTombstones(place).map(({ state }) => state)).to.deep.equal(['pending']);
    });
  });
});

describe('a catalog whose file is gone, or another, while it is in use', function () {
  this.timeout(30_000);
  let owned: OwnedStore;
  let place: OpenPlace;
  beforeEach(async () => {
    owned = await OwnedStore.make();
    place = await owned.open();
    owned.temp.write('a', 'a', 3 * DAY);
    await sweepOld(place);
    owned.temp.write('b', 'b', 3 * DAY);
    owned.clock.advance(8 * DAY);
  });
  afterEach(() => {
    owned.remove();
  });

  const HOW = {
    'was removed': (file: string) => rmSync(file),
    'was replaced by another': (file: string) => {
      copyFileSync(file, `${file}.copy`);
      rmSync(file);
      copyFileSync(`${file}.copy`, file);
    },
  };
  for (const [how, lose] of Object.entries(HOW)) {
    it(`${how}: nothing more is moved, purged or restored with it, and no other is made`, async () => {
      lose(owned.temp.catalogFile);
      const before = { live: owned.temp.live(), pending: owned.temp.pending() };
      const [tombstone] = tombstonesOf(place, 'a');
      const works = [
        async () => sweepOld(place),
        async () => purgeDue(place),
        async () => bringBack(place, [tombstone]),
      ];
      for (const work of works) {
        const error = await work().then(
          () => undefined,
          (thrown: unknown) => thrown,
        );
        expect(error).to.be.instanceOf(TombstonedError).and.have.property('message').that.contains(how);
      }
      expect({ live: owned.temp.live(), pending: owned.temp.pending() }).to.deep.equal(before);
      expect(existsSync(owned.temp.catalogFile)).to.equal(how !== 'was removed');
      expect(readdirSync(path.join(owned.temp.root, '.tombstoned/fences'))).to.deep.equal([]);
    });
  }

  it('was removed in the middle of a sweep: that ends after its batch, and a rebuild finds all that it moved', async () => {
    for (let i = 0; i < 20; i++) owned.temp.write(`k${i}`, `k${i}`, 30 * DAY);
    Object.assign(place.store, { batch: 5 });
    const inner = place.store.move.bind(place.store);
    let batches = 0;
    place.store.move = async (batch, options) => {
      if (++batches === 2) owned.removeFiles();
      return inner(batch, options);
    };
    const error = await sweepOld(place).then(
      () => undefined,
      (thrown: unknown) => thrown,
    );
    expect(error).to.have.property('message').that.contains('was removed while it was in use');
    const { place: found, added, told } = await owned.rebuild();
    expect({ batches, added, told }).to.deep.equal({ batches: 2, added: 11, told: [] });
    expect((await verified(found)).problems).to.deep.equal([]);
    await owned.resume(found);
    await sweepOld(found);
    expect(owned.temp.live()).to.deep.equal({});
    expect(owned.temp.pending()).to.have.length(22);
  });
});
