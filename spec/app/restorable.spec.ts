import { expect } from 'chai';
import { newestOfKey, pagesBelow, pagesOfSweep, withoutRepeats } from '../../lib/app/restorable.ts';
import type { Tombstone } from '../../lib/catalog/tombstones.ts';
import type { Place } from '../../lib/run/place.ts';
import { bringBack, FAST, purgeDue, sweepOld } from '../support/phases.ts';
import { DAY, TempPlace } from '../support/place.ts';

describe('what can be restored', () => {
  let temp: TempPlace;
  let place: Place;

  beforeEach(async () => {
    temp = await TempPlace.make(FAST);
    place = temp.open();
  });

  afterEach(() => temp.remove());

  /** Tombstones these keys in one sweep; gives its id. */
  async function swept(...keys: string[]): Promise<string> {
    for (const key of keys) temp.write(key, `${key} at ${temp.clock.wall}`, 5 * DAY);
    temp.clock.advance(1000);
    return (await sweepOld(place)).sweep ?? '';
  }

  const keysOf = (pages: Iterable<readonly Tombstone[]>): string[] =>
    [...pages].flatMap((page) => page.map(({ key }) => key)).toSorted();

  it('is of a key the newest that has not ended, however many have', async () => {
    await swept('a');
    const { catalog, row } = place;
    const wanted = newestOfKey(catalog, row, 'a');
    temp.clock.advance(DAY);
    place = temp.open();
    // Later generations that were purged at once: their window was none.
    const hasty: Place = { ...place, safetyWindow: 0 };
    for (let i = 0; i < 20; i++) {
      temp.write('a', `${i}`, 5 * DAY);
      await sweepOld(hasty);
      temp.clock.advance(1);
    }
    await purgeDue({ ...hasty, safetyWindow: 0 });
    const states = catalog.tombstones.ofKey(row.n, 'a', 100).map(({ state }) => state);
    expect(states.filter((state) => state === 'purged')).to.have.length(20);
    expect(newestOfKey(catalog, row, 'a')?.id).to.equal(wanted?.id);
    expect(newestOfKey(catalog, row, 'zz')).to.equal(undefined);
  });

  it('is of a key that has only ended ones the newest of those', async () => {
    await swept('a');
    temp.clock.advance(8 * DAY);
    await purgeDue(place);
    expect(newestOfKey(place.catalog, place.row, 'a')?.state).to.equal('purged');
  });

  it('is of a sweep all that it moved', async () => {
    const first = await swept('a', 'b');
    await swept('a', 'c');
    const { catalog, row } = place;
    expect(keysOf(pagesOfSweep(catalog, row, first))).to.deep.equal(['a', 'b']);
    await bringBack(place, catalog.tombstones.ofKey(row.n, 'b', 1));
    expect(keysOf(pagesOfSweep(catalog, row, first))).to.deep.equal(['a', 'b']);
    expect([...pagesOfSweep(catalog, row, 's-20261122T101500123Z-k3v0q8')]).to.deep.equal([]);
  });

  it('is below a prefix the newest of each key, since a time', async () => {
    await swept('logs/a', 'logs/b', 'x');
    const since = temp.clock.wall + 1;
    await swept('logs/a');
    const { catalog, row } = place;
    const newest = newestOfKey(catalog, row, 'logs/a')?.id;
    const all = [...pagesBelow(catalog, row, { prefix: 'logs/', since: undefined })].flat();
    expect(all.map(({ key }) => key).toSorted()).to.deep.equal(['logs/a', 'logs/b']);
    expect(all.find(({ key }) => key === 'logs/a')?.id).to.equal(newest);
    expect(keysOf(pagesBelow(catalog, row, { prefix: '', since }))).to.deep.equal(['logs/a']);
  });

  it('comes in pages in which a key occurs once, in order', async () => {
    await swept('a', 'b');
    await swept('a');
    const { catalog, row } = place;
    const a = catalog.tombstones.ofKey(row.n, 'a', 2).toReversed();
    const b = catalog.tombstones.ofKey(row.n, 'b', 1);
    const parts = [...withoutRepeats([...a, ...b])].map((part) => part.map(({ id }) => id));
    expect(parts.flat()).to.deep.equal([...a, ...b].map(({ id }) => id));
    expect(parts).to.have.length(2);
    expect([...withoutRepeats([])]).to.deep.equal([]);
  });
});
