import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import type { Readable } from 'node:stream';
import { finished } from 'node:stream/promises';
import { expect } from 'chai';
import { TombstonedError } from '../../lib/domain/errors.ts';
import { parseKey } from '../../lib/domain/key.ts';
import { LeaseLost } from '../../lib/reader/lease-term.ts';
import { openSession, type Session, type SessionOptions } from '../../lib/reader/session.ts';
import { type Batch, begin } from '../../lib/run/batch.ts';
import { lookAtLeases } from '../../lib/run/leases.ts';
import type { Place } from '../../lib/run/place.ts';
import { inRun } from '../../lib/run/run.ts';
import { type LocalFs, nodeFs } from '../../lib/store/local/local-fs.ts';
import { LocalStore } from '../../lib/store/local/local-store.ts';
import type { Store } from '../../lib/store/store.ts';
import { HeldClock } from '../support/held-clock.ts';
import {
  allTombstones,
  bringBack,
  FAST,
  filesBelow,
  pendingFiles,
  purgeDue,
  replaceLive,
  sweepOld,
} from '../support/phases.ts';
import { ACTOR, age, DAY, DrivenClock, HOUR, START, seeded, TempPlace } from '../support/place.ts';

const SECOND = 1000;
const MINUTE = 60_000;

describe('a session', () => {
  let temp: TempPlace;
  let clock: HeldClock;
  let store: LocalStore;
  let sessions: Session[];
  let seed: number;
  beforeEach(async () => {
    temp = await TempPlace.make(FAST);
    clock = new HeldClock();
    store = openStore();
    sessions = [];
    seed = 100;
  });
  afterEach(async () => {
    for (const session of sessions) await session.close();
    expect(clock.sleepers, 'nothing stays behind').to.equal(0);
    store.close();
    temp.remove();
  });

  async function open(options: Partial<SessionOptions> = {}, at: Store = store): Promise<Session> {
    const session = await openSession(
      at,
      { clock, random: seeded(seed++), actor: ACTOR },
      { prefixes: [''], ...options },
    );
    sessions.push(session);
    return session;
  }

  /** The store as the session's host has it; its listings have a clock of their own. */
  function openStore(settle?: number, fs: LocalFs = nodeFs): LocalStore {
    return LocalStore.open({
      path: temp.root,
      pendingPrefix: 'pending_deletion/',
      access: 'read',
      clock: new DrivenClock(),
      settle,
      fs,
    });
  }

  async function failureOf(work: Promise<unknown>): Promise<TombstonedError> {
    const error = await work.catch((e: unknown) => e);
    if (error instanceof TombstonedError) return error;
    throw new Error(`no clear error: ${String(error)}`);
  }

  async function textOf(stream: Readable): Promise<string> {
    const chunks: Buffer[] = [];
    stream.on('data', (chunk: Buffer) => chunks.push(chunk));
    await finished(stream);
    return Buffer.concat(chunks).toString();
  }

  async function read(session: Session, key: string): Promise<string> {
    return textOf(await session.read(parseKey(key)));
  }

  function viewOf(session: Session): string[] {
    return [...session.view()].flat().map(({ key }) => key);
  }

  /** The names in `leases/`. */
  function leases(): string[] {
    return readdirSync(path.join(temp.root, '.tombstoned/leases'));
  }

  function leaseOf(session: Session): Record<string, unknown> {
    return JSON.parse(readFileSync(path.join(temp.root, `.tombstoned/leases/${session.id}.json`), 'utf8'));
  }

  /** Time passes for everybody: for the sessions' hosts, and for those that sweep and purge. */
  async function pass(ms: number): Promise<void> {
    temp.clock.advance(ms);
    await clock.pass(ms);
  }

  /** A mover's or purger's batch that is under way until it is ended. */
  async function batch(place: Place, kind: 'sweep' | 'purge', prefixes: string[]): Promise<Batch> {
    return new Promise((resolve, reject) => {
      inRun(place, kind, async (run) => {
        const begun = await begin(place, run, { kind, prefixes });
        if (begun === undefined) throw new Error('not begun');
        await new Promise<void>((end) => {
          resolve({
            ...begun,
            end: async () => {
              await begun.end();
              end();
            },
          });
        });
      }).catch(reject);
    });
  }

  /** The store, with something that happens before one of its methods. */
  function beforeEvery(method: keyof Store, act: (count: number) => Promise<void> | void): Store {
    let count = 0;
    return new Proxy(store, {
      get: (target, property) => {
        const value: unknown = Reflect.get(target, property, target);
        if (typeof value !== 'function') return value;
        if (property !== method) return value.bind(target);
        return async (...args: unknown[]): Promise<unknown> => {
          await act(++count);
          return Reflect.apply(value, target, args);
        };
      },
    });
  }

  /** The store, with something that happens after each page of a listing; it may throw. */
  function afterPages(act: () => Promise<void> | void): Store {
    return new Proxy(store, {
      get: (target, property) => {
        const value: unknown = Reflect.get(target, property, target);
        if (typeof value !== 'function') return value;
        if (property !== 'list') return value.bind(target);
        return async function* list(...args: Parameters<Store['list']>) {
          for await (const page of target.list(...args)) {
            yield page;
            await act();
          }
        };
      },
    });
  }

  describe('opens', () => {
    it('with one view of what is live below its prefixes, in the order of the keys', async () => {
      for (const key of ['b', 'a/1', 'a/2', 'a0', 'é', 'c/x']) temp.write(key, `content of ${key}`);
      const place = temp.open();
      temp.write('a/old', 'old', 3 * DAY);
      await sweepOld(place);
      const session = await open();
      expect(viewOf(session)).to.deep.equal(['a/1', 'a/2', 'a0', 'b', 'c/x', 'é']);
      expect([session.count, session.bytes]).to.deep.equal([
        6,
        6 * 'content of '.length + 1 + 3 + 3 + 2 + 2 + 3,
      ]);
      for (const key of viewOf(session)) expect(await read(session, key)).to.equal(`content of ${key}`);
      const some = await open({ prefixes: ['a/', 'c', 'a/2', 'a/', 'zz'] });
      expect(viewOf(some)).to.deep.equal(['a/1', 'a/2', 'c/x']);
      expect(leaseOf(some)['prefixes']).to.deep.equal(['a/', 'c', 'zz']);
    });

    it('under a lease that blocks sweeps while it lists, and only purges afterwards', async () => {
      temp.write('a', 'a');
      const seen: unknown[] = [];
      const watched = afterPages(() => {
        seen.push(
          ...leases().map(
            (name) =>
              JSON.parse(readFileSync(path.join(temp.root, '.tombstoned/leases', name), 'utf8')).blocks,
          ),
        );
      });
      const session = await open({}, watched);
      expect(seen).to.deep.equal(['sweep']);
      expect(leaseOf(session)).to.include({ blocks: 'purge', renewal: '0000000002', ttlSeconds: 3600 });
      expect(leaseOf(session)).to.include({ holder: ACTOR.by, host: ACTOR.host });
      await session.close();
      expect(leases()).to.deep.equal([]);
    });

    it('on an empty store: with nothing in its view, which is no error', async () => {
      const session = await open();
      expect([session.count, session.bytes, viewOf(session)]).to.deep.equal([0, 0, []]);
    });

    it('and tells what it leaves out: links, special files, names that are no keys', async () => {
      temp.write('a/ok', 'ok');
      symlinkSync('ok', path.join(temp.root, 'a/link'));
      writeFileSync(Buffer.concat([Buffer.from(path.join(temp.root, 'a/')), Buffer.from([0xff])]), '');
      const refused: string[] = [];
      const session = await open({
        prefixes: ['a/'],
        onRefusal: ({ path: name, why }) => refused.push(`${name}: ${why}`),
      });
      expect(viewOf(session)).to.deep.equal(['a/ok']);
      expect(refused).to.have.length(2);
      expect(refused.join('\n')).to.match(/a\/link: it is a symbolic link/);
    });

    it('with odd keys, and reads each of them', async () => {
      const keys = [
        ' ',
        '-x',
        'a\nb',
        '"q"',
        'a~20261122T101500123Z-k3v0q8tzm2xj4d',
        '~',
        '%00',
        '\u{10000}/ü',
        'x'.repeat(200),
      ];
      for (const key of keys) temp.write(key, key, 3 * DAY);
      const place = temp.open();
      const session = await open();
      expect(viewOf(session)).to.have.members(keys);
      expect((await sweepOld(place)).moved).to.equal(keys.length);
      for (const key of keys) expect(await read(session, key)).to.equal(key);
    });

    it('more than once, each with its own view; when one closes the other stands', async () => {
      temp.write('a', 'first', 3 * DAY);
      temp.window = 0;
      const place = temp.open();
      const first = await open();
      await sweepOld(place);
      temp.write('a', 'second', 3 * DAY);
      const second = await open();
      await sweepOld(place);
      await first.close();
      expect((await purgeDue(place)).purged).to.equal(0);
      expect(await read(second, 'a')).to.equal('second');
      await second.close();
      expect((await purgeDue(place)).purged).to.equal(2);
    });

    it('refuses prefixes that can begin no key', async () => {
      for (const prefix of ['/', '../x', 'a//', '.tombstoned/', 'a\0']) {
        expect((await failureOf(open({ prefixes: [prefix] }))).code, prefix).to.equal('usage');
      }
      expect(leases()).to.deep.equal([]);
    });
  });

  describe('waits for what is under way', () => {
    it('until a batch below its prefixes is over, and only then lists', async () => {
      temp.write('a/1', 'a', 3 * DAY);
      for (const kind of ['sweep', 'purge'] as const) {
        const place = temp.open({ seed: seed++ });
        const under = await batch(place, kind, ['a/']);
        const other = await batch(temp.open({ seed: seed++ }), kind, ['b/']);
        const waited: string[] = [];
        const opening = open({
          prefixes: ['a/'],
          onWait: (fences) => waited.push(...fences.map((f) => f.kind ?? '')),
        });
        await clock.pass(30 * SECOND);
        expect(waited).to.deep.equal([kind]);
        expect(sessions).to.have.length(0);
        await under.end();
        await clock.pass(SECOND);
        const session = await opening;
        expect(viewOf(session)).to.deep.equal(['a/1']);
        await other.end();
        await session.close();
        sessions = [];
      }
    });

    it('for as long as it is told, and then ends with an error that names the batch, and with no lease', async () => {
      const under = await batch(temp.open(), 'sweep', ['']);
      for (const [fenceTimeout, ms] of [
        [undefined, MINUTE],
        [5 * SECOND, 5 * SECOND],
      ] as const) {
        const opening = failureOf(open({ fenceTimeout }));
        await clock.pass(ms - SECOND);
        expect(leases()).to.have.length(1);
        await clock.pass(2 * SECOND);
        const error = await opening;
        expect([error.code, error.reason]).to.deep.equal(['blocked', 'fence']);
        expect(error.message).to.match(/a sweep of spec-host, pid \d+.*is not over/);
        expect(leases()).to.deep.equal([]);
      }
      await under.end();
    });

    it('and renews its lease meanwhile', async () => {
      const under = await batch(temp.open(), 'sweep', ['']);
      const opening = open({ fenceTimeout: HOUR, ttl: MINUTE });
      await clock.pass(30 * MINUTE);
      await under.end();
      await clock.pass(SECOND);
      (await opening).signal.throwIfAborted();
    });

    it('but not when it is told to stop: then it leaves no lease', async () => {
      const under = await batch(temp.open(), 'sweep', ['']);
      const controller = new AbortController();
      const opening = open({ signal: controller.signal }).catch((e: unknown) => e);
      await clock.pass(SECOND);
      controller.abort(new Error('enough'));
      await clock.pass(0);
      expect(await opening).to.equal(controller.signal.reason);
      expect(leases()).to.deep.equal([]);
      await under.end();
    });

    it('not at all for batches that come later: those see the lease', async () => {
      temp.write('a', 'a', 3 * DAY);
      const place = temp.open();
      let moved = -1;
      const session = await open(
        {},
        afterPages(async () => {
          moved = (await sweepOld(place)).moved;
        }),
      );
      expect(moved).to.equal(0);
      expect((await sweepOld(place)).moved).to.equal(1);
      expect(await read(session, 'a')).to.equal('a');
    });
  });

  describe('stands still', () => {
    it('under sweeps and purges with no window, and writers: every byte as it was listed', async () => {
      temp.window = 0;
      const keys = Array.from({ length: 60 }, (_, i) => `d${i % 4}/k${i}`);
      for (const key of keys) temp.write(key, `content of ${key}`, 3 * DAY);
      const place = temp.open();
      const session = await open();
      for (const [i, key] of keys.entries()) {
        await sweepOld(place);
        // A key that is written again once it was swept is another object.
        if (i % 3 === 0) temp.write(key, `newer ${key}`, i % 2 === 0 ? 0 : 3 * DAY);
        expect((await purgeDue(place)).purged).to.equal(0);
        await pass(10 * SECOND);
        const found = await session.open(parseKey(key));
        expect(found.location).to.equal('pending');
        expect(await textOf(found.read())).to.equal(`content of ${key}`);
      }
      expect(viewOf(session)).to.have.length(keys.length);
      await session.close();
      expect((await purgeDue(place)).purged).to.be.at.least(keys.length);
    });

    it('while restores bring back what it listed, and sweeps take it again', async () => {
      temp.window = 0;
      temp.write('a', 'content', 3 * DAY);
      const place = temp.open();
      const session = await open();
      for (let i = 0; i < 5; i++) {
        await sweepOld(place);
        expect(await read(session, 'a')).to.equal('content');
        await bringBack(place, allTombstones(place).slice(-1), { exemptFor: 0 });
        await purgeDue(place);
        expect(await read(session, 'a')).to.equal('content');
      }
    });

    for (const windows of [1, 2, 10]) {
      it(`when a restore takes ${windows} times the safety window`, async function () {
        this.timeout(60_000);
        temp.window = 2 * HOUR;
        const keys = ['a/1', 'a/2', 'b/3', 'b/4'];
        for (const key of keys) temp.write(key, `content of ${key}`, 3 * DAY);
        const place = temp.open();
        const session = await open();
        await sweepOld(place);
        for (const key of keys) {
          for (let part = 0; part < 10 * windows; part++) {
            await pass(temp.window / keys.length / 10);
            const { purged, kept } = await purgeDue(place);
            expect(purged).to.equal(0);
            if (part === 10 * windows - 1 && key === 'b/4') expect(kept.get('lease')).to.equal(4);
          }
          expect(await read(session, key)).to.equal(`content of ${key}`);
        }
        await session.close();
        expect((await purgeDue(place)).purged).to.equal(keys.length);
      });
    }
  });

  describe('whose holder has died', () => {
    it('keeps purges away for a TTL of observation, across processes, and then no more; the log says so', async () => {
      temp.window = 0;
      temp.write('a', 'a', 3 * DAY);
      const session = await open(); // and its clock stands still from here on
      await sweepOld(temp.open());
      const looked: number[] = [];
      for (let minutes = 0; minutes <= 60; minutes += 20) {
        const place = temp.open({ seed: seed++ }); // another process, another connection
        looked.push((await purgeDue(place)).purged);
        temp.close(place);
        temp.clock.advance(20 * MINUTE);
      }
      expect(looked).to.deep.equal([0, 0, 0, 1]);
      expect(temp.talk.join('\n')).to.match(
        new RegExp(
          `warn: lease ${session.id} of spec@spec-host on spec-host was not renewed for its TTL of 3600 s: it is taken as dead`,
        ),
      );
      expect(leases()).to.deep.equal([`${session.id}.broken`]);
      const error = await failureOf(session.open(parseKey('a')));
      expect(error, 'not as if the key were missing').to.be.instanceOf(LeaseLost);
      expect(session.signal.reason).to.equal(error);
    });

    it('starts anew where the machine was started again meanwhile', async () => {
      const session = await open();
      const look = async (boot: string): Promise<number> => {
        const place = temp.open({ seed: seed++ });
        temp.clock.boot = boot;
        const found = await lookAtLeases({ ...place, actor: { ...ACTOR, boot } });
        temp.close(place);
        return found.length;
      };
      expect(await look('one')).to.equal(1);
      temp.clock.advance(HOUR);
      expect(await look('two')).to.equal(1);
      temp.clock.advance(HOUR - 1);
      expect(await look('two')).to.equal(1);
      temp.clock.advance(1);
      expect(await look('two')).to.equal(0);
      expect(leases()).to.deep.equal([`${session.id}.broken`]);
    });

    for (const days of [-30, -1, 1, 30]) {
      it(`is judged by no wall clock: a purger's that is ${days} days off neither ends a live lease nor keeps a dead one`, async () => {
        temp.window = 0;
        temp.write('a', 'a', 40 * DAY);
        const place = temp.open();
        // Its operator vouches for it: else nothing would be purged for the clock's sake alone.
        const accept = (): void => place.catalog.transaction(() => place.catalog.clock.accept(temp.clock));
        const live = await open();
        await sweepOld(place);
        await purgeDue(place);
        temp.clock.wall += days * DAY;
        accept();
        for (let i = 0; i < 12; i++) {
          await pass(20 * MINUTE);
          expect(await lookAtLeases(place)).to.have.length(1);
          expect((await purgeDue(place)).purged).to.equal(0);
        }
        expect(await read(live, 'a')).to.equal('a');
        temp.clock.advance(HOUR - 1); // the holder's clock stands still: it is dead
        expect(await lookAtLeases(place)).to.have.length(1);
        temp.clock.wall -= 2 * days * DAY;
        temp.clock.advance(1);
        expect(await lookAtLeases(place)).to.have.length(0);
        expect(leases()).to.deep.equal([`${live.id}.broken`]);
        temp.clock.wall = START + DAY;
        accept();
        expect((await purgeDue(place)).purged).to.equal(1);
      });
    }
  });

  describe('whose holder was frozen', () => {
    const BIG = 'abcdefgh'.repeat(200_000);

    for (const [what, mono, wall] of [
      ['stopped past its TTL', HOUR, HOUR],
      ['suspended past its TTL: only the wall clock tells', 0, HOUR],
      ['stopped past its TTL while its wall clock was set back', HOUR, -DAY],
      ['told by its wall clock that 30 days have passed', 0, 30 * DAY],
    ] as const) {
      it(`(${what}) hands out not another byte`, async () => {
        temp.write('big', BIG);
        temp.write('small', 'small');
        const session = await open();
        const found = await session.open(parseKey('small'));
        const waiting = await session.read(parseKey('small'));
        const stream = await session.read(parseKey('big'));
        const chunks: Buffer[] = [];
        const ended = (async () => {
          for await (const chunk of stream) {
            chunks.push(chunk as Buffer);
            if (chunks.length === 1) clock.leap(mono, wall);
          }
        })().catch((e: unknown) => e);
        expect(await ended).to.be.instanceOf(LeaseLost);
        expect(chunks).to.have.length(1);
        expect(session.signal.reason).to.be.instanceOf(LeaseLost);
        for (const late of [waiting, found.read()]) {
          let bytes = 0;
          const error = await (async () => {
            for await (const chunk of late) bytes += (chunk as Buffer).length;
          })().catch((e: unknown) => e);
          expect(error).to.be.instanceOf(LeaseLost);
          expect(bytes).to.equal(0);
        }
        expect(await failureOf(session.read(parseKey('small')))).to.be.instanceOf(LeaseLost);
        await session.close();
        expect(leases()).to.deep.equal([]);
      });
    }

    it('does not hand out at once what it has read before, either', async () => {
      temp.write('small', 'small');
      const session = await open();
      const found = await session.open(parseKey('small'));
      clock.leap(HOUR);
      expect(() => found.readAll?.()).to.throw(LeaseLost);
    });

    it('is not lost by a wall clock that goes back 30 days', async () => {
      temp.write('a', 'a');
      const session = await open();
      clock.leap(0, -30 * DAY);
      await pass(2 * HOUR);
      expect(await read(session, 'a')).to.equal('a');
    });

    it('ends what is being read as soon as it is lost, though nobody reads on', async () => {
      temp.write('big', BIG);
      const session = await open();
      const stream = await session.read(parseKey('big'));
      const ended = finished(stream).catch((e: unknown) => e);
      stream.read(1);
      clock.leap(0, HOUR);
      await clock.pass(15 * SECOND);
      expect(await ended).to.be.instanceOf(LeaseLost);
    });

    it('cannot open when it was frozen while it listed', async () => {
      temp.write('a', 'a');
      const error = await failureOf(
        open(
          {},
          afterPages(() => clock.leap(HOUR)),
        ),
      );
      expect(error).to.be.instanceOf(LeaseLost);
      expect(leases()).to.deep.equal([]);
    });

    it('cannot open when its lease was broken while it listed, whatever its clocks say', async () => {
      temp.write('a', 'a', 3 * DAY);
      temp.window = 0;
      const place = temp.open();
      const error = await failureOf(
        open(
          {},
          afterPages(async () => {
            await lookAtLeases(place);
            temp.clock.advance(HOUR);
            await sweepOld(place);
            await purgeDue(place);
          }),
        ),
      );
      expect(temp.live('a')).to.equal(undefined);
      expect(error).to.be.instanceOf(LeaseLost);
    });
  });

  describe('whose listing is not complete', () => {
    it('is an error, and leaves no lease', async () => {
      temp.write('a/1', 'a');
      const cut = afterPages(() => {
        throw Object.assign(new Error('EIO: the listing was cut short'), { code: 'EIO' });
      });
      const error = await open({}, cut).catch((e: unknown) => e);
      expect(String(error)).to.include('cut short');
      expect(leases()).to.deep.equal([]);
    });

    it('because a directory may not be read', async () => {
      for (const key of ['a/1', 'b/2']) temp.write(key, key);
      const denied = openStore(undefined, {
        ...nodeFs,
        open: (name, flags, mode) => {
          if (name.endsWith('/b'))
            throw Object.assign(new Error('EACCES: permission denied'), { code: 'EACCES' });
          return nodeFs.open(name, flags, mode);
        },
      });
      const error = await failureOf(open({}, denied));
      denied.close();
      expect([error.code, error.key]).to.deep.equal(['failed', 'b/']);
      expect(leases()).to.deep.equal([]);
    });

    it('because the store went away meanwhile: it never looks like an empty one', async () => {
      temp.write('a/1', 'a');
      const away = `${temp.root}-away`;
      const error = await failureOf(
        open(
          {},
          afterPages(() => {
            renameSync(temp.root, away);
            mkdirSync(temp.root);
          }),
        ),
      );
      rmSync(temp.root, { recursive: true });
      renameSync(away, temp.root);
      expect(error.code).to.equal('failed');
      expect(error.message).to.include('no longer the directory');
    });

    it('because it is another store, or none', async () => {
      rmSync(path.join(temp.root, '.tombstoned/store.json'));
      const error = await failureOf(open());
      expect(error.message).to.include('no .tombstoned/store.json');
      expect(leases()).to.deep.equal([]);
    });

    it('because this program is too old to write there', async () => {
      const file = path.join(temp.root, '.tombstoned/store.json');
      const identity = JSON.parse(readFileSync(file, 'utf8'));
      writeFileSync(file, `${JSON.stringify({ ...identity, layout: 2 })}\n`);
      expect((await failureOf(open())).message).to.include('has layout 2, and this program writes up to 1');
      expect(leases()).to.deep.equal([]);
    });
  });

  describe('of a key that is not what it listed any more', () => {
    it('names it when its writer has overwritten it', async () => {
      temp.write('a/1', 'first');
      const session = await open();
      replaceLive(temp, 'a/1', 'second', DAY);
      const error = await failureOf(session.open(parseKey('a/1')));
      expect([error.code, error.key]).to.deep.equal(['incomplete', 'a/1']);
      expect(error.message).to.include('a/1');
      expect(session.signal.aborted).to.equal(false);
    });

    it('names it when it was removed by somebody else', async () => {
      temp.write('a/1', 'first');
      const session = await open();
      rmSync(path.join(temp.root, 'a/1'));
      expect(await failureOf(session.read(parseKey('a/1')))).to.include({ code: 'incomplete', key: 'a/1' });
    });

    it('reads the pending copy of the revision listed, not a newer one, nor a link in its place', async () => {
      temp.write('a', 'first', 3 * DAY);
      const place = temp.open();
      const session = await open();
      await sweepOld(place);
      temp.write('a', 'second', 2 * DAY);
      await sweepOld(place);
      expect(await read(session, 'a')).to.equal('first');
      symlinkSync('/etc/hostname', path.join(temp.root, 'a'));
      expect(await read(session, 'a')).to.equal('first');
    });

    it('takes a copy whose name says another revision, if it is the one', async () => {
      temp.write('a', 'first', 3 * DAY);
      const session = await open();
      const directory = path.join(temp.root, 'pending_deletion');
      mkdirSync(directory, { recursive: true });
      renameSync(path.join(temp.root, 'a'), path.join(directory, 'a~20261122T101500123Z-k3v0q8tzm2xj4d'));
      expect(await read(session, 'a')).to.equal('first');
    });

    it('says what is in its way when nothing else can be found', async () => {
      temp.write('a', 'first');
      const session = await open();
      rmSync(path.join(temp.root, 'a'));
      symlinkSync('/etc/hostname', path.join(temp.root, 'a'));
      const error = await failureOf(session.open(parseKey('a')));
      expect(error.message).to.include('symbolic link');
      expect(error.key).to.equal('a');
    });

    it('does not say missing of a store that has gone', async () => {
      temp.write('a', 'a');
      const session = await open();
      rmSync(path.join(temp.root, 'a'));
      const file = path.join(temp.root, '.tombstoned/store.json');
      const identity = readFileSync(file);
      rmSync(file);
      expect((await failureOf(session.open(parseKey('a')))).code).to.equal('failed');
      writeFileSync(file, identity);
    });

    it('says that it is not in the view of a key that it did not list', async () => {
      temp.write('a', 'a');
      const session = await open();
      temp.write('later', 'x');
      expect((await failureOf(session.open(parseKey('later')))).code).to.equal('not-found');
    });

    it('finds it wherever a sweep, and a restore, pass between its looks', async () => {
      for (let at = 1; at <= 3; at++) {
        temp.write('a', 'content', 3 * DAY);
        const place = temp.open({ seed: seed++ });
        const acts = [
          async () => sweepOld(place),
          async () =>
            bringBack(
              place,
              allTombstones(place).filter(({ state }) => state === 'pending'),
              { exemptFor: 0 },
            ),
          async () => sweepOld(place),
        ];
        const moving = beforeEvery('pendingIds', async (count) => {
          if (count >= at) await acts[count - at]?.();
        });
        const session = await open({}, moving);
        expect(await read(session, 'a'), `from look ${at}`).to.equal('content');
        await session.close();
      }
    });
  });

  describe('beside leases that are unclear', () => {
    const FUTURE = 'l-20261122T101500123Z-k3v0q8';
    const body = (change: object): string =>
      `${JSON.stringify({
        id: FUTURE,
        holder: 'x',
        host: 'y',
        pid: 1,
        prefixes: ['zz'],
        blocks: 'purge',
        ttlSeconds: 60,
        acquiredAt: '2026-11-22T10:15:00.123Z',
        renewal: '0000000000',
        ...change,
      })}\n`;
    const unclear: [string, string, string][] = [
      ['is empty', `${FUTURE}.json`, ''],
      ['is cut short', `${FUTURE}.json`, body({}).slice(0, 50)],
      ['has a future way of blocking', `${FUTURE}.json`, body({ blocks: 'listing' })],
      ['has a TTL that nobody believes', `${FUTURE}.json`, body({ ttlSeconds: 1e12 })],
      ['has a renewal of another form', `${FUTURE}.json`, body({ renewal: 7 })],
      ['has an odd name', 'what is this', body({})],
    ];
    for (const [what, name, text] of unclear) {
      it(`one that ${what} keeps everything, never dies, and is named`, async () => {
        temp.window = 0;
        temp.write('a', 'a', 3 * DAY);
        writeFileSync(path.join(temp.root, '.tombstoned/leases', name), text);
        const place = temp.open();
        for (let i = 0; i < 4; i++) {
          expect((await sweepOld(place)).moved).to.equal(0);
          temp.clock.advance(30 * DAY);
        }
        expect(temp.live('a')).to.equal('a');
        const told = temp.talk.filter((line) => line.includes(`.tombstoned/leases/${name}`));
        expect(told.join('\n')).to.match(/^error: .*it counts as a lease on everything/);
        // And it is in no session's way.
        expect(viewOf(await open())).to.deep.equal(['a']);
      });
    }
  });

  describe('is closed', () => {
    it('once, and may be again; nothing is read through it any more', async () => {
      temp.write('a', 'a');
      const session = await open();
      const stream = await session.read(parseKey('a'));
      const ended = finished(stream).catch((e: unknown) => e);
      await Promise.all([session.close(), session.close()]);
      await session.close();
      expect(leases()).to.deep.equal([]);
      expect(String(await ended)).to.include('the session was closed');
      expect((await failureOf(session.open(parseKey('a')))).message).to.include('closed');
      expect(() => viewOf(session)).to.throw('closed');
      expect(session.signal.aborted).to.equal(false);
    });

    it('leaves no descriptor open', async () => {
      const fds = (): number => readdirSync('/proc/self/fd').length;
      temp.write('big', 'x'.repeat(1_000_000));
      const session = await open();
      for (let i = 0; i < 10; i++) await clock.pass(0);
      const before = fds();
      for (let i = 0; i < 20; i++) {
        const stream = await session.read(parseKey('big'));
        if (i % 2 === 0) stream.read(1);
        else (await session.open(parseKey('big'))).close();
      }
      await session.close();
      for (let i = 0; i < 10; i++) await clock.pass(0);
      expect(fds()).to.be.at.most(before); // its table is gone too
    });
  });

  describe('by stale listings', () => {
    it('waits for the store to settle before it looks at fences, and a missing key is looked for again after it', async () => {
      temp.write('a', 'content', 3 * DAY);
      const slow = openStore(65 * SECOND);
      const opening = open({}, slow);
      await clock.pass(64 * SECOND);
      expect(sessions).to.have.length(0);
      await clock.pass(2 * SECOND);
      const session = await opening;
      const file = path.join(temp.root, 'a');
      renameSync(file, `${file}.hidden`);
      const reading = read(session, 'a');
      await clock.pass(30 * SECOND);
      renameSync(`${file}.hidden`, file);
      await clock.pass(35 * SECOND);
      expect(await reading).to.equal('content');
      rmSync(file);
      const missing = failureOf(session.open(parseKey('a')));
      await clock.pass(65 * SECOND);
      expect((await missing).code).to.equal('incomplete');
      await session.close();
      slow.close();
    });
  });

  it('does not hold up sweeps for longer than it lists, nor they it', async () => {
    temp.window = 0;
    for (let i = 0; i < 10; i++) {
      temp.write(`a/${i}`, 'x', 3 * DAY);
      const place = temp.open({ seed: seed++ });
      const [swept, session] = await Promise.all([
        sweepOld(place, { policies: [age({ prefix: 'a/' })] }),
        (async () => {
          const opening = open({ prefixes: ['a/'] });
          for (let n = 0; n < 50; n++) await clock.pass(20);
          return opening;
        })(),
      ]);
      for (const key of viewOf(session)) expect(await read(session, key)).to.equal('x');
      const again = swept.moved === 1 ? swept : await sweepOld(place);
      expect(again.moved, `round ${i}`).to.equal(1);
      await session.close();
      temp.close(place);
    }
    expect(pendingFiles(temp)).to.have.length(10);
    expect(existsSync(path.join(temp.root, '.tombstoned/fences'))).to.equal(true);
    expect(filesBelow(path.join(temp.root, '.tombstoned/fences'))).to.deep.equal([]);
  });
});
