import { existsSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { quickFigures } from '../../lib/app/figures.ts';
import { recover } from '../../lib/app/recover.ts';
import { storeStatus } from '../../lib/app/status.ts';
import type { WaitingPlan } from '../../lib/catalog/waiting.ts';
import { storeConfigFromUrl } from '../../lib/config/store-url.ts';
import { isoTime } from '../../lib/domain/clock.ts';
import type { Place } from '../../lib/run/place.ts';
import { type ApproveOptions, type ApproveResult, approve, reject } from '../../lib/sweep/approve.ts';
import { hasNewRequests, orphanedRequests } from '../../lib/sweep/requests.ts';
import { type SweepResult, sweep as sweepStore } from '../../lib/sweep/sweep.ts';
import { dieAt } from '../support/dying.ts';
import { FAST, holdElsewhere } from '../support/phases.ts';
import { DAY, HOUR, NO_GUARDS, NO_LIMITS, type TempPlace } from '../support/place.ts';
import { InboxPlace } from './inbox-place.ts';

const LIMITS = { ...NO_LIMITS, maxObjects: 2 };

describe('requests over a limit', () => {
  let at: InboxPlace;
  let temp: TempPlace;
  let place: Place;
  beforeEach(async () => {
    at = await InboxPlace.make(FAST);
    ({ temp } = at);
    place = temp.open();
    for (const key of ['a', 'b', 'c', 'd', 'e']) temp.write(key, key, 9 * DAY);
  });
  afterEach(() => temp.remove());

  const waiting = (): WaitingPlan[] => place.catalog.waiting.ofStore(place.row.n, temp.clock.wall);
  const live = (): string[] => ['a', 'b', 'c', 'd', 'e'].filter((key) => temp.live(key) !== undefined);
  const answer = (name: string): unknown => JSON.parse(readFileSync(path.join(at.inbox, name), 'utf8'));

  /** Files a plan of one request; gives its id. */
  async function filed(content = 'a\nb\nc\ngone\n'): Promise<string> {
    at.drop('mine', content);
    const [blocked] = (await at.serve({ limits: LIMITS, place })).blocked;
    return blocked?.waiting?.sweep ?? '';
  }

  async function approved(
    id: string,
    options: Partial<ApproveOptions> = {},
    of = place,
  ): Promise<ApproveResult> {
    const dropIns = [at.dropIn(LIMITS)];
    return approve(of, id, { policies: [], dropIns, guards: NO_GUARDS, dryRun: false, ...options });
  }

  describe('when their plan is filed', () => {
    it('wait as a plan of the policy, with its keys; NAME.waiting says which, and the others go', async () => {
      at.drop('all', 'a\nb\nc\nd\nd\ngone\n');
      at.drop('one', 'e\n');
      const result = await at.serve({ limits: LIMITS, place });
      const [plan] = waiting();
      expect(plan).to.include({ policy: 'requests', objects: 4, bytes: 4, state: 'waiting' });
      expect(plan?.over).to.equal('it would move 4 objects, and maxObjects is 2 (all.keys)');
      expect(place.catalog.waiting.page(plan?.n ?? 0, '', 9).map(({ key }) => key)).to.deep.equal([
        'a',
        'b',
        'c',
        'd',
      ]);
      expect(result.blocked).to.deep.equal([
        { policy: 'requests', over: plan?.over, waiting: plan, isNew: true, isOfRequests: true },
      ]);
      expect(result.kept.get('limit')).to.equal(4);
      expect(at.files()).to.deep.equal(['all.taken', 'all.waiting', 'one.done']);
      expect(answer('all.waiting')).to.deep.equal({
        type: 'waiting',
        sweep: plan?.sweep,
        policy: 'requests',
        over: plan?.over,
        objects: 4,
        bytes: 4,
        filedAt: isoTime(plan?.filedAt ?? 0),
        expiresAt: isoTime((plan?.filedAt ?? 0) + 7 * DAY),
      });
      expect(at.results('one')[0]).to.include({ sweep: result.sweep, decision: null });
      expect(temp.talk.join('\n')).to.include(`its plan waits for approval until`).and.include(plan?.sweep);
    });

    it('wait together where each is small, so that many files are no way around a limit', async () => {
      for (const key of ['a', 'b', 'c']) at.drop(key, `${key}\n`);
      await at.serve({ limits: LIMITS, place });
      expect(at.files()).to.include.members(['a.taken', 'b.taken', 'c.taken']);
      expect(live()).to.have.length(5);
      const [plan] = waiting();
      expect(plan).to.include({ objects: 3, cause: 'requests a.keys, b.keys, c.keys' });
      await approved(plan?.sweep ?? '');
      expect(at.files()).to.deep.equal(['a.done', 'b.done', 'c.done']);
    });

    it('stay as they are in later sweeps, whatever the limit is by then, in one plan', async () => {
      const id = await filed();
      const again = await at.serve({ limits: LIMITS, place });
      expect(again.blocked).to.have.length(1);
      expect(again.blocked[0]).to.include({ isNew: false });
      expect(again.blocked[0]?.waiting?.sweep).to.equal(id);
      await at.serve({ limits: NO_LIMITS });
      expect(waiting().map(({ sweep, objects }) => [sweep, objects])).to.deep.equal([[id, 3]]);
      expect([live().length, at.files()]).to.deep.equal([5, ['mine.taken', 'mine.waiting']]);
    });

    it('keep none from going that is within the limits, and let one that is not wait behind', async () => {
      const id = await filed('a\nb\nc\n');
      at.drop('small', 'd\n');
      at.drop('large', 'c\nd\ne\n');
      const { blocked } = await at.serve({ limits: LIMITS, place });
      expect(at.outcomes('small')).to.deep.equal([['d', 'tombstoned']]);
      expect(blocked[0]).to.include({ isNew: false });
      expect([blocked[0]?.waiting?.sweep, waiting().length]).to.deep.equal([id, 1]);
      expect(temp.talk.at(-1)).to.include('large.keys').and.to.include('an earlier plan of it waits');
      await reject(place, id, { reason: 'no', dryRun: false });
      await at.serve({ limits: { ...LIMITS, maxObjects: 1 }, place });
      expect(waiting().map(({ objects, cause }) => [objects, cause])).to.deep.equal([
        [2, 'requests large.keys'],
      ]);
    });

    it('make no work for the look for what is new, until somebody has decided', async () => {
      const id = await filed();
      expect(hasNewRequests(place, at.dropIn())).to.equal(false);
      expect((await at.serve({ limits: LIMITS, place, isOnlyNew: true })).blocked).to.deep.equal([]);
      renameSync(at.inbox, `${at.inbox}.away`);
      await reject(place, id, { reason: 'no', dryRun: false });
      renameSync(`${at.inbox}.away`, at.inbox);
      expect(hasNewRequests(place, at.dropIn())).to.equal(true);
      await at.serve({ limits: LIMITS, place, isOnlyNew: true });
      expect(at.files()).to.deep.equal(['mine.done']);
    });

    it('wait on after a kill at any call between, and are filed once', async () => {
      for (const call of ['lines', 'bind', 'plan'] as const) {
        temp.remove();
        at = await InboxPlace.make(FAST);
        ({ temp } = at);
        for (const key of ['a', 'b', 'c']) temp.write(key, key, 9 * DAY);
        at.drop('mine', 'a\nb\nc\n');
        place = temp.open({ seed: 3 });
        const { waiting: plans, requests } = place.catalog;
        const died = new Error('died');
        const die = (): never => {
          throw died;
        };
        if (call === 'bind') requests.bind = (rows, _, state) => (state === 'waiting' ? die() : void rows);
        else if (call === 'lines') requests.file = die;
        else plans.file = die;
        expect(await at.serve({ limits: LIMITS, place }).catch((error: unknown) => error)).to.equal(died);
        expect(waiting()).to.deep.equal([]);
        temp.close(place);
        place = temp.open({ seed: 4 });
        await at.serve({ limits: LIMITS, place });
        expect(waiting().map(({ objects }) => objects)).to.deep.equal([3]);
        expect(place.catalog.waiting.leftovers()).to.deep.equal([]);
      }
    });

    it('are in the status, the figures and the log of the store, as what waits', async () => {
      const id = await filed();
      const config = { ...storeConfigFromUrl(`file://${temp.root}`), name: 'spec' };
      const known = { config, row: place.row };
      const status = storeStatus(place.catalog, known, undefined, temp.clock);
      expect(status.waiting.map((plan) => [plan.sweep, plan.policy])).to.deep.equal([[id, 'requests']]);
      const { waiting: figures } = quickFigures(place.catalog, known, temp.clock);
      expect(figures).to.include({ plans: 1, count: 3, bytes: 3 });
      const [event] = place.catalog.events.following(0, 10).filter(({ what }) => what === 'plan-waits');
      expect(event).to.include({ count: 3, detail: `${id}, policy requests: ${waiting()[0]?.over}` });
    });

    it('say nothing in the place of somebody else’s NAME.waiting, and leave that', async () => {
      writeFileSync(path.join(at.inbox, 'mine.waiting'), 'theirs');
      const id = await filed();
      await approved(id);
      expect(at.files()).to.deep.equal(['mine.done', 'mine.waiting']);
      expect(readFileSync(path.join(at.inbox, 'mine.waiting'), 'utf8')).to.equal('theirs');
    });
  });

  describe('when it is approved', () => {
    it('move under its id, and their result says so', async () => {
      const id = await filed();
      const result = await approved(id);
      expect(result).to.deep.include({ outcome: 'moved', planned: 3, moved: 3, bytes: 3, problems: [] });
      expect(at.files()).to.deep.equal(['mine.done']);
      expect(
        at.results('mine').map(({ outcome, sweep, decision }) => [outcome, sweep, decision]),
      ).to.deep.equal([
        ['tombstoned', id, 'approved'],
        ['tombstoned', id, 'approved'],
        ['tombstoned', id, 'approved'],
        ['gone', id, 'approved'],
      ]);
      expect(place.catalog.sweeps.lastMoving(place.row.n)?.id).to.equal(id);
      expect([waiting(), place.catalog.waiting.leftovers()]).to.deep.equal([[], []]);
      expect(await approved(id)).to.include({ outcome: 'already', moved: 0 });
    });

    it('show in a dry run what would go, and nothing changes', async () => {
      const id = await filed();
      rmSync(path.join(temp.root, 'b'));
      const planned: string[] = [];
      const onPlanned = ({ key }: { key: string }): void => void planned.push(key);
      expect(await approved(id, { dryRun: true, onPlanned })).to.include({
        outcome: 'dry-run',
        planned: 2,
        abandoned: 1,
      });
      expect([planned, live(), waiting().length]).to.deep.equal([['a', 'c'], ['a', 'c', 'd', 'e'], 1]);
      expect(at.files()).to.deep.equal(['mine.taken', 'mine.waiting']);
    });

    it('leave what has changed or gone since, or a guard keeps today', async () => {
      const id = await filed('a\nb\nc\nd\n');
      rmSync(path.join(temp.root, 'a'));
      temp.write('b', 'other', 9 * DAY);
      const guards = { minimumAge: 0, isProtected: (key: string) => key === 'c' };
      const result = await approved(id, { guards });
      expect(result).to.include({ outcome: 'moved', moved: 1, abandoned: 2 });
      expect(Object.fromEntries(result.kept)).to.deep.equal({ protected: 1 });
      expect(at.results('mine').map(({ outcome, reason }) => [outcome, reason])).to.deep.equal([
        ['gone', null],
        ['changed', 'changed'],
        ['blocked', 'protected'],
        ['tombstoned', null],
      ]);
    });

    it('wait on while a hold keeps some, and move those when it is approved again', async () => {
      const id = await filed();
      await holdElsewhere(place, ['b']);
      expect(await approved(id)).to.include({ outcome: 'waits', moved: 2, left: 1 });
      expect([waiting().length, at.files()]).to.deep.equal([1, ['mine.taken', 'mine.waiting']]);
      expect((await at.serve({ limits: NO_LIMITS })).moved).to.equal(0);
      temp.clock.advance(2 * HOUR);
      expect(await approved(id)).to.include({ outcome: 'moved', moved: 1 });
      expect(at.outcomes('mine').map(([, outcome]) => outcome)).to.deep.equal([
        'tombstoned',
        'tombstoned',
        'tombstoned',
        'gone',
      ]);
    });

    it('are done with where one was restored, and so is exempt, after it was looked at', async () => {
      const id = await filed();
      const { store } = place;
      const head = store.head.bind(store);
      store.head = async (key) => {
        if (key === 'b') await holdElsewhere(place, ['b'], { kind: 'exempt' });
        return head(key);
      };
      expect(await approved(id)).to.include({ outcome: 'moved', moved: 2 });
      expect([live(), at.files()]).to.deep.equal([['b', 'd', 'e'], ['mine.done']]);
      expect(at.results('mine').map(({ outcome, reason }) => [outcome, reason])).to.deep.equal([
        ['tombstoned', null],
        ['blocked', 'exempt'],
        ['tombstoned', null],
        ['gone', null],
      ]);
    });

    it('wait on where it is stopped, and go on there', async () => {
      const id = await filed('a\nb\nc\nd\ne\n');
      const stop = new AbortController();
      const cut = { batchSize: 1, signal: stop.signal, onProgress: () => stop.abort() };
      expect(await approved(id, cut)).to.include({ outcome: 'waits', isCut: true });
      const left = live().length;
      expect(left).to.be.within(1, 4);
      expect(await approved(id)).to.include({ outcome: 'moved', moved: left });
    });

    it('can be approved again after the process died, and none of them is moved twice', async () => {
      const id = await filed();
      await dieAt(temp, 'move', 'after', async (dying) => approved(id, { batchSize: 1 }, dying));
      expect(waiting()).to.have.length(1);
      await recover(place);
      for (const key of ['a', 'b', 'c']) if (temp.live(key) === undefined) temp.write(key, 'new', 9 * DAY);
      const anew = ['a', 'b', 'c'].filter((key) => temp.live(key) === 'new');
      expect(anew).to.not.equal([]);
      expect(await approved(id)).to.include({ outcome: 'moved' });
      expect(
        at
          .outcomes('mine')
          .slice(0, 3)
          .map(([, outcome]) => outcome),
      ).to.deep.equal(['tombstoned', 'tombstoned', 'tombstoned']);
      for (const key of anew) expect(temp.live(key), 'it was asked for once').to.equal('new');
    });

    it('move after their file was taken away, and where their directory is gone are told of later', async () => {
      const id = await filed();
      rmSync(path.join(at.inbox, 'mine.taken'));
      renameSync(at.inbox, `${at.inbox}.away`);
      const result = await approved(id);
      expect(result).to.include({ outcome: 'moved', moved: 3 });
      expect(live()).to.deep.equal(['d', 'e']);
      renameSync(`${at.inbox}.away`, at.inbox);
      await at.serve({ limits: LIMITS });
      expect(at.files()).to.deep.equal(['mine.done']);
      expect(at.results('mine')[0]).to.include({ outcome: 'tombstoned', decision: 'approved' });
    });

    it('move nothing where the policy is no more in the config', async () => {
      const id = await filed();
      const error: unknown = await approved(id, { dropIns: [] }).catch((thrown: unknown) => thrown);
      expect(error).to.include({ code: 'blocked', reason: 'no-policy' });
      expect(live()).to.have.length(5);
    });

    it('are moved once by two at once', async () => {
      const id = await filed();
      const other = temp.open({ seed: 23 });
      const ends = await Promise.allSettled([approved(id), approved(id, {}, other)]);
      expect(ends.flatMap((end) => (end.status === 'fulfilled' ? [end.value.outcome] : []))).to.include(
        'moved',
      );
      expect([live(), at.files()]).to.deep.equal([['d', 'e'], ['mine.done']]);
    });
  });

  describe('of a policy that the config has no more', () => {
    /** Requests that were taken, and not moved: their sweep was cut. */
    async function orphaned(): Promise<void> {
      at.drop('mine', 'a\nb\ngone\n');
      const stop = new AbortController();
      const { requests } = place.catalog;
      const plan = requests.plan.bind(requests);
      requests.plan = (...values) => {
        stop.abort();
        return plan(...values);
      };
      expect((await at.serve({ place, signal: stop.signal })).isCut).to.equal(true);
      requests.plan = plan;
    }
    const sweptWithout = async (of = place): Promise<SweepResult> => {
      temp.clock.advance(1000);
      return sweepStore(of, {
        policies: [],
        dropIns: [],
        knownDropIns: [],
        guards: NO_GUARDS,
        dryRun: false,
      });
    };

    it('wait for somebody to decide, and are moved by nobody else', async () => {
      await orphaned();
      expect(orphanedRequests(place, [at.dropIn()])).to.deep.equal([]);
      const of = { policy: 'requests', directory: at.inbox, count: 1 };
      expect(orphanedRequests(place, [])).to.deep.equal([of]);
      const { blocked, moved } = await sweptWithout();
      const [plan] = waiting();
      expect([moved, live().length, blocked[0]?.waiting?.sweep]).to.deep.equal([0, 5, plan?.sweep]);
      expect(plan?.over).to.equal('the config has policy requests with their directory no more (mine.keys)');
      expect(orphanedRequests(place, []), 'the plan has them').to.deep.equal([]);
      expect((await sweptWithout()).blocked).to.deep.equal([]);
      await reject(place, plan?.sweep ?? '', { reason: 'not any more', dryRun: false });
      expect([at.files(), live().length]).to.deep.equal([['mine.done'], 5]);
      expect(at.outcomes('mine').map(([, outcome]) => outcome)).to.deep.equal(['blocked', 'blocked', 'gone']);
    });

    it('can be approved once the policy is back, with another directory too', async () => {
      await orphaned();
      await sweptWithout();
      const dropIns = [{ ...at.dropIn(), directory: `${at.inbox}.other` }];
      const id = waiting()[0]?.sweep ?? '';
      expect(await approved(id, { dropIns })).to.include({ outcome: 'moved', moved: 2 });
      expect(at.files()).to.deep.equal(['mine.done']);
    });

    it('are read again first where that was cut, and take nothing new', async () => {
      at.drop('mine', 'a\n');
      const dying = temp.open({ seed: 5 });
      dying.catalog.requests.addLines = () => {
        throw new Error('died');
      };
      expect(await at.serve({ place: dying }).catch(String)).to.include('died');
      at.drop('new', 'b\n');
      await sweptWithout();
      expect(waiting().map(({ objects }) => objects)).to.deep.equal([1]);
      expect(at.files()).to.deep.equal(['mine.taken', 'mine.waiting', 'new.keys']);
    });
  });

  describe('when nobody approves it', () => {
    it('stay where they are when it is rejected, and their result says why', async () => {
      const id = await filed();
      const { outcome } = await reject(place, id, { reason: 'a typo', dryRun: false });
      expect([outcome, live().length, at.files()]).to.deep.equal(['rejected', 5, ['mine.done']]);
      const refusal = {
        outcome: 'blocked',
        reason: 'limit',
        detail: `the plan ${id} was rejected: a typo`,
        sweep: id,
        decision: 'rejected',
      };
      expect(at.results('mine')).to.have.length(4);
      expect(at.results('mine')[0]).to.include(refusal);
      expect(at.results('mine')[3]).to.include({ outcome: 'gone', decision: 'rejected' });
      expect((await at.serve({ limits: NO_LIMITS })).moved).to.equal(0);
      const of = { store: place.row.n, policy: 'requests', directory: at.inbox };
      expect(place.catalog.requests.all(of)).to.deep.equal([]);
    });

    it('say what had moved before it was rejected', async () => {
      const id = await filed();
      await holdElsewhere(place, ['b']);
      await approved(id);
      await reject(place, id, { reason: 'enough', dryRun: false });
      expect(at.outcomes('mine').map(([, outcome]) => outcome)).to.deep.equal([
        'tombstoned',
        'blocked',
        'tombstoned',
        'gone',
      ]);
    });

    it('are given up after 7 days, which their result says, and may be asked for again', async () => {
      const id = await filed();
      temp.clock.advance((waiting()[0]?.filedAt ?? 0) + 7 * DAY - 2000 - temp.clock.wall);
      await at.serve({ limits: LIMITS, place });
      expect([waiting().length, existsSync(path.join(at.inbox, 'mine.done'))]).to.deep.equal([1, false]);
      temp.clock.advance(2000);
      await at.serve({ limits: LIMITS, place });
      expect(at.results('mine')[0]).to.include({
        outcome: 'blocked',
        reason: 'limit',
        detail: `the plan ${id} was not approved in time`,
        decision: 'expired',
      });
      expect([live().length, at.files(), waiting()]).to.deep.equal([5, ['mine.done'], []]);
      rmSync(path.join(at.inbox, 'mine.done'));
      expect(await filed())
        .to.match(/^s-/)
        .and.not.equal(id);
    });
  });
});
