import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import type { Readable } from 'node:stream';
import { finished } from 'node:stream/promises';
import { expect } from 'chai';
import { TombstonedError } from '../../lib/domain/errors.ts';
import { parseKey } from '../../lib/domain/key.ts';
import { BorrowedLease } from '../../lib/reader/borrowed-lease.ts';
import { LeaseHolder, type LeaseOptions } from '../../lib/reader/lease-holder.ts';
import { LeaseLost } from '../../lib/reader/lease-term.ts';
import { Reader } from '../../lib/reader/reader.ts';
import { openSession, type Session, type SessionOptions } from '../../lib/reader/session.ts';
import { markBroken } from '../../lib/store/leases.ts';
import { LocalStore } from '../../lib/store/local/local-store.ts';
import { HeldClock } from '../support/held-clock.ts';
import { FAST, purgeDue, sweepOld } from '../support/phases.ts';
import { ACTOR, DAY, DrivenClock, HOUR, seeded, TempPlace } from '../support/place.ts';

const MINUTE = 60_000;

describe('a session under the lease of with-lease around it', () => {
  let temp: TempPlace;
  let clock: HeldClock;
  let store: LocalStore;
  let around: LeaseHolder;
  let sessions: Session[];
  let seed: number;
  beforeEach(async () => {
    temp = await TempPlace.make(FAST);
    temp.window = 0;
    clock = new HeldClock();
    store = LocalStore.open({
      path: temp.root,
      pendingPrefix: 'pending_deletion/',
      access: 'read',
      clock: new DrivenClock(),
    });
    sessions = [];
    seed = 50;
    temp.write('a/1', 'one', 3 * DAY);
    temp.write('a/2', 'two', 3 * DAY);
    around = await leased();
  });
  afterEach(async () => {
    for (const session of sessions) await session.close().catch(() => undefined);
    await around.release();
    expect(clock.sleepers, 'nothing stays behind').to.equal(0);
    store.close();
    temp.remove();
  });

  async function leased(options: Partial<LeaseOptions> = {}): Promise<LeaseHolder> {
    const surroundings = { clock, random: seeded(seed++), actor: ACTOR };
    return LeaseHolder.acquire(store, surroundings, { prefixes: ['a/'], blocks: 'sweep', ...options });
  }

  async function open(options: Partial<SessionOptions> = {}): Promise<Session> {
    const surroundings = { clock, random: seeded(seed++), actor: ACTOR };
    const session = await openSession(store, surroundings, {
      prefixes: ['a/'],
      borrowed: around.id,
      ...options,
    });
    sessions.push(session);
    return session;
  }

  async function failureOf(work: Promise<unknown>): Promise<TombstonedError> {
    const error = await work.catch((e: unknown) => e);
    if (error instanceof TombstonedError) return error;
    throw new Error(`no clear error: ${String(error)}`);
  }

  function leases(): string[] {
    return readdirSync(path.join(temp.root, '.tombstoned/leases'));
  }

  function file(id = around.id): string {
    return path.join(temp.root, `.tombstoned/leases/${id}.json`);
  }

  async function textOf(stream: Readable): Promise<string> {
    const chunks: Buffer[] = [];
    stream.on('data', (chunk: Buffer) => chunks.push(chunk));
    await finished(stream);
    return Buffer.concat(chunks).toString();
  }

  it('lists and reads by it, writes none of its own, and leaves it as it is', async () => {
    const before = readFileSync(file(), 'utf8');
    const session = await open();
    expect(session.id).to.equal(around.id);
    expect([...session.view()].flat().map(({ key }) => key)).to.deep.equal(['a/1', 'a/2']);
    expect(await textOf(await session.read(parseKey('a/1')))).to.equal('one');
    await session.close();
    expect(readFileSync(file(), 'utf8')).to.equal(before);
    expect(leases()).to.deep.equal([`${around.id}.json`]);
    expect((await sweepOld(temp.open())).moved).to.equal(0);
  });

  it('takes one of its own where that does not cover it, or lets sweeps go on', async () => {
    const other = await leased({ blocks: 'purge' });
    for (const options of [{ prefixes: [''] }, { prefixes: ['a/', 'b'] }, { borrowed: other.id }]) {
      const session = await open(options);
      expect([around.id, other.id]).not.to.include(session.id);
      expect(leases()).to.have.length(3);
      await session.close();
      expect(leases()).to.have.length(2);
    }
    await other.release();
    const narrower = await open({ prefixes: ['a/1'] });
    expect(narrower.id).to.equal(around.id);
  });

  it('stands for as long as that is renewed', async () => {
    const session = await open();
    await clock.pass(5 * HOUR);
    expect(await textOf(await session.read(parseKey('a/2')))).to.equal('two');
  });

  it('is lost when that is no longer renewed, before anybody can take it as dead', async () => {
    const elsewhere = new HeldClock(); // the holder's host, whose time stands still
    const dying = await LeaseHolder.acquire(
      store,
      { clock: elsewhere, random: seeded(9), actor: ACTOR },
      { prefixes: [''], blocks: 'sweep' },
    );
    const session = await open({ borrowed: dying.id });
    await clock.pass(0.9 * HOUR - 1);
    expect(session.signal.aborted).to.equal(false);
    await clock.pass(1);
    expect(session.signal.reason).to.be.instanceOf(LeaseLost);
    expect(await failureOf(session.open(parseKey('a/1')))).to.equal(session.signal.reason);
    await dying.release();
  });

  it('does not believe that its holder renewed it later than it has seen', async () => {
    const elsewhere = new HeldClock();
    const dying = await LeaseHolder.acquire(
      store,
      { clock: elsewhere, random: seeded(9), actor: ACTOR },
      { prefixes: [''], blocks: 'sweep' },
    );
    const session = await open({ borrowed: dying.id });
    await clock.pass(20 * MINUTE);
    await dying.renew();
    await clock.pass(40 * MINUTE);
    expect(session.signal.aborted, 'the renewal was seen').to.equal(false);
    await clock.pass(14 * MINUTE - 1);
    expect(session.signal.aborted).to.equal(false);
    await clock.pass(1);
    // It was renewed between two looks: perhaps right after the first, 54 min ago.
    expect(session.signal.aborted).to.equal(true);
    await dying.release();
  });

  it('that was frozen itself hands out nothing until it has looked', async () => {
    const session = await open();
    const stream = await session.read(parseKey('a/1'));
    clock.leap(HOUR);
    expect(await failureOf(textOf(stream))).to.be.instanceOf(LeaseLost);
    expect(await failureOf(session.open(parseKey('a/2')))).to.be.instanceOf(LeaseLost);
  });

  describe('does not begin', () => {
    const without: [string, RegExp, () => Promise<void> | void][] = [
      ['where that has ended', /is gone/, async () => around.release()],
      ['where that is unclear', /is empty, cut short/, () => writeFileSync(file(), '')],
      [
        'where that was broken',
        /took it as dead/,
        async () => markBroken(store.control, around.id, { by: 'x', reason: 'y', at: 'z' }),
      ],
    ];
    for (const [what, why, end] of without) {
      it(what, async () => {
        await end();
        const error = await failureOf(open());
        expect(error).to.be.instanceOf(LeaseLost);
        expect([error.code, error.key]).to.deep.equal(['blocked', around.id]);
        expect(error.message).to.match(why);
        expect(error.message, 'which store').to.include(store.url);
      });
    }

    it('by what is no id', async () => {
      for (const borrowed of ['x', '../owner', `${around.id}.json`]) {
        expect((await failureOf(open({ borrowed }))).code).to.equal('usage');
      }
    });
  });

  it('finds out that it was broken before it says that a key is missing', async () => {
    const session = await open();
    await markBroken(store.control, around.id, { by: 'x', reason: 'y', at: 'z' });
    await sweepOld(temp.open());
    await purgeDue(temp.open({ seed: 8 }));
    expect(temp.live('a/1')).to.equal(undefined);
    expect(await failureOf(session.open(parseKey('a/1')))).to.be.instanceOf(LeaseLost);
  });

  it('finds out when it is closed, at the latest', async () => {
    const session = await open();
    rmSync(file());
    expect(await failureOf(session.close())).to.be.instanceOf(LeaseLost);
    expect(session.signal.aborted).to.equal(true);
  });

  it('finds out by itself, though nobody asks', async () => {
    const session = await open();
    rmSync(file());
    await clock.pass(30_000);
    expect(session.signal.reason).to.be.instanceOf(LeaseLost);
  });

  it('goes on past a look that fails', async () => {
    const session = await open();
    const directory = path.dirname(file());
    const read = store.control.read.bind(store.control);
    let failures = 0;
    store.control.read = async (name) => {
      if (failures++ < 5) throw Object.assign(new Error('EIO'), { code: 'EIO' });
      return read(name);
    };
    await clock.pass(10 * MINUTE);
    expect(failures).to.be.greaterThan(5);
    expect(session.signal.aborted).to.equal(false);
    expect(readdirSync(directory)).to.have.length(1);
  });

  describe('a reader without a view', () => {
    async function reader(): Promise<Reader> {
      const lease = await BorrowedLease.take(store, clock, around.id);
      return new Reader(
        LocalStore.open({ path: temp.root, pendingPrefix: 'pending_deletion/', access: 'read', clock }),
        {
          clock,
          lease,
        },
      );
    }

    it('reads under it, and stops looking when it is closed', async () => {
      const reading = await reader();
      expect((await reading.bytes(parseKey('a/1'))).toString()).to.equal('one');
      await reading.confirm();
      reading.close();
      await clock.pass(0);
    });

    it('says that the lease is lost, not that a key is missing, nor hands out another byte', async () => {
      const reading = await reader();
      const found = await reading.open(parseKey('a/1'));
      const stream = found.read();
      expect((await failureOf(reading.open(parseKey('zz')))).code).to.equal('not-found');
      rmSync(file());
      expect(await failureOf(reading.open(parseKey('zz')))).to.be.instanceOf(LeaseLost);
      expect(await failureOf(textOf(stream))).to.be.instanceOf(LeaseLost);
      expect(await failureOf(reading.confirm())).to.be.instanceOf(LeaseLost);
      reading.close();
    });
  });
});
