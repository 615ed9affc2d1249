import { createHash, createHmac } from 'node:crypto';
import { SignatureV4 } from '@smithy/signature-v4';
import { expect } from 'chai';
import fc from 'fast-check';
import { escapeUri, queryText } from '../../lib/store/s3/http.ts';
import { Signer } from '../../lib/store/s3/signing.ts';

/** Node's hashes, as the SDK's signer wants them. */
class Sha256 {
  readonly #hash;

  constructor(secret?: string | ArrayBuffer | ArrayBufferView) {
    const key = typeof secret === 'string' || secret === undefined ? secret : Buffer.from(bytesOf(secret));
    this.#hash = key === undefined ? createHash('sha256') : createHmac('sha256', key);
  }

  update(data: Uint8Array): void {
    this.#hash.update(data);
  }

  async digest(): Promise<Uint8Array> {
    return this.#hash.digest();
  }

  reset(): void {
    throw new TypeError('a signature uses each hash once');
  }
}

function bytesOf(secret: ArrayBuffer | ArrayBufferView): Uint8Array {
  return secret instanceof ArrayBuffer
    ? new Uint8Array(secret)
    : new Uint8Array(secret.buffer, secret.byteOffset, secret.byteLength);
}

describe('the signature of a request', () => {
  const text = fc.string({ unit: 'grapheme', maxLength: 20 });
  const value = fc.string({ unit: fc.constantFrom('a', 'B', '"', ' ', '/', '=', '%', '7'), maxLength: 12 });
  const request = fc.record({
    method: fc.constantFrom('GET', 'HEAD', 'PUT', 'POST', 'DELETE'),
    key: text,
    query: fc.dictionary(fc.constantFrom('prefix', 'versionId', 'delete', 'max-keys', 'list-type'), text),
    headers: fc.dictionary(fc.constantFrom('if-match', 'x-amz-copy-source', 'range', 'content-md5'), value),
    body: fc.option(fc.uint8Array({ maxLength: 40 }), { nil: undefined }),
    sessionToken: fc.option(fc.constantFrom('token', ''), { nil: undefined }),
    now: fc.date({ min: new Date('2000-01-01'), max: new Date('2100-01-01'), noInvalidDate: true }),
  });

  it('is the one that the SDK makes', async () => {
    const signer = new Signer('eu-north-1'); // one for all: a day's key is kept
    await fc.assert(
      fc.asyncProperty(request, async ({ method, key, query, headers, body, sessionToken, now }) => {
        const keys = { accessKeyId: 'key', secretAccessKey: 'secret', sessionToken };
        const path = `/bucket/${key.split('/').map(escapeUri).join('/')}`;
        const all = { host: 'store:9000', 'user-agent': 'tombstoned', ...headers };
        const theirs = await new SignatureV4({
          credentials: { ...keys, sessionToken: sessionToken ?? '' },
          region: 'eu-north-1',
          service: 's3',
          sha256: Sha256,
          uriEscapePath: false,
        }).sign(
          { method, protocol: 'http:', hostname: 'store', path, query, headers: all, body },
          { signingDate: now },
        );
        const ours = signer.sign(
          { method, path, query: queryText(query), headers: all, body },
          keys,
          now.getTime(),
        );
        expect(ours).to.deep.equal(theirs.headers);
      }),
    );
  });
});
