import { rmSync } from 'node:fs';
import path from 'node:path';
import Database from 'better-sqlite3';
import { expect } from 'chai';
import { recover } from '../../lib/app/recover.ts';
import type { WaitingPlan } from '../../lib/catalog/waiting.ts';
import { isoTime } from '../../lib/domain/clock.ts';
import { exitCodeOf, TombstonedError } from '../../lib/domain/errors.ts';
import { matcher } from '../../lib/policy/glob.ts';
import type { Place } from '../../lib/run/place.ts';
import { type ApproveOptions, type ApproveResult, approve, reject } from '../../lib/sweep/approve.ts';
import type { SweepResult } from '../../lib/sweep/sweep.ts';
import { tidyWaiting, waitingOf } from '../../lib/sweep/waiting.ts';
import { dieAt } from '../support/dying.ts';
import {
  allTombstones,
  bringBack,
  FAST,
  filesBelow,
  holdElsewhere,
  revisionOfFile,
  sweepOld,
  tombstonesOf,
} from '../support/phases.ts';
import { age, DAY, HOUR, NO_GUARDS, NO_LIMITS, TempPlace } from '../support/place.ts';

const LIMITS = { ...NO_LIMITS, maxObjects: 2 };
type Settings = Parameters<typeof age>[0];

describe('a plan over a limit', () => {
  let temp: TempPlace;
  let place: Place;
  beforeEach(async () => {
    temp = await TempPlace.make(FAST);
    place = temp.open();
  });
  afterEach(() => {
    temp.remove();
  });

  function files(...names: string[]): void {
    for (const name of names) temp.write(name, name, 9 * DAY);
  }

  async function swept(settings: Settings = {}, of = place): Promise<SweepResult> {
    return sweepOld(of, { policies: [age({ limits: LIMITS, ...settings })] });
  }

  /** Files a plan of what is there; gives its id. */
  async function filed(settings: Settings = {}): Promise<string> {
    const [blocked] = (await swept(settings)).blocked;
    return blocked?.waiting?.sweep ?? '';
  }

  async function approved(
    id: string,
    options: Partial<ApproveOptions> = {},
    settings: Settings = {},
    of = place,
  ): Promise<ApproveResult> {
    const policies = [age({ limits: LIMITS, ...settings })];
    return approve(of, id, { policies, guards: NO_GUARDS, dryRun: false, ...options });
  }

  function waiting(): WaitingPlan[] {
    return place.catalog.waiting.ofStore(place.row.n, temp.clock.wall);
  }

  function keysOf(plan: WaitingPlan | undefined): string[] {
    return place.catalog.waiting.page(plan?.n ?? 0, '', 1000).map(({ key }) => key);
  }

  function moved(): string[] {
    return allTombstones(place)
      .filter(({ state }) => state === 'pending')
      .map(({ key }) => key)
      .toSorted();
  }

  async function failure(work: Promise<unknown>): Promise<TombstonedError> {
    const error = await work.then(
      () => undefined,
      (thrown: unknown) => thrown,
    );
    if (error instanceof TombstonedError) return error;
    throw new Error(`it ended in ${String(error)}`);
  }

  describe('when it is filed', () => {
    it('waits under an id of its own, with every key, its size and revision', async () => {
      files('a', 'b', 'c');
      const result = await swept();
      const [plan] = waiting();
      expect(plan?.sweep).to.match(/^s-/).and.not.equal(result.sweep);
      expect(plan).to.include({ policy: 'old', state: 'waiting', objects: 3, bytes: 3 });
      expect(plan?.over).to.equal('it would move 3 objects, and maxObjects is 2');
      expect((plan?.expiresAt ?? 0) - temp.clock.wall).to.equal(7 * DAY);
      const revision = revisionOfFile(path.join(temp.root, 'a'));
      expect(place.catalog.waiting.page(plan?.n ?? 0, '', 1)).to.deep.equal([
        { key: 'a', size: 1, revision },
      ]);
      expect([keysOf(plan), moved()]).to.deep.equal([['a', 'b', 'c'], []]);
      expect(result.blocked).to.deep.equal([{ policy: 'old', over: plan?.over, waiting: plan, isNew: true }]);
      expect(temp.talk.join('\n')).to.include(
        `waits for approval until ${isoTime(plan?.expiresAt ?? 0)}: ${plan?.sweep}`,
      );
    });

    it('is no other policy’s matter, and leaves them what they name too', async () => {
      files('a/1', 'a/2', 'a/3', 'b/1');
      const wide = age({ name: 'wide', limits: LIMITS });
      await sweepOld(place, { policies: [wide, age({ name: 'narrow', prefix: 'a/1' })] });
      expect([moved(), keysOf(waiting()[0])]).to.deep.equal([['a/1'], ['a/1', 'a/2', 'a/3', 'b/1']]);
    });

    it('is filed once: later sweeps leave it as it is, and its id stays', async () => {
      files('a', 'b', 'c');
      const id = await filed();
      files('d');
      temp.clock.advance(HOUR);
      const [again] = (await swept()).blocked;
      expect(again).to.deep.include({ isNew: false, waiting: waiting()[0] });
      expect(waiting().map(({ sweep }) => sweep)).to.deep.equal([id]);
      expect(keysOf(waiting()[0])).to.deep.equal(['a', 'b', 'c']);
      await approved(id);
      expect(moved()).to.deep.equal(['a', 'b', 'c']);
    });

    it('is filed once by two sweeps at once', async () => {
      files('a', 'b', 'c');
      const other = temp.open({ seed: 23 });
      const results = await Promise.all([swept(), swept({}, other)]);
      expect(waiting()).to.have.length(1);
      const ids = results.map(({ blocked }) => blocked[0]?.waiting?.sweep);
      expect(ids).to.deep.equal([waiting()[0]?.sweep, waiting()[0]?.sweep]);
      await tidyWaiting(place);
      expect(place.catalog.waiting.leftovers()).to.deep.equal([]);
      expect(place.catalog.sweeps.latest(place.row.n, 10)).to.have.length(2);
    });

    it('is none of a dry run, nor of a sweep that is stopped while it files', async () => {
      files('a', 'b', 'c');
      await sweepOld(place, { policies: [age({ limits: LIMITS })], dryRun: true });
      expect(waiting()).to.deep.equal([]);
      const stop = new AbortController();
      const { waiting: plans } = place.catalog;
      const takeOut = plans.takeOut.bind(plans);
      plans.takeOut = (page) => {
        stop.abort();
        return takeOut(page);
      };
      const result = await sweepOld(place, { policies: [age({ limits: LIMITS })], signal: stop.signal });
      expect([result.isCut, waiting()]).to.deep.equal([true, []]);
      expect(plans.leftovers()).to.have.length(1);
      plans.takeOut = takeOut;
      await swept();
      expect(waiting()).to.have.length(1);
      expect(plans.leftovers()).to.deep.equal([]);
    });

    it('waits for every typo that selects all: an empty prefix, no age, with the limits of a new config', async () => {
      for (let i = 0; i < 20; i++) temp.write(`logs/${i}`, 'x', (i + 2) * HOUR);
      const limits = { maxObjects: 100_000, maxFraction: 0.5, maxBytes: null };
      const guards = { minimumAge: HOUR, isProtected: matcher([]) };
      const before = filesBelow(temp.root).filter((name) => !name.startsWith('.tombstoned'));
      for (const typo of [{ prefix: '' }, { prefix: 'l' }, { match: '**' }]) {
        const policies = [age({ name: JSON.stringify(typo), olderThan: 0, limits, ...typo })];
        const { moved: count, blocked } = await sweepOld(place, { policies, guards });
        expect([count, blocked.length], JSON.stringify(typo)).to.deep.equal([0, 1]);
      }
      expect(waiting().map(({ objects }) => objects)).to.deep.equal([20, 20, 20]);
      expect(filesBelow(temp.root).filter((name) => !name.startsWith('.tombstoned'))).to.deep.equal(before);
    });
  });

  describe('when it is approved', () => {
    it('moves under its id, and can be undone by it', async () => {
      files('a', 'b', 'c');
      const id = await filed();
      temp.clock.advance(HOUR);
      await swept({ name: 'other', prefix: 'zz' });
      const result = await approved(id);
      expect(result).to.include({ outcome: 'moved', planned: 3, moved: 3, abandoned: 0, left: 0 });
      expect(allTombstones(place).map(({ sweep, policy }) => [sweep, policy])).to.deep.equal(
        Array.from({ length: 3 }, () => [id, 'old']),
      );
      expect(place.catalog.sweeps.get(id)).to.include({ state: 'done', planned: 3, moved: 3, bytes: 3 });
      expect(place.catalog.sweeps.lastMoving(place.row.n)?.id).to.equal(id);
      expect([waiting(), place.catalog.waiting.leftovers()]).to.deep.equal([[], []]);
      const events = ['plan-waits', 'plan-approved'];
      expect(eventsOf(temp).filter((what) => String(what).startsWith('plan'))).to.deep.equal(events);
    });

    it('in a dry run says what it would move, and moves nothing', async () => {
      files('a', 'b', 'c');
      const id = await filed();
      rmSync(path.join(temp.root, 'b'));
      const planned: string[] = [];
      const result = await approved(id, { dryRun: true, onPlanned: ({ key }) => planned.push(key) });
      expect(result).to.include({ outcome: 'dry-run', planned: 2, abandoned: 1, moved: 0 });
      expect([planned, moved(), waiting().length]).to.deep.equal([['a', 'c'], [], 1]);
      await approved(id);
      expect(moved()).to.deep.equal(['a', 'c']);
    });

    it('leaves what has changed or gone, and takes nothing that came later', async () => {
      files('a', 'b', 'c');
      const id = await filed();
      rmSync(path.join(temp.root, 'a'));
      temp.write('b', 'other', 9 * DAY);
      files('later');
      const result = await approved(id);
      expect(result).to.include({ outcome: 'moved', moved: 1, abandoned: 2 });
      expect(moved()).to.deep.equal(['c']);
      expect(place.catalog.sweeps.get(id)).to.include({ moved: 1, abandoned: 2 });
    });

    it('leaves what today’s guards keep: protected, too young, exempt, or no more the policy’s', async () => {
      files('a', 'b', 'c', 'restored');
      await sweepOld(place, { policies: [age({ prefix: 'restored' })] });
      await bringBack(place, tombstonesOf(place, 'restored'), { exemptFor: HOUR });
      temp.clock.advance(2 * HOUR);
      const id = await filed();
      expect(waiting()[0]?.objects).to.equal(4);
      await sweepOld(place, { policies: [age({ prefix: 'restored' })] });
      await bringBack(place, tombstonesOf(place, 'restored').slice(0, 1), { exemptFor: 30 * DAY });
      const guards = { minimumAge: 0, isProtected: matcher(['a']) };
      const result = await approved(id, { guards }, { match: '{a,c,restored}' });
      expect(result).to.include({ outcome: 'moved', moved: 1 });
      expect(Object.fromEntries(result.kept)).to.deep.equal({ protected: 1, exempt: 1, 'no-policy': 1 });
      expect(temp.live('a')).to.equal('a');
    });

    it('leaves what is too young for the policy or the store as they are today', async () => {
      files('a', 'b', 'c');
      const id = await filed();
      const young = await approved(id, { dryRun: true }, { olderThan: 30 * DAY });
      expect([young.planned, Object.fromEntries(young.kept)]).to.deep.equal([0, { 'too-young': 3 }]);
      const guards = { minimumAge: 30 * DAY, isProtected: matcher([]) };
      const result = await approved(id, { guards });
      expect([moved(), Object.fromEntries(result.kept)]).to.deep.equal([[], { 'too-young': 3 }]);
    });

    it('counts keepLast by what is there now', async () => {
      for (const [name, days] of Object.entries({ a: 9, b: 8, c: 7, d: 6, e: 5 }))
        temp.write(name, name, days * DAY);
      const id = await filed({ keepLast: 2, limits: { ...LIMITS, maxObjects: 0 } });
      expect(keysOf(waiting()[0])).to.deep.equal(['a', 'b', 'c']);
      for (const name of ['d', 'e']) rmSync(path.join(temp.root, name));
      const result = await approved(id, {}, { keepLast: 2 });
      expect([moved(), Object.fromEntries(result.kept)]).to.deep.equal([['a'], { 'keep-last': 2 }]);
    });

    it('counts for keepLast also what is newer than the plan', async () => {
      for (const [name, days] of Object.entries({ a: 9, b: 8, c: 7 })) temp.write(name, name, days * DAY);
      const id = await filed({ keepLast: 1, limits: { ...LIMITS, maxObjects: 0 } });
      temp.write('old-but-copied-now', 'x', 2 * DAY);
      rmSync(path.join(temp.root, 'c'));
      await approved(id, {}, { keepLast: 1 });
      expect(moved()).to.deep.equal(['a', 'b']);
    });

    it('takes a directory as a whole or not at all', async () => {
      files('1/a', '1/b', '2/a', '2/b', '3/a', '3/b', '4/a');
      const unit = { unit: 'directory' } as const;
      const id = await filed(unit);
      temp.write('1/new', 'x', 9 * DAY);
      temp.write('2/a', 'changed', 9 * DAY);
      temp.write('4/young', 'x');
      const result = await approved(id, {}, unit);
      expect(moved()).to.deep.equal(['3/a', '3/b']);
      expect(result).to.include({ outcome: 'moved', moved: 2, abandoned: 1 });
      expect(Object.fromEntries(result.kept)).to.deep.equal({ changed: 3, 'too-young': 1 });
    });

    it('waits on while a hold keeps some, and moves those when it is approved again', async () => {
      files('a', 'b', 'c');
      const id = await filed();
      await holdElsewhere(place, ['b']);
      const first = await approved(id);
      expect(first).to.include({ outcome: 'waits', moved: 2, left: 1 });
      expect(waiting().map(({ sweep }) => sweep)).to.deep.equal([id]);
      temp.clock.advance(2 * HOUR);
      const second = await approved(id);
      expect(second).to.include({ outcome: 'moved', moved: 1, abandoned: 0 });
      expect(place.catalog.sweeps.get(id)).to.include({ moved: 3, planned: 3, state: 'done' });
    });

    it('waits on while a lease keeps all of it, and loses none of it by that', async () => {
      files('a', 'b', 'c');
      const id = await filed();
      const lease = { id: 'l-20261122T101500123Z-k3v0q8', holder: 'spec', host: 'h', pid: 1, prefixes: [''] };
      const body = { ...lease, blocks: 'sweep', ttlSeconds: 3600, acquiredAt: '2026-11-22T10:00:00.000Z' };
      const name = `leases/${lease.id}.json`;
      await place.store.control.create(name, `${JSON.stringify({ ...body, renewal: '0000000001' })}\n`);
      const first = await approved(id);
      expect(first).to.include({ outcome: 'waits', planned: 3, moved: 0, left: 3 });
      expect(Object.fromEntries(first.kept)).to.deep.equal({ lease: 3 });
      rmSync(path.join(temp.root, '.tombstoned', name));
      expect(await approved(id)).to.include({ outcome: 'moved', moved: 3 });
    });

    it('waits on where it is stopped, and goes on there', async () => {
      files('a', 'b', 'c', 'd', 'e');
      const id = await filed();
      const stop = new AbortController();
      const first = await approved(id, { batchSize: 1, signal: stop.signal, onProgress: () => stop.abort() });
      expect(first).to.include({ outcome: 'waits', isCut: true });
      const some = moved().length;
      expect(some).to.be.within(1, 4);
      const second = await approved(id);
      expect(second).to.include({ outcome: 'moved', moved: 5 - some, abandoned: 0 });
      expect(moved()).to.have.length(5);
    });

    it('is moved once by two at once', async () => {
      files('a', 'b', 'c');
      const id = await filed();
      const other = temp.open({ seed: 23 });
      const ends = await Promise.allSettled([approved(id), approved(id, {}, {}, other)]);
      const done = ends.flatMap((end) => (end.status === 'fulfilled' ? [end.value.outcome] : []));
      expect(done).to.include('moved');
      expect(moved()).to.deep.equal(['a', 'b', 'c']);
      for (const end of ends) {
        if (end.status === 'rejected') expect(exitCodeOf(end.reason)).to.be.oneOf([4, 5]);
      }
      expect(allTombstones(place)).to.have.length(3);
    });

    it('is moved while a sweep of the same policy runs, and no key twice', async () => {
      files('a', 'b', 'c', 'd');
      const id = await filed();
      const other = temp.open({ seed: 23 });
      const [result] = await Promise.all([
        approved(id, { batchSize: 1 }),
        swept({ limits: NO_LIMITS }, other),
      ]);
      expect(result.outcome).to.equal('moved');
      expect(moved()).to.deep.equal(['a', 'b', 'c', 'd']);
      expect(allTombstones(place).filter(({ state }) => state === 'pending')).to.have.length(4);
    });

    it('is not filed again by a sweep that had planned it before it was moved', async () => {
      files('a', 'b', 'c');
      const id = await filed();
      const other = temp.open({ seed: 23 });
      const { store } = other;
      const list = store.list.bind(store);
      store.list = async function* (...values) {
        yield* list(...values);
        await approved(id);
      };
      const [blocked] = (await swept({}, other)).blocked;
      expect(blocked).to.include({ policy: 'old', isNew: false, waiting: undefined });
      expect([moved(), waiting()]).to.deep.equal([['a', 'b', 'c'], []]);
    });

    it('can be approved again after the process that moved it died', async () => {
      files('a', 'b', 'c');
      const id = await filed();
      await dieAt(temp, 'move', 'after', async (dying) => approved(id, { batchSize: 1 }, {}, dying));
      expect(waiting()).to.have.length(1);
      await recover(place);
      const result = await approved(id);
      expect(result).to.include({ outcome: 'moved', abandoned: 0 });
      expect(moved()).to.deep.equal(['a', 'b', 'c']);
      expect(place.catalog.sweeps.get(id)).to.include({ moved: 3 });
    });

    it('says so when it has been already, and moves no more', async () => {
      files('a', 'b', 'c');
      const id = await filed();
      await approved(id);
      expect(await approved(id)).to.include({ outcome: 'already', moved: 0 });
    });

    it('moves nothing when the policy is no more in the config', async () => {
      files('a', 'b', 'c');
      const id = await filed();
      const error = await failure(approved(id, { policies: [] }));
      expect(error).to.include({ code: 'blocked', reason: 'no-policy' });
      expect(moved()).to.deep.equal([]);
    });

    it('is none where the id is of another sweep, or of nothing', async () => {
      files('a', 'b', 'c');
      const { sweep } = await swept({ limits: NO_LIMITS });
      expect((await failure(approved(sweep ?? ''))).code).to.equal('conflict');
      expect((await failure(approved('s-20261122T101500123Z-k3v0q8'))).code).to.equal('not-found');
    });
  });

  describe('when nobody approves it', () => {
    it('is given up after 7 days, and the next sweep files another', async () => {
      files('a', 'b', 'c');
      const id = await filed();
      const { filedAt = 0 } = waiting()[0] ?? {};
      temp.clock.advance(filedAt + 7 * DAY - 1 - temp.clock.wall);
      expect((await approved(id, { dryRun: true })).planned).to.equal(3);
      temp.clock.advance(1);
      const error = await failure(approved(id));
      expect([error.code, error.message]).to.deep.equal([
        'conflict',
        `the plan ${id} was not approved by ${isoTime(filedAt + 7 * DAY)}`,
      ]);
      expect(waiting()).to.deep.equal([]);
      const other = await filed();
      expect(other).to.match(/^s-/).and.not.equal(id);
      expect(place.catalog.waiting.get(id)?.state).to.equal('expired');
      expect(place.catalog.waiting.leftovers()).to.deep.equal([]);
      expect(moved()).to.deep.equal([]);
    });

    it('is not given up early, nor kept for years, by a clock that is wrong', async () => {
      files('a', 'b', 'c');
      const id = await filed();
      temp.clock.wall += 3650 * DAY;
      await tidyWaiting(place);
      expect(waitingOf(place, 'old')?.sweep).to.equal(id);
      await reject(place, id, { reason: 'spec', dryRun: false });
      const late = await filed(); // while it is wrong
      temp.clock.wall -= 3650 * DAY;
      expect(place.catalog.waiting.get(late)?.state).to.equal('waiting');
      temp.clock.advance(7 * DAY);
      await tidyWaiting(place);
      expect(place.catalog.waiting.get(late)?.state).to.equal('expired');
    });

    it('is dropped when it is rejected, with the reason, and can’t be approved', async () => {
      files('a', 'b', 'c');
      const id = await filed();
      expect(await reject(place, id, { reason: 'typo', dryRun: true })).to.include({ outcome: 'dry-run' });
      expect((await reject(place, id, { reason: 'typo', dryRun: false })).plan).to.include({
        state: 'rejected',
        reason: 'typo',
      });
      expect((await reject(place, id, { reason: 'again', dryRun: false })).outcome).to.equal('already');
      expect((await failure(approved(id))).message).to.equal(`the plan ${id} was rejected: typo`);
      expect([waiting(), place.catalog.waiting.leftovers(), moved()]).to.deep.equal([[], [], []]);
    });

    it('can’t be rejected once it has moved', async () => {
      files('a', 'b', 'c');
      const id = await filed();
      await approved(id);
      expect(await failure(reject(place, id, { reason: 'late', dryRun: false }))).to.include({
        code: 'conflict',
        hint: `to undo that: restore --sweep ${id}`,
      });
    });
  });
});

/** What the audit log has, in order. */
function eventsOf(temp: TempPlace): unknown[] {
  const db = new Database(temp.catalogFile, { readonly: true });
  try {
    return db.prepare('SELECT what FROM events ORDER BY n').pluck().all();
  } finally {
    db.close();
  }
}
