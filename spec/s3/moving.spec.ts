import { expect } from 'chai';
import { idTime, makeTombstoneId, pendingName } from '../../lib/domain/ids.ts';
import { parseKey } from '../../lib/domain/key.ts';
import { revisionHash } from '../../lib/domain/revision.ts';
import type { Capabilities } from '../../lib/store/s3/api.ts';
import { S3Store } from '../../lib/store/s3/s3-store.ts';
import type { ControlSpace, MoveItem } from '../../lib/store/store.ts';
import { DrivenClock } from '../support/place.ts';
import { AMAZON, RGW, RGW_VERSIONED, UNGUARDED } from './capabilities.ts';
import { type Fate, type MemoryOptions, type MemoryRequest, MemoryS3 } from './memory-api.ts';

const KEY = parseKey('a/one.meta');
const PENDING = 'pending_deletion/';
/** Of no store here: how many requests one move makes at the most. */
const MOST = 40;

interface Kind {
  readonly name: string;
  readonly options: MemoryOptions;
  readonly capabilities: Capabilities;
  /** How many requests a move makes, beside one a batch. */
  readonly requests: number;
}

const KINDS: readonly Kind[] = [
  { name: 'Amazon’s', options: { preset: 'amazon' }, capabilities: AMAZON, requests: 2 },
  { name: 'RGW', options: { preset: 'rgw' }, capabilities: RGW, requests: 2 },
  {
    name: 'a store that guards no delete',
    options: { preset: 'rgw', deleteUnmodifiedSince: 'ignored' },
    capabilities: UNGUARDED,
    requests: 3,
  },
  {
    name: 'Amazon’s, versioned',
    options: { preset: 'amazon', versioning: 'enabled' },
    capabilities: { ...AMAZON, versioning: 'enabled' },
    requests: 4,
  },
  {
    name: 'RGW, versioned',
    options: { preset: 'rgw', versioning: 'enabled' },
    capabilities: RGW_VERSIONED,
    requests: 4,
  },
];

for (const kind of KINDS) {
  describe(`a move on ${kind.name}`, () => {
    let clock: DrivenClock;
    let api: MemoryS3;
    let store: S3Store;
    let batch: number;

    beforeEach(() => {
      clock = new DrivenClock();
      api = new MemoryS3({ ...kind.options, clock });
      store = new S3Store({
        api,
        control: {} as ControlSpace,
        capabilities: async () => kind.capabilities,
        pendingPrefix: PENDING,
        clock,
        concurrency: 4,
      });
      api.seed('.tombstoned/store.json', '{}');
      batch = 0;
    });

    async function intent(): Promise<MoveItem> {
      const live = await store.head(KEY);
      if (live === undefined) throw new Error('nothing is live');
      batch += 1;
      const time = idTime(Date.UTC(2026, 10, 22, 10, 0, batch));
      return {
        key: KEY,
        id: makeTombstoneId(time, revisionHash(live.revision), 0, () => 7),
        revision: live.revision,
      };
    }

    function write(content: string): void {
      clock.advance(1000);
      api.seed(KEY, content);
      clock.advance(60_000); // what is younger is looked at once more
    }

    /** Every content of a name, hidden or not. */
    function everywhere(): string[] {
      return api.allNames().flatMap((name) =>
        api
          .versionsOf(name)
          .filter(({ isMarker }) => !isMarker)
          .map(({ body }) => body.toString()),
      );
    }

    function copyOf(item: MoveItem): string | undefined {
      return api.peek(pendingName(PENDING, item.key, item.id))?.body.toString();
    }

    /** Lets something happen before the n-th write or look of a move; false when there are fewer. */
    function before(n: number, act: (request: MemoryRequest) => Fate | undefined): () => boolean {
      let count = 0;
      api.before = (request) => {
        if (request.kind === 'versioning') return undefined;
        count += 1;
        return count === n ? act(request) : undefined;
      };
      return () => count >= n;
    }

    it('leaves the copy and no live object, and v0 never comes back', async () => {
      write('v0');
      write('v1');
      const item = await intent();
      expect(await store.move([item], { resume: false })).to.deep.equal([{ outcome: 'moved' }]);
      expect(copyOf(item)).to.equal('v1');
      expect(api.peek(KEY)).to.equal(undefined);
    });

    it(`takes ${kind.requests} requests`, async () => {
      write('content');
      const item = await intent();
      const made = api.count();
      await store.move([item], { resume: false });
      expect(api.count() - made).to.equal(1 + kind.requests); // and whether versions are kept, once a batch
    });

    if (kind.capabilities === RGW) {
      it('looks once more at what is younger than a minute before it deletes it', async () => {
        write('content');
        clock.advance(-2000);
        const item = await intent();
        const made = api.count();
        await store.move([item], { resume: false });
        expect(api.count() - made).to.equal(2 + kind.requests);
        expect(api.peek(KEY)).to.equal(undefined);
      });

      for (const age of ['an old', 'a young'])
        it(`says that ${age} object is back which the store refuses to delete, and nobody has touched`, async () => {
          write('content');
          if (age === 'a young') clock.advance(-2000);
          const item = await intent();
          api.delete = async () => 'changed';
          const [outcome] = await store.move([item], { resume: false });
          expect(outcome).to.deep.equal({ outcome: 'put-back', revision: item.revision });
          expect(api.peek(KEY)?.body.toString()).to.equal('content');
          expect(copyOf(item)).to.equal('content');
        });
    }

    it('loses no content of a writer that comes before any of its requests', async () => {
      const lost: string[] = [];
      for (let n = 1; n <= MOST; n++) {
        write(`old ${n}`);
        const item = await intent();
        let last: MemoryRequest['kind'] | undefined;
        const isReached = before(n, ({ kind: what }) => {
          last = what;
          write(`new ${n}`);
          return undefined;
        });
        const [outcome] = await store.move([item], { resume: false });
        api.before = undefined;
        if (!isReached()) {
          expect(n).to.be.greaterThan(1);
          break;
        }
        const live = api.peek(KEY)?.body.toString();
        const held = everywhere();
        if (!held.includes(`new ${n}`)) lost.push(`${last}`);
        else expect(live, `before request ${n}`).to.equal(`new ${n}`);
        if (outcome?.outcome === 'moved') expect(copyOf(item)).to.equal(`old ${n}`);
        else expect(outcome?.outcome, `before request ${n}`).to.equal('changed');
        await api.delete(KEY);
      }
      // Between the look and the delete of a store that guards none: documented.
      expect(lost).to.deep.equal(kind.capabilities === UNGUARDED ? ['delete'] : []);
    });

    for (const fate of ['lost', 'answer-lost', 'late'] as const) {
      it(`ends right when any of its writes is ${fate}`, async () => {
        for (let n = 1; n <= MOST; n++) {
          write(`content ${n}`);
          const item = await intent();
          let isWaitedFor = false;
          const isReached = before(n, ({ kind: what }) => {
            // A copy that is seen is ours; that an object has gone may be somebody else's doing.
            isWaitedFor = what === 'delete' || (what === 'copy' && fate !== 'answer-lost');
            return what === 'copy' || what === 'delete' ? fate : undefined;
          });
          const began = clock.now();
          const outcomes = await store.move([item], { resume: false });
          api.before = undefined;
          if (!isReached()) {
            expect(n).to.be.greaterThan(1);
            return;
          }
          expect(copyOf(item), `request ${n}`).to.equal(`content ${n}`);
          if (kind.capabilities === UNGUARDED && outcomes[0]?.outcome === 'put-back') {
            // Where nothing guards a delete it is tried once: the object stays, and the copy is the purger's.
            expect(fate).not.to.equal('answer-lost');
            expect(clock.now() - began).to.be.greaterThan(16 * 60_000); // by then no server takes it any more
            expect(api.peek(KEY)?.body.toString()).to.equal(`content ${n}`);
            await api.delete(KEY);
            continue;
          }
          expect(outcomes, `request ${n}`).to.deep.equal([{ outcome: 'moved' }]);
          expect(api.peek(KEY)).to.equal(undefined);
          // What may still take effect was waited for, under the fence; then it takes none.
          if (isWaitedFor) expect(clock.now() - began).to.be.greaterThan(16 * 60_000);
          api.land();
          expect(copyOf(item), `request ${n}`).to.equal(`content ${n}`);
        }
      });
    }

    it('loses nothing of a writer, or a restore, that comes before a delete which lands late', async () => {
      for (const by of ['a writer', 'a restore'] as const) {
        write('old');
        const item = await intent();
        let isLost = false;
        api.before = ({ kind: what }) => {
          if (what !== 'delete' || isLost) return undefined;
          isLost = true;
          return 'late';
        };
        let isThere = false;
        clock.sleep = async (ms) => {
          clock.advance(ms);
          if (isThere) return;
          isThere = true;
          // It comes while the answer is waited for; a restore waits for the fence, and so comes after.
          if (by === 'a writer') api.seed(KEY, 'new');
          clock.advance(1000);
          api.land();
        };
        if (by === 'a writer' && kind.capabilities === UNGUARDED) continue; // unguarded: documented
        await store.move([item], { resume: false });
        api.before = undefined;
        clock.sleep = async (ms) => clock.advance(ms);
        if (by === 'a writer') expect(api.peek(KEY)?.body.toString()).to.equal('new');
        else if (api.peek(KEY) === undefined) {
          expect(await store.putBack([{ ...item, to: KEY }])).to.deep.equal([{ outcome: 'restored' }]);
          api.land();
          expect(api.peek(KEY)?.body.toString()).to.equal('old');
        }
        expect(copyOf(item)).to.equal('old');
        api.unseed(KEY);
      }
    });

    it('is finished after a crash before any of its requests, or what it had not begun is left', async () => {
      for (let n = 1; n <= MOST; n++) {
        write(`content ${n}`);
        const item = await intent();
        const isReached = before(n, () => {
          throw new Error('killed');
        });
        const error: unknown = await store.move([item], { resume: false }).catch((thrown: unknown) => thrown);
        api.before = undefined;
        if (!isReached()) {
          expect(error).to.deep.equal([{ outcome: 'moved' }]);
          expect(n).to.be.greaterThan(1);
          return;
        }
        const [outcome] = await store.move([item], { resume: true });
        if (outcome?.outcome === 'gone') expect(api.peek(KEY)?.body.toString()).to.equal(`content ${n}`);
        else {
          expect(outcome?.outcome, `before request ${n}`).to.equal('moved');
          expect(copyOf(item)).to.equal(`content ${n}`);
          expect(api.peek(KEY), `before request ${n}`).to.equal(undefined);
        }
        expect(await store.move([item], { resume: true })).to.deep.equal([outcome]);
        await api.delete(KEY);
      }
    });

    it('of a multipart object, whose copy has another ETag, is told by the id', async () => {
      clock.advance(1000);
      api.seed(KEY, 'in parts', { parts: 3 });
      const item = await intent();
      expect(await store.move([item], { resume: false })).to.deep.equal([{ outcome: 'moved' }]);
      expect(copyOf(item)).to.equal('in parts');
      expect(await store.move([item], { resume: true })).to.deep.equal([{ outcome: 'moved' }]);
      expect(await store.remove([{ ...item, from: 'pending' }])).to.deep.equal([{ outcome: 'removed' }]);
    });

    it('that was copied over an hour ago and is still live is taken as put back', async () => {
      write('content');
      const item = await intent();
      api.before = ({ kind: what }) => {
        if (what === 'delete') throw new Error('killed');
        return undefined;
      };
      await store.move([item], { resume: false }).catch(() => undefined);
      api.before = undefined;
      clock.advance(3_700_000);
      const [outcome] = await store.move([item], { resume: true });
      expect(outcome).to.deep.equal({ outcome: 'put-back', revision: item.revision });
      expect(api.peek(KEY)?.body.toString()).to.equal('content');
      expect(copyOf(item)).to.equal('content');
    });

    it('of a store that answers 403 is an error, and nothing has gone', async () => {
      write('content');
      for (const what of ['copy', 'delete'] as const) {
        const item = await intent();
        api.before = (request) => {
          if (request.kind === what) throw new Error('403');
          return undefined;
        };
        const error: unknown = await store.move([item], { resume: false }).catch((thrown: unknown) => thrown);
        api.before = undefined;
        expect(error).to.have.property('message', '403');
        expect(api.peek(KEY)?.body.toString(), what).to.equal('content');
      }
    });
  });
}
