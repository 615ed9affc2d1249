import { expect } from 'chai';
import type { Place } from '../../lib/run/place.ts';
import { FAST, purgeDue, sweepOld } from '../support/phases.ts';
import { age, DAY, TempPlace } from '../support/place.ts';
import { watchedFs } from '../support/watched-fs.ts';

const FILES = 5000;
/** How many files are handled as one, and how many of 0.1 ms each fit into the time that a batch may take. */
const MOST_AT_ONCE = 100 + 100;

describe('large batches of a local store', () => {
  let temp: TempPlace;
  let place: Place;
  /** How many calls of each kind came between two turns of the event loop, at the most. */
  let most: Map<string, number>;
  /** Of each file that was renamed: its batch, by the id that it got. */
  let moved: string[];
  let stop: () => void;

  beforeEach(async () => {
    temp = await TempPlace.make(FAST);
    most = new Map();
    moved = [];
    let now = new Map<string, number>();
    let isStopped = false;
    const turn = (): void => {
      now = new Map();
      if (!isStopped) setImmediate(turn);
    };
    turn();
    stop = () => {
      isStopped = true;
    };
    const fs = watchedFs(({ name, values }) => {
      if (name === 'rename') moved.push(/~(\d{8}T\d{9}Z)/.exec(String(values[1]))?.[1] ?? '');
      // What a call takes, by the store's clock.
      if (name === 'rename' || name === 'unlinkAsync') temp.clock.mono += 0.1;
      now.set(name, (now.get(name) ?? 0) + 1);
      most.set(name, Math.max(most.get(name) ?? 0, now.get(name) ?? 0));
    });
    temp.window = 0;
    place = temp.open({ fs });
  });
  afterEach(() => {
    stop();
    temp.remove();
  });

  for (const [how, directories] of [
    ['in one directory', 1],
    ['in many directories', 500],
  ] as const) {
    it(`let others have their turns, ${how}`, async () => {
      for (let i = 0; i < FILES; i++) temp.write(`d${i % directories}/${i}`, 'x', 2 * DAY);
      expect((await sweepOld(place, { policies: [age({ prefix: 'd' })] })).moved).to.equal(FILES);
      expect(most.get('rename')).to.be.within(1, MOST_AT_ONCE);
      const ofBatches = moved.filter((batch) => batch !== '');
      expect(ofBatches, 'one batch after the other').to.deep.equal(ofBatches.toSorted());
      expect(new Set(ofBatches).size).to.equal(3);
      temp.clock.advance(1000);
      expect((await purgeDue(place)).purged).to.equal(FILES);
      expect(most.get('unlinkAsync')).to.be.within(1, 2 * 64); // one ends and the next begins
    });
  }
});
