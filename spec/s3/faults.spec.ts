import { expect } from 'chai';
import { systemClock } from '../../lib/domain/clock.ts';
import { idTime, makeTombstoneId, systemRandom } from '../../lib/domain/ids.ts';
import { asKey, type Key } from '../../lib/domain/key.ts';
import { revisionHash } from '../../lib/domain/revision.ts';
import type { S3Store } from '../../lib/store/s3/s3-store.ts';
import type { MoveItem } from '../../lib/store/store.ts';
import type { S3Fault } from '../support/s3-proxy.ts';
import type { S3Kind, S3Request } from '../support/s3-request.ts';
import { s3ServerOrSkip } from '../support/s3-server.ts';
import { type BucketKind, BucketPlace, PENDING, withCredentials } from './bucket-place.ts';

const KINDS: readonly (BucketKind & { readonly name: string })[] = [
  { name: 'RGW', semantics: 'gateway' },
  { name: 'RGW that guards no delete', semantics: 'unguarded' },
  { name: 'RGW with versions', semantics: 'gateway', versioned: true },
  { name: 'RGW behind a proxy that does as Amazon', semantics: 'amazon' },
];
const NAME = 'some/key';

describe('a real server that fails', function () {
  this.timeout(30_000);
  before(function () {
    s3ServerOrSkip(this);
  });
  withCredentials();

  for (const kind of KINDS) {
    describe(kind.name, () => {
      let place: BucketPlace;
      let store: S3Store;
      const isUnguarded = kind.semantics === 'unguarded';

      beforeEach(async () => {
        place = await BucketPlace.make(kind);
        const { proxy } = place;
        // Whoever waits is not kept waiting: the store's own time goes on meanwhile.
        store = await place.store({
          ...systemClock,
          monotonic: () => systemClock.monotonic() + proxy.dateShift,
          sleep: async (ms) => {
            proxy.dateShift += ms;
          },
        });
        await store.guards(); // probed before any fault
        await place.put(NAME, 'content');
        proxy.dateShift += 61_000; // what is younger is looked at once more before it is deleted
      });
      afterEach(async () => place[Symbol.asyncDispose]());

      const fail = (kinds: S3Kind | readonly S3Kind[], fault: S3Fault, times = 1) =>
        place.proxy.inject({ match: about(kinds), fault, times });

      async function item(): Promise<MoveItem> {
        const live = await store.head(key(NAME));
        if (live === undefined) throw new Error('it is not live');
        const hash = revisionHash(live.revision);
        return {
          key: live.key,
          revision: live.revision,
          id: makeTombstoneId(idTime(Date.now()), hash, 0, systemRandom),
        };
      }

      async function moved(): Promise<MoveItem> {
        const one = await item();
        expect(await store.move([one], { resume: false })).to.deep.equal([{ outcome: 'moved' }]);
        return one;
      }

      /** What is live, and the contents of pending copies. */
      async function state(): Promise<{ live: string | undefined; pending: string[] }> {
        const contents = await place.contents();
        const pending = [...contents].filter(([name]) => name.startsWith(PENDING));
        return { live: contents.get(NAME), pending: pending.map(([, content]) => content) };
      }

      for (const [status, code] of [
        [503, 'SlowDown'],
        [500, 'InternalError'],
      ] as const) {
        it(`reads in spite of some answers of ${status} ${code}`, async () => {
          const fault = { as: 'answer', when: 'before', status, code } as const;
          const struck = [fail('list', fault, 2), fail('head', fault, 2), fail('get', fault, 2)];
          expect(await listed(store)).to.deep.equal([NAME]);
          expect(await store.head(key(NAME))).to.include({ type: 'object', size: 7 });
          expect(await read(store, NAME)).to.equal('content');
          expect(struck.map((rule) => rule.struck)).to.deep.equal([2, 2, 2]);
        });
      }

      it('takes no refusal and no missing bucket for an object that is gone', async () => {
        for (const [status, code] of [
          [403, 'AccessDenied'],
          [404, 'NoSuchBucket'],
        ] as const) {
          const rule = fail(['get', 'list'], { as: 'answer', when: 'before', status, code }, 100);
          expect(await outcomeOf(store.openLive(key(NAME)))).to.be.an('error');
          expect(await outcomeOf(listed(store))).to.be.an('error');
          rule.remove();
        }
        fail('head', { as: 'answer', when: 'before', status: 403, code: 'AccessDenied' });
        expect(await outcomeOf(store.head(key(NAME)))).to.be.an('error');
      });

      for (const when of ['before', 'after'] as const) {
        it(`moves once where a copy fails inside a 200, ${when} its effect`, async () => {
          const rule = fail('copy', { as: 'error in 200', when, code: 'InternalError' });
          await moved();
          expect(rule.struck).to.equal(1);
          expect(await state()).to.deep.equal({ live: undefined, pending: ['content'] });
        });

        it(`moves where the answer to a copy is lost, ${when} its effect`, async () => {
          fail('copy', { as: 'reset', when });
          await moved();
          expect(await state()).to.deep.equal({ live: undefined, pending: ['content'] });
        });

        it(`moves where the answer to a deletion is lost, ${when} its effect`, async () => {
          const rule = fail('delete', { as: 'reset', when });
          if (isUnguarded && when === 'before') {
            // It is tried once: the object stays, and its copy counts as put back.
            const one = await item();
            const [outcome] = await store.move([one], { resume: false });
            expect(outcome).to.deep.equal({ outcome: 'put-back', revision: one.revision });
            expect(await state()).to.deep.equal({ live: 'content', pending: ['content'] });
          } else {
            await moved();
            expect(await state()).to.deep.equal({ live: undefined, pending: ['content'] });
          }
          expect(rule.struck).to.equal(1);
        });

        it(`restores where the answer to the write is lost, ${when} its effect`, async () => {
          const one = await moved();
          const rule = fail(['copy', 'put'], { as: 'reset', when });
          expect(await store.putBack([{ ...one, to: one.key }])).to.deep.equal([{ outcome: 'restored' }]);
          expect(rule.struck).to.equal(1);
          expect(await state()).to.deep.equal({ live: 'content', pending: ['content'] });
        });

        it(`purges where the answer to a batch is lost, ${when} its effect`, async () => {
          const one = await moved();
          const rule = fail('batch-delete', { as: 'reset', when });
          expect(await store.remove([{ ...one, from: 'pending' }])).to.deep.equal([{ outcome: 'removed' }]);
          expect(rule.struck).to.equal(1);
          expect(await state()).to.deep.equal({ live: undefined, pending: [] });
        });
      }

      it('waits until a deletion that got no answer can do nothing any more', async () => {
        fail('delete', { as: 'reset', when: 'before' });
        await store.move([await item()], { resume: false });
        expect(place.proxy.dateShift).to.be.at.least(16 * 60_000);
      });

      it('leaves what is written after a deletion whose answer is lost', async () => {
        place.proxy.inject({
          match: about('delete'),
          fault: { as: 'deed', when: 'after', deed: async () => place.put(NAME, 'a newer content') },
        });
        fail('delete', { as: 'reset', when: 'after' });
        await moved();
        expect(await state()).to.deep.equal({ live: 'a newer content', pending: ['content'] });
      });

      it('says so where a deletion is refused, and leaves the object live', async () => {
        fail('delete', { as: 'answer', when: 'before', status: 403, code: 'AccessDenied' }, 100);
        const one = await item();
        expect(await outcomeOf(store.move([one], { resume: false }))).to.be.an('error');
        expect(await state()).to.deep.equal({ live: 'content', pending: ['content'] });
      });

      it('moves nothing where the copy is refused or never succeeds', async () => {
        for (const fault of [
          { as: 'answer', when: 'before', status: 403, code: 'AccessDenied' },
          { as: 'error in 200', when: 'before', code: 'InternalError' },
          { as: 'answer', when: 'before', status: 503, code: 'SlowDown' },
        ] as const) {
          const rule = fail('copy', fault, 100);
          expect(await outcomeOf(store.move([await item()], { resume: false }))).to.be.an('error');
          expect(place.proxy.count('delete')).to.equal(place.proxy.seen.filter(isProbe).length);
          rule.remove();
        }
        expect(await state()).to.deep.equal({ live: 'content', pending: [] });
      });

      it('reads a large object whole whose body is cut again and again', async () => {
        const large = Buffer.alloc(2_000_003, 'large and odd ');
        await place.put(NAME, large);
        const rules = [1, 700_001, 65_536].map((bytes) => fail('get', { as: 'cut', bytes }));
        expect((await read(store, NAME)) === large.toString()).to.equal(true);
        expect(rules.map(({ struck }) => struck)).to.deep.equal([1, 1, 1]);
      });

      it('ends in an error where a body never comes whole', async () => {
        fail('get', { as: 'cut', bytes: 3 }, 1);
        fail('get', { as: 'answer', when: 'before', status: 403, code: 'AccessDenied' }, 100);
        expect(await outcomeOf(read(store, NAME))).to.be.an('error');
      });

      it('lists all or nothing where a page is cut short', async () => {
        const once = fail('list', { as: 'cut', bytes: 200 });
        expect(await listed(store)).to.deep.equal([NAME]);
        expect(once.struck).to.equal(1);
        fail('list', { as: 'cut', bytes: 200 }, 1000);
        expect(await outcomeOf(listed(store))).to.be.an('error');
      });
    });
  }

  it('lists all or nothing where a later page fails', async () => {
    await using place = await BucketPlace.make({ semantics: 'gateway' });
    const { proxy } = place;
    const names = Array.from({ length: 1003 }, (_, i) => `many/${String(i).padStart(4, '0')}`);
    await place.putAll(Object.fromEntries(names.map((name) => [name, name])));
    const store = await place.store({
      ...systemClock,
      monotonic: () => systemClock.monotonic() + proxy.dateShift,
      sleep: async (ms) => {
        proxy.dateShift += ms;
      },
    });
    let pages = 0;
    const later = (request: S3Request): boolean => about('list')(request) && ++pages > 1;
    proxy.inject({ match: later, fault: { as: 'cut', bytes: 300 } });
    expect(await listed(store)).to.deep.equal(names);
    pages = 0;
    proxy.inject({ match: later, fault: { as: 'cut', bytes: 300 }, times: 1000 });
    expect(await outcomeOf(listed(store))).to.be.an('error');
  });
});

/** Requests about objects: not those of the store's own names, by which it probes and asks for the time. */
function about(kinds: S3Kind | readonly S3Kind[]): (request: S3Request) => boolean {
  return (request) => [kinds].flat().includes(request.kind) && !request.key.includes('/.tombstoned/');
}

function isProbe({ request }: { readonly request: S3Request }): boolean {
  return request.kind === 'delete' && request.key.includes('/.tombstoned/');
}

function key(name: string): Key {
  const made = asKey(name);
  if (made === undefined) throw new Error(`${name} is no key`);
  return made;
}

async function listed(store: S3Store): Promise<string[]> {
  const names: string[] = [];
  for await (const page of store.list('')) {
    for (const one of page) names.push(one.type === 'object' ? one.key : one.path);
  }
  return names;
}

async function read(store: S3Store, name: string): Promise<string> {
  const open = await store.openLive(key(name));
  if (open === undefined) throw new Error(`${name} is gone`);
  return Buffer.concat(await open.read().toArray()).toString();
}

/** What came of it, or the error that was thrown; so too where it is told as an outcome. */
async function outcomeOf(work: Promise<unknown>): Promise<unknown> {
  try {
    const result = await work;
    const [first] = Array.isArray(result) ? (result as unknown[]) : [];
    return typeof first === 'object' && first !== null && 'error' in first ? first.error : result;
  } catch (error) {
    return error;
  }
}
