import { expect } from 'chai';
import { parseKey } from '../../lib/domain/key.ts';
import { type Guards, guard, overLimit } from '../../lib/policy/policy.ts';
import type { LiveObject } from '../../lib/store/store.ts';
import { DAY, HOUR, NO_LIMITS, START } from '../support/place.ts';

describe('a limit', () => {
  const plan = { objects: 10, bytes: 1000, selected: 20 };

  it('that is null stops nothing', () => {
    expect(overLimit(NO_LIMITS, plan)).to.equal(null);
  });

  it('on objects, bytes or the fraction is over only beyond it', () => {
    const cases = [
      ['maxObjects', 10, 9],
      ['maxBytes', 1000, 999],
      ['maxFraction', 0.5, 0.49],
    ] as const;
    for (const [name, fits, over] of cases) {
      expect(overLimit({ ...NO_LIMITS, [name]: fits }, plan)).to.equal(null);
      expect(overLimit({ ...NO_LIMITS, [name]: over }, plan)).to.match(new RegExp(`${name} is ${over}`));
    }
  });

  it('of nothing at all lets nothing through', () => {
    expect(overLimit({ ...NO_LIMITS, maxObjects: 0 }, { ...plan, objects: 1 })).to.be.a('string');
    expect(overLimit({ ...NO_LIMITS, maxFraction: 0 }, { ...plan, objects: 1 })).to.be.a('string');
    expect(
      overLimit({ maxObjects: 0, maxBytes: 0, maxFraction: 0 }, { objects: 0, bytes: 0, selected: 0 }),
    ).to.equal(null);
  });
});

describe('a guard', () => {
  const guards: Guards = { minimumAge: HOUR, isProtected: (key) => key.endsWith('identity.meta') };
  const object: LiveObject = {
    type: 'object',
    key: parseKey('a/b.meta'),
    revision: { kind: 'local', size: 1, mtimeNs: 1n },
    size: 1,
    modifiedAt: START - DAY,
    refusal: null,
  };

  it('keeps nothing that is old, movable and not protected', () => {
    expect(guard(guards, object, START)).to.equal(null);
    expect(guard(guards, { ...object, modifiedAt: START - HOUR }, START)).to.equal(null);
  });

  it('keeps what is protected, can’t be moved, or is too young, and says which', () => {
    const identity = { ...object, key: parseKey('a/identity.meta'), refusal: 'it is stuck' };
    expect(guard(guards, identity, START)?.reason).to.equal('protected');
    expect(guard(guards, { ...object, refusal: 'it is stuck' }, START)).to.deep.equal({
      reason: 'error',
      detail: 'it is stuck',
    });
    for (const modifiedAt of [START - HOUR + 1, START, START + 100 * DAY]) {
      expect(guard(guards, { ...object, modifiedAt }, START)?.reason).to.equal('too-young');
    }
  });
});
