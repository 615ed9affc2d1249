import { appendFileSync, rmSync, symlinkSync, truncateSync, utimesSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { finished } from 'node:stream/promises';
import { expect } from 'chai';
import { TombstonedError } from '../../lib/domain/errors.ts';
import { parseKey } from '../../lib/domain/key.ts';
import { type Found, type ListedKey, Reader } from '../../lib/reader/reader.ts';
import type { Place } from '../../lib/run/place.ts';
import type { Store } from '../../lib/store/store.ts';
import {
  again,
  bringBack,
  FAST,
  purgeDue,
  readThrough,
  replaceLive,
  sweepOld,
  tombstonesOf,
} from '../support/phases.ts';
import { DAY, TempPlace } from '../support/place.ts';

const KEY = parseKey('logs/a.meta');

describe('a reader', () => {
  let temp: TempPlace;
  let place: Place;
  beforeEach(async () => {
    temp = await TempPlace.make(FAST);
    place = temp.open();
  });
  afterEach(() => {
    temp.remove();
  });

  /** A store beside whose nth call somebody acts first; the calls are noted. */
  function beside(acts: ReadonlyMap<number, () => Promise<void>>): { store: Store; calls: string[] } {
    const calls: string[] = [];
    const looks = new Set(['openLive', 'pendingIds', 'openPending']);
    const store = new Proxy(place.store, {
      get: (target, property) => {
        if (property === 'openNewest') return undefined; // nobody comes between its looks
        const value: unknown = Reflect.get(target, property, target);
        if (typeof value !== 'function') return value;
        if (!looks.has(String(property))) return value.bind(target);
        return async (...values: unknown[]): Promise<unknown> => {
          calls.push(String(property));
          await acts.get(calls.length)?.();
          return Reflect.apply(value, target, values);
        };
      },
    });
    return { store, calls };
  }

  async function failure(work: () => Promise<unknown>): Promise<TombstonedError> {
    const error = await work().catch((e: unknown) => e);
    if (!(error instanceof TombstonedError)) throw new Error(`no clear error: ${String(error)}`);
    return error;
  }

  async function textOf(found: Found): Promise<string> {
    const chunks: Buffer[] = [];
    const stream = found.read();
    stream.on('data', (chunk: Buffer) => chunks.push(chunk));
    await finished(stream);
    return Buffer.concat(chunks).toString();
  }

  describe('of one key', () => {
    it('finds the live object first, then the newest pending copy', async () => {
      temp.write(KEY, 'first', 3 * DAY);
      await sweepOld(place);
      temp.write(KEY, 'second', 3 * DAY);
      await sweepOld(place);
      temp.write(KEY, 'live');
      const reader = new Reader(place.store);
      const live = await reader.open(KEY);
      expect([live.location, live.id, live.size, await textOf(live)]).to.deep.equal([
        'live',
        null,
        4,
        'live',
      ]);
      rmSync(path.join(temp.root, KEY));
      const pending = await reader.open(KEY);
      const [second, first] = tombstonesOf(place, KEY);
      expect([pending.location, pending.id]).to.deep.equal(['pending', second?.id]);
      expect(await textOf(pending)).to.equal('second');
      await place.store.remove([
        { key: KEY, id: second?.id ?? '', revision: second?.revision ?? never(), from: 'pending' },
      ]);
      const older = await reader.open(KEY);
      expect([older.id, await textOf(older)]).to.deep.equal([first?.id, 'first']);
    });

    it('that is in neither place says so, with the key, after three rounds', async () => {
      temp.write('logs/b', 'another', 3 * DAY);
      const { store, calls } = beside(new Map());
      const error = await failure(async () => new Reader(store).open(KEY));
      expect([error.code, error.key]).to.deep.equal(['not-found', KEY]);
      expect(error.message).to.include(KEY);
      expect(calls).to.have.length(6);
    });

    it('looks for a missing one again once the caches of a network file system must show it', async () => {
      temp.write(KEY, 'content', 3 * DAY);
      await sweepOld(place);
      const began = temp.clock.mono;
      let hidden = true;
      const stale = new Proxy(place.store, {
        get: (target, property) => {
          if (property === 'settle') return 65_000;
          if (property === 'openNewest') return undefined;
          if (property === 'pendingIds' && hidden) {
            return async () => {
              hidden = temp.clock.mono - began < 65_000;
              return hidden ? [] : target.pendingIds(KEY);
            };
          }
          const value: unknown = Reflect.get(target, property, target);
          return typeof value === 'function' ? value.bind(target) : value;
        },
      });
      const reader = new Reader(stale, { clock: temp.clock });
      expect((await reader.bytes(KEY)).toString()).to.equal('content');
      expect(temp.clock.mono - began).to.equal(65_000);
      expect((await failure(async () => reader.open(parseKey('none')))).code).to.equal('not-found');
      expect(temp.clock.mono - began, 'once more').to.equal(130_000);
    });

    it('takes an older copy when the newest goes between two looks', async () => {
      for (const content of ['first', 'second']) {
        temp.write(KEY, content, 3 * DAY);
        await sweepOld(place);
      }
      const [second] = tombstonesOf(place, KEY);
      const gone = async (): Promise<void> => {
        rmSync(path.join(temp.root, `pending_deletion/${KEY}~${second?.id}`));
      };
      const { store, calls } = beside(new Map([[3, gone]]));
      expect((await new Reader(store).bytes(KEY)).toString()).to.equal('first');
      expect(calls).to.deep.equal(['openLive', 'pendingIds', 'openPending', 'openPending']);
    });

    it('finds it wherever a restore and a purge, and a new sweep, pass between its looks', async () => {
      let seed = 10;
      const restored = async (): Promise<void> => {
        const other = temp.open({ seed: seed++ });
        const [tombstone] = tombstonesOf(other, KEY);
        await bringBack(other, [tombstone], { exemptFor: 0 });
        temp.clock.advance(temp.window + DAY);
        await purgeDue(other);
        expect(again(other, tombstone)?.state).to.equal('purged');
        temp.close(other);
      };
      const swept = async (): Promise<void> => {
        const other = temp.open({ seed: seed++ });
        expect((await sweepOld(other)).moved).to.equal(1);
        temp.close(other);
      };
      let late = 0;
      for (let first = 1; first <= 6; first++) {
        for (let second = first + 1; second <= 8; second++) {
          temp.write(KEY, 'content', 3 * DAY);
          await sweepOld(place);
          const acts = new Map([
            [first, restored],
            [second, swept],
          ]);
          const { store, calls } = beside(acts);
          const found = await new Reader(store).bytes(KEY);
          expect(found.toString(), `at ${first} and ${second}`).to.equal('content');
          if (calls.length > 3) late++;
          rmSync(path.join(temp.root, KEY), { force: true });
          temp.clock.advance(temp.window + DAY);
          await purgeDue(place);
          temp.clock.advance(temp.window + DAY);
          await purgeDue(place);
        }
      }
      expect(late, 'found in a later round').to.be.greaterThan(3);
    });

    it('that is purged between its looks is truly gone', async () => {
      temp.write(KEY, 'old', 3 * DAY);
      await sweepOld(place);
      const other = temp.open({ seed: 9 });
      const purged = async (): Promise<void> => {
        temp.clock.advance(temp.window + DAY);
        await purgeDue(other);
      };
      const { store } = beside(new Map([[2, purged]]));
      expect((await failure(async () => new Reader(store).open(KEY))).code).to.equal('not-found');
    });
  });

  describe('in the middle of a file', () => {
    const BIG = 'abcdefgh'.repeat(200_000);
    const file = (): string => path.join(temp.root, KEY);

    /** Reads the key, and lets somebody act after the first bytes. */
    async function readWhile(act: () => void): Promise<string> {
      temp.write(KEY, BIG, DAY);
      const found = await new Reader(place.store).open(KEY);
      const chunks: Buffer[] = [];
      const stream = found.read();
      stream.once('data', act);
      stream.on('data', (chunk: Buffer) => chunks.push(chunk));
      await finished(stream);
      return Buffer.concat(chunks).toString();
    }

    const changes: Record<string, () => void> = {
      'is cut short': () => truncateSync(file(), BIG.length - 1),
      'is emptied': () => truncateSync(file(), 0),
      grows: () => appendFileSync(file(), 'x'),
      'is written again in place': () => writeFileSync(file(), BIG.toUpperCase()),
      'gets another time': () => utimesSync(file(), 1, 1),
    };
    for (const [what, change] of Object.entries(changes)) {
      it(`ends in an error that names it when the file ${what}`, async () => {
        const error = await failure(async () => readWhile(change));
        expect([error.code, error.key]).to.deep.equal(['failed', KEY]);
        expect(error.message).to.include('was changed while it was read');
      });
    }

    it('does not follow a file that grows without end: it gives no more than the size it told', async () => {
      temp.write(KEY, BIG, DAY);
      const found = await new Reader(place.store).open(KEY);
      let read = 0;
      const stream = found.read();
      stream.on('data', (chunk: Buffer) => {
        read += chunk.length;
        appendFileSync(file(), BIG);
      });
      expect((await failure(async () => finished(stream))).message).to.include(
        'was changed while it was read',
      );
      expect(read).to.be.at.most(found.size);
    });

    it('gives the bytes that were there when it is replaced, moved, or removed', async () => {
      expect((await readWhile(() => replaceLive(temp, KEY, 'newer'))) === BIG).to.equal(true);
      expect((await readWhile(() => rmSync(file()))) === BIG).to.equal(true);
      temp.write(KEY, BIG, 3 * DAY);
      const found = await new Reader(place.store).open(KEY);
      await sweepOld(place);
      temp.clock.advance(temp.window + DAY);
      await purgeDue(place);
      expect((await textOf(found)) === BIG).to.equal(true);
    });
  });

  describe('of a listing', () => {
    async function listed(pages: AsyncIterable<ListedKey[]>): Promise<string[]> {
      const keys: string[] = [];
      for await (const page of pages) {
        for (const { key, size, location } of page) keys.push(`${key} ${location} ${size}`);
      }
      return keys.toSorted();
    }

    it('gives live keys, pending copies, and what is no object', async () => {
      for (const content of ['1', '22']) {
        for (const key of ['a', 'z/b']) temp.write(key, content, 3 * DAY);
        await sweepOld(place);
      }
      temp.write('a', '333');
      temp.write('live', '4444');
      symlinkSync('/etc/hostname', path.join(temp.root, 'link'));
      writeFileSync(path.join(temp.root, 'pending_deletion/odd'), '');
      const refused: string[] = [];
      const reader = new Reader(place.store, { onRefusal: ({ path: name }) => refused.push(name) });
      expect(await listed(reader.liveKeys(''))).to.deep.equal(['a live 3', 'live live 4']);
      const pending = ['a pending 1', 'a pending 2', 'z/b pending 1', 'z/b pending 2'];
      expect(await listed(reader.pendingKeys(''))).to.deep.equal(pending);
      expect(refused).to.deep.equal(['link', 'pending_deletion/odd']);
      expect(await listed(reader.pendingKeys('z'))).to.have.length(2);
      expect(await listed(reader.liveKeys('pending_deletion/'))).to.deep.equal([]);
    });

    it('never believes a store that does not say which it is', async () => {
      temp.write('a', 'a', 3 * DAY);
      const identity = path.join(temp.root, '.tombstoned/store.json');
      const made = {
        uuid: 'x',
        layout: 1,
        minReader: 1,
        pendingPrefix: 'pending_deletion/',
        createdAt: 'now',
      };
      const wrong: [string | undefined, RegExp][] = [
        [undefined, /has no .tombstoned\/store.json/],
        ['', /not readable as a store's identity/],
        [JSON.stringify(made), /not readable as a store's identity/],
        [`${JSON.stringify({ ...made, minReader: 2 })}\n`, /has layout 2, and this program reads up to 1/],
        [`${JSON.stringify({ ...made, pendingPrefix: 'other/' })}\n`, /keeps pending copies below "other\/"/],
      ];
      for (const [content, message] of wrong) {
        rmSync(identity, { force: true });
        if (content !== undefined) writeFileSync(identity, content);
        const reader = new Reader(place.store);
        for (const work of [
          reader.open(parseKey('none')),
          reader.liveKeys('').next(),
          reader.pendingKeys('none').next(),
        ]) {
          const error = await failure(async () => work);
          expect(error.message).to.match(message);
          expect(error.code).not.to.equal('not-found');
        }
      }
      writeFileSync(identity, `${JSON.stringify({ ...made, layout: 2 })}\n`);
      expect(await readThrough(place, 'a')).to.equal('a');
    });
  });
});

function never(): never {
  throw new Error('there is none');
}
