import { appendFileSync, existsSync, linkSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import type { Tombstone } from '../../lib/catalog/tombstones.ts';
import type { NowOutcome, PurgeNowOptions } from '../../lib/purge/purge-now.ts';
import { Pace } from '../../lib/run/pace.ts';
import type { Place } from '../../lib/run/place.ts';
import { putUpFence, takeDownFence } from '../../lib/store/fences.ts';
import { createHold, removeHold } from '../../lib/store/holds.ts';
import { leaseText } from '../../lib/store/leases.ts';
import {
  again,
  bringBack,
  eraseNow,
  FAST,
  filesBelow,
  pendingFile,
  pendingFiles,
  purgeDue,
  readThrough,
  sweepOld,
  tombstonedOld,
  tombstonesOf,
} from '../support/phases.ts';
import { DAY, TempPlace } from '../support/place.ts';
import { errno, watchedFs } from '../support/watched-fs.ts';

const HOLD = {
  id: 'h-20261122T101500123Z-000001',
  kind: 'hold',
  blocks: 'purge',
  until: null,
  reason: 'audit',
  by: 'spec',
  host: 'spec',
  createdAt: '2026-11-22T10:15:00.123Z',
  problem: null,
} as const;

/** A batch of somebody else's about what is below `d/`. */
const FENCE = {
  run: 'r-20261122T101500123Z-k3v0q8',
  batch: 1,
  catalog: 'another',
  boot: 'b',
  host: 'h2',
  pid: 4711,
  kind: 'sweep',
  prefixes: ['d/'],
  startedAt: '2026-11-22T10:15:00.123Z',
  passing: false,
} as const;

describe('a purge of what is named', () => {
  let temp: TempPlace;
  let place: Place;
  let seed: number;
  beforeEach(async () => {
    temp = await TempPlace.make(FAST);
    place = temp.open();
    seed = 10;
  });
  afterEach(() => {
    temp.remove();
  });

  async function tombstoned(...names: string[]): Promise<Tombstone[]> {
    temp.clock.advance(1000);
    return tombstonedOld(temp, place, names);
  }

  function state(tombstone: Tombstone | undefined): string | undefined {
    return again(place, tombstone)?.state;
  }

  /** The place, where something happens once while somebody sleeps. */
  function whileWaiting(act: () => Promise<void>): Place {
    const { clock } = place;
    let isDone = false;
    const sleep = async (ms: number): Promise<void> => {
      if (!isDone) {
        isDone = true;
        await act();
      }
      await clock.sleep(ms);
    };
    return { ...place, clock: Object.assign(Object.create(clock) as typeof clock, { sleep }) };
  }

  async function erase(
    named: readonly (string | Tombstone | undefined)[],
    options: Partial<PurgeNowOptions> = {},
  ): Promise<NowOutcome[]> {
    return eraseNow(place, named, options);
  }

  /** What became of each, in a word, with the reason that keeps it. */
  async function ends(
    named: readonly (string | Tombstone | undefined)[],
    options: Partial<PurgeNowOptions> = {},
  ): Promise<string[]> {
    const outcomes = await erase(named, options);
    return outcomes.map(({ outcome, reason, code }) =>
      [outcome, reason, code].filter((x) => x !== null).join(' '),
    );
  }

  it('removes it before its window is over, and nothing else, and proves it', async () => {
    const [a, b] = await tombstoned('a', 'b');
    temp.clock.advance(5);
    const [outcome, ...others] = await erase(['a']);
    const now = temp.clock.wall;
    expect(others).to.deep.equal([]);
    expect(outcome).to.deep.equal({
      key: 'a',
      id: a?.id,
      outcome: 'purged',
      revision: a?.revision,
      size: 'content of a'.length,
      bytes: 'content of a'.length,
      at: now,
      checkedAbsentAt: now,
      detail: null,
      stays: [],
      reason: null,
      code: null,
    });
    expect([state(a), state(b)]).to.deep.equal(['purged', 'pending']);
    expect(pendingFiles(temp)).to.deep.equal([`b~${b?.id}`]);
  });

  it('is in the log: who, when, which, and why', async () => {
    const [a] = await tombstoned('a', 'b');
    await erase(['a', 'b']);
    const purged = place.catalog.events.of(a ?? expect.fail()).filter(({ what }) => what === 'purged');
    expect(purged).to.have.length(1);
    expect(purged[0]).to.include({
      tombstone: a?.id,
      key: 'a',
      cause: 'asked by legal',
      detail: 'before its window was over',
      by: 'spec@spec-host',
      at: temp.clock.wall,
    });
  });

  it('in a dry run says what would go and what would stay, and removes nothing', async () => {
    const [a, b, c] = await tombstoned('a', 'b', 'c');
    temp.write('b', 'live again');
    await createHold(place.store.control, { ...HOLD, scope: { by: 'keys', keys: ['c'] } });
    expect(await ends(['a', 'b', 'c'], { dryRun: true })).to.deep.equal([
      'purged',
      'live conflict',
      'blocked hold blocked',
    ]);
    expect([a, b, c].map(state)).to.deep.equal(['pending', 'pending', 'pending']);
    expect(pendingFiles(temp)).to.have.length(3);
    expect(await ends(['a', 'b', 'c'])).to.deep.equal(['purged', 'live conflict', 'blocked hold blocked']);
    expect([a, b, c].map(state)).to.deep.equal(['purged', 'purged', 'pending']);
  });

  describe('is kept away', () => {
    it('by holds on the key, the id, a prefix and everything, until they are released', async () => {
      const [a] = await tombstoned('d/a');
      const scopes = [
        { by: 'keys', keys: ['d/a'] },
        { by: 'ids', ids: [a?.id ?? ''] },
        { by: 'prefix', prefix: 'd/' },
        { by: 'prefix', prefix: '' },
      ] as const;
      for (const scope of scopes) {
        await createHold(place.store.control, { ...HOLD, scope });
        for (const dryRun of [true, false])
          expect(await ends(['d/a'], { dryRun })).to.deep.equal(['blocked hold blocked']);
        await removeHold(place.store.control, HOLD.id);
      }
      expect(state(a)).to.equal('pending');
      expect(await ends(['d/a'])).to.deep.equal(['purged']);
    });

    it('by leases of both kinds', async () => {
      const [a] = await tombstoned('a');
      for (const blocks of ['sweep', 'purge'] as const) {
        const lease = {
          id: 'l-20261122T101500123Z-k3v0q8',
          holder: 'fetch',
          host: 'h2',
          pid: 4711,
          prefixes: ['a'],
          blocks,
          ttlSeconds: 3600,
          acquiredAt: '2026-11-22T10:15:00.123Z',
          renewal: 7,
        };
        await place.store.control.create(`leases/${lease.id}.json`, leaseText(lease));
        for (const dryRun of [true, false])
          expect(await ends([a], { dryRun })).to.deep.equal(['blocked lease blocked']);
        await place.store.control.remove(`leases/${lease.id}.json`);
      }
      expect(await ends([a])).to.deep.equal(['purged']);
    });

    it('by a batch that is about it and is not over in time; one that is over soon is waited for', async () => {
      const [a, b] = await tombstoned('d/a', 'e/b');
      const name = await putUpFence(place.store.control, FENCE);
      for (const dryRun of [true, false])
        expect(await ends(['d/a'], { dryRun })).to.deep.equal(['blocked fence blocked']);
      expect(await ends([b, a])).to.have.members(['purged', 'blocked fence blocked']);
      expect(state(a)).to.equal('pending');
      const other = whileWaiting(async () => takeDownFence(place.store.control, name));
      const [end] = await eraseNow(other, ['d/a']);
      expect(end).to.include({ outcome: 'purged' });
    });

    it('until a batch is over that was waited for, and is taken as that has left it', async () => {
      temp.write('d/a', 'content', 3 * DAY);
      const name = await putUpFence(place.store.control, FENCE);
      const other = whileWaiting(async () => {
        await takeDownFence(place.store.control, name);
        await sweepOld(temp.open({ seed: seed++ }));
      });
      const [end] = await eraseNow(other, ['d/a']);
      expect(end).to.include({ outcome: 'purged', bytes: 'content'.length });
      expect(pendingFiles(temp)).to.deep.equal([]);
    });

    it('by a clock that is not trusted, until it is accepted', async () => {
      const [a] = await tombstoned('a');
      temp.clock.wall += DAY;
      for (const dryRun of [true, false]) {
        const error = await erase(['a'], { dryRun }).catch((e: unknown) => e);
        expect(error).to.include({ code: 'blocked', reason: 'clock' });
      }
      expect(state(a)).to.equal('pending');
      place.catalog.transaction(() => place.catalog.clock.accept(temp.clock));
      expect(await ends(['a'])).to.deep.equal(['purged']);
    });

    it('by another owner of the store', async () => {
      const [a] = await tombstoned('a');
      const owner = path.join(temp.root, '.tombstoned/owner.json');
      writeFileSync(owner, readFileSync(owner, 'utf8').replace(/"catalog":"[^"]+"/, '"catalog":"other"'));
      const error = await erase(['a']).catch((e: unknown) => e);
      expect(error).to.include({ code: 'blocked' });
      expect(existsSync(pendingFile(temp, a ?? expect.fail()))).to.equal(true);
    });

    it('by another run that has it, or takes it first', async () => {
      const [a, b] = await tombstoned('a', 'b');
      const other = temp.open({ seed: seed++ });
      const run = place.catalog.runs.begin({
        id: 'r-20261122T101500123Z-k3v0q8',
        store: place.row.n,
        kind: 'restore',
        pid: 1,
        host: 'h',
        boot: 'b',
        by: 'spec',
        uid: undefined,
        via: undefined,
        now: temp.clock.wall,
        lock: '',
      });
      const take = (id: string | undefined): unknown =>
        other.catalog.tombstones.takeForRestore({ store: place.row.n, run, ids: [id ?? ''] });
      take(a?.id);
      expect(await ends(['a'])).to.deep.equal(['blocked fence blocked']);
      const racing = temp.open({ seed: seed++ });
      const { store } = racing;
      const fileOf = store.fileOf?.bind(store);
      store.fileOf = async (key, id) => {
        take(b?.id);
        return fileOf?.(key, id);
      };
      const [end] = await eraseNow(racing, ['b']);
      expect(end).to.include({ outcome: 'blocked', reason: 'fence' });
      expect([state(a), state(b)]).to.deep.equal(['restoring', 'restoring']);
    });

    it('by a restore that brings it back between the look and the removal', async () => {
      const [a] = await tombstoned('a');
      const racing = temp.open({ seed: seed++ });
      const fileOf = racing.store.fileOf?.bind(racing.store);
      racing.store.fileOf = async (key, id) => {
        await bringBack(place, [a]);
        return fileOf?.(key, id);
      };
      const [end] = await eraseNow(racing, ['a']);
      expect(end).to.include({ outcome: 'blocked', reason: 'fence' });
      expect(state(a)).to.equal('restored');
      expect(existsSync(pendingFile(temp, a ?? expect.fail()))).to.equal(true);
    });

    it('by a copy that is not what was tombstoned', async () => {
      const [a] = await tombstoned('a');
      appendFileSync(pendingFile(temp, a ?? expect.fail()), 'more');
      expect(await ends(['a'])).to.deep.equal(['blocked changed conflict']);
      expect(readFileSync(pendingFile(temp, a ?? expect.fail()), 'utf8')).to.equal('content of amore');
    });
  });

  describe('of several generations', () => {
    it('is refused by the key, and names them; takes one by its id', async () => {
      const [old] = await tombstoned('a');
      const [young] = await tombstoned('a');
      for (const dryRun of [true, false]) {
        const [outcome] = await erase(['a'], { dryRun });
        expect(outcome).to.include({ outcome: 'blocked', code: 'conflict', id: null });
        expect(outcome?.stays.join()).to.include(old?.id).and.include(young?.id);
      }
      expect([state(old), state(young)]).to.deep.equal(['pending', 'pending']);
      const [outcome] = await erase([old]);
      expect(outcome).to.include({ outcome: 'purged', id: old?.id, checkedAbsentAt: temp.clock.wall });
      expect(outcome?.stays).to.deep.equal([`pending copy ${young?.id} (pending)`]);
      expect([state(old), state(young)]).to.deep.equal(['purged', 'pending']);
      expect(await ends(['a'])).to.deep.equal(['purged']);
    });

    it('takes them all with --all-versions, by the key and by the id of one', async () => {
      for (const byId of [false, true]) {
        const [old] = await tombstoned('a');
        const [young] = await tombstoned('a');
        const outcomes = await erase([byId ? old : 'a'], { allVersions: true });
        expect(outcomes.map(({ id, outcome }) => [id, outcome])).to.deep.equal([
          [young?.id, 'purged'],
          [old?.id, 'purged'],
        ]);
        expect([state(old), state(young)]).to.deep.equal(['purged', 'purged']);
        expect(pendingFiles(temp)).to.deep.equal([]);
      }
    });
  });

  describe('of a key that is live', () => {
    it('does not touch the live object, and says so; by its id the tombstone is what counts', async () => {
      const [a, b] = await tombstoned('a', 'b');
      temp.write('a', 'live again');
      temp.write('b', 'live again');
      temp.write('c', 'never moved');
      expect(await ends(['a', b, 'c'])).to.deep.equal(['live conflict', 'purged', 'live conflict']);
      expect([state(a), state(b)]).to.deep.equal(['purged', 'purged']);
      expect([temp.live('a'), temp.live('b'), temp.live('c')]).to.deep.equal([
        'live again',
        'live again',
        'never moved',
      ]);
    });

    it('leaves what was restored alone, and takes both when it was tombstoned again', async () => {
      const [a] = await tombstoned('a');
      await bringBack(place, [a], { exemptFor: 0 });
      expect(await ends([a])).to.deep.equal(['live conflict']);
      expect(await ends(['a'], { allVersions: true })).to.deep.equal(['live conflict']);
      expect(state(a)).to.equal('restored');
      expect(temp.live('a')).to.equal('content of a');
      temp.clock.advance(1000);
      await sweepOld(place);
      const [younger] = tombstonesOf(place, 'a');
      expect(await ends(['a'], { allVersions: true })).to.deep.equal(['purged', 'purged']);
      expect([state(a), state(younger)]).to.deep.equal(['purged', 'purged']);
      expect(filesBelow(temp.root).filter((name) => !name.startsWith('.tombstoned'))).to.deep.equal([]);
    });
  });

  describe('of a file with other names', () => {
    it('says that its content stays under them', async () => {
      const [a] = await tombstoned('a');
      linkSync(pendingFile(temp, a ?? expect.fail()), path.join(temp.directory, 'other'));
      for (const dryRun of [true, false]) {
        const [outcome] = await erase(['a'], { dryRun });
        expect(outcome).to.include({ outcome: 'hidden', code: 'conflict', checkedAbsentAt: null });
        expect(outcome?.detail).to.equal('its file has 1 other name (hard links), which stay');
      }
      expect(state(a)).to.equal('purged');
      expect(readFileSync(path.join(temp.directory, 'other'), 'utf8')).to.equal('content of a');
    });

    it('does not count names that go with it', async () => {
      const [a] = await tombstoned('a');
      await bringBack(place, [a], { exemptFor: 0 });
      temp.clock.advance(1000);
      await sweepOld(place); // two pending names of one file
      const outcomes = await erase(['a'], { allVersions: true });
      expect(outcomes.map(({ outcome }) => outcome)).to.deep.equal(['purged', 'purged']);
    });
  });

  it('of what was purged before says when, and that it is absent: nothing is left to do', async () => {
    const [a] = await tombstoned('a');
    await erase(['a']);
    const at = temp.clock.wall;
    temp.clock.advance(DAY);
    for (const named of ['a', again(place, a)]) {
      const [outcome] = await erase([named]);
      expect(outcome).to.include({
        outcome: 'gone',
        code: null,
        at,
        bytes: 0,
        checkedAbsentAt: temp.clock.wall,
        detail: `it was purged ${new Date(at).toISOString()}`,
      });
    }
  });

  it('of what nobody has heard of is not found, and does not keep the others from going', async () => {
    await tombstoned('a');
    expect(await ends(['nix', 'a'])).to.deep.equal(['gone not-found', 'purged']);
    const outcomes: NowOutcome[] = [];
    const id = '20261122T101500123Z-k3v0q8tzm2xj4d';
    await erase([], {
      targets: (async function* () {
        yield { by: 'id', id, tombstone: undefined } as const;
      })(),
      onOutcome: (outcome) => outcomes.push(outcome),
    });
    expect(outcomes.map(({ outcome, code }) => [outcome, code])).to.deep.equal([['gone', 'not-found']]);
  });

  it('of a copy that had gone says that nothing was there to remove', async () => {
    const [a] = await tombstoned('a');
    rmSync(pendingFile(temp, a ?? expect.fail()));
    const [outcome] = await erase(['a']);
    expect(outcome).to.include({ outcome: 'gone', bytes: 0, code: null, checkedAbsentAt: temp.clock.wall });
    expect(state(a)).to.equal('purged');
  });

  it('names a pending copy that the catalog does not know, and leaves it', async () => {
    const [a] = await tombstoned('a');
    const stranger = path.join(temp.root, 'pending_deletion/a~20261122T101500123Z-k3v0q8tzm2xj4d');
    writeFileSync(stranger, 'x');
    const [outcome] = await erase(['a']);
    expect(outcome).to.include({ outcome: 'purged', checkedAbsentAt: null });
    expect(outcome?.stays.join()).to.include('which the catalog does not know');
    expect(state(a)).to.equal('purged');
    expect(await ends(['a'])).to.deep.equal(['hidden conflict']);
    expect(existsSync(stranger)).to.equal(true);
  });

  it('that can’t remove one says so, and removes the others', async () => {
    await tombstoned('a', 'b', 'c');
    const fs = watchedFs(({ name, values }) => {
      if (name === 'unlinkAsync' && String(values[0]).includes('/b~')) throw errno('EPERM');
    });
    const outcomes = await eraseNow(temp.open({ fs, seed: seed++ }), ['a', 'b', 'c']);
    expect(outcomes.map(({ outcome, code }) => [outcome, code])).to.deep.equal([
      ['purged', null],
      ['failed', 'failed'],
      ['purged', null],
    ]);
    expect(await readThrough(place, 'b')).to.equal('content of b');
  });

  it('that fails in its midst proves what has gone', async () => {
    await tombstoned('a', 'b', 'c');
    const slow: Place = {
      ...temp.open({ seed: seed++ }),
      pace: new Pace({ requestsPerSecond: 1, bytesPerSecond: null }, temp.clock),
    };
    const remove = slow.store.remove.bind(slow.store);
    slow.store.remove = async (batch, options) => {
      if (batch.some(({ key }) => key === 'b')) throw errno('EIO');
      return remove(batch, options);
    };
    const outcomes: NowOutcome[] = [];
    const error = await eraseNow(slow, ['a', 'b', 'c'], {
      onOutcome: (outcome) => outcomes.push(outcome),
    }).catch((e: unknown) => e);
    expect(error).to.match(/EIO/);
    expect(outcomes.map(({ key, outcome }) => [key, outcome])).to.deep.equal([['a', 'purged']]);
  });

  it('removes no old versions by a clock that jumps in its midst, and proves what has gone before', async () => {
    const { store } = place;
    const removed: string[] = [];
    store.hidden = async (key) =>
      removed.includes(key) ? [] : [{ key, id: null, versionIds: ['v1'], count: 1, bytes: 5, left: null }];
    store.removeHidden = async (batch) => {
      removed.push(...batch.map(({ key }) => key));
      temp.clock.wall += DAY;
      return batch.map(() => ({ outcome: 'removed' }));
    };
    const outcomes: NowOutcome[] = [];
    const error = await erase(['a', 'b'], {
      allVersions: true,
      onOutcome: (outcome) => outcomes.push(outcome),
    }).catch((e: unknown) => e);
    expect(error).to.include({ code: 'blocked', reason: 'clock' });
    expect(removed).to.deep.equal(['a']);
    expect(outcomes.map(({ key, outcome, bytes }) => [key, outcome, bytes])).to.deep.equal([
      ['a', 'purged', 5],
    ]);
    expect(filesBelow(path.join(temp.root, '.tombstoned/fences'))).to.deep.equal([]);
  });

  it('that can’t look for it afterwards proves nothing', async () => {
    await tombstoned('a');
    let isRemoved = false;
    const fs = watchedFs(({ name, values }) => {
      if (name === 'unlinkAsync') isRemoved = true;
      if (isRemoved && name === 'lstat' && String(values[0]).endsWith('/a')) throw errno('EIO');
    });
    const [outcome] = await eraseNow(temp.open({ fs, seed: seed++ }), ['a']);
    expect(outcome).to.include({ outcome: 'failed', code: 'failed', checkedAbsentAt: null });
    expect(outcome?.at).to.be.a('number');
  });

  it('of thousands goes on in parts, each named once', async () => {
    const names = Array.from({ length: 1100 }, (_, i) => `d/${i}`);
    await tombstoned(...names);
    const outcomes = await erase(names);
    expect(outcomes.map(({ key }) => key)).to.deep.equal(names);
    expect(outcomes.every(({ outcome }) => outcome === 'purged')).to.equal(true);
    expect(pendingFiles(temp)).to.deep.equal([]);
  });

  it('stops when it is told to, after what is under way, and tells what it has done', async () => {
    const names = Array.from({ length: 1100 }, (_, i) => `d/${i}`);
    await tombstoned(...names);
    const stop = new AbortController();
    const outcomes: NowOutcome[] = [];
    await erase(names, {
      signal: stop.signal,
      onOutcome: (outcome) => {
        outcomes.push(outcome);
        stop.abort();
      },
    });
    expect(outcomes.length).to.be.within(1, 1099);
    expect(outcomes.every(({ outcome }) => outcome === 'purged')).to.equal(true);
    expect(pendingFiles(temp)).to.have.length(names.length - outcomes.length);
  });

  it('where listings may be stale looks again when they are not, and does not wait for itself', async () => {
    await tombstoned('a', 'b');
    const slow = temp.open({ settle: 65_000, seed: seed++ });
    const began = temp.clock.monotonic();
    const outcomes = await eraseNow(slow, ['a', 'b']);
    expect(outcomes.map(({ outcome }) => outcome)).to.deep.equal(['purged', 'purged']);
    expect(temp.clock.monotonic() - began).to.be.at.least(2 * 65_000);
  });

  it('leaves ordinary purges as they were', async () => {
    const [a, b] = await tombstoned('a', 'b');
    await erase(['a']);
    expect((await purgeDue(place)).due).to.equal(0);
    temp.clock.advance(temp.window);
    expect((await purgeDue(place)).purged).to.equal(1);
    expect([state(a), state(b)]).to.deep.equal(['purged', 'purged']);
  });
});
