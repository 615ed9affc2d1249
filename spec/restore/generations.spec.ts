import { expect } from 'chai';
import type { Tombstone } from '../../lib/catalog/tombstones.ts';
import type { Place } from '../../lib/run/place.ts';
import {
  again,
  bringBack,
  FAST,
  pendingFiles,
  purgeDue,
  readThrough,
  sweepOld,
  tombstonesOf,
} from '../support/phases.ts';
import { DAY, TempPlace } from '../support/place.ts';

const KEY = 'logs/a.meta';

describe('two generations of one key', () => {
  let temp: TempPlace;
  let place: Place;
  beforeEach(async () => {
    temp = await TempPlace.make(FAST);
    place = temp.open();
  });
  afterEach(() => {
    temp.remove();
  });

  /** Writes the key, older than the policy wants it, and sweeps it. */
  async function generation(content: string): Promise<Tombstone> {
    temp.write(KEY, content, 3 * DAY);
    expect((await sweepOld(place)).moved).to.equal(1);
    const [newest] = tombstonesOf(place, KEY);
    if (newest === undefined) throw new Error('no tombstone');
    return newest;
  }

  function states(...tombstones: Tombstone[]): (string | undefined)[] {
    return tombstones.map((tombstone) => again(place, tombstone)?.state);
  }

  it('have pending copies of their own, and the newest is read', async () => {
    const first = await generation('first');
    const second = await generation('second');
    expect(second.id > first.id).to.equal(true);
    expect(pendingFiles(temp)).to.deep.equal([`${KEY}~${first.id}`, `${KEY}~${second.id}`]);
    expect(await readThrough(place, KEY)).to.equal('second');
  });

  it('are purged independently: the first goes, and the second stays', async () => {
    const first = await generation('first');
    temp.clock.advance(4 * DAY);
    const second = await generation('second');
    temp.clock.advance(temp.window - 3 * DAY);
    expect((await purgeDue(place)).purged).to.equal(1);
    expect(states(first, second)).to.deep.equal(['purged', 'pending']);
    expect(pendingFiles(temp)).to.deep.equal([`${KEY}~${second.id}`]);
    expect(await readThrough(place, KEY)).to.equal('second');
    temp.clock.advance(4 * DAY);
    expect((await purgeDue(place)).purged).to.equal(1);
    expect(pendingFiles(temp)).to.deep.equal([]);
  });

  it('are restored independently: the older one, and then the newer one by force', async () => {
    const first = await generation('first');
    const second = await generation('second');
    const [older] = await bringBack(place, [first]);
    expect(older?.outcome).to.equal('restored');
    expect(temp.live(KEY)).to.equal('first');
    const [newer] = await bringBack(place, [second]);
    expect(newer?.outcome).to.equal('conflict');
    expect(temp.live(KEY)).to.equal('first');
    const [forced] = await bringBack(place, [second], { force: true });
    expect(forced?.outcome).to.equal('restored');
    expect(temp.live(KEY)).to.equal('second');
    expect(states(first, second)).to.deep.equal(['restored', 'restored']);
  });

  it('restored and purged in any order keep what was not purged', async () => {
    const first = await generation('first');
    const second = await generation('second');
    await bringBack(place, [second]);
    temp.clock.advance(temp.window + DAY);
    await purgeDue(place);
    expect(states(first, second)).to.deep.equal(['purged', 'purged']);
    expect(temp.live(KEY)).to.equal('second');
    expect(pendingFiles(temp)).to.deep.equal([]);
  });

  it('are told apart when the clock stepped back 30 days between them: the newer one is the newest', async () => {
    const first = await generation('first');
    temp.clock.wall -= 30 * DAY;
    const second = await generation('second');
    expect(second.id > first.id).to.equal(true);
    expect(second.tombstonedAt).to.be.within(first.tombstonedAt + 1, first.tombstonedAt + 1000);
    expect(await readThrough(place, KEY)).to.equal('second');
    const [newest] = tombstonesOf(place, KEY);
    expect((await bringBack(place, [newest]))[0]?.outcome).to.equal('restored');
    expect(temp.live(KEY)).to.equal('second');
  });

  it('are purged by their own windows also when the clock stepped back between them', async () => {
    const first = await generation('first');
    temp.clock.wall -= 30 * DAY;
    const second = await generation('second');
    temp.clock.advance(temp.window + DAY);
    let error: unknown;
    await purgeDue(place).catch((thrown: unknown) => {
      error = thrown;
    });
    expect(error).to.include({ code: 'blocked', reason: 'clock' });
    expect(states(first, second)).to.deep.equal(['pending', 'pending']);
    place.catalog.transaction(() => place.catalog.clock.accept(temp.clock));
    await purgeDue(place);
    expect(states(first, second)).to.deep.equal(['purged', 'purged']);
  });

  it('stay apart with the same size and time', async () => {
    const { wall } = temp.clock;
    const first = await generation('one');
    temp.clock.wall = wall;
    const second = await generation('two');
    expect(second.revision).to.deep.equal(first.revision);
    await bringBack(place, [first]);
    expect(temp.live(KEY)).to.equal('one');
    expect(pendingFiles(temp)).to.have.length(2);
  });
});
