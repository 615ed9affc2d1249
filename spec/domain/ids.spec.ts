import { expect } from 'chai';
import fc from 'fast-check';
import {
  idTime,
  isPlainId,
  MAX_BATCH,
  makePlainId,
  makeTombstoneId,
  PENDING_SUFFIX_BYTES,
  parseTombstoneId,
  pendingName,
  splitPendingName,
  systemRandom,
} from '../../lib/domain/ids.ts';
import { revisionHash } from '../../lib/domain/revision.ts';
import { anyKey, anyMoment } from './arbitraries.ts';

const AT = Date.UTC(2026, 10, 22, 10, 15, 0, 123);
const ID = '20261122T101500123Z-k3v0q8tzm2xj4d';
const ALPHABET = '0123456789abcdefghjkmnpqrstvwxyz';

const anyHash = fc
  .tuple(fc.nat(), fc.bigInt())
  .map(([size, mtimeNs]) => revisionHash({ kind: 'local', size, mtimeNs }));
const anyId = fc
  .tuple(anyMoment, anyHash, fc.nat(MAX_BATCH - 1), fc.nat(1023))
  .map(([at, hash, counter, random]) => makeTombstoneId(idTime(at), hash, counter, () => random));

describe('a tombstone id', () => {
  it('says the time, the revision, the place in the batch and something random', () => {
    expect(makeTombstoneId('20261122T101500123Z', 'k3v0q8tz', 0, () => 0)).to.equal(
      '20261122T101500123Z-k3v0q8tz000000',
    );
    expect(makeTombstoneId('20261122T101500123Z', 'k3v0q8tz', 33, () => 34)).to.equal(
      '20261122T101500123Z-k3v0q8tz001112',
    );
    expect(makeTombstoneId(idTime(AT), 'k3v0q8tz', MAX_BATCH - 1, (below) => below - 1)).to.equal(
      '20261122T101500123Z-k3v0q8tzzzzzzz',
    );
  });

  it('can be read back', () => {
    expect(parseTombstoneId(ID)).to.deep.equal({ at: AT, revisionHash: 'k3v0q8tz' });
    fc.assert(
      fc.property(anyMoment, anyHash, fc.nat(MAX_BATCH - 1), (at, hash, counter) => {
        const id = makeTombstoneId(idTime(at), hash, counter, systemRandom);
        expect(parseTombstoneId(id)).to.deep.equal({ at, revisionHash: hash });
      }),
    );
  });

  it('has 14 characters of the alphabet, and is as long as pending names reckon', () => {
    fc.assert(
      fc.property(anyId, (id) => {
        expect(id.slice(20)).to.match(new RegExp(`^[${ALPHABET}]{14}$`));
        expect(Buffer.byteLength(`~${id}`)).to.equal(PENDING_SUFFIX_BYTES);
      }),
    );
  });

  it('grows from batch to batch, whatever else it says', () => {
    fc.assert(
      fc.property(anyMoment, fc.integer({ min: 1, max: 1e12 }), anyHash, anyHash, (at, later, a, b) => {
        fc.pre(at + later < Date.UTC(10_000, 0));
        const first = makeTombstoneId(idTime(at), a, MAX_BATCH - 1, () => 1023);
        const second = makeTombstoneId(idTime(at + later), b, 0, () => 0);
        expect(first < second).to.equal(true);
      }),
    );
  });

  it('is another for each place in a batch', () => {
    const ids = Array.from({ length: 5000 }, (_, i) => makeTombstoneId(idTime(AT), 'k3v0q8tz', i, () => 7));
    expect(new Set(ids).size).to.equal(5000);
    expect(ids.toSorted()).to.deep.equal(ids);
  });

  const notIds: [what: string, text: string][] = [
    ['empty', ''],
    ['cut short', ID.slice(0, -1)],
    ['longer', `${ID}0`],
    ['of another kind', 's-20261122T101500123Z-k3v0q8'],
    ['in capitals', ID.toUpperCase()],
    ['with i', ID.replace('k3v', 'i3v')],
    ['with l', ID.replace('k3v', 'l3v')],
    ['with o', ID.replace('k3v', 'o3v')],
    ['with u', ID.replace('k3v', 'u3v')],
    ['with a line break behind', `${ID}\n`],
    ['with a blank before', ` ${ID}`],
    ["in another script's digits", ID.replace('2026', '２０２６')],
    ['in month 13', ID.replace('20261122', '20261322')],
    ['in month 0', ID.replace('20261122', '20260022')],
    ['on February 30', ID.replace('20261122', '20260230')],
    ['on February 29 of another year', ID.replace('20261122', '20260229')],
    ['on day 0', ID.replace('20261122', '20261100')],
    ["at 24 o'clock", ID.replace('T101500', 'T240000')],
    ['at minute 60', ID.replace('T101500', 'T106000')],
    ['at second 60', ID.replace('T101500', 'T101560')],
  ];
  for (const [what, text] of notIds) {
    it(`is not one that is ${what}`, () => expect(parseTombstoneId(text)).to.equal(undefined));
  }

  it('may be of February 29 of a leap year', () => {
    expect(parseTombstoneId(ID.replace('20261122', '20280229'))?.at).to.equal(
      Date.UTC(2028, 1, 29, 10, 15, 0, 123),
    );
  });

  it('cannot be made for a time it has no room for', () => {
    expect(idTime(Date.UTC(9999, 11, 31, 23, 59, 59, 999))).to.equal('99991231T235959999Z');
    for (const ms of [Date.UTC(10_000, 0), Date.UTC(-1, 0), Number.NaN, Infinity]) {
      expect(() => idTime(ms)).to.throw(RangeError);
    }
  });
});

describe('a pending name', () => {
  it('is prefix, key, ~ and id', () => {
    expect(pendingName('pending_deletion/', 'a/b', ID)).to.equal(`pending_deletion/a/b~${ID}`);
  });

  it('gives key and id back, cut at the last ~', () => {
    expect(splitPendingName(`a/b~${ID}`)).to.deep.equal({ key: 'a/b', id: ID });
    expect(splitPendingName(`a~b~${ID}`)).to.deep.equal({ key: 'a~b', id: ID });
    expect(splitPendingName(`a~~${ID}`)).to.deep.equal({ key: 'a~', id: ID });
    expect(splitPendingName(`a~${ID}~${ID}`)).to.deep.equal({ key: `a~${ID}`, id: ID });
    fc.assert(
      fc.property(anyKey, anyId, (key, id) => {
        expect(splitPendingName(pendingName('', key, id))).to.deep.equal({ key, id });
      }),
    );
  });

  for (const name of [
    '',
    'a',
    ID,
    `a${ID}`,
    `~${ID}`,
    `a~${ID}x`,
    `a~${ID}~`,
    `a~${ID}/b`,
    `/a~${ID}`,
    `a/../b~${ID}`,
    `a/~${ID}`,
    `.tombstoned/a~${ID}`,
    `a~${ID.replace('1122', '1199')}`,
  ]) {
    it(`is not ${JSON.stringify(name)}`, () => expect(splitPendingName(name)).to.equal(undefined));
  }
});

describe('the id of a sweep, run, lease or hold', () => {
  it('says its kind and time', () => {
    expect(makePlainId('s', AT, () => 0)).to.equal('s-20261122T101500123Z-000000');
    expect(makePlainId('h', AT, (below) => below - 1)).to.equal('h-20261122T101500123Z-zzzzzz');
  });

  it('is known by its kind', () => {
    fc.assert(
      fc.property(fc.constantFrom('s', 'r', 'l', 'h'), anyMoment, (kind, at) => {
        const id = makePlainId(kind, at, systemRandom);
        const kinds = (['s', 'r', 'l', 'h'] as const).filter((one) => isPlainId(id, one));
        expect(kinds).to.deep.equal([kind]);
        expect(parseTombstoneId(id)).to.equal(undefined);
      }),
    );
  });

  for (const text of [
    '',
    's-20261122T101500123Z-00000',
    's-20261122T101500123Z-0000000',
    's-20261122T101500123Z-00000i',
    's-20260230T101500123Z-000000',
    's-20261122T101500123Z-000000\n',
    'S-20261122T101500123Z-000000',
    'x-20261122T101500123Z-000000',
    ID,
  ]) {
    it(`is not ${JSON.stringify(text)}`, () => expect(isPlainId(text, 's')).to.equal(false));
  }

  it('grows with time', () => {
    fc.assert(
      fc.property(anyMoment, (at) => {
        fc.pre(at + 1 < Date.UTC(10_000, 0));
        expect(makePlainId('r', at, (below) => below - 1) < makePlainId('r', at + 1, () => 0)).to.equal(true);
      }),
    );
  });
});

describe('the random source', () => {
  it('stays below its bound', () => {
    for (let i = 0; i < 200; i++) expect(systemRandom(3)).to.be.oneOf([0, 1, 2]);
    expect(systemRandom(1)).to.equal(0);
  });
});
