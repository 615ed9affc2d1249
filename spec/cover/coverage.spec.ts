import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { type KnownMetadata, metadataText } from '../../lib/aptos/metadata.ts';
import { TombstonedError } from '../../lib/domain/errors.ts';
import { parseKey } from '../../lib/domain/key.ts';
import type { Place } from '../../lib/run/place.ts';
import type { Store } from '../../lib/store/store.ts';
import { approve } from '../../lib/sweep/approve.ts';
import { tombstoneByHand } from '../../lib/sweep/by-hand.ts';
import type { HandOutcome } from '../../lib/sweep/hand-outcome.ts';
import type { SweepResult } from '../../lib/sweep/sweep.ts';
import { epoch, snapshot, transactions } from '../aptos/lines.ts';
import {
  bringBack,
  eraseNow,
  FAST,
  purgeDue,
  replaceLive,
  sweepOld,
  tombstonesOf,
} from '../support/phases.ts';
import { age, DAY, NO_GUARDS, NO_LIMITS, TempPlace } from '../support/place.ts';

export function text(...lines: readonly (KnownMetadata | string)[]): string {
  return lines.map((line) => `${typeof line === 'string' ? line : metadataText(line)}\n`).join('');
}

const METADATA = age({ prefix: 'metadata/' });

describe('the coverage of metadata', () => {
  let temp: TempPlace;
  let place: Place;
  beforeEach(async () => {
    temp = await TempPlace.make(FAST);
    temp.format = 'aptos';
    place = temp.open();
  });
  afterEach(() => temp.remove());

  /** Files three days old. */
  function old(files: Record<string, readonly (KnownMetadata | string)[]>): void {
    for (const [name, lines] of Object.entries(files))
      temp.write(`metadata/${name}`, text(...lines), 3 * DAY);
  }

  function live(): string[] {
    return readdirSync(path.join(temp.root, 'metadata')).toSorted();
  }

  async function swept(policies = [METADATA]): Promise<SweepResult> {
    return sweepOld(place, { policies });
  }

  async function byHand(...keys: readonly string[]): Promise<HandOutcome[]> {
    return byHandIn(place, ...keys);
  }

  async function byHandIn(at: Place, ...keys: readonly string[]): Promise<HandOutcome[]> {
    const outcomes: HandOutcome[] = [];
    await tombstoneByHand(at, {
      keys: keys.map(parseKey),
      reason: null,
      guards: NO_GUARDS,
      limits: NO_LIMITS,
      dryRun: false,
      onOutcome: (outcome) => outcomes.push(outcome),
    });
    return outcomes;
  }

  describe('in a sweep', () => {
    it('lets a file go each of whose lines is in another that stays, and keeps the others', async () => {
      old({
        'epoch_ending_0-0.meta': [epoch([0, 0], [0, 4])],
        'epoch_ending_1-1.meta': [epoch([1, 1], [5, 9])],
        'epoch_ending_2-2.meta': [epoch([2, 2], [10, 14])],
        'epoch_ending_compacted_0-1.meta': [epoch([0, 0], [0, 4]), epoch([1, 1], [5, 9])],
      });
      const { kept, moved } = await swept();
      expect(live()).to.deep.equal(['epoch_ending_2-2.meta', 'epoch_ending_compacted_0-1.meta']);
      expect([moved, kept.get('coverage')]).to.deep.equal([2, 2]);
    });

    it('never lets the last of twins go, nor a directory that goes as a whole', async () => {
      old({ 'a.meta': [transactions(0, 9)], 'b.meta': [transactions(0, 9)], 'c.meta': [transactions(0, 9)] });
      const whole = await swept([age({ unit: 'directory' })]);
      expect([whole.moved, whole.kept.get('coverage')]).to.deep.equal([0, 3]);
      await swept();
      expect(live()).to.deep.equal(['c.meta']);
    });

    it('lets two policies take no twins from each other', async () => {
      old({ 'a.meta': [transactions(0, 9)], 'b.meta': [transactions(0, 9)] });
      await swept([
        age({ name: 'one', prefix: 'metadata/', match: 'b*' }),
        age({ name: 'two', prefix: 'metadata/', match: 'a*' }),
      ]);
      expect(live()).to.deep.equal(['a.meta']);
    });

    it('takes a line that says more than is known as covered by its exact text only', async () => {
      const more = '{"TransactionBackup":{"first_version":0,"last_version":9,"manifest":"t/m","format":2}}';
      const unknown = '{"Other":{"a":1}}';
      old({
        'a.meta': [more],
        'b.meta': [transactions(0, 9)],
        'c.meta': [unknown],
        'd.meta': [unknown.replace(':1', ': 1')],
        'e.meta': [
          transactions(0, 9).kind === 'transaction'
            ? text(transactions(0, 9)).trim().replace(':0,', ' : 0, ')
            : '',
        ],
      });
      await swept();
      expect(live(), 'but a known line is the same however it is spaced').to.deep.equal([
        'a.meta',
        'c.meta',
        'd.meta',
        'e.meta',
      ]);
      expect(live()).to.not.include('b.meta');
    });

    it('keeps the newest timestamps, and identities', async () => {
      const stamped = (at: bigint): KnownMetadata => ({
        kind: 'compaction-timestamps',
        fileCompactedAt: at,
        timestamps: new Map([[parseKey('metadata/a.meta'), at]]),
      });
      old({
        'identity.meta': [{ kind: 'identity', id: 'ab'.repeat(32) }],
        'compaction_timestamps_7.meta': [stamped(7n)],
        'compaction_timestamps_8.meta': [stamped(8n)],
      });
      await swept();
      expect(live()).to.deep.equal(['compaction_timestamps_8.meta', 'identity.meta']);
    });

    it('keeps what is below metadata/ and no metadata file', async () => {
      temp.write('metadata/notes.txt', 'x', 3 * DAY);
      expect((await swept()).kept.get('coverage')).to.equal(1);
      expect(live()).to.deep.equal(['notes.txt']);
    });

    it('moves nothing while a live file is cut short, and names it; unless it is protected', async () => {
      old({ 'a.meta': [transactions(0, 9)], 'b.meta': [transactions(0, 9)] });
      temp.write('metadata/c.meta', '{"TransactionBackup":{"first_ver', 3 * DAY);
      temp.write('logs/x', '', 3 * DAY);
      const { problems, moved, kept } = await swept([METADATA, age({ name: 'logs', prefix: 'logs/' })]);
      expect(moved).to.equal(0);
      expect(kept.get('coverage')).to.equal(4);
      expect(problems.map(({ code, key }) => [code, key])).to.deep.equal([
        ['failed', 'metadata/c.meta'],
        ['failed', 'metadata/c.meta'],
      ]);
      expect(problems[0]?.message).to.match(/metadata file "metadata\/c.meta", line 1: it has no end/);
      expect(problems[0]?.hint).to.match(/name it in protect/);
      temp.close(place);
      temp.protect = ['metadata/c.meta'];
      place = temp.open();
      const again = await sweepOld(place, {
        policies: [METADATA],
        guards: { minimumAge: 0, isProtected: (key) => key === 'metadata/c.meta' },
      });
      expect(again.moved).to.equal(1);
      expect(live()).to.deep.equal(['b.meta', 'c.meta']);
    });

    it('moves nothing while a file is cut at the end of a line, which its name tells', async () => {
      old({
        'transaction_0-9.meta': [transactions(0, 9)],
        'transaction_compacted_0-19.meta': [transactions(0, 9)],
      });
      const { moved, problems } = await swept();
      expect(moved).to.equal(0);
      expect(problems[0]?.message).to.match(/transaction_compacted_0-19.*cut short/);
    });

    it('looks at what stands in once more before it moves: what is gone or cut by then stands in for nothing', async () => {
      old({
        'a.meta': [transactions(0, 9)],
        'b.meta': [transactions(10, 19)],
        'z.meta': [transactions(0, 9)],
        'y.meta': [transactions(10, 19)],
      });
      const meddled = meddling(place, () => {
        temp.write('metadata/z.meta', text(transactions(5, 9)));
        temp.write('metadata/y.meta', '{');
      });
      const { moved, kept } = await sweepOld(meddled, {
        policies: [age({ prefix: 'metadata/', match: '[ab]*' })],
      });
      expect([moved, kept.get('coverage')]).to.deep.equal([0, 2]);
      expect(live()).to.deep.equal(['a.meta', 'b.meta', 'y.meta', 'z.meta']);
    });

    it('is refused as a whole where it names payload that live or pending metadata refers to', async () => {
      old({ 'a.meta': [transactions(0, 9, 'transaction_0-.1/transaction.manifest')] });
      temp.write('transaction_9-.2/x', 'x', 3 * DAY);
      manifest('transaction_0-.1/transaction.manifest', { chunks: [{ transactions: 'shared/0.chunk' }] });
      temp.write('shared/0.chunk', 'x', 3 * DAY);
      temp.write('shared/old', 'x', 3 * DAY);
      temp.write('other/old', 'x', 3 * DAY);
      const { problems, moved, kept } = await swept([
        age({ name: 'shared', prefix: 'shared/' }),
        age({ name: 'all', prefix: 'transaction_', limits: { ...NO_LIMITS, maxObjects: 0 } }),
        age({ name: 'other', prefix: 'other/' }),
      ]);
      expect([moved, kept.get('coverage')], 'but for what nothing refers to').to.deep.equal([1, 4]);
      expect(problems.map(({ code, reason, key }) => [code, reason, key])).to.deep.equal([
        ['blocked', 'coverage', 'shared'],
        ['blocked', 'coverage', 'all'],
      ]);
      expect(problems[0]?.message).to.match(
        /policy shared moves nothing: it names shared\/0.chunk, and metadata refers to that: .*"last_version":9/,
      );
    });

    it('in a plain store takes metadata as anything else', async () => {
      temp.close(place);
      temp.format = 'plain';
      place = temp.open();
      old({ 'a.meta': [transactions(0, 9)] });
      expect((await swept()).moved).to.equal(1);
    });
  });

  function manifest(key: string, content: unknown): void {
    temp.write(key, JSON.stringify(content), 3 * DAY);
  }

  describe('of requests and of plans that wait', () => {
    it('keeps the keys of a request that nothing covers, and answers so', async () => {
      old({ 'a.meta': [transactions(0, 9)], 'b.meta': [transactions(0, 9)] });
      const directory = path.join(temp.directory, 'requests');
      mkdirSync(directory);
      writeFileSync(path.join(directory, 'mine.keys'), 'metadata/a.meta\nmetadata/b.meta\n');
      const dropIns = [{ name: 'requests', directory, limits: NO_LIMITS }];
      const { moved, kept } = await sweepOld(place, { policies: [], dropIns });
      expect([moved, kept.get('coverage')]).to.deep.equal([1, 1]);
      const answers = readFileSync(path.join(directory, 'mine.done'), 'utf8').trim().split('\n');
      expect(answers.map((line) => (JSON.parse(line) as { reason: string | null }).reason)).to.include(
        'coverage',
      );
    });

    it('looks again when a plan is approved, which waits on while a file can not be read', async () => {
      old({ 'a.meta': [transactions(0, 9)], 'b.meta': [transactions(10, 19)] });
      old({ 'z.meta': [transactions(0, 9), transactions(10, 19)] });
      const policies = [age({ prefix: 'metadata/', limits: { ...NO_LIMITS, maxObjects: 1 } })];
      const [blocked] = (await sweepOld(place, { policies })).blocked;
      const id = blocked?.waiting?.sweep ?? '';
      expect(blocked?.over, 'of what is covered').to.match(/it would move 2 objects/);
      const approved = async () => approve(place, id, { policies, guards: NO_GUARDS, dryRun: false });
      temp.write('metadata/x.meta', '{');
      await rejected(approved(), /x.meta/);
      temp.write('metadata/x.meta', text(snapshot(0, 5)));
      replaceLive(temp, 'metadata/z.meta', text(transactions(10, 19)));
      const { moved, kept, outcome } = await approved();
      expect([moved, kept.get('coverage'), outcome]).to.deep.equal([1, 1, 'moved']);
      expect(live()).to.deep.equal(['a.meta', 'x.meta', 'z.meta']);
    });
  });

  async function rejected(work: Promise<unknown>, message: RegExp): Promise<void> {
    const error: unknown = await work.then(
      () => undefined,
      (one: unknown) => one,
    );
    expect(error).to.be.instanceOf(TombstonedError).with.property('message').that.matches(message);
  }

  describe('by hand', () => {
    it('keeps what no other has, names the line, and lets one of twins go', async () => {
      old({
        'a.meta': [transactions(0, 9)],
        'b.meta': [transactions(0, 9)],
        'c.meta': [transactions(10, 19)],
      });
      const outcomes = await byHand('metadata/a.meta', 'metadata/b.meta', 'metadata/c.meta');
      expect(
        outcomes.toSorted((a, b) => (a.key < b.key ? -1 : 1)).map(({ outcome, reason }) => [outcome, reason]),
      ).to.deep.equal([
        ['tombstoned', null],
        ['blocked', 'coverage'],
        ['blocked', 'coverage'],
      ]);
      expect(outcomes.find(({ key }) => key === 'metadata/c.meta')?.detail).to.match(
        /no other live metadata file that stays has its line \{"TransactionBackup":\{"first_version":10,/,
      );
    });

    it('keeps payload that is in use', async () => {
      old({ 'a.meta': [transactions(0, 9, 'transaction_0-.1/transaction.manifest')] });
      manifest('transaction_0-.1/transaction.manifest', {});
      const [outcome] = await byHand('transaction_0-.1/transaction.manifest');
      expect([outcome?.outcome, outcome?.reason]).to.deep.equal(['blocked', 'coverage']);
    });

    it('at the same time as another lets only one of twins go, whoever is first', async () => {
      old({ 'a.meta': [transactions(0, 9)], 'b.meta': [transactions(0, 9)] });
      const other = temp.open({ seed: 9 });
      // The other moves the twin when this one has looked at it, and not yet written its intent.
      const meddled = meddling(place, async () => {
        const outcomes = await byHandIn(other, 'metadata/b.meta');
        expect(outcomes[0]?.outcome).to.equal('tombstoned');
      });
      const { moved, kept } = await sweepOld(meddled, {
        policies: [age({ prefix: 'metadata/', match: 'a*' })],
      });
      expect([moved, kept.get('coverage')]).to.deep.equal([0, 1]);
      expect(live()).to.deep.equal(['a.meta']);
    });

    it('lets nothing go whose twin another has begun to move', async () => {
      old({ 'a.meta': [transactions(0, 9)], 'b.meta': [transactions(0, 9)] });
      const other = temp.open({ seed: 9 });
      const kept: (string | null)[] = [];
      // Both intents are written, and neither has moved.
      const between = atMove(place, async () => {
        for (const { outcome, reason } of await byHandIn(other, 'metadata/b.meta'))
          kept.push(outcome, reason);
      });
      const { moved } = await sweepOld(between, { policies: [age({ prefix: 'metadata/', match: 'a*' })] });
      expect(moved).to.equal(1);
      expect(kept).to.deep.equal(['blocked', 'coverage']);
      expect(live()).to.deep.equal(['b.meta']);
    });
  });

  it('takes what another has moved as gone, also where the store may still show it', async () => {
    old({ 'a.meta': [transactions(0, 9)], 'b.meta': [transactions(0, 9)] });
    const slow = temp.open({ seed: 9, settle: 1000 });
    const key = parseKey('metadata/b.meta');
    const shown = await slow.store.head(key);
    const stale = bound(slow.store, { head: async (one) => (one === key ? shown : slow.store.head(one)) });
    const meddled = meddling({ ...slow, store: stale }, async () => {
      expect((await byHand('metadata/b.meta'))[0]?.outcome).to.equal('tombstoned');
    });
    const { kept } = await sweepOld(meddled, { policies: [age({ prefix: 'metadata/', match: 'a*' })] });
    expect(kept.get('coverage')).to.equal(1);
    expect(live()).to.deep.equal(['a.meta']);
  });

  describe('in a forced restore', () => {
    async function forced(key: string): Promise<string> {
      const [first] = await bringBack(place, tombstonesOf(place, key).slice(0, 1), { force: true });
      return `${first?.outcome} ${first?.reason ?? ''}`.trim();
    }

    it('keeps a live file that no other has the lines of', async () => {
      old({ 'a.meta': [transactions(0, 9)], 'b.meta': [transactions(0, 9)] });
      await byHand('metadata/a.meta');
      temp.write('metadata/a.meta', text(transactions(10, 19)));
      expect(await forced('metadata/a.meta')).to.equal('blocked coverage');
      expect(temp.live('metadata/a.meta')).to.equal(text(transactions(10, 19)));
    });

    it('lets one make way that has less than what comes back, or is cut short', async () => {
      old({
        'a.meta': [transactions(0, 9), transactions(10, 19)],
        'b.meta': [transactions(0, 9), transactions(10, 19)],
      });
      await byHand('metadata/a.meta');
      for (const inTheWay of [text(transactions(10, 19)), '{"Transac']) {
        replaceLive(temp, 'metadata/a.meta', inTheWay);
        const [first] = tombstonesOf(place, 'metadata/a.meta').toReversed();
        const [outcome] = await bringBack(place, first === undefined ? [] : [first], { force: true });
        expect(outcome?.outcome, inTheWay).to.equal('restored');
      }
    });
  });

  describe('in a purge', () => {
    it('keeps a tombstone whose lines are live no more, in every way of purging, and says why', async () => {
      old({ 'a.meta': [transactions(0, 9)], 'b.meta': [transactions(0, 9)] });
      await swept();
      temp.write('metadata/b.meta', text(transactions(10, 19)));
      temp.clock.advance(8 * DAY);
      const why: string[] = [];
      const onKept = (_: unknown, reason: string, detail: string): void => void why.push(reason, detail);
      for (const dryRun of [true, false]) {
        const { purged, kept } = await purgeDue(place, { dryRun, onKept });
        expect([purged, kept.get('coverage')]).to.deep.equal([0, 1]);
      }
      expect(why.slice(0, 2).join(' ')).to.match(
        /^coverage no live metadata file has its line .*"last_version":9/,
      );
      const [now] = await eraseNow(place, ['metadata/a.meta']);
      expect([now?.outcome, now?.reason]).to.deep.equal(['blocked', 'coverage']);
      temp.write('metadata/c.meta', text(transactions(0, 9), snapshot(0, 5)));
      expect((await purgeDue(place)).purged, 'once a live file has them again').to.equal(1);
    });

    it('keeps all of them while a live file is malformed, and purges the rest', async () => {
      old({ 'a.meta': [transactions(0, 9)], 'b.meta': [transactions(0, 9)] });
      temp.write('logs/x', '', 3 * DAY);
      await swept([METADATA, age({ name: 'logs', prefix: 'logs/' })]);
      temp.write('metadata/x.meta', '[]');
      temp.clock.advance(8 * DAY);
      const { purged, kept } = await purgeDue(place);
      expect([purged, kept.get('coverage')]).to.deep.equal([1, 1]);
    });

    it('keeps payload that live metadata names again, and purges what none names', async () => {
      const [named, other] = ['transaction_10-.1/x.chunk', 'transaction_20-.1/x.chunk'];
      for (const key of [named, other]) temp.write(key, '', 3 * DAY);
      await swept([age({ prefix: 'transaction_' })]);
      temp.write('metadata/b.meta', text(transactions(10, 19, 'transaction_10-.1/m')));
      temp.clock.advance(8 * DAY);
      const why: string[] = [];
      const onKept = (_: unknown, reason: string, detail: string): void => void why.push(reason, detail);
      const { purged, kept } = await purgeDue(place, { onKept });
      expect([purged, kept.get('coverage')]).to.deep.equal([1, 1]);
      expect(why.join(' ')).to.match(/^coverage live metadata refers to it: .*transaction_10-\.1/);
      const left = place.catalog.tombstones.page({ limit: 9 }).filter(({ state }) => state === 'pending');
      expect(left.map(({ key }) => key)).to.deep.equal([named]);
    });

    it('keeps payload that a live line refers to, unless it is live again', async () => {
      const keys = [
        'transaction_0-.1/transaction.manifest',
        'transaction_0-.1/0.chunk',
        'transaction_9-.2/x',
      ];
      for (const key of keys) temp.write(key, '{}', 3 * DAY);
      await sweepOld({ ...place, format: 'plain' });
      old({ 'a.meta': [transactions(0, 9, 'transaction_0-.1/transaction.manifest')] });
      temp.write('transaction_0-.1/0.chunk', 'again');
      temp.clock.advance(8 * DAY);
      const { purged, kept } = await purgeDue(place);
      expect([purged, kept.get('coverage')]).to.deep.equal([2, 1]);
      expect(tombstonesOf(place, 'transaction_0-.1/transaction.manifest')[0]?.state).to.equal('pending');
    });

    it('keeps payload of which that can not be told, and purges the rest', async () => {
      const payload = 'transaction_0-.1/0.chunk';
      for (const key of [payload, 'transaction_9-.2/x', 'logs/x']) temp.write(key, '{}', 3 * DAY);
      await sweepOld({ ...place, format: 'plain' });
      old({ 'a.meta': [transactions(0, 9, 'transaction_0-.1/transaction.manifest')] });
      temp.clock.advance(8 * DAY);
      const head: Store['head'] = async (key) => {
        if (key === payload) throw new TombstonedError('failed', `${key}: permission denied`, { key });
        return place.store.head(key);
      };
      const why: string[] = [];
      const onKept = (_: unknown, __: string, detail: string): void => void why.push(detail);
      const isProtected = (key: string): boolean => key === 'metadata/b.meta';
      temp.write('metadata/b.meta', '[1]');
      const damaged = await purgeDue({ ...place, isProtected }, { onKept });
      expect([damaged.purged, damaged.kept.get('coverage')], 'b.meta may refer to any').to.deep.equal([1, 2]);
      expect(why.join()).to.match(/b\.meta/);
      rmSync(path.join(temp.root, 'metadata/b.meta'));
      const { purged, kept } = await purgeDue({ ...place, store: bound(place.store, { head }) });
      expect([purged, kept.get('coverage')]).to.deep.equal([1, 1]);
    });

    it('keeps a copy that can not be read as metadata, unless live files have all that is left of it', async () => {
      temp.close(place);
      temp.format = 'plain';
      place = temp.open();
      const [first, second] = [text(transactions(0, 9)), text(transactions(10, 19))];
      temp.write('metadata/a.meta', '[1]', 3 * DAY);
      temp.write('metadata/b.meta', first + second.slice(0, 40), 3 * DAY);
      temp.write('metadata/c.meta', first + second.slice(0, 80).replace('10', '20'), 3 * DAY);
      await swept();
      temp.write('metadata/whole.meta', first + second);
      temp.close(place);
      temp.format = 'aptos';
      place = temp.open();
      temp.clock.advance(8 * DAY);
      const { purged, kept } = await purgeDue(place);
      expect([purged, kept.get('coverage')]).to.deep.equal([1, 2]);
      expect(tombstonesOf(place, 'metadata/b.meta')[0]?.state).to.equal('purged');
    });

    it('keeps a copy that can not be opened, and purges the rest', async () => {
      old({ 'a.meta': [transactions(0, 9)], 'b.meta': [transactions(0, 9)] });
      temp.write('logs/x', '', 3 * DAY);
      await swept([METADATA, age({ name: 'logs', prefix: 'logs/' })]);
      temp.clock.advance(8 * DAY);
      const openPending: Store['openPending'] = async (key) => {
        throw new TombstonedError('failed', `${key}: permission denied`, { key });
      };
      const { purged, kept } = await purgeDue({ ...place, store: bound(place.store, { openPending }) });
      expect([purged, kept.get('coverage')]).to.deep.equal([1, 1]);
    });
  });

  /** The place, with something done after the plan: as the first fence goes up. */
  function meddling(of: Place, work: () => void | Promise<void>): Place {
    return before(of, 'fences/', work);
  }

  function before(of: Place, prefix: string, work: () => void | Promise<void>): Place {
    let isDone = false;
    const control = new Proxy(of.store.control, {
      get(target, name) {
        if (name === 'create')
          return async (...args: Parameters<Store['control']['create']>) => {
            if (!isDone && args[0].startsWith(prefix)) {
              isDone = true;
              await work();
            }
            return target.create(...args);
          };
        const value: unknown = Reflect.get(target, name, target);
        return typeof value === 'function' ? value.bind(target) : value;
      },
    });
    return { ...of, store: bound(of.store, { control }) };
  }

  /** The place, with something done as the store is asked to move. */
  function atMove(of: Place, work: () => Promise<void>): Place {
    const move: Store['move'] = async (...args) => {
      await work();
      return of.store.move(...args);
    };
    return { ...of, store: bound(of.store, { move }) };
  }

  function bound(store: Store, own: Partial<Store>): Store {
    return new Proxy(store, {
      get(target, name) {
        const value: unknown = Reflect.get(name in own ? own : target, name, name in own ? own : target);
        return typeof value === 'function' && !(name in own) ? value.bind(target) : value;
      },
    });
  }
});
