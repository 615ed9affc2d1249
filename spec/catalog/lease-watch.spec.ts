import { expect } from 'chai';
import type { Place } from '../../lib/run/place.ts';
import { FAST } from '../support/phases.ts';
import { TempPlace } from '../support/place.ts';

describe('the watch over leases', () => {
  let temp: TempPlace;
  let place: Place;

  beforeEach(async () => {
    temp = await TempPlace.make(FAST);
    place = temp.open();
  });

  afterEach(() => {
    temp.remove();
  });

  function seen(renewal: number, began: number, done = began, boot = 'boot', by = place): number {
    return by.catalog.leaseWatch.seen({ store: place.row.n, name: 'l.json', renewal, boot, began, done });
  }

  it('counts from the end of the first look to the beginning of this one', () => {
    expect(seen(1, 100, 150)).to.equal(0);
    expect(seen(1, 1150, 9999)).to.equal(1000);
  });

  it('counts nothing for a look that was frozen while it read', () => {
    expect(seen(1, 100)).to.equal(0);
    expect(seen(1, 100, 1_000_000)).to.equal(0);
  });

  it('begins anew with each number, and with each boot of the machine', () => {
    seen(1, 100);
    expect(seen(2, 5000)).to.equal(0);
    expect(seen(2, 6000)).to.equal(1000);
    expect(seen(2, 7000, 7000, 'another boot')).to.equal(0);
    expect(seen(2, 7500, 7500, 'another boot')).to.equal(500);
  });

  it('begins anew where the clock stands before what was seen', () => {
    seen(1, 9000);
    expect(seen(1, 100)).to.equal(0);
    expect(seen(1, 300)).to.equal(200);
  });

  it('is one for all processes of a catalog', () => {
    seen(1, 100);
    const other = temp.open();
    expect(seen(1, 700, 700, 'boot', other)).to.equal(600);
  });

  it('forgets what is no more', () => {
    seen(1, 100);
    expect(place.catalog.leaseWatch.count(place.row.n)).to.equal(1);
    place.catalog.leaseWatch.keepOnly(place.row.n, ['other.json']);
    expect(place.catalog.leaseWatch.count(place.row.n)).to.equal(0);
    expect(seen(1, 700)).to.equal(0);
  });
});
