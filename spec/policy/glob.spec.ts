import { expect } from 'chai';
import { matcher } from '../../lib/policy/glob.ts';

const CASES: [glob: string, matches: string[], others: string[]][] = [
  ['*', ['a', '.hidden', 'a b', 'new\nline', '~', '-rf'], ['a/b']],
  ['**', ['a', 'a/b/c', '.a/.b', 'new\nline', 'a/new\nline/b', 'a\u2028b', '..a/b', 'back\\slash'], []],
  ['*.meta', ['a.meta', '.meta', 'a.b.meta'], ['a.metas', 'a/b.meta', 'a.META', 'meta']],
  ['**/*.meta', ['a.meta', 'a/b.meta', '.a/.b.meta', 'a/new\nline.meta'], ['a.meta/b']],
  ['**/identity.meta', ['identity.meta', 'a/b/identity.meta', 'a\nb/identity.meta'], ['a/xidentity.meta']],
  ['logs/**', ['logs/a', 'logs/a/b', 'logs/.a'], ['logs2/a', 'a/logs/b', 'Logs/a']],
  ['logs/*', ['logs/a', 'logs/.a'], ['logs/a/b', 'logs']],
  ['a?c', ['abc', 'a.c', 'a\nc'], ['a/c', 'ac', 'abbc']],
  ['[ab]-{one,two}', ['a-one', 'b-two'], ['c-one', 'a-three']],
  ['!a', ['!a'], ['b']],
  ['epoch_*/x', ['epoch_1/x', 'epoch_/x'], ['epoch_1/2/x']],
];

describe('a glob', () => {
  for (const [glob, matches, others] of CASES) {
    it(`${glob} stops at slashes or not, sees names with a dot, and keeps to case`, () => {
      const isMatch = matcher([glob]);
      for (const key of matches) expect(isMatch(key), `${JSON.stringify(key)} matches`).to.equal(true);
      for (const key of others) expect(isMatch(key), `${JSON.stringify(key)} does not`).to.equal(false);
    });
  }

  it('is one of several: any of them is enough, and none of none', () => {
    const isMatch = matcher(['*.meta', 'logs/**']);
    expect(['a.meta', 'logs/a', 'b'].map((key) => isMatch(key))).to.deep.equal([true, true, false]);
    expect(matcher([])('a')).to.equal(false);
  });
});
