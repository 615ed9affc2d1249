import Database from 'better-sqlite3';
import { expect } from 'chai';
import fc from 'fast-check';
import { standingOf } from '../../lib/app/kept.ts';
import { NO_CLAIMS } from '../../lib/app/standing-claims.ts';
import { storeStatus } from '../../lib/app/status.ts';
import { storeConfigFromUrl } from '../../lib/config/store-url.ts';
import { makePlainId } from '../../lib/domain/ids.ts';
import { refreshHolds } from '../../lib/run/batch.ts';
import { keepersOf } from '../../lib/run/claims.ts';
import type { Place } from '../../lib/run/place.ts';
import { createHold } from '../../lib/store/holds.ts';
import { allTombstones, bringBack, FAST, purgeDue, readThrough, sweepOld } from '../support/phases.ts';
import { age, DAY, type DrivenClock, HOUR, seeded, TempPlace } from '../support/place.ts';

const YEAR = 365 * DAY;
const JUMPS = [HOUR, -HOUR, 30 * DAY, -30 * DAY, 10 * YEAR, -10 * YEAR];

describe('a clock that is wrong', () => {
  let temp: TempPlace;
  let clock: DrivenClock;
  let place: Place;

  beforeEach(async () => {
    temp = await TempPlace.make(FAST);
    clock = temp.clock;
    place = temp.open();
  });
  afterEach(() => temp.remove());

  /** The only tombstone, of an object that was moved just now. */
  async function tombstoned(key = 'a') {
    temp.write(key, `content of ${key}`, 2 * DAY);
    expect((await sweepOld(place)).moved).to.equal(1);
  }

  async function failure(work: Promise<unknown>): Promise<unknown> {
    return work.then(
      () => undefined,
      (error: unknown) => error,
    );
  }

  async function expectStopped(): Promise<void> {
    expect(await failure(purgeDue(place))).to.include({ code: 'blocked', reason: 'clock' });
    expect(temp.live('a') ?? (await readThrough(place, 'a'))).to.equal('content of a');
  }

  /** Purges just before a time has truly passed, and then; nothing goes before. */
  async function goesAfter(left: number): Promise<void> {
    clock.advance(left - 1);
    expect((await purgeDue(place)).due).to.equal(0);
    clock.advance(1);
    expect((await purgeDue(place)).purged).to.equal(1);
  }

  /** What was reported of the clock. */
  function said(): string[] {
    return temp.talk.filter((line) => /clock/.test(line));
  }

  for (const jump of JUMPS) {
    const name = `${jump < 0 ? '-' : '+'}${Math.abs(jump) / HOUR} h`;

    it(`stops purges at a jump of ${name} while the machine runs, until it is right again; windows go on meanwhile`, async () => {
      await tombstoned();
      clock.advance(HOUR);
      clock.wall += jump;
      await expectStopped();
      clock.advance(DAY);
      await expectStopped();
      clock.wall -= jump;
      await goesAfter(temp.window - DAY - HOUR);
      expect(said()).to.have.length(2);
    });

    it(`stops purges at a jump of ${name} across a start of the machine, and counts nothing of it`, async () => {
      await tombstoned();
      clock.restart(jump);
      await expectStopped();
      clock.advance(temp.window);
      await expectStopped();
      clock.wall -= jump;
      expect((await purgeDue(place)).purged).to.equal(1);
    });

    it(`ends no window early when a jump of ${name} is accepted`, async () => {
      await tombstoned();
      clock.advance(HOUR);
      clock.wall += jump;
      await expectStopped();
      place.catalog.transaction(() => place.catalog.clock.accept(clock));
      await goesAfter(temp.window - HOUR);
    });

    it(`makes nothing due early that was tombstoned while it was off by ${name}`, async () => {
      await tombstoned('before');
      clock.wall += jump;
      temp.write('a', 'content of a', 20 * YEAR);
      expect((await sweepOld(place)).moved).to.equal(1);
      clock.advance(HOUR);
      clock.wall -= jump;
      clock.advance(temp.window - HOUR - 1000);
      expect((await purgeDue(place)).purged).to.equal(0);
      clock.advance(1000);
      expect((await purgeDue(place)).purged).to.equal(2);
    });

    it(`makes nothing due early that was restored while it was off by ${name}`, async () => {
      await tombstoned();
      clock.wall += jump;
      await bringBack(place, allTombstones(place));
      clock.wall -= jump;
      await goesAfter(temp.window);
    });
  }

  it('stops a purge in its middle, after the batches that were under way', async () => {
    for (let i = 0; i < 1001; i++) temp.write(`many/${i}`, 'x', 2 * DAY);
    await sweepOld(place);
    clock.advance(temp.window);
    let purged = 0;
    const jumping = purgeDue(place, {
      onPurged: () => {
        if (++purged === 1) clock.wall += 30 * DAY;
      },
    });
    expect(await failure(jumping)).to.include({ code: 'blocked', reason: 'clock' });
    expect(purged).to.equal(1000); // one was recorded, and one removed
    clock.wall -= 30 * DAY;
    expect((await purgeDue(place)).purged).to.equal(1);
  });

  it('is none that a machine was suspended for, that NTP steps a little, or that is in another time zone', async () => {
    await tombstoned();
    clock.suspend(3 * DAY);
    expect((await purgeDue(place)).due).to.equal(0);
    clock.wall += 2000;
    expect((await purgeDue(place)).due).to.equal(0);
    clock.wall -= 4000;
    await goesAfter(temp.window - 3 * DAY);
    expect(said()).to.deep.equal([]);
  });

  it('is none after a short restart; what the machine was off for is not counted', async () => {
    await tombstoned();
    clock.advance(DAY);
    await purgeDue(place);
    clock.restart(4 * 60_000);
    expect((await purgeDue(place)).due).to.equal(0);
    await goesAfter(temp.window - DAY);
    expect(said()).to.deep.equal([]);
  });

  it('is believed after a long time off when NTP says so, which is counted when NTP had it right before', async () => {
    clock.synced = true;
    await tombstoned();
    clock.restart(temp.window - DAY);
    clock.synced = false;
    await expectStopped();
    clock.synced = true;
    expect((await purgeDue(place)).due).to.equal(0);
    await goesAfter(DAY + 60_000);
  });

  it('is believed after a long time off when the store’s clock agrees, unless that is the same machine’s', async () => {
    await tombstoned();
    clock.restart(DAY);
    const late = { for: 0, time: async () => clock.now(), isQuiet: () => true };
    Object.assign(place.store, { late: { ...late, isHere: true } });
    expect(await failure(purgeDue(place))).to.include({ reason: 'clock' });
    Object.assign(place.store, { late });
    expect((await purgeDue(place)).due).to.equal(0);
    await goesAfter(temp.window);
  });

  it('stops the purges of a store whose own clock is another, until they agree or somebody accepts it', async () => {
    await tombstoned();
    let ahead = 0;
    const late = {
      for: 0,
      time: async () => Math.floor((clock.now() - ahead) / 1000) * 1000,
      isQuiet: () => true,
    };
    Object.assign(place.store, { late });
    for (const by of [300_000, -300_000]) {
      ahead = by;
      expect((await purgeDue(place)).due, String(by)).to.equal(0);
    }
    for (const by of [302_000, -302_000]) {
      ahead = by;
      const error = await failure(purgeDue(place));
      expect(error, String(by)).to.include({ code: 'blocked', reason: 'clock' });
      expect(String(error)).to.match(/the clock is 5m( \ds)? (ahead of|behind) the store's/);
      ahead = 0;
      expect((await purgeDue(place)).due).to.equal(0);
    }
    ahead = HOUR;
    expect(await failure(purgeDue(place))).to.include({ reason: 'clock' });
    expect(standing()).to.include('clock');
    place.catalog.clock.noteStore(place.row.n, { accepted: HOUR, off: null });
    await goesAfter(temp.window);
  });

  /** Why the first tombstone is kept. */
  function standing(): string[] {
    const settings = { safetyWindow: temp.window, clock, claims: NO_CLAIMS };
    const [one] = standingOf(place.catalog, place.row, settings, allTombstones(place));
    return one?.kept.map(({ reason }) => reason) ?? [];
  }

  it('is told as a reason of what is kept, and by the status', async () => {
    await tombstoned();
    clock.advance(temp.window);
    expect(standing()).to.deep.equal([]);
    clock.wall += 30 * DAY;
    expect(standing()).to.deep.equal(['clock']);
    const config = { ...storeConfigFromUrl(`file://${temp.root}`), name: 'spec', safetyWindow: temp.window };
    const status = storeStatus(place.catalog, { config, row: place.row }, undefined, clock);
    expect(status.due).to.equal(1);
    expect([...status.kept]).to.deep.equal([['clock', 1]]);
    const now = new Date(clock.wall).toISOString();
    expect(status.clock).to.equal(`the clock says ${now}, and was set 30d forward while this machine ran`);
  });

  it('is shown with the times that windows really end at, once it is accepted', async () => {
    await tombstoned();
    clock.wall += 30 * DAY;
    place.catalog.transaction(() => place.catalog.clock.accept(clock));
    const settings = { safetyWindow: temp.window, clock, claims: NO_CLAIMS };
    const [one] = standingOf(place.catalog, place.row, settings, allTombstones(place));
    expect(one?.dueAt).to.equal(clock.wall + temp.window);
    expect(one?.purgeAfter).to.equal(clock.wall + temp.window);
  });

  it('makes nothing seem old to a sweep, and ends no exemption', async () => {
    temp.write('a', 'content of a', HOUR);
    temp.write('b', 'content of b', 2 * DAY);
    await sweepOld(place);
    await bringBack(place, allTombstones(place), { exemptFor: 5 * DAY });
    clock.wall += 30 * DAY;
    expect((await sweepOld(place)).planned).to.equal(0);
    clock.wall -= 60 * DAY;
    expect((await sweepOld(place)).planned).to.equal(0);
  });

  it('dates no tombstone', async () => {
    const right: number[] = [];
    for (const jump of [0, ...JUMPS, 0]) {
      clock.advance(HOUR);
      right.push(clock.wall);
      clock.wall += jump;
      temp.write(`at ${jump}`, 'x', 20 * YEAR);
      await sweepOld(place);
      clock.wall -= jump;
    }
    const dates = allTombstones(place).map(({ tombstonedAt }) => tombstonedAt);
    expect(dates).to.have.length(right.length);
    for (const [i, date] of dates.entries()) expect(date).to.be.within(right[i] ?? 0, (right[i] ?? 0) + 1000);
  });

  it('ends no hold early', async () => {
    await tombstoned();
    clock.advance(temp.window);
    await createHold(place.store.control, {
      id: makePlainId('h', clock.wall, seeded(3)),
      kind: 'hold',
      blocks: 'sweep',
      scope: { by: 'prefix', prefix: '' },
      until: clock.wall + DAY,
      reason: 'audit',
      by: 'a@b',
      host: 'b',
      createdAt: new Date(clock.wall).toISOString(),
      problem: null,
    });
    await refreshHolds(place);
    const keeping = (): number => keepersOf(place, [], allTombstones(place), 'purge').size;
    clock.wall += 2 * DAY;
    expect(keeping()).to.equal(1);
    clock.wall -= 2 * DAY;
    clock.advance(DAY);
    expect(keeping()).to.equal(0);
  });

  it('is seen by all processes that use the catalog, and told by the first', async () => {
    await tombstoned();
    const other = temp.open({ seed: 9 });
    clock.wall += DAY;
    await expectStopped();
    expect(await failure(purgeDue(other))).to.include({ code: 'blocked', reason: 'clock' });
    expect(said()).to.have.length(1);
    other.catalog.transaction(() => other.catalog.clock.accept(clock));
    expect((await purgeDue(place)).due).to.equal(0);
  });

  it('never keeps anybody from reading or restoring', async () => {
    await tombstoned();
    clock.wall += 30 * DAY;
    await expectStopped();
    expect(await readThrough(place, 'a')).to.equal('content of a');
    expect((await bringBack(place, allTombstones(place)))[0]?.outcome).to.equal('restored');
  });

  it('purges nothing before a full window of true time, whatever happens', async function () {
    this.timeout(240_000);
    const step = fc.oneof(
      { weight: 3, arbitrary: fc.record({ what: fc.constant('pass' as const), ms: fc.nat(4 * DAY) }) },
      { weight: 1, arbitrary: fc.record({ what: fc.constant('suspend' as const), ms: fc.nat(4 * DAY) }) },
      { weight: 1, arbitrary: fc.record({ what: fc.constant('off' as const), ms: fc.nat(20 * DAY) }) },
      {
        weight: 2,
        arbitrary: fc.record({
          what: fc.constantFrom('jump' as const, 'jump-off' as const),
          ms: fc.oneof(fc.constantFrom(...JUMPS), fc.integer({ min: -9 * DAY, max: 9 * DAY })),
        }),
      },
      {
        weight: 6,
        arbitrary: fc.record({
          what: fc.constantFrom('sweep' as const, 'purge' as const, 'right' as const, 'accept' as const),
          ms: fc.constant(0),
        }),
      },
      { weight: 3, arbitrary: fc.record({ what: fc.constant('purge' as const), ms: fc.constant(0) }) },
    );
    let purges = 0;
    await fc.assert(
      fc.asyncProperty(
        fc.array(step, { minLength: 10, maxLength: 40 }),
        fc.boolean(),
        async (steps, hasNtp) => {
          const own = await TempPlace.make(FAST);
          try {
            let truth = 0;
            let wrong = 0;
            let count = 0;
            const gone = new Map<string, number>();
            const at = own.open();
            const { clock: driven } = own;
            for (const { what, ms } of [
              ...steps,
              { what: 'accept', ms: 0 },
              { what: 'pass', ms: 8 * DAY },
              { what: 'purge', ms: 0 },
            ]) {
              if (what === 'pass' || what === 'suspend' || what === 'off') truth += ms;
              if (what === 'jump' || what === 'jump-off') wrong += ms;
              if (what === 'pass') driven.advance(ms);
              else if (what === 'suspend') driven.suspend(ms);
              else if (what === 'off') driven.restart(ms);
              else if (what === 'jump') driven.wall += ms;
              else if (what === 'jump-off') driven.restart(ms);
              else if (what === 'accept') at.catalog.transaction(() => at.catalog.clock.accept(driven));
              else if (what === 'right') {
                driven.wall -= wrong;
                wrong = 0;
              }
              driven.synced = hasNtp && wrong === 0;
              if (what === 'sweep') {
                own.write(`k${++count}`, 'x', 40 * YEAR);
                await sweepOld(at, { policies: [age({ match: '**' })] });
                for (const { key, state } of allTombstones(at))
                  if (state === 'pending' && !gone.has(key)) gone.set(key, truth);
              } else if (what === 'purge') {
                const onPurged = ({ key }: { key: string }): void => {
                  purges++;
                  expect(truth - (gone.get(key) ?? Number.NaN), key).to.be.at.least(own.window);
                };
                const error = await failure(purgeDue(at, { onPurged }));
                if (error !== undefined) expect(error).to.include({ code: 'blocked', reason: 'clock' });
              }
            }
          } finally {
            own.remove();
          }
        },
      ),
      { numRuns: 12, endOnFailure: true },
    );
    expect(purges, 'purges in all').to.be.greaterThan(4);
  });
});

describe('the first look at a clock', () => {
  it('takes what is pending already by the time that was last seen', async () => {
    const temp = await TempPlace.make(FAST);
    try {
      const place = temp.open();
      temp.write('a', 'content of a', 2 * DAY);
      await sweepOld(place);
      const db = new Database(temp.catalogFile);
      db.exec('DELETE FROM clock');
      db.close();
      temp.clock.wall += 30 * DAY;
      expect((await purgeDue(place)).due).to.equal(0);
      temp.clock.advance(temp.window);
      expect((await purgeDue(place)).purged).to.equal(1);
    } finally {
      temp.remove();
    }
  });
});
