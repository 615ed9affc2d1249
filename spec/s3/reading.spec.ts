import { Readable } from 'node:stream';
import { finished } from 'node:stream/promises';
import { setTimeout as passed } from 'node:timers/promises';
import { expect } from 'chai';
import { idTime, makeTombstoneId } from '../../lib/domain/ids.ts';
import { parseKey } from '../../lib/domain/key.ts';
import { revisionHash } from '../../lib/domain/revision.ts';
import type { Got } from '../../lib/store/s3/api.ts';
import { ResumingBody } from '../../lib/store/s3/resuming-body.ts';
import { S3Store } from '../../lib/store/s3/s3-store.ts';
import type { ControlSpace, Listed } from '../../lib/store/store.ts';
import { DrivenClock } from '../support/place.ts';
import { AMAZON } from './capabilities.ts';
import { MemoryS3 } from './memory-api.ts';

const KEY = parseKey('large/object');
const REVISION = {
  kind: 's3',
  etag: 'e',
  size: 1,
  modifiedAt: 0,
  versionId: null,
  storageClass: null,
} as const;
const CONTENT = Buffer.from(Array.from({ length: 100_000 }, (_, i) => i % 251));

/** A server whose connections are cut after some bytes. */
class Cutting extends MemoryS3 {
  cutAfter: number[] = [];
  readonly from: number[] = [];

  override async get(...asked: Parameters<MemoryS3['get']>): Promise<Got | undefined> {
    const got = await super.get(...asked);
    this.from.push(asked[1]?.from ?? 0);
    const cut = this.cutAfter.shift();
    return got === undefined || cut === undefined
      ? got
      : { ...got, body: Readable.from(cutShort(got.body, cut)) };
  }
}

async function* cutShort(body: Readable, count: number): AsyncGenerator<Buffer> {
  let left = count;
  for await (const chunk of body) {
    const bytes: Buffer = chunk;
    if (bytes.length >= left) {
      yield bytes.subarray(0, left);
      throw Object.assign(new Error('read ECONNRESET'), { code: 'ECONNRESET' });
    }
    left -= bytes.length;
    yield bytes;
  }
}

describe('reading from S3', () => {
  let clock: DrivenClock;
  let api: Cutting;
  let store: S3Store;

  beforeEach(() => {
    clock = new DrivenClock();
    api = new Cutting({ clock, pageSize: 7 });
    store = new S3Store({
      api,
      control: {} as ControlSpace,
      capabilities: async () => AMAZON,
      pendingPrefix: 'pending_deletion/',
      clock,
      concurrency: 4,
    });
    api.seed(KEY, CONTENT);
    clock.advance(10_000);
  });

  async function read(): Promise<Buffer> {
    const object = await store.openLive(KEY);
    if (object === undefined) throw new Error('nothing is live');
    return bytesOf(object.read());
  }

  async function bytesOf(stream: Readable): Promise<Buffer> {
    const chunks: Buffer[] = [];
    stream.on('data', (chunk: Buffer) => chunks.push(chunk));
    await finished(stream);
    return Buffer.concat(chunks);
  }

  async function move(): Promise<void> {
    const live = await store.head(KEY);
    if (live === undefined) throw new Error('nothing is live');
    const id = makeTombstoneId(idTime(clock.now()), revisionHash(live.revision), 0, () => 3);
    await store.move([{ key: KEY, id, revision: live.revision }], { resume: false });
  }

  it('goes on where a connection was cut, any number of times that gives some bytes', async () => {
    api.cutAfter = [1000, 1, 30_000, 5, 5, 5, 5, 5, 5, 5];
    expect((await read()).equals(CONTENT)).to.equal(true);
    expect(api.from.slice(0, 4)).to.deep.equal([0, 1000, 1001, 31_001]);
  });

  it('ends in the error of a store that gives nothing any more', async () => {
    api.cutAfter = [1000, 0, 0, 0, 0, 0, 0, 0, 0];
    const error: unknown = await read().catch((thrown: unknown) => thrown);
    expect(error).to.have.property('code', 'ECONNRESET');
  });

  it('goes on from the pending copy when the object was moved meanwhile', async () => {
    const object = await store.openLive(KEY);
    api.cutAfter = [];
    const first = object?.read();
    await move();
    expect(await store.openLive(KEY)).to.equal(undefined);
    api.from.length = 0;
    const stream = new ResumingBody({
      first: Readable.from([CONTENT.subarray(0, 5000)]),
      size: CONTENT.length,
      clock,
      rest: async (from) => {
        const [id = ''] = await store.pendingIds(KEY);
        const got = await api.get(`pending_deletion/${KEY}~${id}`, { from });
        return got?.body;
      },
      changed: () => new Error('changed'),
    });
    expect((await bytesOf(stream)).equals(CONTENT)).to.equal(true);
    expect(api.from).to.deep.equal([5000]);
    first?.destroy();
  });

  it('that was cut goes on from the copy that a move has made of it', async () => {
    api.cutAfter = [40_000];
    const object = await store.openLive(KEY);
    await move();
    const stream = object?.read();
    if (stream === undefined) throw new Error('nothing was live');
    expect((await bytesOf(stream)).equals(CONTENT)).to.equal(true);
  });

  it('never gives bytes of another content', async () => {
    api.cutAfter = [40_000];
    const object = await store.openLive(KEY);
    api.seed(KEY, Buffer.alloc(CONTENT.length, 1));
    const stream = object?.read();
    if (stream === undefined) throw new Error('nothing was live');
    const error: unknown = await bytesOf(stream).catch((thrown: unknown) => thrown);
    expect(error).to.have.property('message').that.includes('was changed while it was read');
  });

  it('a live object is one request, and one that is not there is one more for its copies', async () => {
    const before = api.count();
    await read();
    expect(api.count() - before).to.equal(1);
  });

  it('finds all copies of a key, however many there are, and none of keys that begin like it', async () => {
    const ids = Array.from({ length: 40 }, (_, i) =>
      makeTombstoneId(idTime(clock.now() + i), revisionHash(REVISION), 0, () => 3),
    );
    for (const id of ids) api.seed(`pending_deletion/${KEY}~${id}`, 'one of many');
    const [first = ''] = ids;
    for (const key of [`${KEY}~${first}`, `${KEY}2`, `${KEY}/below`, 'large/obj', 'large/z~'])
      api.seed(`pending_deletion/${key}~${first}`, 'of another');
    expect(await store.pendingIds(KEY)).to.deep.equal(ids.toReversed());
    expect(await store.pendingIds(parseKey('large/obj'))).to.deep.equal([first]);
    expect(await store.pendingIds(parseKey('large/z~'))).to.deep.equal([first]);
    expect(await store.pendingIds(parseKey('large/nothing'))).to.deep.equal([]);
    expect(await store.rememberedIds(parseKey('large/z~'))).to.deep.equal([first]);
    expect(await store.rememberedIds(parseKey('large/z~')), 'once').to.deep.equal([]);
  });

  it('lists what is live in pages, steps over what is pending, and names what can be no key', async () => {
    for (let i = 0; i < 50; i++) api.seed(`pending_deletion/x${i}~20261122T101500123Z-k3v0q8tzm2xj4d`, 'p');
    const odd = ['/leading', 'a//b', 'dir/', 'up/../x', '.tombstoned/tmp/x'];
    const fine = ['a b', 'a+b', 'a%20b', 'a&b', 'ä/ö', 'zz/last', 'p', 'q'];
    for (const name of [...odd, ...fine]) api.seed(name, name);
    const requests = api.count('list');
    const items: Listed[] = [];
    for await (const page of store.list('')) items.push(...page);
    expect(api.count('list') - requests).to.be.lessThan(8);
    const keys = items.flatMap((item) => (item.type === 'object' ? [item.key] : []));
    expect(keys).to.have.members([KEY, ...fine]);
    const refused = items.flatMap((item) => (item.type === 'refused' ? [[item.path, item.why]] : []));
    expect(refused).to.deep.equal([
      ['/leading', 'its name is absolute'],
      ['a//b', 'its name has an empty segment'],
      ['dir/', 'it is the mark of a folder'],
      ['up/../x', 'its name has a ".." segment'],
    ]);
  });

  for (const [what, list] of [
    ['is live', () => store.list('')],
    ['is pending', () => store.listPending('')],
  ] as const) {
    it(`asks for the next page of what ${what} while the one before is read`, async () => {
      for (let i = 10; i < 99; i++) {
        api.seed(`o${i}`, 'live');
        api.seed(`pending_deletion/x${i}~20261122T101500123Z-k3v0q8tzm2xj4d`, 'p');
      }
      const before = api.count('list');
      let asked = 0;
      for await (const page of list()) {
        expect(page).to.have.length.above(0);
        await passed(50);
        asked = api.count('list') - before;
        break;
      }
      expect(asked).to.equal(2);
    });
  }

  it('says what can not be tombstoned: names that would be too long, and what is archived', async () => {
    api.seed('x'.repeat(980), 'long');
    api.seed('cold', 'cold', { storageClass: 'DEEP_ARCHIVE' });
    const refusals: (string | null)[] = [];
    for await (const page of store.list(''))
      for (const item of page)
        if (item.type === 'object' && item.refusal !== null) refusals.push(item.refusal);
    expect(refusals).to.have.length(2);
    expect(refusals[0]).to.equal("it is archived (DEEP_ARCHIVE) and can't be copied");
    expect(refusals[1]).to.match(/^its name is too long/);
  });

  it('stops at another store inside this one', async () => {
    api.seed('inside/.tombstoned/store.json', '{}');
    const error: unknown = await (async () => {
      for await (const _ of store.list('')) continue;
    })().catch((thrown: unknown) => thrown);
    expect(error).to.include({ code: 'config', key: 'inside/.tombstoned/store.json' });
  });
});
