import { expect } from 'chai';
import { Pace, type PaceSettings } from '../../lib/run/pace.ts';
import type { Place } from '../../lib/run/place.ts';
import { FAST, pendingFiles, purgeDue, sweepOld } from '../support/phases.ts';
import { DAY, TempPlace } from '../support/place.ts';

const NONE: PaceSettings = { requestsPerSecond: null, bytesPerSecond: null };

describe('the pace of a local store', () => {
  let temp: TempPlace;
  beforeEach(async () => {
    temp = await TempPlace.make(FAST);
    for (let i = 0; i < 10; i++) temp.write(`k${i}`, 'x'.repeat(100), 3 * DAY);
  });
  afterEach(() => {
    temp.remove();
  });

  function paced(settings: Partial<PaceSettings>): Place {
    return { ...temp.open(), pace: new Pace({ ...NONE, ...settings }, temp.clock) };
  }

  /** How long work takes, s; and how many fences it puts up. */
  async function timed(place: Place, work: (place: Place) => Promise<unknown>): Promise<[number, number]> {
    const began = temp.clock.mono;
    let batches = 0;
    const { control } = place.store;
    const create = control.create.bind(control);
    control.create = async (name, body) => {
      if (name.startsWith('fences/')) batches++;
      return create(name, body);
    };
    await work(place);
    return [Math.round((temp.clock.mono - began) / 1000), batches];
  }

  it('spreads moves and purges by objects', async () => {
    const place = paced({ requestsPerSecond: 2.5 });
    // Five batches of two; the look that finds no more waits too.
    expect((await timed(place, sweepOld))[0]).to.equal(4);
    expect(pendingFiles(temp)).to.have.length(10);
    temp.clock.advance(8 * DAY);
    expect(await timed(place, purgeDue)).to.deep.equal([3, 5]);
    expect(pendingFiles(temp)).to.deep.equal([]);
  });

  it('spreads them by bytes, also where one object has more than a second’s worth', async () => {
    const place = paced({ bytesPerSecond: 50 });
    expect((await timed(place, sweepOld))[0]).to.equal(20);
    temp.clock.advance(8 * DAY);
    expect(await timed(place, purgeDue)).to.deep.equal([18, 10]);
    expect(pendingFiles(temp)).to.deep.equal([]);
  });

  it('is none where none is set', async () => {
    const place = paced({});
    expect(await timed(place, sweepOld)).to.deep.equal([0, 2]);
    expect(pendingFiles(temp)).to.have.length(10);
  });

  it('does not wait on when it is stopped', async () => {
    const stop = new AbortController();
    const place = paced({ requestsPerSecond: 0.0001 });
    const sleep = temp.clock.sleep.bind(temp.clock);
    temp.clock.sleep = async (ms) => {
      if (ms < DAY / 1000) return sleep(ms);
      stop.abort(); // and it ends at once
    };
    const result = await sweepOld(place, { signal: stop.signal });
    expect([result.isCut, result.moved, pendingFiles(temp).length]).to.deep.equal([true, 1, 1]);
    expect(place.catalog.runs.open(place.row.n)).to.deep.equal([]);
  });
});
