import { expect } from 'chai';
import type { Part, PartStart } from '../../lib/catalog/schedule.ts';
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
    const edges = [at + DAY, at + 3 * DAY, at + 9 * DAY, at + 10 * DAY];
    const counts = (window: number): number[] =>
      schedule.of(place.row.n, window, edges).bins.map(({ count }) => count);
    expect(counts(0)).to.deep.equal([0, 1, 0, 0, 0]);
    expect(counts(3 * DAY - 1)).to.deep.equal([0, 1, 0, 0, 0]);
    expect(counts(3 * DAY)).to.deep.equal([0, 0, 1, 0, 0]);
    expect(counts(9 * DAY)).to.deep.equal([0, 0, 0, 1, 0]);
    expect(counts(99 * DAY)).to.deep.equal([0, 0, 0, 0, 1]);
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

  it('counts what is due in parts, of any size, as it does at once', async () => {
    for (const key of ['a', 'b', 'c', 'd', 'e']) {
      await swept(key, key.repeat(3));
      temp.clock.advance(HOUR);
    }
    const { schedule } = place.catalog;
    const since = temp.clock.wall - 5 * HOUR;
    for (const window of [0, 2 * DAY, 2 * DAY + HOUR]) {
      const now = since + 2 * DAY + 3 * HOUR;
      const { bins, first } = schedule.of(place.row.n, window, [now + 1]);
      for (const limit of [1, 2, 3, 4, 100]) {
        const parts = partsOf((after) => schedule.duePart({ store: place.row.n, now, window, after, limit }));
        const sum = (of: 'count' | 'bytes'): number => parts.reduce((total, part) => total + part[of], 0);
        expect({ count: sum('count'), bytes: sum('bytes') }, `${window} ${limit}`).to.deep.equal(bins[0]);
        expect(Math.min(...parts.map((part) => part.first ?? Number.POSITIVE_INFINITY))).to.equal(first);
        expect(parts.length).to.be.at.most(4 / limit + 2);
      }
    }
  });

  it('counts what the store keeps until its lock ends, and while it waits', async () => {
    for (const key of ['a', 'b', 'c']) await swept(key, key.repeat(2));
    const { tombstones, schedule } = place.catalog;
    temp.clock.advance(3 * DAY);
    const now = temp.clock.wall;
    const { n: store } = place.row;
    const [a, b, c] = tombstones.duePage({ store, now, window: 0, after: undefined, limit: 3 });
    if (a === undefined || b === undefined || c === undefined) throw new Error('not due');
    const run = place.catalog.runs.begin({
      id: 'r-1',
      store,
      kind: 'purge',
      pid: 1,
      host: '',
      boot: '',
      by: '',
      now,
    });
    const ids = [a.id, b.id, c.id];
    const [x, y, z] = tombstones.takeForPurge({ store, run, ids, now, window: 0 });
    if (x === undefined || y === undefined || z === undefined) throw new Error('not taken');
    const ends = [
      { tombstone: x, to: 'prior' as const, lockedUntil: now + DAY },
      { tombstone: y, to: 'prior' as const, lockedUntil: now + 2 * DAY },
      { tombstone: z, to: 'prior' as const },
    ];
    tombstones.settlePurges({ store, run, now, at: now, window: 0, ends });
    const locked = (at: number): number[] =>
      [1, 2, 100].map((limit) =>
        partsOf((after) => schedule.lockedPart({ store, now: at, after, limit })).reduce(
          (total, { count, bytes }) => total + count * 1000 + bytes,
          0,
        ),
      );
    expect(locked(now)).to.deep.equal([2004, 2004, 2004]);
    expect(locked(now + DAY)).to.deep.equal([1002, 1002, 1002]);
    expect(locked(now + 2 * DAY)).to.deep.equal([0, 0, 0]);
  });
});

function partsOf(look: (after: PartStart | null) => Part): Part[] {
  const parts: Part[] = [];
  for (let after: PartStart | null = null; ; ) {
    const part = look(after);
    parts.push(part);
    if (part.next === null) return parts;
    after = part.next;
  }
}
