import { expect } from 'chai';
import { systemClock } from '../../lib/domain/clock.ts';
import { idTime, makeTombstoneId, systemRandom } from '../../lib/domain/ids.ts';
import { parseKey } from '../../lib/domain/key.ts';
import { revisionHash } from '../../lib/domain/revision.ts';
import { Reader } from '../../lib/reader/reader.ts';
import { openSession, type Session } from '../../lib/reader/session.ts';
import type { S3Store } from '../../lib/store/s3/s3-store.ts';
import type { MoveItem } from '../../lib/store/store.ts';
import { ACTOR } from '../support/place.ts';
import { s3ServerOrSkip } from '../support/s3-server.ts';
import { BucketPlace, inFlight, withCredentials } from './bucket-place.ts';

const COUNT = 150;
/** How many keys there are where it does not matter. */
const FEW = 20;

describe('requests of reads in S3', function () {
  this.timeout(60_000);

  let place: BucketPlace;
  let store: S3Store;
  let items: MoveItem[];
  let opened: Session | undefined;

  before(function () {
    s3ServerOrSkip(this);
  });
  withCredentials();

  beforeEach(async () => {
    place = await BucketPlace.make({ semantics: 'amazon-kms' });
    place.configure();
    expect(await place.ctl(['init', '--store', 'b'])).to.include({ code: 0 });
  });

  afterEach(async () => {
    await opened?.close();
    opened = undefined;
    await place[Symbol.asyncDispose]();
  });

  async function fill(count: number): Promise<void> {
    const keys = Array.from({ length: count }, (_, i) => keyOf(i));
    await place.putAll(Object.fromEntries(keys.map((key) => [key, `content of ${key}`])));
    store = await place.store();
    items = [];
    for await (const page of store.list('logs/')) {
      for (const listed of page) {
        if (listed.type === 'refused') throw new Error(listed.why);
        const { key, revision } = listed;
        const id = makeTombstoneId(idTime(Date.now()), revisionHash(revision), items.length, systemRandom);
        items.push({ key, id, revision });
      }
    }
  }
  async function session(): Promise<Session> {
    const surroundings = { clock: systemClock, random: systemRandom, actor: ACTOR };
    opened = await openSession(store, surroundings, { prefixes: ['logs/'] });
    return opened;
  }

  async function moveAll(): Promise<void> {
    const outcomes = await store.move(items, { resume: false });
    expect(outcomes.filter(({ outcome }) => outcome !== 'moved')).to.deep.equal([]);
  }

  it('are one of a live object, and three of a moved one for those who have no view', async () => {
    await fill(FEW);
    await moveAll();
    await place.put('live/one', 'live');
    const reader = new Reader(store);
    place.proxy.forget();
    expect((await reader.bytes(parseKey('live/one'))).toString()).to.equal('live');
    expect(kinds()).to.deep.equal(['get 200']);
    place.proxy.forget();
    expect((await reader.bytes(keyOf(7))).toString()).to.equal(`content of ${keyOf(7)}`);
    expect(kinds()).to.deep.equal(['get 404', 'list 200', 'get 200']);
  });

  for (const atOnce of [1, 8]) {
    it(`are one more of moved objects than of live ones in a session, ${atOnce} at once, and some listings`, async () => {
      await fill(COUNT);
      const view = await session();
      await read(view, atOnce);
      expect({ get: place.proxy.count('get'), list: place.proxy.count('list') }).to.deep.equal({
        get: COUNT,
        list: 0,
      });
      await moveAll();
      await read(view, atOnce);
      expect(place.proxy.count('get')).to.equal(2 * COUNT);
      // 16 names ahead, then 32, 64, …; those that begin at once each look once more.
      expect(place.proxy.count('list')).to.be.within(1, 5 * atOnce);
      expect(place.proxy.count()).to.equal(place.proxy.count('get', 'list'));
    });
  }

  it('that go by what was seen beside others look again where that is not so any more', async () => {
    await fill(FEW);
    const view = await session();
    await moveAll();
    await read(view, 1, [0]);
    // Its copy was seen beside the first; in its place there is another by now.
    const [, second] = items;
    if (second === undefined) throw new Error('there is no second');
    const { key, revision } = second;
    await place.drop(`pending_deletion/${key}~${second.id}`);
    const id = makeTombstoneId(idTime(Date.now()), revisionHash(revision), 1, systemRandom);
    await place.put(`pending_deletion/${key}~${id}`, `content of ${key}`);
    await read(view, 1, [1]);
    expect(kinds()).to.deep.equal(['get 404', 'get 404', 'list 200', 'get 200']);
  });

  /** Reads some, or all, in their order, so many at a time. */
  async function read(view: Session, atOnce: number, which?: readonly number[]): Promise<void> {
    place.proxy.forget();
    await inFlight(atOnce, which ?? Array.from({ length: COUNT }, (_, i) => i), async (i) => {
      const found = await view.open(keyOf(i));
      const bytes: Buffer[] = await found.read().toArray();
      expect(Buffer.concat(bytes).toString()).to.equal(`content of ${keyOf(i)}`);
    });
  }

  function kinds(): string[] {
    return place.proxy.seen.map(({ request, status }) => `${request.kind} ${String(status)}`);
  }
});

function keyOf(i: number) {
  return parseKey(`logs/${String(i).padStart(4, '0')}.meta`);
}
