import { finished } from 'node:stream/promises';
import { expect } from 'chai';
import { TombstonedError } from '../../lib/domain/errors.ts';
import { idTime, isCopyOf, makeTombstoneId, pendingName } from '../../lib/domain/ids.ts';
import { type Key, parseKey } from '../../lib/domain/key.ts';
import { revisionHash, sameRevision } from '../../lib/domain/revision.ts';
import type {
  LiveObject,
  MoveItem,
  OpenObject,
  PutBackItem,
  RemoveItem,
  Store,
} from '../../lib/store/store.ts';

/** A new, empty store, and somebody beside it who knows nothing of tombstones. */
export interface StoreToTest {
  readonly store: Store;
  /** Makes or replaces whatever has this name in the store, a pending copy too. */
  put(name: string, content: string): Promise<void>;
  /** Makes many objects. */
  putAll(contents: ReadonlyMap<string, string>): Promise<void>;
  /** Removes what has this name. */
  drop(name: string): Promise<void>;
  /** Every name but those below `.tombstoned/`, with its content. */
  contents(): Promise<Record<string, string>>;
  /** Whether the store gives every copy an ETag of its own, as some encryptions do. */
  readonly copiesHaveOtherEtags?: boolean;
  /** Whether the store can replace what is there when it is asked not to. */
  readonly replacesUnasked?: boolean;
  /** Frees everything. */
  remove(): Promise<void>;
}

/** What every store must hold to, in the words of `lib/store/store.ts`. */
export function conformance(name: string, make: () => Promise<StoreToTest>): void {
  describe(`${name}, as a store`, () => {
    let test: StoreToTest;
    beforeEach(async () => {
      test = await make();
    });
    afterEach(async () => test.remove());

    listing(() => test);
    looking(() => test);
    moving(() => test);
    creating(() => test);
    puttingBack(() => test);
    removing(() => test);
    control(() => test);
  });
}

const A = parseKey('a/one.meta');
const B = parseKey('a/b/two.meta');
const C = parseKey('three.meta');
let counter = 0;

const NEW = Buffer.from('new\n');

function creating(test: () => StoreToTest): void {
  describe('creating', () => {
    /** Where a store would replace what is there, nothing is made at all. */
    async function made(...objects: Parameters<Store['create']>[0]): Promise<string[]> {
      try {
        return await test().store.create(objects);
      } catch (error) {
        if (test().replacesUnasked !== true || !(error instanceof TombstonedError)) throw error;
        expect(error.message).to.contain('can replace what comes to the key meanwhile');
        return objects.map(() => 'refused');
      }
    }

    function unlessRefused(...outcomes: readonly ('created' | 'exists')[]): string[] {
      return outcomes.map((outcome) => (test().replacesUnasked === true ? 'refused' : outcome));
    }

    it('makes an object where there is nothing, and never over one', async () => {
      await test().put(A, 'old');
      await test().put(C, 'old too');
      const outcomes = await made(...[A, B, C].map((key) => ({ key, body: NEW, like: A })));
      expect(outcomes).to.deep.equal(unlessRefused('exists', 'created', 'exists'));
      const others = test().replacesUnasked === true ? {} : { [B]: 'new\n' };
      expect(await test().contents()).to.deep.equal({ [A]: 'old', [C]: 'old too', ...others });
    });

    it('makes many, empty ones too, and leaves no temporary names', async () => {
      const keys = Array.from({ length: 150 }, (_, i) => parseKey(`many/${i}`));
      const outcomes = await made(...keys.map((key, i) => ({ key, body: Buffer.alloc(i % 3) })));
      expect(outcomes).to.deep.equal(unlessRefused(...keys.map(() => 'created' as const)));
      const there = test().replacesUnasked === true ? [] : keys;
      expect(Object.keys(await test().contents())).to.have.members(there);
      expect(await test().store.control.temporaries()).to.deep.equal([]);
    });

    it('makes an object again where the one before was moved', async () => {
      await moved(test(), A, 'old');
      expect(await made({ key: A, body: NEW })).to.deep.equal(unlessRefused('created'));
    });

    it('makes nothing below the pending prefix', async () => {
      const { store } = test();
      const key = parseKey(`${store.pendingPrefix}x`);
      const error: unknown = await store.create([{ key, body: NEW }]).catch((e: unknown) => e);
      expect(error).to.be.instanceOf(TombstonedError);
      expect(await test().contents()).to.deep.equal({});
    });
  });
}

/** The intent to move an object as it is now. */
async function intent(test: StoreToTest, key: Key): Promise<MoveItem> {
  const { revision } = await live(test, key);
  const time = idTime(Date.UTC(2026, 10, 22, 10) + counter++);
  return { key, id: makeTombstoneId(time, revisionHash(revision), 0, () => 5), revision };
}

async function live(test: StoreToTest, key: Key): Promise<LiveObject> {
  const object = await test.store.head(key);
  if (object === undefined) throw new Error(`${key} is not live`);
  return object;
}

/** Makes an object and moves it. */
async function moved(test: StoreToTest, key: Key, content: string): Promise<MoveItem> {
  await test.put(key, content);
  const item = await intent(test, key);
  expect(await test.store.move([item], { resume: false })).to.deep.equal([{ outcome: 'moved' }]);
  return item;
}

function pending(test: StoreToTest, { key, id }: { key: Key; id: string }): string {
  return pendingName(test.store.pendingPrefix, key, id);
}

function back(item: MoveItem, to: Key = item.key): PutBackItem {
  return { ...item, to };
}

function removal(item: MoveItem, from: RemoveItem['from'] = 'pending'): RemoveItem {
  return { ...item, from };
}

async function text(object: OpenObject | undefined): Promise<string | undefined> {
  if (object === undefined) return undefined;
  const chunks: Buffer[] = [];
  const stream = object.read();
  stream.on('data', (chunk: Buffer) => chunks.push(chunk));
  await finished(stream);
  return Buffer.concat(chunks).toString();
}

async function keysBelow(test: StoreToTest, prefix: string): Promise<string[]> {
  const keys: string[] = [];
  for await (const page of test.store.list(prefix)) {
    for (const item of page) if (item.type === 'object') keys.push(item.key);
  }
  return keys.toSorted();
}

async function pendingBelow(test: StoreToTest, prefix: string): Promise<string[]> {
  const found: string[] = [];
  for await (const page of test.store.listPending(prefix)) {
    for (const item of page) if (item.type === 'pending') found.push(`${item.key} ${item.id}`);
  }
  return found.toSorted();
}

function listing(test: () => StoreToTest): void {
  describe('listing', () => {
    it('gives every object once, with its size, time and revision', async () => {
      for (const key of [A, B, C]) await test().put(key, `content of ${key}`);
      const objects: LiveObject[] = [];
      for await (const page of test().store.list('')) {
        for (const item of page) if (item.type === 'object') objects.push(item);
      }
      expect(objects.map(({ key }) => key)).to.have.members([A, B, C]);
      for (const object of objects) expect(object).to.deep.equal(await live(test(), object.key));
    });

    it('comes in pages, and is complete over many of them', async () => {
      const contents = new Map(
        Array.from({ length: 2500 }, (_, i) => [`many/${i % 3}/${i}`, String(i)] as const),
      );
      await test().putAll(contents);
      const pages: number[] = [];
      const keys: string[] = [];
      for await (const page of test().store.list('many/')) {
        pages.push(page.length);
        for (const item of page) if (item.type === 'object') keys.push(item.key);
      }
      expect(pages.length).to.be.greaterThan(1);
      expect(Math.max(...pages)).to.be.lessThan(2500);
      expect(keys.toSorted()).to.deep.equal([...contents.keys()].toSorted());
    });

    it('takes a prefix as plain bytes, not as a directory', async () => {
      for (const key of ['logs/a', 'logs/ab', 'logs/abc/d', 'logs/b', 'logs', 'logs2/a']) {
        if (key !== 'logs') await test().put(key, 'x');
      }
      expect(await keysBelow(test(), 'logs/a')).to.deep.equal(['logs/a', 'logs/ab', 'logs/abc/d']);
      expect(await keysBelow(test(), 'logs/ab')).to.deep.equal(['logs/ab', 'logs/abc/d']);
      expect(await keysBelow(test(), 'logs/')).to.deep.equal(['logs/a', 'logs/ab', 'logs/abc/d', 'logs/b']);
      expect(await keysBelow(test(), 'logs')).to.have.length(5);
      expect(await keysBelow(test(), 'logs/abc/d')).to.deep.equal(['logs/abc/d']);
      expect(await keysBelow(test(), 'logs/abc/d/')).to.deep.equal([]);
      expect(await keysBelow(test(), 'none/')).to.deep.equal([]);
      expect(await keysBelow(test(), 'lo')).to.have.length(5);
    });

    it('shows nothing that is pending or a control object, whatever the prefix', async () => {
      await moved(test(), A, 'old');
      await test().put(B, 'kept');
      await test().store.control.create('holds/x.json', '{}\n');
      await test().put('deep/.tombstoned/secret', 'not an object');
      const { pendingPrefix } = test().store;
      expect(await keysBelow(test(), '')).to.deep.equal([B]);
      expect(await keysBelow(test(), pendingPrefix)).to.deep.equal([]);
      expect(await keysBelow(test(), `${pendingPrefix}a/`)).to.deep.equal([]);
      expect(await keysBelow(test(), pendingPrefix.slice(0, -1))).to.deep.equal([]);
      expect(await keysBelow(test(), '.tombstoned/')).to.deep.equal([]);
      expect(await keysBelow(test(), '.tomb')).to.deep.equal([]);
    });

    it('of pending copies gives each key and id below a byte prefix of the key', async () => {
      const one = await moved(test(), A, 'one');
      const two = await moved(test(), B, 'two');
      const again = await moved(test(), A, 'one again');
      const shown = (items: MoveItem[]): string[] => items.map(({ key, id }) => `${key} ${id}`).toSorted();
      expect(await pendingBelow(test(), '')).to.deep.equal(shown([one, two, again]));
      expect(await pendingBelow(test(), 'a/o')).to.deep.equal(shown([one, again]));
      expect(await pendingBelow(test(), 'a/b/')).to.deep.equal(shown([two]));
      expect(await pendingBelow(test(), 'b')).to.deep.equal([]);
    });
  });
}

function looking(test: () => StoreToTest): void {
  describe('looking', () => {
    it('finds no object where there is none: not live, not pending', async () => {
      const item = await moved(test(), A, 'old');
      const other = { ...item, id: makeTombstoneId('20200101T000000000Z', '00000000', 0, () => 0) };
      expect(await test().store.head(A)).to.equal(undefined);
      expect(await test().store.openLive(A)).to.equal(undefined);
      expect(await test().store.openLive(parseKey('a'))).to.equal(undefined);
      expect(await test().store.openPending(A, other.id)).to.equal(undefined);
      expect(await test().store.headPending(A, other.id)).to.equal(undefined);
      expect(await test().store.pendingIds(B)).to.deep.equal([]);
    });

    it('opens an object with its size and revision, and streams its bytes', async () => {
      const content = 'abc\n'.repeat(300_000);
      await test().put(A, content);
      const { revision } = await live(test(), A);
      const object = await test().store.openLive(A);
      expect(object?.size).to.equal(content.length);
      expect(object?.revision).to.deep.equal(revision);
      expect((await text(object)) === content, 'the same bytes').to.equal(true);
    });

    it('opens the object of no bytes', async () => {
      await test().put(A, '');
      expect(await text(await test().store.openLive(A))).to.equal('');
    });

    it('opens a pending copy under its own id only, newest id first', async () => {
      const first = await moved(test(), A, 'first');
      const second = await moved(test(), A, 'the second');
      expect(await test().store.pendingIds(A)).to.deep.equal([second.id, first.id]);
      expect(await text(await test().store.openPending(A, first.id))).to.equal('first');
      expect(await text(await test().store.openPending(A, second.id))).to.equal('the second');
      const copy = await test().store.headPending(A, first.id);
      expect(copy?.size).to.equal(5);
      expect(copy !== undefined && isCopyOf(first.id, copy.revision, first.revision)).to.equal(true);
    });

    it('never gives other bytes than those it opened: the old ones in full, or an error', async () => {
      await test().put(A, 'what was opened');
      const object = await test().store.openLive(A);
      await test().put(A, 'what came after it');
      const read = await text(object).catch((error: unknown) => error);
      if (!(read instanceof Error)) expect(read).to.equal('what was opened');
    });

    it('does not see a pending copy as a live object of its pending name', async () => {
      const item = await moved(test(), A, 'old');
      const name = parseKey(pending(test(), item));
      expect(await test().store.head(name)).to.equal(undefined);
      expect(await test().store.openLive(name)).to.equal(undefined);
    });
  });
}

function moving(test: () => StoreToTest): void {
  describe('moving', () => {
    it('leaves the pending copy, unchanged, and no live object', async () => {
      const item = await moved(test(), A, 'old');
      expect(await test().contents()).to.deep.equal({ [pending(test(), item)]: 'old' });
      const copy = await test().store.headPending(A, item.id);
      expect(copy !== undefined && isCopyOf(item.id, copy.revision, item.revision)).to.equal(true);
    });

    it('gives an outcome for each object of a batch, in its order', async () => {
      for (const key of [A, B, C]) await test().put(key, 'old');
      const items = [await intent(test(), A), await intent(test(), B), await intent(test(), C)];
      await test().drop(A);
      await test().put(B, 'newer, and longer');
      const outcomes = await test().store.move(items, { resume: false });
      expect(outcomes.map(({ outcome }) => outcome)).to.deep.equal(['gone', 'changed', 'moved']);
      expect(await test().store.pendingIds(A)).to.deep.equal([]);
      expect(await test().store.pendingIds(B)).to.deep.equal([]);
      expect((await test().contents())[B]).to.equal('newer, and longer');
    });

    it('does nothing to another revision of the same size', async () => {
      await test().put(A, 'old');
      const item = await intent(test(), A);
      await test().drop(A);
      await test().put(A, 'new');
      expect(sameRevision((await live(test(), A)).revision, item.revision)).to.equal(false);
      expect(await test().store.move([item], { resume: false })).to.deep.equal([{ outcome: 'changed' }]);
      expect(await test().contents()).to.deep.equal({ [A]: 'new' });
    });

    it('may be resumed any number of times, with the same end', async () => {
      const item = await moved(test(), A, 'old');
      for (let i = 0; i < 3; i++) {
        expect(await test().store.move([item], { resume: true })).to.deep.equal([{ outcome: 'moved' }]);
      }
      expect(await test().contents()).to.deep.equal({ [pending(test(), item)]: 'old' });
    });

    it('when resumed looks at its own pending name first, and leaves what came to the key since', async () => {
      const item = await moved(test(), A, 'old');
      await test().put(A, 'new');
      expect(await test().store.move([item], { resume: true })).to.deep.equal([{ outcome: 'moved' }]);
      expect(await test().contents()).to.deep.equal({ [A]: 'new', [pending(test(), item)]: 'old' });
    });

    it('when resumed begins nothing: what has no pending copy stays live, for the next sweep to judge', async () => {
      await test().put(A, 'old');
      await test().put(B, 'old');
      const items = [await intent(test(), A), await intent(test(), B)];
      await test().drop(A);
      const outcomes = await test().store.move(items, { resume: true });
      expect(outcomes.map(({ outcome }) => outcome)).to.deep.equal(['gone', 'gone']);
      expect(await test().contents()).to.deep.equal({ [B]: 'old' });
    });

    it('keeps two generations of one key apart', async () => {
      const first = await moved(test(), A, 'first');
      const second = await moved(test(), A, 'second');
      expect(await test().contents()).to.deep.equal({
        [pending(test(), first)]: 'first',
        [pending(test(), second)]: 'second',
      });
    });

    it('refuses what is below the pending prefix', async () => {
      const old = await moved(test(), A, 'old');
      const key = parseKey(pending(test(), old));
      const [outcome] = await test().store.move([{ ...old, key }], { resume: false });
      expect(outcome?.outcome).to.equal('failed');
      expect(await test().contents()).to.deep.equal({ [key]: 'old' });
    });
  });
}

function puttingBack(test: () => StoreToTest): void {
  describe('putting back', () => {
    it('makes the live object again, the same revision, and leaves the pending copy', async () => {
      const item = await moved(test(), B, 'old');
      expect(await test().store.putBack([back(item)])).to.deep.equal([{ outcome: 'restored' }]);
      expect(await test().contents()).to.deep.equal({ [B]: 'old', [pending(test(), item)]: 'old' });
      const isSame = sameRevision((await live(test(), B)).revision, item.revision);
      expect(isSame || test().copiesHaveOtherEtags === true).to.equal(true);
    });

    it('done twice says that nothing had to be done', async () => {
      const item = await moved(test(), A, 'old');
      await test().store.putBack([back(item)]);
      expect(await test().store.putBack([back(item)])).to.deep.equal([{ outcome: 'unchanged' }]);
    });

    it('never replaces another live object', async () => {
      const item = await moved(test(), A, 'old');
      await test().put(A, 'newer');
      expect(await test().store.putBack([back(item)])).to.deep.equal([{ outcome: 'conflict' }]);
      expect(await test().contents()).to.deep.equal({ [A]: 'newer', [pending(test(), item)]: 'old' });
    });

    it('of two generations in one batch brings back the first that is named', async () => {
      const first = await moved(test(), A, 'first');
      const second = await moved(test(), A, 'the second');
      const outcomes = await test().store.putBack([back(second), back(first)]);
      expect(outcomes.map(({ outcome }) => outcome)).to.deep.equal(['restored', 'conflict']);
      expect((await test().contents())[A]).to.equal('the second');
    });

    it('says when there is no such pending copy', async () => {
      const item = await moved(test(), A, 'old');
      await test().drop(pending(test(), item));
      expect(await test().store.putBack([back(item)])).to.deep.equal([{ outcome: 'gone' }]);
      expect(await test().contents()).to.deep.equal({});
    });

    it('refuses a pending copy that is not what was tombstoned', async () => {
      const item = await moved(test(), A, 'old');
      await test().put(pending(test(), item), 'tampered with');
      const [outcome] = await test().store.putBack([back(item)]);
      expect(outcome?.outcome).to.equal('failed');
      expect(await test().store.head(A)).to.equal(undefined);
    });

    it('to another key makes an object of its own', async () => {
      const item = await moved(test(), A, 'old');
      const to = parseKey('elsewhere/copy.meta');
      expect(await test().store.putBack([back(item, to)])).to.deep.equal([{ outcome: 'restored' }]);
      expect(await test().contents()).to.deep.equal({ [to]: 'old', [pending(test(), item)]: 'old' });
      expect(await test().store.putBack([back(item, to)])).to.deep.equal([{ outcome: 'unchanged' }]);
      await test().put(to, 'another object');
      expect(await test().store.putBack([back(item, to)])).to.deep.equal([{ outcome: 'conflict' }]);
      expect((await test().contents())[pending(test(), item)]).to.equal('old');
    });

    it('refuses to make something below the pending prefix', async () => {
      const item = await moved(test(), A, 'old');
      const to = parseKey(pending(test(), { key: B, id: item.id }));
      const [outcome] = await test().store.putBack([back(item, to)]);
      expect(outcome?.outcome).to.equal('failed');
      expect(await test().contents()).to.deep.equal({ [pending(test(), item)]: 'old' });
    });
  });
}

function removing(test: () => StoreToTest): void {
  describe('removing', () => {
    it('removes the one pending copy it is told, and nothing else', async () => {
      const first = await moved(test(), A, 'first');
      const second = await moved(test(), A, 'second');
      await test().put(A, 'live');
      expect(await test().store.remove([removal(first)])).to.deep.equal([{ outcome: 'removed' }]);
      expect(await test().contents()).to.deep.equal({ [A]: 'live', [pending(test(), second)]: 'second' });
    });

    it('says when the copy is gone already', async () => {
      const item = await moved(test(), A, 'old');
      await test().store.remove([removal(item)]);
      expect(await test().store.remove([removal(item)])).to.deep.equal([{ outcome: 'gone' }]);
    });

    it('leaves a copy that is not what was tombstoned', async () => {
      const item = await moved(test(), A, 'old');
      await test().put(pending(test(), item), 'tampered with');
      const [outcome] = await test().store.remove([removal(item)]);
      expect(outcome?.outcome).to.equal('changed');
      expect(await test().contents()).to.deep.equal({ [pending(test(), item)]: 'tampered with' });
    });

    it('removes the copy of a restored object, which stays', async () => {
      const item = await moved(test(), A, 'old');
      await test().store.putBack([back(item)]);
      expect(await test().store.remove([removal(item, 'restored')])).to.deep.equal([{ outcome: 'removed' }]);
      expect(await test().contents()).to.deep.equal({ [A]: 'old' });
    });

    it('leaves the copy of a restored object that is no longer live, or another by now', async () => {
      const one = await moved(test(), A, 'one');
      const two = await moved(test(), B, 'two');
      await test().store.putBack([back(one), back(two)]);
      await test().drop(A);
      await test().put(B, 'another');
      const outcomes = await test().store.remove([removal(one, 'restored'), removal(two, 'restored')]);
      expect(outcomes).to.deep.equal([{ outcome: 'not-live' }, { outcome: 'not-live' }]);
      expect(await test().contents()).to.deep.equal({
        [B]: 'another',
        [pending(test(), one)]: 'one',
        [pending(test(), two)]: 'two',
      });
    });

    it('gives an outcome for each of many copies, in their order', async () => {
      const keys = Array.from({ length: 150 }, (_, i) => parseKey(`many/${i % 7}/${i}`));
      await test().putAll(new Map(keys.map((key) => [key, key])));
      const items: MoveItem[] = [];
      for (const key of keys) items.push(await intent(test(), key));
      await test().store.move(items, { resume: false });
      const odd = items.filter((_, i) => i % 2 === 1);
      await test().store.remove(odd.map((item) => removal(item)));
      const outcomes = await test().store.remove(items.map((item) => removal(item)));
      expect(outcomes.map(({ outcome }) => outcome)).to.deep.equal(
        items.map((_, i) => (i % 2 === 1 ? 'gone' : 'removed')),
      );
      expect(await test().contents()).to.deep.equal({});
    });
  });
}

function control(test: () => StoreToTest): void {
  describe('control objects', () => {
    it('are made where there is none, and never over one', async () => {
      const { control: space } = test().store;
      expect(await space.create('holds/one.json', '1\n')).to.equal('created');
      expect(await space.create('holds/one.json', '2\n')).to.equal('exists');
      expect((await space.read('holds/one.json'))?.toString()).to.equal('1\n');
    });

    it('are read as they are, or not there', async () => {
      const { control: space } = test().store;
      expect(await space.read('store.json')).to.equal(undefined);
      expect(await space.read('holds/none.json')).to.equal(undefined);
      await space.create('store.json', '{"name":"ä\\n"}\n');
      expect((await space.read('store.json'))?.toString()).to.equal('{"name":"ä\\n"}\n');
      await space.create('holds/empty.json', '');
      expect((await space.read('holds/empty.json'))?.length).to.equal(0);
    });

    it('are listed by directory, every name', async () => {
      const { control: space } = test().store;
      expect(await space.list('holds')).to.deep.equal([]);
      for (const name of ['b.json', 'a.json', 'odd name']) await space.create(`holds/${name}`, '\n');
      await space.create('leases/c.json', '\n');
      expect((await space.list('holds')).toSorted()).to.deep.equal(['a.json', 'b.json', 'odd name']);
    });

    it('are replaced whole, and removed, also when they are gone', async () => {
      const { control: space } = test().store;
      await space.replace('owner.json', 'first\n');
      await space.replace('owner.json', 'second\n');
      expect((await space.read('owner.json'))?.toString()).to.equal('second\n');
      await space.remove('owner.json');
      await space.remove('owner.json');
      await space.remove('nowhere/none.json');
      expect(await space.read('owner.json')).to.equal(undefined);
    });

    it('leave no temporary names', async () => {
      const { control: space } = test().store;
      await space.create('holds/one.json', '1\n');
      await space.create('holds/one.json', '2\n');
      await space.replace('owner.json', '\n');
      expect(await space.list('tmp')).to.deep.equal([]);
    });
  });
}
