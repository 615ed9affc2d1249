import { expect } from 'chai';
import fc from 'fast-check';
import { type Json, OtherNumber, parseJson } from '../../lib/aptos/exact-json.ts';
import { MOST } from './lines.ts';

describe('JSON with exact numbers', () => {
  it('has every unsigned 64-bit number as it is written', () => {
    for (const n of [0n, 1n, 2n ** 53n - 1n, 2n ** 53n, 2n ** 53n + 1n, MOST])
      expect(parseJson(` ${n}\t`)).to.equal(n);
  });

  it('keeps other numbers by their text: negative, with a fraction or exponent, too large', () => {
    for (const text of ['-1', '-0', '5.0', '1e3', '1E+3', `${MOST + 1n}`, '9'.repeat(1000), '0.1'])
      expect(parseJson(text)).to.deep.equal(new OtherNumber(text));
  });

  it('is read as JSON.parse reads it', () => {
    fc.assert(
      fc.property(fc.json({ maxDepth: 4 }), (text) => {
        expect(plain(parseJson(text))).to.deep.equal(JSON.parse(text));
      }),
      { numRuns: 300 },
    );
  });

  it('is refused where JSON.parse refuses it, whatever character of it goes, comes or changes', () => {
    const json = fc.json({ maxDepth: 3 });
    const character = fc.constantFrom(...'{}[]",:\\0-+.eEnu \t\n\r\u0000\u00a0x'.split(''));
    fc.assert(
      fc.property(json, fc.nat(), fc.nat(1), character, (text, at, taken, put) => {
        const place = at % (text.length + 1);
        const changed = text.slice(0, place) + put + text.slice(place + taken);
        const theirs = attempt(() => JSON.parse(changed));
        const ours = attempt(() => parseJson(changed));
        if (theirs === 'refused') expect(ours).to.equal('refused');
        // What only we refuse: a name that is there twice, and half a character.
        else if (ours === 'refused') expect(changed).to.match(/"|\\u/);
      }),
      { numRuns: 1000 },
    );
  });

  it('is refused with a name that is there twice, however it is written', () => {
    expect(() => parseJson('{"a":1,"b":{"c":1,"\\u0063":2}}')).to.throw('"c" is there twice');
    expect(() => parseJson('{"__proto__":1,"__proto__":2}')).to.throw('"__proto__" is there twice');
  });

  it('is refused with half a character', () => {
    expect(() => parseJson('"\\ud800"')).to.throw('no JSON text');
  });

  it('is refused when it is nested deeper than the tools read', () => {
    const nested = (depth: number) => `${'['.repeat(depth)}${']'.repeat(depth)}`;
    expect(parseJson(nested(129))).to.be.an('array');
    expect(() => parseJson(nested(130))).to.throw('nested deeper than 128');
    expect(() => parseJson('['.repeat(1_000_000))).to.throw('nested deeper than 128');
    expect(() => parseJson('{"a":'.repeat(1_000_000))).to.throw('nested deeper than 128');
  });

  it('is refused when it has more values than memory is for', () => {
    expect(() => parseJson(`[${'0,'.repeat(2_000_001)}0]`)).to.throw('more than 2000000 values');
  });

  it('is refused by where it goes wrong', () => {
    expect(() => parseJson('{"a":1} {"b":2}')).to.throw('unexpected "{" at character 9');
    expect(() => parseJson('{"a":01}')).to.throw('unexpected "1" at character 7');
    expect(() => parseJson('{"a" 1}')).to.throw('unexpected "1" at character 6');
    for (const cut of ['', '{', '{"a', '{"a"', '{"a":', '[1', '[1,', '"\\'])
      expect(() => parseJson(cut), cut).to.throw('ends in the middle');
  });
});

/** As JSON.parse would have it. */
function plain(value: Json): unknown {
  if (typeof value === 'bigint') return Number(value);
  if (value instanceof OtherNumber) return Number(value.text);
  if (value instanceof Map) return Object.fromEntries([...value].map(([name, of]) => [name, plain(of)]));
  return Array.isArray(value) ? value.map(plain) : value;
}

function attempt(parse: () => unknown): unknown {
  try {
    return parse();
  } catch {
    return 'refused';
  }
}
