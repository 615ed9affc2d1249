import { execFileSync } from 'node:child_process';
import { lstatSync, utimesSync } from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import type { KeptReason } from '../../lib/domain/kept-reason.ts';
import { matcher } from '../../lib/policy/glob.ts';
import type { Place } from '../../lib/run/place.ts';
import { failIfBlocked, type SweepOptions, type SweepResult } from '../../lib/sweep/sweep.ts';
import {
  allTombstones,
  bringBack,
  FAST,
  filesBelow,
  holdElsewhere,
  pendingFiles,
  sweepOld,
  tombstonesOf,
} from '../support/phases.ts';
import { age, DAY, NO_LIMITS, TempPlace } from '../support/place.ts';

describe('a sweep by age', () => {
  let temp: TempPlace;
  let place: Place;
  beforeEach(async () => {
    temp = await TempPlace.make(FAST);
    place = temp.open();
  });
  afterEach(() => {
    temp.remove();
  });

  /** Files by name, with their ages in days. */
  function files(ages: Record<string, number>): void {
    for (const [key, days] of Object.entries(ages)) temp.write(key, key, days * DAY);
  }

  /** Gives a file any time that the disk can hold. */
  function touch(key: string, time: string): void {
    execFileSync('touch', ['--date', time, path.join(temp.root, key)]);
  }

  function moved(): string[] {
    return allTombstones(place)
      .filter(({ state }) => state === 'pending')
      .map(({ key }) => key)
      .toSorted();
  }

  async function swept(
    settings: Parameters<typeof age>[0],
    options: Partial<SweepOptions> = {},
  ): Promise<{ keys: string[]; kept: Partial<Record<KeptReason, number>>; result: SweepResult }> {
    const result = await sweepOld(place, { policies: [age(settings)], ...options });
    return { keys: moved(), kept: Object.fromEntries(result.kept), result };
  }

  it('moves what is old below the prefix, and nothing else', async () => {
    files({ 'logs/old': 3, 'logs/new': 0.5, 'logs/deep/old': 3, 'other/old': 3, logs2: 3 });
    expect((await swept({ prefix: 'logs/' })).keys).to.deep.equal(['logs/deep/old', 'logs/old']);
  });

  it('takes a prefix in the middle of a name', async () => {
    files({ 'logs/a': 3, 'logs/ab/c': 3, 'logs/b': 3, log: 3 });
    expect((await swept({ prefix: 'logs/a' })).keys).to.deep.equal(['logs/a', 'logs/ab/c']);
  });

  it('never moves what is from the future, near or as far as the disk can say', async () => {
    files({ future: -100, 'd/far': 0, 'd/old': 9 });
    touch('d/far', '@9223372036854775807');
    for (const unit of ['object', 'directory'] as const)
      await swept({ unit, prefix: unit === 'object' ? 'd/f' : '' });
    expect(moved()).to.deep.equal([]);
    expect((await swept({})).keys).to.deep.equal(['d/old']);
  });

  it('moves what is from before 1970, and brings it back as it was', async () => {
    files({ past: 0 });
    touch('past', '1960-01-02T03:04:05.678901234Z');
    const before = lstatSync(path.join(temp.root, 'past'), { bigint: true }).mtimeNs;
    expect((await swept({})).keys).to.deep.equal(['past']);
    const [outcome] = await bringBack(place, tombstonesOf(place, 'past'));
    expect(outcome?.outcome).to.equal('restored');
    expect(lstatSync(path.join(temp.root, 'past'), { bigint: true }).mtimeNs).to.equal(before);
  });

  describe('with keepLast', () => {
    it('keeps the newest, and counts the young ones as such', async () => {
      files({ a: 9, b: 8, c: 7, d: 6, young: 0.5 });
      const { keys, kept } = await swept({ keepLast: 3 });
      expect(keys).to.deep.equal(['a', 'b']);
      expect(kept).to.deep.equal({ 'keep-last': 2 });
    });

    it('keeps all when there are no more than that, and none more when the young ones are enough', async () => {
      files({ a: 9, b: 8 });
      expect((await swept({ keepLast: 2 })).keys).to.deep.equal([]);
      files({ young1: 0, young2: 0.1 });
      expect((await swept({ keepLast: 2 })).keys).to.deep.equal(['a', 'b']);
    });

    it('counts only what the policy selects', async () => {
      files({ 'a.meta': 9, 'b.meta': 8, 'c.data': 1.5, 'other/d.meta': 1.5 });
      expect((await swept({ match: '*.meta', keepLast: 1 })).keys).to.deep.equal(['a.meta']);
    });

    it('does not count what is exempt or held: that much more is kept', async () => {
      files({ a: 9, b: 8, c: 7, restored: 6, held: 5 });
      await swept({ prefix: 'restored' });
      await bringBack(place, tombstonesOf(place, 'restored'));
      await holdElsewhere(place, ['held']);
      const { keys, kept } = await swept({ keepLast: 1 });
      expect(keys).to.deep.equal(['a', 'b']);
      expect(kept).to.deep.equal({ 'keep-last': 1, exempt: 1, hold: 1 });
    });

    it('counts what is protected', async () => {
      files({ a: 9, b: 8, protected: 7 });
      const guards = { minimumAge: 0, isProtected: matcher(['protected']) };
      const { keys, kept } = await swept({ keepLast: 1 }, { guards });
      expect(keys).to.deep.equal(['a', 'b']);
      expect(kept).to.deep.equal({ protected: 1 });
    });

    it('takes the greater name as the newer one of the same time', async () => {
      for (const key of ['a', 'b', 'c']) temp.write(key, key, 9 * DAY);
      for (const key of ['a', 'b', 'c']) utimesSync(path.join(temp.root, key), 1e9, 1e9);
      expect((await swept({ keepLast: 1 })).keys).to.deep.equal(['a', 'b']);
    });
  });

  describe('of whole directories', () => {
    it('moves one when its newest object is old, whatever the others are, and all of it', async () => {
      files({ 'e/1/a': 9, 'e/1/b/c': 3, 'e/2/a': 9, 'e/2/b/c': 0.5, 'e/3': 9 });
      const { keys } = await swept({ prefix: 'e/', unit: 'directory' });
      expect(keys).to.deep.equal(['e/1/a', 'e/1/b/c', 'e/3']);
    });

    it('keeps one that has an object which is exempt, held, protected or too young', async () => {
      const kinds = ['exempt', 'held', 'protected', 'young', 'free'];
      files(
        Object.fromEntries(
          kinds.flatMap((kind) => [
            [`${kind}/a`, 9],
            [`${kind}/z`, 9],
          ]),
        ),
      );
      await swept({ prefix: 'exempt/a' });
      await bringBack(place, tombstonesOf(place, 'exempt/a'));
      await holdElsewhere(place, ['held/z']);
      temp.write('young/m', 'young', 2 * DAY);
      const guards = { minimumAge: 5 * DAY, isProtected: matcher(['protected/a']) };
      const { keys } = await swept({ unit: 'directory' }, { guards });
      expect(keys).to.deep.equal(['free/a', 'free/z']);
    });

    it('counts directories for keepLast, by their newest object', async () => {
      files({ '1/a': 9, '1/b': 9, '2/a': 8, '2/b': 20, '3/a': 7, '3/b': 7, '3/c': 7 });
      const { keys } = await swept({ unit: 'directory', keepLast: 2 });
      expect(keys).to.deep.equal(['1/a', '1/b']);
    });

    it('keeps a young one whole, with names at the far end of the alphabet too', async () => {
      files({ 'd/\u{10ffff}\u{10ffff}old': 9, 'd/a': 9, 'd/new': 0.1, d0: 9 });
      const { keys } = await swept({ unit: 'directory' });
      expect(keys).to.deep.equal(['d0']);
    });

    it('keeps a protected one whole, with such names too', async () => {
      files({ 'd/\u{10ffff}\u{10ffff}old': 9, 'd/a': 9 });
      const guards = { minimumAge: 0, isProtected: matcher(['d/a']) };
      expect((await swept({ unit: 'directory' }, { guards })).keys).to.deep.equal([]);
    });
  });

  describe('under guards', () => {
    it('keeps what is protected, with odd names too, and what is younger than the minimum age', async () => {
      files({ 'x/identity.meta': 9, 'new\nline/identity.meta': 9, 'x/a': 9, 'x/b': 2 });
      const guards = { minimumAge: 3 * DAY, isProtected: matcher(['**/identity.meta']) };
      const { keys, kept } = await swept({}, { guards });
      expect(keys).to.deep.equal(['x/a']);
      expect(kept).to.deep.equal({ protected: 2, 'too-young': 1 });
    });

    it('keeps what a hold covers: by key, by prefix, and everything by one that can’t be read', async () => {
      files({ a: 9, 'logs/b': 9, 'logs2/c': 9 });
      await holdElsewhere(place, ['a']);
      await holdElsewhere(place, 'logs/', { nth: 2 });
      expect((await swept({})).keys).to.deep.equal(['logs2/c']);
      files({ d: 9 });
      temp.write('.tombstoned/holds/h-cut-short.json', '{"id":"h-c');
      const { keys, kept } = await swept({});
      expect([keys, kept]).to.deep.equal([['logs2/c'], { hold: 3 }]);
      expect(temp.talk.join('\n')).to.match(/holds\/h-cut-short.json .*counts as a hold on everything/);
    });

    it('over a limit moves nothing of that policy, says which, and moves what others name', async () => {
      files({ 'a/1': 9, 'a/2': 9, 'a/3': 0.1, 'b/1': 9 });
      const policies = [
        age({ name: 'wide', prefix: 'a/', limits: { ...NO_LIMITS, maxFraction: 0.5 } }),
        age({ name: 'narrow', prefix: 'b/', limits: { ...NO_LIMITS, maxObjects: 1 } }),
      ];
      const result = await sweepOld(place, { policies });
      expect(moved()).to.deep.equal(['b/1']);
      expect(result.blocked.map(({ policy }) => policy)).to.deep.equal(['wide']);
      expect(result.kept.get('limit')).to.equal(2);
      expect(() => failIfBlocked('spec', result)).to.throw(
        /wide moves nothing: it would move 2 of 3 objects, and maxFraction/,
      );
    });

    it('counts limits in objects and bytes of the plan, and the fraction of what is selected', async () => {
      files({ old1: 9, old2: 9, new1: 0.1, new2: 0.1 });
      const over = async (limits: object): Promise<number> => {
        const result = await sweepOld(place, {
          policies: [age({ limits: { ...NO_LIMITS, ...limits } })],
          dryRun: true,
        });
        return result.blocked.length;
      };
      expect(await over({ maxObjects: 2 })).to.equal(0);
      expect(await over({ maxObjects: 1 })).to.equal(1);
      expect(await over({ maxBytes: 8 })).to.equal(0);
      expect(await over({ maxBytes: 7 })).to.equal(1);
      expect(await over({ maxFraction: 0.5 })).to.equal(0);
      expect(await over({ maxFraction: 0.49 })).to.equal(1);
    });
  });

  describe('by several policies', () => {
    it('moves a key that two of them name once, and notes the first', async () => {
      files({ a: 9 });
      const policies = [age({ name: 'first' }), age({ name: 'second' })];
      const result = await sweepOld(place, { policies });
      expect([result.planned, result.moved]).to.deep.equal([1, 1]);
      expect(pendingFiles(temp)).to.have.length(1);
      expect(allTombstones(place)[0]?.policy).to.equal('first');
    });

    it('moves a key that one of them keeps as one of its last, and another names', async () => {
      files({ a: 9, b: 8 });
      for (const [keeps, names] of [
        ['1', '2'],
        ['3', '4'],
      ] as const) {
        const policies = [age({ name: keeps, keepLast: 5 }), age({ name: names, prefix: 'b' })];
        await sweepOld(place, { policies: keeps === '1' ? policies : policies.toReversed() });
        expect(moved()).to.deep.equal(['b']);
      }
    });

    it('moves a key when the one that named it first was over its limit', async () => {
      files({ a: 9, b: 9 });
      const policies = [
        age({ name: 'wide', limits: { ...NO_LIMITS, maxObjects: 1 } }),
        age({ name: 'narrow', prefix: 'b' }),
      ];
      const result = await sweepOld(place, { policies });
      expect([moved(), result.planned]).to.deep.equal([['b'], 1]);
    });
  });

  it('in a dry run says what it would move, in key order, and moves nothing', async () => {
    files({ b: 9, a: 9, c: 0.1 });
    const before = filesBelow(temp.root);
    const planned: string[] = [];
    const result = await sweepOld(place, { dryRun: true, onPlanned: ({ key }) => planned.push(key) });
    expect([planned, result.planned, result.moved, result.sweep]).to.deep.equal([['a', 'b'], 2, 0, null]);
    expect(filesBelow(temp.root)).to.deep.equal(before);
    expect(allTombstones(place)).to.deep.equal([]);
  });
});
