import path from 'node:path';
import { expect } from 'chai';
import { recover } from '../../lib/app/recover.ts';
import type { Tombstone } from '../../lib/catalog/tombstones.ts';
import type { Place } from '../../lib/run/place.ts';
import {
  allTombstones,
  bringBack,
  FAST,
  filesBelow,
  purgeDue,
  readThrough,
  sweepOld,
} from '../support/phases.ts';
import { age, DAY, TempPlace } from '../support/place.ts';
import { Child } from './child.ts';
import type { Errand } from './place.child.ts';

const CHILD = path.join(import.meta.dirname, 'place.child.ts');
/** All are below what their batches announce. */
const BELOW = 'k/';
const KEYS = ['a/1', 'a/2', 'b/3', 'b/c/4', '5'].map((key) => `${BELOW}${key}`);

interface Phase {
  /** The call that does its work, once for each object. */
  readonly call: string;
  readonly prepare: (place: Place) => Promise<unknown>;
  /** The state that all are in at its end, when nothing stops it. */
  readonly end: Tombstone['state'];
}

const PHASES: Record<'sweep' | 'purge' | 'restore', Phase> = {
  sweep: { call: 'rename', prepare: async () => undefined, end: 'pending' },
  purge: { call: 'unlinkAsync', prepare: async (place) => sweepOld(place), end: 'purged' },
  restore: { call: 'link', prepare: async (place) => sweepOld(place), end: 'restored' },
};

describe('beside a process in the middle of a batch', function () {
  this.timeout(30_000);
  let temp: TempPlace;
  let place: Place;
  let children: Child[];
  beforeEach(async () => {
    temp = await TempPlace.make(FAST);
    place = temp.open();
    children = [];
    for (const key of KEYS) temp.write(key, `content of ${key}`, 3 * DAY);
  });
  afterEach(async () => {
    for (const child of children) await child.kill();
    temp.remove();
  });

  /** A process that has stopped in the middle of a phase. */
  async function stopped(does: Errand['do'], stop: Errand['stop']): Promise<Child> {
    const errand = { directory: temp.directory, now: temp.clock.wall, do: does, prefix: BELOW, stop };
    const child = new Child(CHILD, [JSON.stringify(errand)]);
    children.push(child);
    await child.stop();
    return child;
  }

  async function prepare(does: keyof typeof PHASES): Promise<void> {
    await PHASES[does].prepare(place);
    if (does === 'purge') temp.clock.advance(temp.window + DAY);
  }

  function states(): string[] {
    return allTombstones(place).map(({ id, state }) => `${id} ${state}`);
  }

  function everything(): unknown {
    return [
      filesBelow(temp.root).filter((name) => !name.startsWith('.tombstoned/')),
      states(),
      place.catalog.runs.open(place.row.n),
      place.catalog.tombstones.tallies(place.row.n),
    ];
  }

  /** Nothing is lost and nothing is stuck. */
  async function checkWhole(): Promise<void> {
    expect(place.catalog.runs.open(place.row.n)).to.deep.equal([]);
    const tombstones = allTombstones(place);
    for (const key of KEYS) {
      if (tombstones.some((t) => t.key === key && t.state === 'purged')) continue;
      expect(await readThrough(place, key)).to.equal(`content of ${key}`);
    }
    for (const { key, id, state } of tombstones) {
      expect(['pending', 'purged', 'restored', 'abandoned']).to.include(state);
      const isThere = temp.live(`pending_deletion/${key}~${id}`) !== undefined;
      expect(isThere, `${key} ${state}`).to.equal(state === 'pending' || state === 'restored');
    }
  }

  for (const does of ['sweep', 'purge', 'restore'] as const) {
    const { call, end } = PHASES[does];
    for (const when of ['before', 'after'] as const) {
      it(`recovery leaves its ${does} alone, ${when} a ${call}; it goes on as if nobody had looked`, async () => {
        await prepare(does);
        const child = await stopped(does, { call, nth: 3, when });
        const before = everything();
        await recover(place);
        expect(everything()).to.deep.equal(before);
        expect(temp.talk).to.deep.equal([]);
        child.wake();
        await child.hear();
        await child.end();
        expect(allTombstones(place).map(({ state }) => state)).to.deep.equal(KEYS.map(() => end));
        await checkWhole();
      });

      it(`recovery finishes its ${does} once it is killed, ${when} a ${call}`, async () => {
        await prepare(does);
        const child = await stopped(does, { call, nth: 3, when });
        await child.kill();
        await recover(place);
        await checkWhole();
        expect(temp.talk.join('\n')).to.match(/recovered run r-\S+, whose process \d+ died/);
        const after = everything();
        await recover(place);
        expect(everything(), 'recovery runs twice with the same end').to.deep.equal(after);
      });
    }

    it(`sweeps, purges and restores of other objects go their way during its ${does}`, async () => {
      await prepare(does);
      const child = await stopped(does, { call, nth: 2, when: 'before' });
      for (const key of ['z/1', 'z/2']) temp.write(key, `content of ${key}`, 3 * DAY);
      const theirs = new Set(states());
      await recover(place);
      expect((await sweepOld(place, { policies: [age({ prefix: 'z/' })] })).moved).to.equal(2);
      const ours = allTombstones(place).filter(({ key }) => key.startsWith('z/'));
      const [outcome] = await bringBack(place, ours.slice(0, 1));
      expect(outcome?.outcome).to.equal('restored');
      await purgeDue(place);
      expect(states().filter((state) => theirs.has(state))).to.deep.equal([...theirs]);
      child.wake();
      await child.hear();
      await child.end();
      await checkWhole();
      expect(allTombstones(place).filter(({ state }) => state === end).length).to.be.at.least(KEYS.length);
    });
  }

  it('a recovery that is itself in the middle is left alone by another, which finishes it once it is killed', async () => {
    const sweeping = await stopped('sweep', { call: 'rename', nth: 3, when: 'after' });
    await sweeping.kill();
    const recovering = await stopped('recover', { call: 'fsync', nth: 1, when: 'after' });
    const before = everything();
    await recover(place);
    expect(everything()).to.deep.equal(before);
    await recovering.kill();
    await recover(place);
    await checkWhole();
    // What had moved is pending; what had not begun is left to the next sweep.
    expect(new Set(allTombstones(place).map(({ state }) => state))).to.have.all.keys('pending', 'abandoned');
    expect((await sweepOld(place)).moved).to.be.greaterThan(0);
    await checkWhole();
    expect(KEYS.filter((key) => temp.live(key) !== undefined)).to.deep.equal([]);
  });

  it('of two recoveries one does the work, and both end', async () => {
    const sweeping = await stopped('sweep', { call: 'rename', nth: 3, when: 'after' });
    await sweeping.kill();
    const recovering = await stopped('recover', { call: 'fsync', nth: 1, when: 'before' });
    await recover(place);
    expect(temp.talk).to.deep.equal([]);
    recovering.wake();
    expect(await recovering.hear())
      .to.have.property('message')
      .that.matches(/^recovered run/);
    expect(await recovering.hear()).to.equal('recovered');
    await recovering.end();
    await checkWhole();
    await recover(place);
    expect(temp.talk).to.deep.equal([]);
  });
});
