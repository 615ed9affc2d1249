import { createHmac, hash } from 'node:crypto';

/** A request as it is signed: its path and query as they are sent, all names of headers in lower case. */
export interface Unsigned {
  readonly method: string;
  /** Escaped. */
  readonly path: string;
  /** Escaped, in its order; empty: none. */
  readonly query: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: Uint8Array | undefined;
}

export interface Keys {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken?: string | undefined;
}

/** Sent, and left out of the signature: what is on the way to a store may change it. */
const UNSIGNED = new Set(['user-agent']);
const NOTHING = hash('sha256', '', 'hex');

/**
 * Signs requests as S3 wants it (AWS Signature Version 4, the whole payload in one): as the SDK
 * does, which takes as long for it as for sending the request. A day's key is made once.
 */
export class Signer {
  readonly #region: string;
  #key: { readonly of: string; readonly key: Buffer } | undefined;

  constructor(region: string) {
    this.#region = region;
  }

  /** The request's headers with its signature. `now`: ms since 1970. */
  sign(request: Unsigned, keys: Keys, now: number): Record<string, string> {
    const { method, path, query, body } = request;
    const time = `${new Date(now).toISOString().slice(0, 19).replaceAll(/[-:]/g, '')}Z`;
    const day = time.slice(0, 8);
    const payload = body === undefined ? NOTHING : hash('sha256', body, 'hex');
    const headers: Record<string, string> = {
      ...request.headers,
      'x-amz-content-sha256': payload,
      'x-amz-date': time,
    };
    if (keys.sessionToken !== undefined && keys.sessionToken !== '')
      headers['x-amz-security-token'] = keys.sessionToken;
    const names = Object.keys(headers)
      .filter((name) => !UNSIGNED.has(name))
      .toSorted();
    const lines = names.map((name) => `${name}:${(headers[name] ?? '').trim().replaceAll(/\s+/g, ' ')}\n`);
    const signed = names.join(';');
    const canonical = `${method}\n${path}\n${query}\n${lines.join('')}\n${signed}\n${payload}`;
    const scope = `${day}/${this.#region}/s3/aws4_request`;
    const toSign = `AWS4-HMAC-SHA256\n${time}\n${scope}\n${hash('sha256', canonical, 'hex')}`;
    const signature = createHmac('sha256', this.#keyOf(keys.secretAccessKey, day))
      .update(toSign)
      .digest('hex');
    headers['authorization'] =
      `AWS4-HMAC-SHA256 Credential=${keys.accessKeyId}/${scope}, SignedHeaders=${signed}, Signature=${signature}`;
    return headers;
  }

  #keyOf(secret: string, day: string): Buffer {
    const of = `${day} ${secret}`;
    if (this.#key?.of === of) return this.#key.key;
    const key = [day, this.#region, 's3', 'aws4_request'].reduce<string | Buffer>(
      (made, part) => createHmac('sha256', made).update(part).digest(),
      `AWS4${secret}`,
    );
    const bytes = Buffer.from(key);
    this.#key = { of, key: bytes };
    return bytes;
  }
}
