import { copyFileSync, rmSync } from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { breakFence } from '../../lib/app/break-claims.ts';
import type { ClaimPlace } from '../../lib/app/claim-place.ts';
import { Holding, type HoldOptions, type PutHold } from '../../lib/app/put-hold.ts';
import { recover } from '../../lib/app/recover.ts';
import { releaseHold, resume } from '../../lib/app/release-holds.ts';
import { TombstonedError } from '../../lib/domain/errors.ts';
import type { Place } from '../../lib/run/place.ts';
import { waitForFences } from '../../lib/run/wait-for-fences.ts';
import { readOwner } from '../../lib/store/owner.ts';
import { Child } from '../run/child.ts';
import type { Errand } from '../run/place.child.ts';
import { allTombstones, FAST, filesBelow, purgeDue, sweepOld } from '../support/phases.ts';
import { age, DAY, DrivenClock, TempPlace } from '../support/place.ts';

const CHILD = path.join(import.meta.dirname, '../run/place.child.ts');
/** All that the stopped batch is about. */
const KEYS = ['k/1', 'k/2', 'k/3', 'k/4'];
const OTHERS = ['z/1', 'z/2'];

/** What may be claimed, of what the batch is about. */
const CLAIMS: Record<string, (holding: Holding, place: Place) => Promise<void>> = {
  'a pause': async (holding) => holding.prefix(''),
  'a hold on a prefix': async (holding) => holding.prefix('k/'),
  'a hold on keys': async (holding) => {
    for (const key of KEYS) await holding.key(key);
  },
  'a hold on ids': async (holding, place) => {
    for (const { id, key } of allTombstones(place)) await holding.id(id, key);
  },
  'a hold on ids that nobody knows here': async (holding, place) => {
    for (const { id } of allTombstones(place)) await holding.id(id, undefined);
  },
};

describe('a claim beside a batch that had looked before it', function () {
  this.timeout(30_000);
  let temp: TempPlace;
  let place: Place;
  let children: Child[];
  beforeEach(async () => {
    temp = await TempPlace.make(FAST);
    place = temp.open();
    children = [];
    for (const key of [...KEYS, ...OTHERS]) temp.write(key, `content of ${key}`, 3 * DAY);
  });
  afterEach(async () => {
    for (const child of children) await child.kill();
    temp.remove();
  });

  /** A process that has stopped in the middle of a batch. */
  async function stopped(does: 'sweep' | 'purge'): Promise<Child> {
    // A sweep makes two directories first, by renaming them into place.
    const [call, nth] = does === 'sweep' ? ['rename', 4] : ['unlinkAsync', 2];
    const stop = { call, nth, when: 'after' } as const;
    const errand: Errand = { directory: temp.directory, now: temp.clock.wall, do: does, prefix: 'k/', stop };
    const child = new Child(CHILD, [JSON.stringify(errand)]);
    children.push(child);
    await child.stop();
    const pending = objects().filter((file) => file.startsWith('pending_deletion/')).length;
    // A removal that was begun may not be done: it is another thread's.
    if (does === 'sweep') expect(pending).to.equal(2);
    else expect(pending).to.be.within(2, KEYS.length);
    return child;
  }

  async function prepare(does: 'sweep' | 'purge'): Promise<void> {
    if (does === 'sweep') return;
    await sweepOld(place, { policies: [age({ prefix: 'k/' })] });
    temp.clock.advance(temp.window + DAY);
  }

  /** The place of a claimer, who does `meanwhile` when it first waits. */
  function claimer(meanwhile: () => Promise<void> = async () => undefined): ClaimPlace {
    let isFirst = true;
    const clock = new DrivenClock();
    clock.advance(temp.clock.wall - clock.wall);
    clock.sleep = async (ms) => {
      clock.advance(ms);
      if (isFirst) {
        isFirst = false;
        await meanwhile();
      }
    };
    const { store, random, actor, report, catalog, row } = place;
    const known = { catalog, row };
    return { store, random, actor, report, clock, name: 'spec', ctl: 'tombstonectl --store spec', known };
  }

  async function claim(
    at: ClaimPlace,
    make: (holding: Holding, place: Place) => Promise<void>,
    options: Partial<HoldOptions> = {},
  ): Promise<readonly PutHold[]> {
    const standard = { until: null, reason: 'an audit', fenceTimeout: 60_000, dryRun: false };
    const holding = new Holding(at, { ...standard, ...options });
    await make(holding, place);
    return holding.end();
  }

  function objects(): string[] {
    return filesBelow(temp.root).filter((file) => !file.startsWith('.tombstoned/'));
  }

  function control(directory: string): string[] {
    return filesBelow(path.join(temp.root, '.tombstoned', directory));
  }

  for (const does of ['sweep', 'purge'] as const) {
    for (const [what, make] of Object.entries(CLAIMS)) {
      if (does === 'sweep' && what.includes('ids')) continue; // there are no ids yet
      it(`${what} is reported once the ${does} is over, and nothing goes after that`, async () => {
        await prepare(does);
        const child = await stopped(does);
        let atReport: string[] | undefined;
        const at = claimer(async () => {
          expect(control('holds'), 'written before it looks').to.have.length(1);
          expect(atReport).to.equal(undefined);
          child.wake();
          await child.hear();
          await child.end();
        });
        const [put] = await claim(at, make);
        atReport = objects();
        expect(put?.outcome).to.equal('held');
        expect(control('fences')).to.deep.equal([]);
        // All that the batch was about has gone where it was to go: it had looked before.
        expect(atReport.filter((file) => KEYS.includes(file))).to.deep.equal([]);
        for (const key of KEYS) temp.write(key, 'again', 3 * DAY);
        atReport = objects();
        const swept = await sweepOld(place, { policies: [age({ prefix: 'k/' })] });
        if (!what.includes('ids')) {
          expect(swept.kept.get('hold')).to.equal(KEYS.length);
          temp.clock.advance(temp.window + DAY);
          expect((await purgeDue(place)).purged).to.equal(0);
          expect(objects()).to.deep.equal(atReport);
        }
      });
    }

    it(`a pause that the ${does} outlasts is told as written and not in force; the same again waits for it`, async () => {
      await prepare(does);
      const child = await stopped(does);
      const before = objects();
      const error = await claim(claimer(), async (holding) => holding.prefix('')).catch((e: unknown) => e);
      if (!(error instanceof TombstonedError)) throw new Error(`no clear error: ${String(error)}`);
      expect(error).to.include({ code: 'blocked', reason: 'fence' });
      expect(error.message).to.match(/^h-\S+ is written and not yet in force: a \w+ of spec-host, pid \d+/);
      expect(control('holds')).to.deep.equal([`${error.key}.json`]);
      expect(objects()).to.deep.equal(before);
      const [put] = await claim(
        claimer(async () => {
          child.wake();
          await child.hear();
          await child.end();
        }),
        async (holding) => holding.prefix(''),
      );
      expect(put).to.deep.include({ outcome: 'already' });
      expect(put?.hold.id).to.equal(error.key);
      expect(control('fences')).to.deep.equal([]);
    });

    it(`a hold on what the ${does} is not about waits for nobody`, async () => {
      await prepare(does);
      await stopped(does);
      const at = claimer(async () => {
        throw new Error('it waited');
      });
      const [put] = await claim(at, async (holding) => holding.prefix('z/'));
      expect(put?.outcome).to.equal('held');
    });

    it(`a new owner is told of the store once the ${does} is over, and the old one does nothing after that`, async () => {
      await prepare(does);
      const child = await stopped(does);
      const theirs = { catalog: 'theirs', host: 'h', since: '2026-11-22T09:00:00.000Z' };
      await place.store.control.replace('owner.json', `${JSON.stringify(theirs)}\n`);
      const { clock } = claimer(async () => {
        child.wake();
        await child.hear();
        await child.end();
      });
      await waitForFences(place.store, [''], { clock });
      expect(await readOwner(place.store.control)).to.deep.equal(theirs);
      const atReport = objects();
      expect(atReport.filter((file) => KEYS.includes(file))).to.deep.equal([]);
      for (const work of [async () => sweepOld(place), async () => purgeDue(place)]) {
        const error = await work().catch((e: unknown) => e);
        expect(error).to.include({ code: 'blocked', reason: 'owner' });
      }
      expect(objects()).to.deep.equal(atReport);
    });

    it(`a hold waits for the fence of a ${does} that was killed, and is in force once that is recovered`, async () => {
      await prepare(does);
      await (await stopped(does)).kill();
      const at = claimer(async () => recover(place));
      const [put] = await claim(at, async (holding) => holding.prefix('k/'));
      expect(put?.outcome).to.equal('held');
      expect(control('fences')).to.deep.equal([]);
      expect(place.catalog.runs.open(place.row.n)).to.deep.equal([]);
    });

    it(`the fence of a ${does} is not broken while its process lives, and is when it has died`, async () => {
      await prepare(does);
      const child = await stopped(does);
      const [name = ''] = control('fences');
      const options = { reason: 'it is in the way', force: true, dryRun: false };
      const error = await breakFence(claimer(), name, options).catch((e: unknown) => e);
      expect(error).to.include({ code: 'blocked', reason: 'fence', key: name });
      expect(control('fences')).to.deep.equal([name]);
      await child.kill();
      const broken = await breakFence(claimer(), name, { ...options, force: false });
      expect(broken.standing.life).to.equal('died');
      expect(control('fences')).to.deep.equal([]);
      // Its lock is free again, and recovery goes its way.
      await recover(place);
      expect(place.catalog.runs.open(place.row.n)).to.deep.equal([]);
    });
  }

  it('a fence of another catalog, or of nobody known, goes by force alone', async () => {
    const child = await stopped('sweep');
    await child.kill();
    const [name = ''] = control('fences');
    const options = { reason: 'its host burnt', dryRun: false };
    const without = { ...claimer(), known: null };
    for (const force of [false, true]) {
      const result = await breakFence(without, name, { ...options, force }).catch((e: unknown) => e);
      if (force) expect(result).to.deep.include({ outcome: 'broken' });
      else {
        expect(result).to.include({ code: 'blocked', reason: 'fence' });
        expect((result as TombstonedError).hint).to.include('--force');
        expect(control('fences')).to.deep.equal([name]);
      }
    }
    expect(control('fences')).to.deep.equal([]);
  });

  it('a fence whose run has another lock file, such as a copy has, goes by force alone', async () => {
    const child = await stopped('sweep');
    await child.kill();
    const [name = ''] = control('fences');
    const runs = `${temp.catalogFile}.runs`;
    const [lock = ''] = filesBelow(runs);
    copyFileSync(path.join(runs, lock), path.join(runs, 'copy'));
    rmSync(path.join(runs, lock));
    copyFileSync(path.join(runs, 'copy'), path.join(runs, lock));
    const options = { reason: 'r', dryRun: false };
    const error = await breakFence(claimer(), name, { ...options, force: false }).catch((e: unknown) => e);
    expect(error).to.include({ code: 'blocked', reason: 'fence' });
    await breakFence(claimer(), name, { ...options, force: true });
    expect(control('fences')).to.deep.equal([]);
  });
});

describe('holds that operators set', () => {
  let temp: TempPlace;
  let place: Place;
  beforeEach(async () => {
    temp = await TempPlace.make(FAST);
    place = temp.open();
    for (const key of KEYS) temp.write(key, `content of ${key}`, 3 * DAY);
  });
  afterEach(() => {
    temp.remove();
  });

  function at(): ClaimPlace {
    const { store, random, actor, report, catalog, row, clock } = place;
    const known = { catalog, row };
    return { store, random, actor, report, clock, name: 'spec', ctl: 'tombstonectl --store spec', known };
  }

  async function put(
    options: Partial<HoldOptions>,
    make: (holding: Holding) => Promise<void>,
  ): Promise<readonly PutHold[]> {
    const standard = { until: null, reason: 'an audit', fenceTimeout: 0, dryRun: false };
    const holding = new Holding(at(), { ...standard, ...options });
    await make(holding);
    return holding.end();
  }

  function names(): string[] {
    return filesBelow(path.join(temp.root, '.tombstoned/holds'));
  }

  it('stay when the catalog is replaced by an older copy', async () => {
    await sweepOld(place);
    temp.close(place);
    const copy = path.join(temp.directory, 'copy.db');
    copyFileSync(temp.catalogFile, copy);
    place = temp.open();
    const [first] = allTombstones(place);
    await put({}, async (holding) => holding.id(first?.id ?? '', first?.key));
    await put({}, async (holding) => holding.key('k/2'));
    temp.close(place);
    copyFileSync(copy, temp.catalogFile);
    place = temp.open();
    expect(place.catalog.holds.names(place.row.n)).to.deep.equal([]);
    temp.clock.advance(temp.window + DAY);
    expect((await purgeDue(place)).kept.get('hold')).to.equal(2);
    const left = allTombstones(place).filter(({ state }) => state === 'pending');
    expect(left.map(({ key }): string => key)).to.have.members([first?.key, 'k/2']);
    temp.write('k/2', 'again', 3 * DAY);
    expect((await sweepOld(place)).kept.get('hold')).to.equal(1);
  });

  it('are not made twice for the same reason, and are for another, for longer or for more', async () => {
    const until = temp.clock.now() + DAY;
    const keys =
      (...which: string[]) =>
      async (holding: Holding): Promise<void> => {
        for (const key of which) await holding.key(key);
      };
    const outcomes = async (options: Partial<HoldOptions>, make: (holding: Holding) => Promise<void>) =>
      (await put(options, make)).map(({ outcome }) => outcome);
    expect(await outcomes({ until }, keys('k/1', 'k/2'))).to.deep.equal(['held']);
    expect(await outcomes({ until }, keys('k/1', 'k/2'))).to.deep.equal(['already']);
    expect(await outcomes({ until: until - 1 }, keys('k/2'))).to.deep.equal(['already']);
    expect(await outcomes({ until, reason: 'another' }, keys('k/2'))).to.deep.equal(['held']);
    expect(await outcomes({ until: until + 1 }, keys('k/2'))).to.deep.equal(['held']);
    expect(await outcomes({ until: null }, keys('k/2'))).to.deep.equal(['held']);
    expect(await outcomes({ until }, keys('k/1', 'k/3'))).to.deep.equal(['held']);
    expect(names()).to.have.length(5);
    temp.clock.advance(2 * DAY);
    const again = temp.clock.now() + DAY;
    expect(
      await outcomes({ until: again, reason: 'another' }, keys('k/2')),
      'that one is over',
    ).to.deep.equal(['held']);
  });

  it('on many keys are several objects, each once in force', async () => {
    const count = 45_000;
    const made = await put({}, async (holding) => {
      for (let i = 0; i < count; i++) await holding.key(`many/${i}`);
    });
    expect(made.map(({ hold }) => (hold.scope.by === 'keys' ? hold.scope.keys.length : 0))).to.deep.equal([
      20_000, 20_000, 5000,
    ]);
    expect(names()).to.have.length(3);
    temp.write(`many/${count - 1}`, 'x', 3 * DAY);
    temp.write(`many/${count}`, 'x', 3 * DAY);
    await sweepOld(place);
    expect([temp.live(`many/${count - 1}`), temp.live(`many/${count}`)]).to.deep.equal(['x', undefined]);
  });

  it('are only pretended by a dry run', async () => {
    const made = await put({ dryRun: true }, async (holding) => holding.prefix(''));
    expect(made.map(({ outcome }) => outcome)).to.deep.equal(['would be']);
    expect(names()).to.deep.equal([]);
    await put({}, async (holding) => holding.prefix(''));
    const [name = ''] = names();
    await releaseHold(at(), name, true);
    expect((await resume(at(), true)).released.map((one) => one.name)).to.deep.equal([name]);
    expect(names()).to.deep.equal([name]);
  });

  it('are released by their names alone, and nothing else can be named', async () => {
    await put({}, async (holding) => holding.prefix('k/'));
    for (const text of ['../owner.json', '../owner', 'h-20261122T101500123Z-k3v0q8', '', '.']) {
      const error = await releaseHold(at(), text, false).catch((e: unknown) => e);
      expect(error, text).to.include({ code: 'not-found', key: text });
    }
    expect(await readOwner(place.store.control)).to.include({ catalog: place.catalog.uuid });
    const [name = ''] = names();
    await releaseHold(at(), name.replace('.json', ''), false);
    expect(names()).to.deep.equal([]);
    expect((await sweepOld(place)).moved).to.equal(KEYS.length);
  });

  it('on everything end with resume, all of them; others stay', async () => {
    await put({}, async (holding) => holding.prefix(''));
    await put({ until: temp.clock.now() + DAY, reason: 'another' }, async (holding) => holding.prefix(''));
    await put({}, async (holding) => holding.prefix('k/1'));
    expect(names()).to.have.length(2); // the first pause lasts longer than the second
    const { released, unclear } = await resume(at(), false);
    expect([released.length, unclear.length]).to.deep.equal([1, 0]);
    await sweepOld(place);
    expect(KEYS.filter((key) => temp.live(key) !== undefined)).to.deep.equal(['k/1']);
    expect((await resume(at(), false)).released).to.deep.equal([]);
  });
});
