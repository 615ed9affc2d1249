import { expect } from 'chai';
import type { Place } from '../../lib/run/place.ts';
import { bringBack, FAST, purgeDue, sweepOld } from '../support/phases.ts';
import { DAY, HOUR, TempPlace } from '../support/place.ts';

describe('the schedule of what goes when', () => {
  let temp: TempPlace;
  let place: Place;

  beforeEach(async () => {
    temp = await TempPlace.make(FAST);
    temp.window = 2 * DAY;
    place = temp.open();
  });

  afterEach(() => temp.remove());

  async function swept(key: string, content: string): Promise<number> {
    temp.write(key, content, 5 * DAY);
    await sweepOld(place);
    return temp.clock.wall;
  }

  it('of nothing is nothing', () => {
    const { bins, first } = place.catalog.schedule.of(place.row.n, DAY, [temp.clock.wall]);
    expect(first).to.equal(null);
    expect(bins).to.deep.equal([
      { count: 0, bytes: 0 },
      { count: 0, bytes: 0 },
    ]);
  });

  it('counts what waits between edges, an edge itself after it', async () => {
    const a = await swept('a', '1');
    temp.clock.advance(HOUR);
    const b = await swept('b', '22');
    temp.clock.advance(HOUR);
    await swept('c', '333');
    const edges = [a + 2 * DAY, b + 2 * DAY, b + 2 * DAY + 1];
    const { bins, first } = place.catalog.schedule.of(place.row.n, 2 * DAY, edges);
    expect(first).to.equal(a + 2 * DAY);
    expect(bins).to.deep.equal([
      { count: 0, bytes: 0 },
      { count: 1, bytes: 1 },
      { count: 1, bytes: 2 },
      { count: 1, bytes: 3 },
    ]);
  });

  it('goes by today’s window where that is longer, never where it is shorter', async () => {
    const at = await swept('a', '1');
    const { schedule } = place.catalog;
    expect(schedule.of(place.row.n, 9 * DAY, []).first).to.equal(at + 9 * DAY);
    expect(schedule.of(place.row.n, 0, []).first).to.equal(at + 2 * DAY);
  });

  it('has what was restored, and not what was purged', async () => {
    await swept('a', '1');
    await swept('b', '22');
    const [b] = place.catalog.tombstones.ofKey(place.row.n, 'b', 1);
    temp.clock.advance(DAY);
    await bringBack(place, [b]);
    temp.clock.advance(DAY + HOUR);
    await purgeDue(place);
    const { bins, first } = place.catalog.schedule.of(place.row.n, 2 * DAY, []);
    expect(bins).to.deep.equal([{ count: 1, bytes: 2 }]);
    expect(first).to.equal(temp.clock.wall + DAY - HOUR);
  });
});
