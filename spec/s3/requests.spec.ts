import { mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { recover } from '../../lib/app/recover.ts';
import type { Place } from '../../lib/run/place.ts';
import { approve, reject } from '../../lib/sweep/approve.ts';
import { type SweepResult, sweep } from '../../lib/sweep/sweep.ts';
import { NO_GUARDS, NO_LIMITS } from '../support/place.ts';
import type { S3Kind, S3Request } from '../support/s3-request.ts';
import { s3ServerOrSkip } from '../support/s3-server.ts';
import { BucketPlace, PENDING, withCredentials } from './bucket-place.ts';
import { BucketWorld, type RequestFault } from './bucket-world.ts';
import { AMAZON } from './capabilities.ts';

/** How long requests of a dead process are waited for, and a bit more. ms. */
const DEAD_MS = 32 * 60_000;
const KEYS = ['a', 'b', 'c/d'];

describe('drop-in requests of a bucket', function () {
  this.timeout(60_000);
  let bucket: BucketPlace;
  let world: BucketWorld;
  let inbox: string;
  let count = 0;

  before(async function () {
    s3ServerOrSkip(this);
    bucket = await BucketPlace.make({ semantics: 'amazon' });
  });
  after(async () => bucket[Symbol.asyncDispose]());
  withCredentials();
  afterEach(() => world[Symbol.dispose]());

  /** A fresh store, with objects and a directory of its own. */
  async function fresh(): Promise<void> {
    const name = `store-${count++}`;
    world = await BucketWorld.make(bucket, name, { capabilities: AMAZON, window: 0 });
    inbox = path.join(bucket.directory, name);
    mkdirSync(inbox);
    for (const key of KEYS) await bucket.put(key, `content of ${key}`);
  }
  beforeEach(fresh);

  const dropIns = (maxObjects: number | null = null) => [
    { name: 'requests', directory: inbox, limits: { ...NO_LIMITS, maxObjects } },
  ];

  function drop(name: string, lines: readonly string[]): void {
    writeFileSync(path.join(inbox, '.new'), lines.map((line) => `${line}\n`).join(''));
    renameSync(path.join(inbox, '.new'), path.join(inbox, `${name}.keys`));
  }

  /** Does something as a process; whether it was struck. */
  async function as(
    seed: number,
    work: (place: Place) => Promise<unknown>,
    fault?: RequestFault,
  ): Promise<boolean> {
    const process = await world.process(seed, fault);
    let isStruck = false;
    try {
      await work(process.place).catch((error: unknown) => {
        if (fault === undefined) throw error;
      });
    } finally {
      ({ isStruck } = process.end());
    }
    return isStruck;
  }

  const serve = async (place: Place, maxObjects: number | null = null): Promise<SweepResult> =>
    sweep(place, { policies: [], dropIns: dropIns(maxObjects), guards: NO_GUARDS, dryRun: false });

  const outcomes = (name: string): [unknown, unknown][] =>
    readFileSync(path.join(inbox, `${name}.done`), 'utf8')
      .split('\n')
      .slice(0, -1)
      .map((line) => JSON.parse(line) as Record<string, unknown>)
      .map(({ key, outcome }) => [key, outcome]);

  /** Names of live objects. */
  async function live(): Promise<string[]> {
    return [...(await bucket.etags()).keys()].filter((name) => !name.startsWith(PENDING));
  }

  it('moves what they name, by revision too, and says what became of each', async () => {
    const etags = await bucket.etags();
    const exact = { key: 'a', revision: `${etags.get('a')}|12` };
    const other = { key: 'b', revision: `${etags.get('a')}|12` };
    drop('mine', [JSON.stringify(exact), JSON.stringify(other), 'gone', 'c/d']);
    await as(1, serve);
    expect(outcomes('mine')).to.deep.equal([
      ['a', 'tombstoned'],
      ['b', 'changed'],
      ['gone', 'gone'],
      ['c/d', 'tombstoned'],
    ]);
    expect(await live()).to.deep.equal(['b']);
    expect(await bucket.names(PENDING)).to.have.length(2);
  });

  it('are refused whole where a revision is none of a bucket, and nothing is asked of it', async () => {
    drop('bad', ['a', '{"key":"b","revision":"4096|1763805600000000000|x|y|z"}']);
    const asked = await world.requestsOf(async () => as(1, serve));
    expect(asked.filter(({ kind }) => kind === 'head' || kind === 'copy')).to.deep.equal([]);
    expect(readdirSync(inbox)).to.have.members(['bad.error', 'bad.rejected']);
    expect(readFileSync(path.join(inbox, 'bad.error'), 'utf8')).to.match(/line 2: .*expected "ETAG\|SIZE"/);
    expect(await live()).to.deep.equal(KEYS);
  });

  it('wait over a limit, and move when they are approved', async () => {
    drop('mine', KEYS);
    drop('other', KEYS);
    await as(1, async (place) => {
      const { blocked, moved } = await serve(place, 1);
      expect([moved, await live()]).to.deep.equal([0, KEYS]);
      const id = blocked[0]?.waiting?.sweep ?? '';
      await bucket.put('b', 'written since');
      const asked = { policies: [], dropIns: dropIns(), guards: NO_GUARDS, dryRun: false };
      expect(await approve(place, id, asked)).to.include({ outcome: 'moved', moved: 2 });
    });
    expect(outcomes('mine')).to.deep.equal([
      ['a', 'tombstoned'],
      ['b', 'changed'],
      ['c/d', 'tombstoned'],
    ]);
    expect(await live()).to.deep.equal(['b']);
  });

  it('stay where they are when they are rejected', async () => {
    drop('mine', KEYS);
    await as(1, async (place) => {
      const { blocked } = await serve(place, 1);
      await reject(place, blocked[0]?.waiting?.sweep ?? '', { reason: 'no', dryRun: false });
    });
    expect(outcomes('mine')).to.deep.equal(KEYS.map((key) => [key, 'blocked']));
    expect(await live()).to.deep.equal(KEYS);
  });

  it('take no refusal for an object that is gone, nor a bucket’s failure for one of a key', async () => {
    drop('mine', [...KEYS, 'gone']);
    const match = ({ kind, key }: S3Request): boolean => kind === 'head' && key.endsWith('/b');
    const answer = { as: 'answer', when: 'before', status: 403, code: 'AccessDenied' } as const;
    const rule = bucket.proxy.inject({ match, fault: answer, times: Infinity });
    await as(1, serve);
    rule.remove();
    expect(outcomes('mine')).to.deep.equal([
      ['a', 'tombstoned'],
      ['b', 'failed'],
      ['c/d', 'tombstoned'],
      ['gone', 'gone'],
    ]);
    expect(await live()).to.deep.equal(['b']);
  });

  it('are served by a later sweep after an outage at any of their requests, once', async () => {
    for (const kind of ['head', 'copy', 'delete'] as const) {
      await another();
      drop('mine', KEYS);
      const among = isOf(kind);
      expect(await as(1, serve, { at: 2, among, when: 'before', as: 'outage' }), kind).to.equal(true);
      await servedOnce(kind);
    }
  });

  for (const when of ['before', 'after'] as const) {
    it(`are done once, and whole, where the process is killed ${when} any copy or deletion`, async () => {
      for (let at = 1; at <= 2 * KEYS.length; at++) {
        await another();
        drop('mine', KEYS);
        const among = isOf('copy', 'delete');
        expect(await as(1, serve, { at, among, when, as: 'kill' }), `call ${at}`).to.equal(true);
        await servedOnce(`killed ${when} call ${at}`);
      }
    });
  }

  async function another(): Promise<void> {
    world[Symbol.dispose]();
    await fresh();
  }

  /** The next process ends it; what was moved before, and has been written anew, it leaves. */
  async function servedOnce(what: string): Promise<void> {
    await as(2, recover);
    world.advance(DEAD_MS);
    await as(3, recover);
    const left = await live();
    const anew = KEYS.filter((key) => !left.includes(key));
    for (const key of anew) await bucket.put(key, `new ${key}`);
    await as(4, serve);
    expect(readdirSync(inbox), what).to.deep.equal(['mine.done']);
    expect(outcomes('mine'), what).to.deep.equal(KEYS.map((key) => [key, 'tombstoned']));
    expect(await live(), what).to.deep.equal(anew);
  }
});

function isOf(...kinds: readonly S3Kind[]): (request: S3Request) => boolean {
  return ({ kind, key }) => kinds.includes(kind) && !key.includes('/.tombstoned/');
}
