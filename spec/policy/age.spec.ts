import { expect } from 'chai';
import { parseKey } from '../../lib/domain/key.ts';
import { age, DAY, START } from '../support/place.ts';

describe('an age policy', () => {
  it('is about the keys below its prefix whose rest its glob matches', () => {
    const policy = age({ prefix: 'logs/', match: '**/*.meta' });
    const keys = ['logs/a.meta', 'logs/b/a.meta', 'logs/a.META', 'a.meta', 'logs/a', 'xlogs/a.meta', 'logs'];
    expect(keys.filter((key) => policy.selects(key))).to.deep.equal(['logs/a.meta', 'logs/b/a.meta']);
  });

  it('takes an empty prefix as everything, and one in the middle of a name as plain bytes', () => {
    expect(['a', 'b/c', '.d'].every((key) => age().selects(key))).to.equal(true);
    const middle = age({ prefix: 'logs/a', match: '*' });
    const keys = ['logs/a', 'logs/ab', 'logs/abc', 'logs/b', 'logs/ab/c'];
    expect(keys.filter((key) => middle.selects(key))).to.deep.equal(['logs/ab', 'logs/abc']);
    const deep = age({ prefix: 'logs/a', match: '**' });
    expect(['logs/a', 'logs/ab/c', 'logs/a/c', 'logs/b/c'].map((key) => deep.selects(key))).to.deep.equal([
      true,
      true,
      true,
      false,
    ]);
  });

  it('names what is as old as it says, to the millisecond, and nothing from the future', () => {
    const policy = age({ olderThan: DAY });
    const ages = [DAY, DAY - 1, DAY + 1, 0, -DAY, -1e15];
    expect(
      ages.map((ms) => policy.isExpired({ key: parseKey('a'), modifiedAt: START - ms }, START)),
    ).to.deep.equal([true, false, true, false, false, false]);
    expect(age({ olderThan: 0 }).isExpired({ key: parseKey('a'), modifiedAt: START }, START)).to.equal(true);
  });

  it('takes each object by itself, or the first segment below its prefix as one', () => {
    expect(age({ prefix: 'a/' }).unitOf('a/b/c')).to.equal(null);
    const policy = age({ prefix: 'a/', unit: 'directory' });
    expect(['a/b/c', 'a/b/c/d', 'a/b'].map((key) => policy.unitOf(key))).to.deep.equal([
      'a/b/',
      'a/b/',
      'a/b',
    ]);
    const middle = age({ prefix: 'a/ep', unit: 'directory' });
    expect(['a/epoch1/x', 'a/ep'].map((key) => middle.unitOf(key))).to.deep.equal(['a/epoch1/', 'a/ep']);
  });
});
