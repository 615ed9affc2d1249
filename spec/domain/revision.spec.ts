import { createHash } from 'node:crypto';
import { expect } from 'chai';
import fc from 'fast-check';
import {
  base32,
  parseRevision,
  type Revision,
  revisionHash,
  revisionText,
  sameRevision,
} from '../../lib/domain/revision.ts';

const local = (size: number, mtimeNs: bigint): Revision => ({ kind: 'local', size, mtimeNs });
const anyRevision = fc
  .tuple(fc.maxSafeNat(), fc.bigInt({ min: -(2n ** 62n), max: 2n ** 63n - 1n }))
  .filter(([size]) => size < 1e15)
  .map(([size, mtimeNs]) => local(size, mtimeNs));

/** The design's words again, by the bits of one big number. */
function hashByBits(text: string): string {
  const bytes = createHash('sha256').update(Buffer.from(text, 'ascii')).digest().subarray(0, 5);
  const bits = BigInt(`0x${bytes.toString('hex')}`)
    .toString(2)
    .padStart(40, '0');
  return Array.from({ length: 8 }, (_, i) => {
    const five = Number.parseInt(bits.slice(i * 5, i * 5 + 5), 2);
    return '0123456789abcdefghjkmnpqrstvwxyz'.charAt(five);
  }).join('');
}

describe('a revision', () => {
  it('is size and mtime in one line', () => {
    expect(revisionText(local(1048576, 1795342501123456789n))).to.equal('1048576|1795342501123456789');
    expect(revisionText(local(0, -1n))).to.equal('0|-1');
  });

  it('can be read back', () => {
    fc.assert(
      fc.property(anyRevision, (revision) => {
        expect(parseRevision(revisionText(revision))).to.deep.equal(revision);
      }),
    );
  });

  for (const text of [
    '',
    '|',
    '1',
    '1|',
    '|1',
    '01|1',
    '-1|1',
    '1|1.5',
    '1|1\n',
    ' 1|1',
    '1|1|1',
    '0x1|1',
    '1|1n',
  ]) {
    it(`is not ${JSON.stringify(text)}`, () => expect(parseRevision(text)).to.equal(undefined));
  }

  it('is the same when size and mtime are, to the ns', () => {
    const one = local(5, 1795342501123456789n);
    expect(sameRevision(one, local(5, 1795342501123456789n))).to.equal(true);
    expect(sameRevision(one, local(5, 1795342501123456788n))).to.equal(false);
    expect(sameRevision(one, local(6, 1795342501123456789n))).to.equal(false);
  });
});

describe('the hash of a revision', () => {
  it('is what another program computes', () => {
    expect(revisionHash(local(0, 0n))).to.equal('0s1c9tkx');
    expect(revisionHash(local(1048576, 1795342501123456789n))).to.equal('nm8gmxqb');
    expect(revisionHash(local(17, -1n))).to.equal('s4z3jyfy');
  });

  it('is the first 40 bits of SHA-256, most significant first', () => {
    fc.assert(
      fc.property(anyRevision, (revision) => {
        expect(revisionHash(revision)).to.equal(hashByBits(revisionText(revision)));
      }),
    );
  });
});

describe('numbers in the alphabet of ids', () => {
  it('count in 32 characters, without i, l, o and u', () => {
    const characters = Array.from({ length: 32 }, (_, i) => base32(i, 1)).join('');
    expect(characters).to.equal('0123456789abcdefghjkmnpqrstvwxyz');
    expect(base32(0, 4)).to.equal('0000');
    expect(base32(32, 2)).to.equal('10');
    expect(base32(32 ** 6 - 1, 6)).to.equal('zzzzzz');
  });

  it('sort as text as they do as numbers', () => {
    fc.assert(
      fc.property(fc.nat(32 ** 4 - 1), fc.nat(32 ** 4 - 1), (a, b) => {
        expect(base32(a, 4) < base32(b, 4)).to.equal(a < b);
      }),
    );
  });
});

describe('a revision of S3', () => {
  it('is read back from its text, and stands for its ETag and size in ids', () => {
    const anyS3 = fc.record({
      kind: fc.constant('s3' as const),
      etag: fc.string({ minLength: 1, maxLength: 40 }).filter((text) => !text.includes('|')),
      size: fc.maxSafeNat().filter((size) => size < 1e15),
      modifiedAt: fc.nat(2 ** 31).map((seconds) => seconds * 1000),
      versionId: fc.option(fc.string({ minLength: 1 }).filter((text) => text.isWellFormed())),
      storageClass: fc.constantFrom(null, 'STANDARD_IA', 'GLACIER_IR'),
    });
    fc.assert(
      fc.property(anyS3, (revision) => {
        expect(parseRevision(revisionText(revision))).to.deep.equal(revision);
        const other = { ...revision, modifiedAt: 0, versionId: null, storageClass: null };
        expect(sameRevision(revision, other)).to.equal(true);
        expect(revisionHash(other)).to.equal(revisionHash(revision));
        expect(sameRevision(revision, { ...revision, size: revision.size + 1 })).to.equal(false);
        expect(sameRevision(revision, local(revision.size, 0n))).to.equal(false);
      }),
    );
  });
});
