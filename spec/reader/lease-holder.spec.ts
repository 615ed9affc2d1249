import { existsSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { LeaseHolder, type LeaseOptions } from '../../lib/reader/lease-holder.ts';
import { LeaseLost } from '../../lib/reader/lease-term.ts';
import { type Lease, markBroken, readLease } from '../../lib/store/leases.ts';
import { LocalStore } from '../../lib/store/local/local-store.ts';
import type { ControlSpace, Store } from '../../lib/store/store.ts';
import { HeldClock } from '../support/held-clock.ts';
import { FAST } from '../support/phases.ts';
import { ACTOR, DAY, HOUR, START, seeded, TempPlace } from '../support/place.ts';

const SECOND = 1000;
const MINUTE = 60_000;
const EIO = (): Error => Object.assign(new Error('EIO: i/o error'), { code: 'EIO' });

type Rewrite = ControlSpace['rewrite'];

describe('the holder of a lease', () => {
  let temp: TempPlace;
  let clock: HeldClock;
  let store: LocalStore;
  let held: LeaseHolder[];
  beforeEach(async () => {
    temp = await TempPlace.make(FAST);
    clock = new HeldClock();
    store = LocalStore.open({ path: temp.root, pendingPrefix: 'pending_deletion/', access: 'read', clock });
    held = [];
  });
  afterEach(async () => {
    for (const lease of held) await lease.release();
    expect(clock.sleepers, 'nothing stays behind').to.equal(0);
    store.close();
    temp.remove();
  });

  async function acquire(options: Partial<LeaseOptions> = {}, at: Store = store): Promise<LeaseHolder> {
    const surroundings = { clock, random: seeded(5), actor: ACTOR };
    const lease = await LeaseHolder.acquire(at, surroundings, {
      prefixes: ['a/'],
      blocks: 'sweep',
      ...options,
    });
    held.push(lease);
    return lease;
  }

  function file(id: string): string {
    return path.join(temp.root, `.tombstoned/leases/${id}.json`);
  }

  async function written(id: string): Promise<Lease> {
    const lease = await readLease(store.control, `${id}.json`);
    if (lease === undefined) throw new Error('no lease');
    return lease;
  }

  function lossOf(work: () => void): LeaseLost {
    try {
      work();
    } catch (error) {
      if (error instanceof LeaseLost) return error;
      throw error;
    }
    throw new Error('it is not lost');
  }

  async function lossIn(work: Promise<unknown>): Promise<LeaseLost> {
    const error = await work.catch((e: unknown) => e);
    if (error instanceof LeaseLost) return error;
    throw new Error(`not lost, but ${String(error)}`);
  }

  /** The store, with somebody between it and the holder's renewals. */
  function through(rewrite: (real: Rewrite, ...args: Parameters<Rewrite>) => ReturnType<Rewrite>): Store {
    const control = new Proxy(store.control, {
      get: (target, property) => {
        if (property === 'rewrite') {
          return async (...args: Parameters<Rewrite>) => rewrite(target.rewrite.bind(target), ...args);
        }
        const value: unknown = Reflect.get(target, property, target);
        return typeof value === 'function' ? value.bind(target) : value;
      },
    });
    return withControl(control);
  }

  function withControl(control: ControlSpace): Store {
    return new Proxy(store, {
      get: (target, property) => {
        if (property === 'control') return control;
        const value: unknown = Reflect.get(target, property, target);
        return typeof value === 'function' ? value.bind(target) : value;
      },
    });
  }

  it('writes one line that says who it is and what it keeps, and removes it at the end', async () => {
    const lease = await acquire({ ttl: 90 * SECOND, holder: 'restore of mainnet' });
    const text = readFileSync(file(lease.id), 'utf8');
    expect(text).to.match(/^\{.*\}\n$/);
    expect(JSON.parse(text)).to.deep.equal({
      id: lease.id,
      holder: 'restore of mainnet',
      host: ACTOR.host,
      pid: ACTOR.pid,
      prefixes: ['a/'],
      blocks: 'sweep',
      ttlSeconds: 90,
      acquiredAt: new Date(START).toISOString(),
      renewal: '0000000000',
    });
    await lease.release();
    expect(readdirSync(path.dirname(file(lease.id)))).to.deep.equal([]);
    await lease.release();
    expect(lease.signal.aborted).to.equal(false);
  });

  it('takes another id where its own is taken', async () => {
    const first = await acquire();
    const second = await acquire(); // the same time, and the same random numbers
    expect(second.id).not.to.equal(first.id);
    expect([first.id, second.id].map((id) => existsSync(file(id)))).to.deep.equal([true, true]);
  });

  it('refuses a TTL that is not in whole seconds, or that nobody would believe', async () => {
    for (const ttl of [0, 1, 1500, -1000, Number.NaN, Number.POSITIVE_INFINITY, 367 * DAY]) {
      const error = await acquire({ ttl }).catch((e: unknown) => e);
      expect(error, String(ttl)).to.have.property('code', 'usage');
    }
    expect(readdirSync(path.join(temp.root, '.tombstoned/leases'))).to.deep.equal([]);
  });

  it('renews in place, by number, every minute or third of its TTL', async () => {
    for (const [ttl, every] of [
      [HOUR, MINUTE],
      [3 * MINUTE, MINUTE],
      [30 * SECOND, 10 * SECOND],
      [SECOND, SECOND / 3],
    ] as const) {
      const lease = await acquire({ ttl });
      const { ino } = statSync(file(lease.id));
      await clock.pass(every * 7.5);
      expect((await written(lease.id)).renewal, `TTL ${ttl}`).to.equal(7);
      expect(statSync(file(lease.id)).ino).to.equal(ino);
      lease.check();
      await lease.release();
    }
  });

  it('stands as long as it is renewed', async () => {
    const lease = await acquire({ ttl: MINUTE });
    await clock.pass(8 * HOUR);
    lease.check();
    await lease.confirm();
    expect((await written(lease.id)).renewal).to.equal((8 * HOUR) / (20 * SECOND));
  });

  it('keeps only purges away once it is weakened, also in later renewals', async () => {
    const lease = await acquire();
    await lease.listed();
    expect(await written(lease.id)).to.include({ blocks: 'purge', renewal: 2 });
    await clock.pass(5 * MINUTE);
    expect(await written(lease.id)).to.include({ blocks: 'purge', renewal: 7 });
  });

  describe('that was frozen, or whose clock is wrong', () => {
    const nine = 0.9 * HOUR;
    const leaps: [string, number, number, boolean][] = [
      ['stopped for nine tenths of its TTL', nine, nine, true],
      ['stopped for a little less', nine - 1, nine - 1, false],
      ['suspended, which the monotonic clock does not see', 0, nine, true],
      ['suspended for less', 0, nine - MINUTE, false],
      ['whose wall clock stood still', nine, 0, true],
      ['whose wall clock went back 30 days while it was stopped', nine, -30 * DAY, true],
      ['whose wall clock leapt 30 days', 0, 30 * DAY, true],
      ['whose wall clock went back 30 days', 0, -30 * DAY, false],
    ];
    for (const [what, mono, wall, isLost] of leaps) {
      it(`${what}, ${isLost ? 'finds out before anything else' : 'goes on'}`, async () => {
        const lease = await acquire();
        clock.leap(mono, wall);
        if (isLost) {
          const loss = lossOf(() => lease.check());
          expect([loss.code, loss.reason, loss.key]).to.deep.equal(['blocked', 'lease', lease.id]);
          expect(lease.signal.reason).to.equal(loss);
        } else lease.check();
        await clock.pass(10 * MINUTE);
        expect(lease.signal.aborted).to.equal(isLost);
        expect((await written(lease.id)).renewal).to.be.within(isLost ? 0 : 10, isLost ? 0 : 11);
      });
    }

    it('is lost for good, even when its clock goes back again', async () => {
      const lease = await acquire();
      clock.leap(0, 30 * DAY);
      const loss = lossOf(() => lease.check());
      clock.leap(0, -30 * DAY);
      expect(lossOf(() => lease.check())).to.equal(loss);
      expect(await lossIn(lease.confirm())).to.equal(loss);
      expect(await lossIn(lease.renew())).to.equal(loss);
      expect((await written(lease.id)).renewal).to.equal(0);
    });

    it('aborts its signal soon after it thaws, though nobody asks', async () => {
      const lease = await acquire();
      await clock.pass(90 * SECOND);
      clock.leap(0, 2 * HOUR);
      await clock.pass(16 * SECOND);
      expect(lease.signal.reason).to.be.instanceOf(LeaseLost);
      expect((await written(lease.id)).renewal).to.equal(1);
    });
  });

  describe('whose renewal goes wrong', () => {
    it('lands late: it never revives the lease, which was lost meanwhile', async () => {
      let answer: (() => void) | undefined;
      const stalled = new Promise<void>((resolve) => {
        answer = resolve;
      });
      const slow = through(async (real, ...args) => {
        const outcome = await real(...args);
        await stalled;
        return outcome;
      });
      const lease = await acquire({}, slow);
      await clock.pass(0.9 * HOUR - 1);
      expect(lease.signal.aborted).to.equal(false);
      await clock.pass(1);
      expect(lease.signal.aborted, 'while the renewal is still under way').to.equal(true);
      answer?.();
      await clock.pass(MINUTE);
      expect((await written(lease.id)).renewal).to.equal(1);
      lossOf(() => lease.check());
      await lossIn(lease.renew());
    });

    it('was frozen between its beginning and its answer: what it wrote does not count', async () => {
      for (const when of ['before', 'after'] as const) {
        let isFrozen = false;
        const frozen = through(async (real, ...args) => {
          if (isFrozen && when === 'before') clock.leap(HOUR);
          const outcome = await real(...args);
          if (isFrozen && when === 'after') clock.leap(HOUR);
          return outcome;
        });
        const lease = await acquire({}, frozen);
        await clock.pass(MINUTE * 2.5);
        isFrozen = true;
        await lossIn(lease.renew());
        isFrozen = false;
        lossOf(() => lease.check());
        expect((await written(lease.id)).renewal).to.equal(3);
        await clock.pass(HOUR);
        expect((await written(lease.id)).renewal).to.equal(3);
      }
    });

    it('counts from when it began, not from its answer', async () => {
      let slowness = 30 * MINUTE;
      const slow = through(async (real, ...args) => {
        const outcome = await real(...args);
        clock.leap(slowness);
        return outcome;
      });
      const lease = await acquire({}, slow);
      await lease.renew();
      slowness = 0;
      clock.leap(24 * MINUTE - 1);
      lease.check();
      clock.leap(1);
      lossOf(() => lease.check());
    });

    it('is answered too long after the last that counted: it does not count, however short it was', async () => {
      let isFailing = true;
      const slow = through(async (real, ...args) => {
        if (isFailing) throw EIO();
        const outcome = await real(...args);
        clock.leap(20 * MINUTE); // and nobody else had a turn
        return outcome;
      });
      const lease = await acquire({}, slow);
      await clock.pass(40 * MINUTE);
      lease.check();
      isFailing = false;
      await lossIn(lease.renew());
      expect(lease.signal.aborted).to.equal(true);
    });

    it('is tried again while there is time', async () => {
      let failures = 0;
      const flaky = through(async (real, ...args) => {
        if (clock.mono >= MINUTE && clock.mono < 20 * MINUTE) {
          failures++;
          throw EIO();
        }
        return real(...args);
      });
      const lease = await acquire({}, flaky);
      await clock.pass(21 * MINUTE);
      lease.check();
      expect(failures).to.be.greaterThan(19);
      expect((await written(lease.id)).renewal).to.equal(failures + 2);
      await clock.pass(2 * HOUR);
      lease.check();
    });

    it('is lost when that goes on for nine tenths of a TTL, and says what went wrong', async () => {
      const lease = await acquire(
        { ttl: 10 * MINUTE },
        through(async () => {
          throw EIO();
        }),
      );
      await clock.pass(9 * MINUTE - 1);
      expect(lease.signal.aborted).to.equal(false);
      await clock.pass(1);
      expect(lease.signal.aborted).to.equal(true);
      expect(lossOf(() => lease.check()).message).to.match(/9m have passed without a renewal.*EIO/);
    });

    it('goes on from a renewal that was written, though the answer was an error', async () => {
      let isLossy = true;
      const lossy = through(async (real, ...args) => {
        const outcome = await real(...args);
        if (isLossy) throw EIO();
        return outcome;
      });
      const lease = await acquire({}, lossy);
      await clock.pass(10 * MINUTE);
      lease.check();
      isLossy = false;
      await lease.renew();
      await lease.confirm();
      await clock.pass(3 * HOUR);
      lease.check();
    });

    it('an answer that was an error does not count, whatever was written', async () => {
      const lossy = through(async (real, ...args) => {
        await real(...args);
        throw EIO();
      });
      const lease = await acquire({}, lossy);
      await clock.pass(0.9 * HOUR);
      lossOf(() => lease.check());
    });

    it('takes one that landed after its error for its own', async () => {
      let late: (() => Promise<unknown>) | undefined;
      const lossy = through(async (real, ...args) => {
        if (late === undefined) {
          late = async () => real(...args);
          throw EIO();
        }
        return real(...args);
      });
      const lease = await acquire({}, lossy);
      const renewed = lease.renew();
      await clock.pass(0);
      await late?.();
      expect(await written(lease.id)).to.have.property('renewal', 1);
      await lease.confirm();
      await clock.pass(SECOND);
      await renewed;
      expect(await written(lease.id)).to.have.property('renewal', 3);
    });
  });

  describe('whose lease is no longer its own', () => {
    const ends: [string, RegExp, (id: string) => Promise<void> | void][] = [
      ['was removed', /is gone/, (id) => rmSync(file(id))],
      ['was emptied', /was changed/, (id) => writeFileSync(file(id), '')],
      [
        'was cut short',
        /was changed/,
        (id) => writeFileSync(file(id), readFileSync(file(id)).subarray(0, 40)),
      ],
      [
        'has a number that is not its own',
        /was changed/,
        (id) => writeFileSync(file(id), readFileSync(file(id), 'utf8').replace('0000000000', '0000000009')),
      ],
      [
        'was broken',
        /took it as dead/,
        async (id) => markBroken(store.control, id, { by: 'x', reason: 'y', at: 'z' }),
      ],
    ];
    for (const [what, why, end] of ends) {
      it(`because it ${what}: lost with the next renewal, or at once when asked`, async () => {
        const asked = await acquire();
        await end(asked.id);
        expect((await lossIn(asked.confirm())).message).to.match(why);
        const lease = await acquire();
        await end(lease.id);
        lease.check();
        await clock.pass(MINUTE);
        expect(lossOf(() => lease.check()).message).to.match(why);
        expect(lease.signal.aborted).to.equal(true);
        await lease.release();
        expect(existsSync(file(lease.id))).to.equal(false);
      });
    }

    it('is lost by a renewal that somebody waits for, too', async () => {
      const lease = await acquire();
      rmSync(file(lease.id));
      expect((await lossIn(lease.listed())).message).to.include('is gone');
    });
  });

  it('renews one after the other, however many ask', async () => {
    let under = 0;
    let most = 0;
    const counted = through(async (real, ...args) => {
      most = Math.max(most, ++under);
      await clock.sleep(1);
      const outcome = await real(...args);
      under--;
      return outcome;
    });
    const lease = await acquire({}, counted);
    const asked = [lease.renew(), lease.listed(), lease.confirm(), lease.renew()];
    await clock.pass(10);
    await Promise.all(asked);
    expect(most).to.equal(1);
    expect((await written(lease.id)).renewal).to.equal(4);
  });

  it('removes what it may have written when that ended in an error', async () => {
    const control = new Proxy(store.control, {
      get: (target, property) => {
        const value: unknown = Reflect.get(target, property, target);
        if (typeof value !== 'function') return value;
        return async (...args: unknown[]): Promise<unknown> => {
          const result: unknown = await Reflect.apply(value, target, args);
          if (property === 'create') throw EIO();
          return result;
        };
      },
    });
    const error = await acquire({}, withControl(control)).catch((e: unknown) => e);
    expect(String(error)).to.include('EIO');
    expect(readdirSync(path.join(temp.root, '.tombstoned/leases'))).to.deep.equal([]);
  });

  it('says so when it can neither write its lease nor remove it', async () => {
    const control = new Proxy(store.control, {
      get: (target, property) => {
        if (property === 'create' || property === 'remove') {
          return async () => {
            throw EIO();
          };
        }
        const value: unknown = Reflect.get(target, property, target);
        return typeof value === 'function' ? value.bind(target) : value;
      },
    });
    const error = await acquire({}, withControl(control)).catch((e: unknown) => e);
    expect(String(error)).to.match(/EIO.*; and lease l-\S+ could not be removed: EIO/);
  });

  it('is not there where its creation was answered too late', async () => {
    const control = new Proxy(store.control, {
      get: (target, property) => {
        const value: unknown = Reflect.get(target, property, target);
        if (typeof value !== 'function') return value;
        return async (...args: unknown[]): Promise<unknown> => {
          const result: unknown = await Reflect.apply(value, target, args);
          if (property === 'create') clock.leap(HOUR);
          return result;
        };
      },
    });
    await lossIn(acquire({}, withControl(control)));
    expect(readdirSync(path.join(temp.root, '.tombstoned/leases'))).to.deep.equal([]);
  });
});
