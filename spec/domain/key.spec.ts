import { expect } from 'chai';
import fc from 'fast-check';
import { TombstonedError } from '../../lib/domain/errors.ts';
import {
  asKey,
  compareKeys,
  isBelowPrefix,
  keyProblem,
  parseKey,
  prefixesOverlap,
  printable,
  quote,
} from '../../lib/domain/key.ts';
import { anyKey, anyText } from './arbitraries.ts';

describe('a key', () => {
  const good = [
    'a',
    'metadata/a.meta',
    '.hidden',
    '...',
    'a/..b/c..',
    '.tombstonedx/a',
    'a.tombstoned',
    '-rf',
    '~',
    'a~20261122T101500123Z-k3v0q8tzm2xj4d',
    'line\nbreak\ttab\u0001',
    ' ',
    'a b ',
    'a\\b',
    'C:',
    'é/日本/\u{1f600}',
    'pending_deletion/a',
  ];
  for (const text of good) {
    it(`may be ${JSON.stringify(text)}`, () => {
      expect(keyProblem(text)).to.equal(undefined);
      expect(asKey(text)).to.equal(text);
      expect(parseKey(text)).to.equal(text);
    });
  }

  const bad: [text: string, problem: string][] = [
    ['', 'is empty'],
    ['/', 'is absolute'],
    ['/a', 'is absolute'],
    ['a/', 'has an empty segment'],
    ['a//b', 'has an empty segment'],
    ['.', 'has a "." segment'],
    ['a/./b', 'has a "." segment'],
    ['..', 'has a ".." segment'],
    ['../a', 'has a ".." segment'],
    ['a/..', 'has a ".." segment'],
    ['.tombstoned', 'has a ".tombstoned" segment'],
    ['.tombstoned/holds/a', 'has a ".tombstoned" segment'],
    ['a/.tombstoned/b', 'has a ".tombstoned" segment'],
    ['a\0b', 'contains a NUL'],
    ['a\ud800', 'is not valid Unicode'],
    ['\udc00/a', 'is not valid Unicode'],
  ];
  for (const [text, problem] of bad) {
    it(`may not be ${JSON.stringify(text)}: it ${problem}`, () => {
      expect(keyProblem(text)).to.equal(problem);
      expect(asKey(text)).to.equal(undefined);
      expect(() => parseKey(text))
        .to.throw(TombstonedError, problem)
        .that.includes({ code: 'usage', key: text });
    });
  }

  it('that is refused is quoted in one line', () => {
    const message = (text: string): string => {
      try {
        return parseKey(text);
      } catch (error) {
        return (error as Error).message;
      }
    };
    expect(message('../a')).to.equal('"../a" is not a key: it has a ".." segment');
    expect(message('a/"')).to.equal('a/"');
    expect(message('/a"')).to.equal('"/a"" is not a key: it is absolute');
    expect(message('"/')).to.equal('"\\"/" is not a key: it has an empty segment');
    expect(message('/a\nb')).to.equal('"/a\\nb" is not a key: it is absolute');
  });
});

describe('a prefix', () => {
  it('is a plain prefix of the key, not a directory', () => {
    expect(isBelowPrefix('logs/a', 'logs/')).to.equal(true);
    expect(isBelowPrefix('logs2/a', 'logs')).to.equal(true);
    expect(isBelowPrefix('logs', 'logs/')).to.equal(false);
    expect(isBelowPrefix('Logs/a', 'logs/')).to.equal(false);
    expect(isBelowPrefix('a', 'a')).to.equal(true);
    expect(isBelowPrefix('a', '')).to.equal(true);
  });

  const related = fc
    .tuple(anyText, anyText, fc.nat(8))
    .map(
      ([text, other, cut]) =>
        [text, `${Array.from(text).slice(0, cut).join('')}${cut % 2 ? '' : other}`] as const,
    );

  it('of characters is the prefix of bytes', () => {
    fc.assert(
      fc.property(related, ([key, prefix]) => {
        const [bytes, start] = [Buffer.from(key), Buffer.from(prefix)];
        expect(isBelowPrefix(key, prefix)).to.equal(bytes.subarray(0, start.length).equals(start));
      }),
    );
  });

  it('overlaps another exactly when some key is below both', () => {
    fc.assert(
      fc.property(related, ([a, b]) => {
        const longer = Buffer.byteLength(a) >= Buffer.byteLength(b) ? a : b;
        const isShared = isBelowPrefix(longer, a) && isBelowPrefix(longer, b);
        expect(prefixesOverlap(a, b)).to.equal(isShared);
        expect(prefixesOverlap(b, a)).to.equal(isShared);
      }),
    );
  });

  it('that is empty overlaps all', () => {
    expect(prefixesOverlap('', 'a/')).to.equal(true);
    expect(prefixesOverlap('a/', 'b/')).to.equal(false);
  });
});

describe('keys are sorted', () => {
  it('as bytes, where UTF-16 would say otherwise', () => {
    const keys = ['\u{1f600}', '\uff5e', 'é', 'b', 'a/b', 'a', 'B', 'a-b', 'a0'];
    expect(keys.toSorted(compareKeys)).to.deep.equal([
      'B',
      'a',
      'a-b',
      'a/b',
      'a0',
      'b',
      'é',
      '\uff5e',
      '\u{1f600}',
    ]);
  });

  it('in the order of their code points, which is that of UTF-8', () => {
    fc.assert(
      fc.property(anyKey, anyKey, (a, b) => {
        const [x, y] = [a, b].map((key) => Array.from(key, (c) => c.codePointAt(0) ?? -1));
        const at = x?.findIndex((point, i) => point !== y?.[i]) ?? -1;
        const order = at < 0 ? a.length - b.length : (x?.[at] ?? -1) - (y?.[at] ?? -1);
        expect(Math.sign(compareKeys(a, b))).to.equal(Math.sign(order));
      }),
    );
  });
});

describe('text for people', () => {
  const unprintable = /[\p{Cc}\p{Cs}\p{Bidi_Control}\u2028\u2029]/u;

  it('is what it was where that does no harm', () => {
    for (const text of ['a/b.meta', 'a b', 'é日本\u{1f600}', "it's", 'a"b', 'a\\u0000', '']) {
      expect(printable(text)).to.equal(text);
    }
  });

  it('is a JSON string where it would upset a terminal', () => {
    expect(printable('a\nb')).to.equal('"a\\nb"');
    expect(printable('\u001b[2J')).to.equal('"\\u001b[2J"');
    expect(printable('a\u007f\u009b')).to.equal('"a\\u007f\\u009b"');
    expect(printable('a\u202egnp.exe')).to.equal('"a\\u202egnp.exe"');
    expect(printable('\u2066\u200f\u061c')).to.equal('"\\u2066\\u200f\\u061c"');
    expect(printable('\u2028\ud800')).to.equal('"\\u2028\\ud800"');
    expect(printable('"a"')).to.equal('"\\"a\\""');
  });

  it('never has such a character, and can be read back', () => {
    const nasty = fc.constantFrom(
      '\n',
      '\r',
      '\u001b',
      '\u0085',
      '\u202e',
      '\u200e',
      '"',
      '\\',
      '\ud800',
      '\u2029',
    );
    const unit = fc.oneof(nasty, fc.string({ unit: 'binary', minLength: 1, maxLength: 1 }));
    fc.assert(
      fc.property(fc.string({ unit }), (text) => {
        const shown = printable(text);
        expect(shown).not.to.match(unprintable);
        expect(shown.startsWith('"') ? JSON.parse(shown) : shown).to.equal(text);
      }),
    );
  });

  it('stands in quotes, once', () => {
    expect(quote('a')).to.equal('"a"');
    expect(quote('')).to.equal('""');
    expect(quote('a\n')).to.equal('"a\\n"');
    expect(quote('"a')).to.equal('"\\"a"');
    expect(quote('a"')).to.equal('"a""');
  });
});
