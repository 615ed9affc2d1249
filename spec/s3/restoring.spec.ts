import { expect } from 'chai';
import { idTime, makeTombstoneId, pendingName } from '../../lib/domain/ids.ts';
import { parseKey } from '../../lib/domain/key.ts';
import { revisionHash } from '../../lib/domain/revision.ts';
import type { Capabilities } from '../../lib/store/s3/api.ts';
import { S3Store } from '../../lib/store/s3/s3-store.ts';
import type { ControlSpace, MoveItem, RemoveItem } from '../../lib/store/store.ts';
import { DrivenClock } from '../support/place.ts';
import { AMAZON, RGW, RGW_VERSIONED } from './capabilities.ts';
import { type Fate, type MemoryOptions, type MemoryRequest, MemoryS3 } from './memory-api.ts';

const KEY = parseKey('a/one.meta');
const PENDING = 'pending_deletion/';
const MOST = 20;

interface Kind {
  readonly name: string;
  readonly options: MemoryOptions;
  readonly capabilities: Capabilities;
}

const KINDS: readonly Kind[] = [
  { name: 'Amazon’s', options: { preset: 'amazon' }, capabilities: AMAZON },
  { name: 'RGW', options: { preset: 'rgw' }, capabilities: RGW },
  {
    name: 'Amazon’s, versioned',
    options: { preset: 'amazon', versioning: 'enabled' },
    capabilities: { ...AMAZON, versioning: 'enabled' },
  },
  {
    name: 'RGW, versioned',
    options: { preset: 'rgw', versioning: 'enabled' },
    capabilities: RGW_VERSIONED,
  },
];

for (const kind of KINDS) {
  describe(`putting back and removing on ${kind.name}`, () => {
    let clock: DrivenClock;
    let api: MemoryS3;
    let store: S3Store;
    let batch: number;

    beforeEach(() => {
      clock = new DrivenClock();
      api = new MemoryS3({ ...kind.options, clock });
      store = storeWith(kind.capabilities);
      api.seed('.tombstoned/store.json', '{}');
      batch = 0;
    });

    function storeWith(capabilities: Capabilities): S3Store {
      return new S3Store({
        api,
        control: {} as ControlSpace,
        capabilities: async () => capabilities,
        pendingPrefix: PENDING,
        clock,
        concurrency: 4,
      });
    }

    async function moved(content: string, key = KEY): Promise<MoveItem> {
      clock.advance(1000);
      api.seed(key, content);
      const seen = await store.head(key);
      if (seen === undefined) throw new Error('nothing is live');
      batch += 1;
      const time = idTime(Date.UTC(2026, 10, 22, 10, 0, batch));
      const id = makeTombstoneId(time, revisionHash(seen.revision), 0, () => 7);
      const item = { key, id, revision: seen.revision };
      expect(await store.move([item], { resume: false })).to.deep.equal([{ outcome: 'moved' }]);
      return item;
    }

    function live(): string | undefined {
      return api.peek(KEY)?.body.toString();
    }

    function copyOf({ key, id }: MoveItem): string | undefined {
      return api.peek(pendingName(PENDING, key, id))?.body.toString();
    }

    function before(n: number, act: (request: MemoryRequest) => Fate | undefined): () => boolean {
      let count = 0;
      api.before = (request) => {
        if (request.kind === 'versioning') return undefined;
        count += 1;
        return count === n ? act(request) : undefined;
      };
      return () => count >= n;
    }

    it('never replaces what a writer puts there before any of its requests', async () => {
      for (let n = 1; n <= MOST; n++) {
        const item = await moved(`old ${n}`);
        const isReached = before(n, () => {
          api.seed(KEY, `new ${n}`);
          return undefined;
        });
        const [outcome] = await store.putBack([{ ...item, to: KEY }]);
        api.before = undefined;
        if (!isReached()) {
          expect(n).to.be.greaterThan(2);
          return;
        }
        expect(live(), `before request ${n}`).to.equal(`new ${n}`);
        expect(outcome, `before request ${n}`).to.deep.equal({ outcome: 'conflict' });
        expect(copyOf(item)).to.equal(`old ${n}`);
        await api.delete(KEY);
      }
    });

    for (const fate of ['lost', 'answer-lost', 'late'] as const) {
      it(`is back, and stays so, when its write is ${fate}`, async () => {
        const item = await moved('old');
        api.before = ({ kind: what }) => {
          if (what !== 'copy' && what !== 'put') return undefined;
          api.before = undefined;
          return fate;
        };
        expect(await store.putBack([{ ...item, to: KEY }])).to.deep.equal([{ outcome: 'restored' }]);
        expect(live()).to.equal('old');
        api.land();
        expect(live()).to.equal('old');
        expect(copyOf(item)).to.equal('old');
      });
    }

    it('of a multipart object, whose copy has another ETag, is noticed as done', async () => {
      clock.advance(1000);
      api.seed(KEY, 'in parts', { parts: 2 });
      const seen = await store.head(KEY);
      if (seen === undefined) throw new Error('nothing is live');
      const id = makeTombstoneId('20261122T100000000Z', revisionHash(seen.revision), 0, () => 7);
      const item = { key: KEY, id, revision: seen.revision };
      await store.move([item], { resume: false });
      expect(await store.putBack([{ ...item, to: KEY }])).to.deep.equal([{ outcome: 'restored' }]);
      expect(await store.putBack([{ ...item, to: KEY }])).to.deep.equal([{ outcome: 'unchanged' }]);
      expect(await store.remove([{ ...item, from: 'restored' }])).to.deep.equal([{ outcome: 'removed' }]);
      expect(live()).to.equal('in parts');
    });

    it('is refused where the store guards it by nothing', async () => {
      const item = await moved('old');
      const bare = storeWith({ ...kind.capabilities, copyIfAbsent: false, putIfAbsent: false });
      const [outcome] = await bare.putBack([{ ...item, to: KEY }]);
      const isByVersions = kind.capabilities.versioning === 'enabled';
      expect(outcome?.outcome).to.equal(isByVersions ? 'restored' : 'failed');
      expect(live()).to.equal(isByVersions ? 'old' : undefined);
    });

    it('removes 1000 copies by two requests, and none that is not what was tombstoned', async () => {
      const items: RemoveItem[] = [];
      for (let i = 0; i < 1000; i++) {
        const key = parseKey(`many/${i}`);
        items.push({ ...(await moved(`content ${i}`, key)), from: 'pending' });
      }
      const [first, second] = items;
      if (first === undefined || second === undefined) throw new Error('no items');
      api.seed(pendingName(PENDING, first.key, first.id), 'tampered with');
      api.unseed(pendingName(PENDING, second.key, second.id));
      const began = api.count();
      const outcomes = await store.remove(items);
      expect(api.count() - began).to.be.at.most(2);
      expect(outcomes.map(({ outcome }) => outcome)).to.deep.equal([
        'changed',
        'gone',
        ...Array.from({ length: 998 }, () => 'removed'),
      ]);
      expect(api.names().filter((name) => name.startsWith(PENDING))).to.have.length(1);
    });

    it('removes what is scattered among many others', async () => {
      const few: RemoveItem[] = [];
      for (let i = 0; i < 300; i++) {
        const item = await moved(`content ${i}`, parseKey(`many/${String(i).padStart(4, '0')}`));
        if (i === 0 || i === 150 || i === 299) few.push({ ...item, from: 'pending' });
      }
      const outcomes = await store.remove(few);
      expect(outcomes.map(({ outcome }) => outcome)).to.deep.equal(['removed', 'removed', 'removed']);
      expect(api.names().filter((name) => name.startsWith(PENDING))).to.have.length(297);
    });

    it('reads the result of each of a batch of removals', async () => {
      const items: RemoveItem[] = [];
      for (let i = 0; i < 5; i++)
        items.push({ ...(await moved(`c${i}`, parseKey(`k/${i}`))), from: 'pending' });
      api.refuse = (name) => (name.includes('k/3') ? new Error('AccessDenied: locked') : undefined);
      const outcomes = await store.remove(items);
      expect(outcomes.map(({ outcome }) => outcome)).to.deep.equal([
        'removed',
        'removed',
        'removed',
        'failed',
        'removed',
      ]);
    });
  });
}
