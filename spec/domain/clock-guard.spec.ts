import { expect } from 'chai';
import fc from 'fast-check';
import {
  accept,
  type ClockReading,
  type ClockRecord,
  firstRecord,
  goOn,
  judge,
  standingAt,
} from '../../lib/domain/clock-guard.ts';
import { DAY, HOUR, START } from '../support/place.ts';

const TOLERANCE = 300_000;
const YEAR = 365 * DAY;

const at = (sinceBoot: number, wall: number, boot = 'one'): ClockReading => ({ boot, sinceBoot, wall });

function looked(
  record: ClockRecord,
  reading: ClockReading,
  witness: 'ntp' | 'store' | null = null,
): ClockRecord {
  return judge(goOn(record, reading), reading, { tolerance: TOLERANCE, witness });
}

function isRight(record: ClockRecord, reading: ClockReading): boolean {
  return standingAt(goOn(record, reading), reading, TOLERANCE).isRight;
}

describe('a record of the clock', () => {
  const begun = looked(firstRecord(at(0, START), null), at(0, START));

  it('goes on with the time since boot, whatever the wall clock says', () => {
    for (const jump of [0, HOUR, -HOUR, 30 * DAY, -30 * DAY, 10 * YEAR, -10 * YEAR]) {
      const after = looked(begun, at(DAY, START + DAY + jump));
      expect(after.counted, String(jump)).to.equal(START + DAY);
      expect(after.wrongSince === null, String(jump)).to.equal(jump === 0);
    }
  });

  it('holds a clock for right that is off by the tolerance, and not by more, either way', () => {
    for (const side of [1, -1]) {
      expect(isRight(begun, at(HOUR, START + HOUR + side * TOLERANCE))).to.equal(true);
      expect(isRight(begun, at(HOUR, START + HOUR + side * (TOLERANCE + 1)))).to.equal(false);
    }
  });

  it('follows small steps of a clock for years', () => {
    let record = begun;
    for (let day = 1; day <= 1000; day++) record = looked(record, at(day * DAY, START + day * (DAY - 2000)));
    expect(record.wrongSince).to.equal(null);
    expect(record.counted).to.equal(START + 1000 * DAY);
  });

  it('says right again of a clock that is', () => {
    const jumped = looked(begun, at(HOUR, START + 30 * DAY));
    expect(jumped.wrongSince).to.equal(START + HOUR);
    expect(looked(jumped, at(2 * HOUR, START + 30 * DAY + HOUR)).wrongSince).to.equal(START + HOUR);
    const back = looked(jumped, at(3 * HOUR, START + 3 * HOUR));
    expect(back).to.include({ wrongSince: null, counted: START + 3 * HOUR, ahead: 0 });
  });

  it('counts nothing of the time between two boots, and doubts a clock that has gone on by more than the tolerance', () => {
    const soon = looked(begun, at(10_000, START + 200_000, 'two'));
    expect(soon).to.include({ counted: START, ahead: 200_000, wrongSince: null, isRestarted: false });
    for (const jump of [HOUR, -HOUR, 30 * DAY, -30 * DAY, 10 * YEAR, -10 * YEAR]) {
      const late = looked(begun, at(10_000, START + jump, 'two'));
      expect(late, String(jump)).to.include({ counted: START, wrongSince: START, isRestarted: true });
    }
  });

  it('believes NTP and the store after a start, and never of a jump while the machine ran', () => {
    for (const witness of ['ntp', 'store'] as const) {
      const late = looked(begun, at(10_000, START + DAY, 'two'), witness);
      expect(late, witness).to.include({ counted: START, ahead: DAY, wrongSince: null });
      const jumped = looked(begun, at(10_000, START + DAY), witness);
      expect(jumped.wrongSince, witness).to.equal(START + 10_000);
    }
  });

  it('counts what a machine was off for only where NTP had the clock right before and after', () => {
    const synced = looked(begun, at(HOUR, START + HOUR), 'ntp');
    const last = looked(synced, at(2 * HOUR, START + 2 * HOUR));
    expect(looked(last, at(0, START + 5 * DAY, 'two'), 'ntp').counted).to.equal(START + 5 * DAY - 60_000);
    expect(looked(last, at(0, START + 5 * DAY, 'two'), 'store').counted).to.equal(START + 2 * HOUR);
    expect(looked(begun, at(0, START + 5 * DAY, 'two'), 'ntp').counted).to.equal(START);
    const accepted = accept(last, at(2 * HOUR, START + 2 * HOUR));
    expect(looked(accepted, at(0, START + 5 * DAY, 'two'), 'ntp').counted).to.equal(START + 2 * HOUR);
  });

  it('takes a time since boot that goes back for another boot, but for a moment’s race', () => {
    const later = looked(begun, at(DAY, START + DAY));
    expect(goOn(later, at(DAY - 1000, START + DAY))).to.include({ counted: START + DAY, isRestarted: false });
    expect(goOn(later, at(1000, START + DAY))).to.include({ counted: START + DAY, isRestarted: true });
  });

  it('lets windows go on from what was counted when the clock is accepted', () => {
    const jumped = looked(begun, at(HOUR, START + 30 * DAY));
    const accepted = accept(jumped, at(HOUR, START + 30 * DAY));
    expect(accepted).to.include({ counted: START + HOUR, ahead: 30 * DAY - HOUR, wrongSince: null });
    expect(isRight(accepted, at(2 * HOUR, START + 30 * DAY + HOUR))).to.equal(true);
    expect(isRight(accepted, at(2 * HOUR, START + 2 * HOUR))).to.equal(false);
  });

  it('begins with the earlier of the clock and of what was seen before it', () => {
    expect(firstRecord(at(0, START + DAY), START)).to.include({ counted: START, ahead: DAY });
    const behind = firstRecord(at(0, START), START + DAY);
    expect(behind).to.include({ counted: START, ahead: DAY });
    expect(isRight(behind, at(0, START))).to.equal(false);
  });

  it('never counts more than has truly passed, whatever happens to the clock', () => {
    const step = fc.oneof(
      fc.record({ what: fc.constant('pass' as const), ms: fc.nat(10 * DAY) }),
      fc.record({ what: fc.constant('off' as const), ms: fc.nat(60 * DAY) }),
      fc.record({ what: fc.constant('jump' as const), ms: fc.integer({ min: -10 * YEAR, max: 10 * YEAR }) }),
      fc.record({
        what: fc.constantFrom('right' as const, 'accept' as const, 'look' as const),
        ms: fc.constant(0),
      }),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), fc.boolean(), (steps, hasNtp) => {
        let [truth, wrong, sinceBoot, boot] = [START, 0, 0, 1];
        let record = firstRecord(at(0, START, '1'), null);
        const begin = record.counted;
        for (const { what, ms } of steps) {
          if (what === 'right') wrong = 0;
          else if (what === 'jump') wrong += ms;
          else truth += ms;
          if (what === 'pass') sinceBoot += ms;
          if (what === 'off') [sinceBoot, boot] = [0, boot + 1];
          const reading = at(sinceBoot, truth + wrong, String(boot));
          const before = record.counted;
          if (what === 'accept') record = accept(goOn(record, reading), reading);
          else record = looked(record, reading, hasNtp && Math.abs(wrong) < 1000 ? 'ntp' : null);
          expect(record.counted - begin).to.be.at.most(truth - START);
          expect(record.counted).to.be.at.least(before);
        }
      }),
      { numRuns: 500 },
    );
  });
});
