import {
  appendFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import type { Tombstone } from '../../lib/catalog/tombstones.ts';
import type { Place } from '../../lib/run/place.ts';
import { createHold, removeHold } from '../../lib/store/holds.ts';
import {
  again,
  allTombstones,
  bringBack,
  FAST,
  filesBelow,
  pendingFile,
  pendingFiles,
  purgeDue,
  readThrough,
  sweepOld,
  tombstonedOld,
  tombstonesOf,
} from '../support/phases.ts';
import { DAY, TempPlace } from '../support/place.ts';
import { errno, watchedFs } from '../support/watched-fs.ts';

describe('a purge', () => {
  let temp: TempPlace;
  let place: Place;
  let seed: number;
  beforeEach(async () => {
    temp = await TempPlace.make(FAST);
    place = temp.open();
    seed = 10;
  });
  afterEach(() => {
    temp.remove();
  });

  async function tombstoned(...names: string[]): Promise<Tombstone[]> {
    return tombstonedOld(temp, place, names);
  }

  function state(tombstone: Tombstone | undefined): string | undefined {
    return again(place, tombstone)?.state;
  }

  /** A purge by another process, under another window. */
  async function purgeWith(window: number): Promise<number> {
    temp.window = window;
    const other = temp.open({ seed: seed++ });
    const { purged } = await purgeDue(other);
    temp.close(other);
    return purged;
  }

  it('removes what is due, to the millisecond, and nothing else', async () => {
    const [first] = await tombstoned('a');
    const due = first?.purgeAfter ?? 0;
    temp.clock.advance(due - 1 - temp.clock.wall);
    expect((await purgeDue(place)).due).to.equal(0);
    temp.clock.advance(1);
    const result = await purgeDue(place);
    expect([result.due, result.purged, result.failed, result.bytes]).to.deep.equal([
      1,
      1,
      0,
      'content of a'.length,
    ]);
    expect(state(first)).to.equal('purged');
    expect(pendingFiles(temp)).to.deep.equal([]);
  });

  it('done again finds nothing to do', async () => {
    await tombstoned('a', 'b');
    temp.clock.advance(temp.window);
    await purgeDue(place);
    const before = allTombstones(place);
    expect((await purgeDue(place)).due).to.equal(0);
    expect(allTombstones(place)).to.deep.equal(before);
  });

  it('in a dry run says what would go, and removes nothing', async () => {
    const [a] = await tombstoned('a');
    temp.clock.advance(temp.window);
    const would: string[] = [];
    const result = await purgeDue(place, { dryRun: true, onPurged: ({ key }) => would.push(key) });
    expect([would, result.purged]).to.deep.equal([['a'], 1]);
    expect(state(a)).to.equal('pending');
    expect(await readThrough(place, 'a')).to.equal('content of a');
  });

  describe('compares first', () => {
    const CHANGES: Record<string, (file: string) => void> = {
      'another size': (file) => appendFileSync(file, 'more'),
      'another time': (file) => utimesSync(file, 1, 1),
      'other bytes of the same size': (file) => writeFileSync(file, 'CONTENT OF a'),
      'nothing in it': (file) => writeFileSync(file, ''),
      'a directory in its place': (file) => {
        rmSync(file);
        mkdirSync(file);
      },
    };
    for (const [what, change] of Object.entries(CHANGES)) {
      it(`and leaves what is not what was tombstoned, and says so: ${what}`, async () => {
        const [a, b] = await tombstoned('a', 'b');
        if (a === undefined) throw new Error('no tombstone');
        change(pendingFile(temp, a));
        temp.clock.advance(temp.window);
        const kept: string[] = [];
        const options = {
          onKept: ({ key }: Pick<Tombstone, 'key'>, reason: string, detail: string) =>
            kept.push(`${key} ${reason}: ${detail}`),
        };
        for (let i = 0; i < 2; i++) {
          kept.length = 0;
          const result = await purgeDue(place, options);
          expect(result.kept.get('changed')).to.equal(1);
          expect(kept[0]).to.match(/^a changed: its pending copy is not what was tombstoned/);
        }
        expect([state(a), state(b)]).to.deep.equal(['pending', 'purged']);
        expect(existsSync(pendingFile(temp, a))).to.equal(true);
      });
    }

    it('and takes what is gone already as purged, and tells of it', async () => {
      const [a] = await tombstoned('a');
      if (a === undefined) throw new Error('no tombstone');
      rmSync(pendingFile(temp, a));
      temp.clock.advance(temp.window);
      expect((await purgeDue(place)).purged).to.equal(1);
      expect(state(a)).to.equal('purged');
      expect(temp.talk.join('\n')).to.match(/a: its pending copy was gone already/);
    });
  });

  describe('under another window than the one a tombstone was made with', () => {
    it('waits for a longer one at once', async () => {
      await tombstoned('a');
      temp.clock.advance(7 * DAY);
      expect(await purgeWith(14 * DAY)).to.equal(0);
      temp.clock.advance(7 * DAY - 1);
      expect(await purgeWith(14 * DAY)).to.equal(0);
      temp.clock.advance(1);
      expect(await purgeWith(14 * DAY)).to.equal(1);
    });

    it('uses a shorter one only for new tombstones', async () => {
      const [old] = await tombstoned('old');
      temp.window = DAY;
      const other = temp.open({ seed: seed++ });
      temp.write('new', 'new', 3 * DAY);
      await sweepOld(other);
      temp.clock.advance(DAY);
      expect(await purgeWith(DAY)).to.equal(1);
      expect(state(old)).to.equal('pending');
      expect(state(tombstonesOf(place, 'new')[0])).to.equal('purged');
      temp.clock.advance(6 * DAY);
      expect(await purgeWith(DAY)).to.equal(1);
    });

    it('of no length at all removes at once what is pending, and never what was just restored', async () => {
      temp.window = 0;
      const other = temp.open({ seed: seed++ });
      for (const key of ['a', 'b']) temp.write(key, key, 3 * DAY);
      await sweepOld(other);
      await bringBack(other, tombstonesOf(place, 'b'));
      expect(await purgeWith(0)).to.equal(1);
      expect([state(tombstonesOf(place, 'a')[0]), state(tombstonesOf(place, 'b')[0])]).to.deep.equal([
        'purged',
        'restored',
      ]);
    });
  });

  describe('of the last pending copy in a directory', () => {
    it('removes the empty directories below the pending one, and leaves that, and all live ones', async () => {
      await tombstoned('a/b/c/x', 'a/y');
      temp.clock.advance(temp.window);
      await purgeDue(place);
      expect(existsSync(path.join(temp.root, 'pending_deletion'))).to.equal(true);
      expect(existsSync(path.join(temp.root, 'pending_deletion/a'))).to.equal(false);
      expect(existsSync(path.join(temp.root, 'a/b/c'))).to.equal(true);
    });

    it('leaves directories that hold something: a copy that is not due, or a stranger’s file', async () => {
      await tombstoned('a/b/x');
      temp.clock.advance(DAY);
      await tombstoned('a/y');
      writeFileSync(path.join(temp.root, 'pending_deletion/a/b/strange'), 'not ours');
      temp.clock.advance(6 * DAY);
      expect((await purgeDue(place)).purged).to.equal(1);
      expect(pendingFiles(temp).map((name) => name.replace(/~.*/, ''))).to.deep.equal(['a/b/strange', 'a/y']);
    });

    it('makes no difference to a move that is about to put another there', async () => {
      await tombstoned('a/b/x');
      temp.clock.advance(temp.window);
      temp.write('a/b/later', 'later', 3 * DAY);
      let isPurged = false;
      const fs = watchedFs(({ name, values }) => {
        if (isPurged || name !== 'rename' || !String(values[0]).endsWith('/later')) return;
        isPurged = true;
        rmSync(path.join(temp.root, 'pending_deletion/a'), { recursive: true });
      });
      const { moved } = await sweepOld(temp.open({ fs, seed: seed++ }));
      expect(moved).to.equal(1);
      expect(await readThrough(place, 'a/b/later')).to.equal('later');
    });
  });

  describe('is kept away', () => {
    it('by holds on keys, ids and prefixes, until they end or are released; not by exemptions', async () => {
      const tombstones = await tombstoned('by-key', 'by-id', 'prefix/a', 'exempt', 'free');
      temp.clock.advance(temp.window);
      const id = tombstones[1]?.id ?? '';
      const base = {
        blocks: 'purge',
        until: null,
        reason: 'spec',
        by: 'spec',
        host: 'spec',
        createdAt: '2026-11-22T10:15:00.123Z',
        problem: null,
      } as const;
      const hold = async (n: number, rest: object): Promise<void> =>
        createHold(place.store.control, {
          ...base,
          id: `h-20261122T101500123Z-00000${n}`,
          kind: 'hold',
          scope: { by: 'keys', keys: ['by-key'] },
          ...rest,
        });
      await hold(1, {});
      await hold(2, { scope: { by: 'ids', ids: [id] } });
      await hold(3, { scope: { by: 'prefix', prefix: 'prefix/' }, until: temp.clock.wall + DAY });
      await hold(4, { kind: 'exempt', blocks: 'sweep', scope: { by: 'keys', keys: ['exempt'] } });
      const result = await purgeDue(place);
      expect([result.due, result.purged, result.kept.get('hold')]).to.deep.equal([5, 2, 3]);
      temp.clock.advance(DAY);
      expect((await purgeDue(place)).purged).to.equal(1);
      await removeHold(place.store.control, 'h-20261122T101500123Z-000001');
      expect((await purgeDue(place)).purged).to.equal(1);
      expect(filesBelow(path.join(temp.root, 'pending_deletion'))).to.deep.equal([`by-id~${id}`]);
    });

    it('by a store that belongs to another catalog', async () => {
      await tombstoned('a');
      temp.clock.advance(temp.window);
      const owner = path.join(temp.root, '.tombstoned/owner.json');
      const mine = readFileSync(owner, 'utf8');
      for (const body of ['', mine.slice(0, 10), mine.replace(/"catalog":"[^"]+"/, '"catalog":"other"')]) {
        writeFileSync(owner, body);
        const error = await purgeDue(place).catch((e: unknown) => e);
        expect((error as { code?: string }).code, body).to.equal('blocked');
      }
      writeFileSync(owner, mine);
      expect((await purgeDue(place)).purged).to.equal(1);
    });
  });

  it('that can’t remove one copy says so, keeps it, and removes the others', async () => {
    await tombstoned('a', 'b', 'c');
    temp.clock.advance(temp.window);
    const fs = watchedFs(({ name, values }) => {
      if (name === 'unlinkAsync' && String(values[0]).includes('/b~')) throw errno('EPERM');
    });
    const result = await purgeDue(temp.open({ fs, seed: seed++ }));
    expect([result.purged, result.failed, result.kept.get('error')]).to.deep.equal([2, 1, 1]);
    expect(pendingFiles(temp)).to.have.length(1);
    expect((await purgeDue(place)).purged).to.equal(1);
  });

  it('forgets what was purged long ago, and nothing else', async () => {
    await tombstoned('a', 'b');
    temp.clock.advance(temp.window);
    await purgeDue(place);
    await tombstoned('b');
    temp.clock.advance(DAY);
    await purgeDue(place, { historyFor: DAY });
    expect(allTombstones(place).map(({ key, state: is }) => `${key} ${is}`)).to.have.members([
      'a purged',
      'b purged',
      'b pending',
    ]);
    temp.clock.advance(1);
    await purgeDue(place, { historyFor: DAY });
    expect(allTombstones(place).map(({ key, state: is }) => `${key} ${is}`)).to.deep.equal(['b pending']);
  });
});
