import { readdirSync } from 'node:fs';
import path from 'node:path';
import { finished } from 'node:stream/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { expect } from 'chai';
import { TombstonedError } from '../../lib/domain/errors.ts';
import { pendingName } from '../../lib/domain/ids.ts';
import { type Key, parseKey } from '../../lib/domain/key.ts';
import { Reader } from '../../lib/reader/reader.ts';
import type { LocalFs } from '../../lib/store/local/local-fs.ts';
import { LocalStore } from '../../lib/store/local/local-store.ts';
import type { MoveItem } from '../../lib/store/store.ts';
import { FAST, filesBelow, idAt, revisionOfFile } from '../support/phases.ts';
import { DAY, START, TempPlace } from '../support/place.ts';
import { errno, watchedFs } from '../support/watched-fs.ts';

const LIVE = parseKey('a/b/live');
const GONE = parseKey('a/b/gone');
const ABOVE = ['top', 'a/middle'];
/** Calls that only tidy up: whatever they say, what they free is free. */
const TIDYING = new Set<keyof LocalFs>(['close', 'leave']);

describe('a call of a local store to its disk that fails', () => {
  let temp: TempPlace;
  let pending: MoveItem;
  beforeEach(async () => {
    temp = await TempPlace.make(FAST);
    prepare();
  });
  afterEach(() => {
    temp.remove();
  });

  /** A live object in each directory, and a pending copy of another. */
  function prepare(): void {
    for (const key of ABOVE) temp.write(key, 'above', 3 * DAY);
    temp.write(LIVE, 'live', 3 * DAY);
    temp.write(GONE, 'gone', 3 * DAY);
    const revision = revisionOfFile(path.join(temp.root, GONE));
    pending = { key: GONE, id: idAt(START, revision), revision };
    temp.write(nameOf(pending), 'gone', 3 * DAY);
  }

  function nameOf({ key, id }: { key: Key; id: string }): string {
    return pendingName('pending_deletion/', key, id);
  }

  function liveItem(): MoveItem {
    const revision = revisionOfFile(path.join(temp.root, LIVE));
    return { key: LIVE, id: idAt(START + 1, revision), revision };
  }

  /** Does the work once for each call it makes, which then fails; gives how often it failed, or what came instead. */
  async function atEachCall(
    code: string,
    work: (store: LocalStore) => Promise<unknown>,
    check: (end: unknown, at: string) => void,
  ): Promise<number> {
    for (let nth = 1; ; nth++) {
      let calls = 0;
      let failed: string | undefined;
      let isBegun = false;
      const fs = watchedFs(({ name }) => {
        if (!isBegun || TIDYING.has(name) || ++calls !== nth) return;
        failed = name;
        throw errno(code);
      });
      const { root, clock } = temp;
      const store = LocalStore.open({
        path: root,
        pendingPrefix: 'pending_deletion/',
        access: 'write',
        clock,
        fs,
      });
      const before = descriptors();
      isBegun = true;
      const end = await work(store).catch((error: unknown) => error);
      isBegun = false;
      await expectNoMore(before, `after ${failed} ${nth}`);
      store.close();
      if (failed === undefined) {
        if (end instanceof Error) throw end;
        return nth - 1;
      }
      check(end, `${code} at ${failed}, call ${nth}`);
    }
  }

  function descriptors(): number {
    return readdirSync('/proc/self/fd').length;
  }

  /** Waits for what is being closed, and no longer than a leak would take. */
  async function expectNoMore(before: number, at: string): Promise<void> {
    for (let i = 0; i < 100 && descriptors() > before; i++) await delay(10);
    expect(descriptors(), `descriptors ${at}`).to.be.at.most(before);
  }

  /** It is an error that says so in one line, and never that something is not there. */
  function isTold(end: unknown, at: string): void {
    expect(end, at).to.be.instanceOf(TombstonedError);
    const { code, message } = end as TombstonedError;
    expect(code, at).to.equal('failed');
    expect(message, at).not.to.match(/\/proc\/|\n/);
  }

  const LOOKS: Record<string, (store: LocalStore) => Promise<unknown>> = {
    'opens a live object': async (store) => (await store.openLive(LIVE))?.close(),
    'opens a pending copy': async (store) => (await store.openPending(GONE, pending.id))?.close(),
    'looks at a pending copy': async (store) => store.headPending(GONE, pending.id),
    'looks for pending copies': async (store) => store.pendingIds(GONE),
    'reads a control object': async (store) => store.control.read('store.json'),
    'lists control objects': async (store) => store.control.list(''),
    'makes a control object': async (store) => store.control.create(`holds/${Math.random()}`, '\n'),
    'reads an object through': async (store) => new Reader(store).bytes(GONE),
  };
  for (const [what, work] of Object.entries(LOOKS)) {
    it(`is told, and never reads as "not there", when it ${what}`, async () => {
      for (const code of ['EIO', 'EACCES', 'EMFILE']) {
        expect(await atEachCall(code, work, isTold)).to.be.greaterThan(2);
      }
    });
  }

  it('is told, or makes that object one that is refused, when it looks at or lists live objects', async () => {
    const looks = async (store: LocalStore): Promise<unknown> => (await store.head(LIVE))?.refusal;
    const lists = async (store: LocalStore): Promise<unknown> => {
      const items = [];
      for await (const page of store.list('')) items.push(...page);
      expect(items.map((item) => (item.type === 'object' ? item.key : item.path))).to.have.members([
        ...ABOVE,
        LIVE,
        GONE,
      ]);
      return items.every((item) => item.type === 'object' && item.refusal === null) ? null : 'refused';
    };
    for (const code of ['EIO', 'EACCES']) {
      for (const work of [looks, lists]) {
        await atEachCall(code, work, (end, at) => {
          if (end instanceof Error) isTold(end, at);
          else expect(end, at).to.be.a('string');
        });
      }
    }
  });

  it('is told when it lists pending copies, or what it asked does not matter there', async () => {
    const work = async (store: LocalStore): Promise<number> => {
      let count = 0;
      for await (const page of store.listPending('')) count += page.length;
      return count;
    };
    for (const code of ['EIO', 'EACCES']) {
      await atEachCall(code, work, (end, at) => {
        if (end instanceof Error) isTold(end, at);
        else expect(end, at).to.equal(1);
      });
    }
  });

  it('leaves nothing open when what was opened is read to its end, or destroyed before or after it began', async () => {
    const { root, clock } = temp;
    const store = LocalStore.open({ path: root, pendingPrefix: 'pending_deletion/', access: 'read', clock });
    temp.write('big', 'x'.repeat(3_000_000), DAY);
    const big = parseKey('big');
    const before = descriptors();
    const endings: ((object: NonNullable<Awaited<ReturnType<LocalStore['openLive']>>>) => Promise<void>)[] = [
      async (object) => object.close(),
      async (object) => {
        const stream = object.read().resume();
        await finished(stream);
      },
      async (object) => {
        const stream = object.read();
        stream.destroy();
        await finished(stream).catch(() => undefined);
      },
      async (object) => {
        for await (const chunk of object.read()) {
          expect(chunk).to.be.instanceOf(Buffer);
          break;
        }
      },
      async (object) => {
        const stream = object.read();
        stream.read(1);
        stream.destroy(new Error('enough'));
        await finished(stream).catch(() => undefined);
      },
    ];
    for (const ending of endings) {
      const object = await store.openLive(big);
      if (object === undefined) throw new Error('not there');
      await ending(object);
      await expectNoMore(before, 'at the end');
    }
    store.close();
  });

  describe('in a batch', () => {
    /** Fails, or throws, and loses nothing; done again it ends as if nothing had been. */
    function losesNothing(contents: string[]): (end: unknown, at: string) => void {
      return (end, at) => {
        if (!(end instanceof Error)) {
          const [outcome] = end as { outcome: string }[];
          expect(outcome?.outcome, at).not.to.equal('gone');
        } else expect((end as TombstonedError).code ?? 'none', at).not.to.equal('not-found');
        const there = filesBelow(temp.root).map((name) => temp.live(name));
        expect(there, at).to.include.members(contents);
      };
    }

    it('loses nothing when it moves, and the move can be done again', async () => {
      for (const code of ['EIO', 'EACCES', 'ENOSPC']) {
        await atEachCall(
          code,
          async (store) => {
            if (temp.live(LIVE) === undefined) temp.write(LIVE, 'live', 3 * DAY);
            return store.move([liveItem()], { resume: false });
          },
          losesNothing(['live', 'gone']),
        );
      }
    });

    it('loses nothing when it puts back, and it can be done again', async () => {
      for (const to of [GONE, parseKey('else/where')]) {
        for (const code of ['EIO', 'EACCES', 'ENOSPC']) {
          prepare();
          await atEachCall(
            code,
            async (store) => store.putBack([{ ...pending, to }]),
            losesNothing(['live', 'gone']),
          );
        }
      }
      expect(temp.live('else/where')).to.equal('gone');
    });

    it('removes nothing but what it says when it removes, and it can be done again', async () => {
      for (const code of ['EIO', 'EACCES']) {
        prepare();
        await atEachCall(
          code,
          async (store) => {
            if (temp.live(nameOf(pending)) === undefined) return [{ outcome: 'removed' }];
            return store.remove([{ ...pending, from: 'pending' }]);
          },
          (end, at) => {
            const isThere = temp.live(nameOf(pending)) !== undefined;
            if (!(end instanceof Error)) {
              const [outcome] = end as { outcome: string }[];
              expect(outcome?.outcome, at).to.equal(isThere ? 'failed' : 'removed');
            }
            expect(temp.live(LIVE)).to.equal('live');
          },
        );
        expect(temp.live(nameOf(pending))).to.equal(undefined);
      }
    });
  });
});
