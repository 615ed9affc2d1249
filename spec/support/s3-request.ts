import { createHash, createHmac } from 'node:crypto';
import { Agent, request as httpRequest, type IncomingMessage } from 'node:http';
import { SignatureV4 } from '@smithy/signature-v4';
import type { S3Server } from './s3-server.ts';

export type S3Kind =
  | 'list'
  | 'list-versions'
  | 'head'
  | 'get'
  | 'put'
  | 'copy'
  | 'delete'
  | 'batch-delete'
  | 'create-multipart'
  | 'upload-part'
  | 'copy-part'
  | 'complete-multipart'
  | 'abort-multipart'
  /** About a bucket, tags, ACLs and so on. */
  | 'other';

/** One key of a bucket, or one version of it. */
export interface S3Name {
  readonly bucket: string;
  /** Empty for the bucket itself. */
  readonly key: string;
  readonly versionId?: string;
}

/** A request as it came, its body whole and decoded. */
export interface S3Request extends S3Name {
  readonly kind: S3Kind;
  readonly method: string;
  /** As it was sent: `/bucket/key`, percent-encoded. */
  readonly path: string;
  readonly query: URLSearchParams;
  /** By lower-case name. */
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Buffer;
  /** Of a copy. */
  readonly source?: S3Name;
}

export interface S3Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Buffer;
}

/** Reads a request to its end; throws where its sender gives up before. */
export async function readRequest(incoming: IncomingMessage): Promise<S3Request> {
  const method = incoming.method ?? '';
  const headers = plainHeaders(incoming);
  const [path = '', search = ''] = (incoming.url ?? '').split(/\?(.*)/s);
  const query = new URLSearchParams(search);
  const body = Buffer.concat(await incoming.toArray());
  const isChunked = headers['x-amz-content-sha256']?.startsWith('STREAMING-') === true;
  const copied = headers['x-amz-copy-source'];
  const versionId = query.get('versionId');
  const name = nameOf(path);
  return {
    ...name,
    ...(versionId === null ? {} : { versionId }),
    kind: kindOf(method, name.key, query, copied !== undefined),
    method,
    path,
    query,
    headers,
    body: isChunked ? withoutChunks(body) : body,
    ...(copied === undefined ? {} : { source: sourceOf(copied) }),
  };
}

function kindOf(method: string, key: string, query: URLSearchParams, isCopy: boolean): S3Kind {
  const about = [...query.keys()].filter(
    (name) => !/^(x-id|versionId|partNumber|uploadId|response-.*)$/.test(name),
  );
  if (key === '') {
    if (method === 'POST' && query.has('delete')) return 'batch-delete';
    if (method !== 'GET') return 'other';
    if (query.has('versions')) return 'list-versions';
    const listing =
      /^(list-type|prefix|delimiter|marker|max-keys|encoding-type|continuation-token|start-after)$/;
    return about.every((name) => listing.test(name) || name === 'fetch-owner') ? 'list' : 'other';
  }
  if (method === 'POST' && query.has('uploads')) return 'create-multipart';
  if (about.length > 0) return 'other';
  const isUpload = query.has('uploadId');
  switch (method) {
    case 'HEAD':
      return 'head';
    case 'GET':
      return isUpload ? 'other' : 'get';
    case 'PUT':
      if (isUpload) return isCopy ? 'copy-part' : 'upload-part';
      return isCopy ? 'copy' : 'put';
    case 'DELETE':
      return isUpload ? 'abort-multipart' : 'delete';
    case 'POST':
      return isUpload ? 'complete-multipart' : 'other';
    default:
      return 'other';
  }
}

function nameOf(path: string): S3Name {
  const [, bucket = '', key = ''] = /^\/?([^/]*)\/?(.*)$/s.exec(path) ?? [];
  return { bucket: decodeURIComponent(bucket), key: decodeURIComponent(key) };
}

function sourceOf(header: string): S3Name {
  const [path = '', versionId] = header.split('?versionId=');
  return { ...nameOf(path), ...(versionId === undefined ? {} : { versionId }) };
}

/** The bytes of an `aws-chunked` body: `hex[;signature]\r\n bytes \r\n`, up to a chunk of none; trailers are dropped. */
function withoutChunks(body: Buffer): Buffer {
  const parts: Buffer[] = [];
  let at = 0;
  for (;;) {
    const end = body.indexOf('\r\n', at);
    const size = end < 0 ? Number.NaN : Number.parseInt(body.toString('latin1', at, end), 16);
    if (Number.isNaN(size)) throw new Error('a body that is no aws-chunked one');
    if (size === 0) return Buffer.concat(parts);
    parts.push(body.subarray(end + 2, end + 2 + size));
    at = end + 2 + size + 2;
  }
}

/** What a server says of its connection and not of its answer. */
const OF_CONNECTION = new Set(['connection', 'keep-alive', 'transfer-encoding']);

function answerHeaders(incoming: IncomingMessage): Record<string, string> {
  return Object.fromEntries(
    Object.entries(plainHeaders(incoming)).filter(([name]) => !OF_CONNECTION.has(name)),
  );
}

function plainHeaders(incoming: IncomingMessage): Record<string, string> {
  return Object.fromEntries(
    Object.entries(incoming.headers).map(([name, value]) => [name, [value ?? ''].flat().join(', ')]),
  );
}

/** What the next hop says anew, or is of an encoding that is undone here. */
const OF_ONE_HOP = new Set([
  'authorization',
  'connection',
  'content-length',
  'expect',
  'host',
  'keep-alive',
  'transfer-encoding',
  'x-amz-content-sha256',
  'x-amz-date',
  'x-amz-decoded-content-length',
  'x-amz-trailer',
]);

/** The server behind a proxy. Whatever is sent to it is signed anew, so that it may be changed on the way. */
export class Upstream {
  readonly #server: URL;
  readonly #signer: SignatureV4;
  // The server closes an idle connection after a minute: ours go first.
  readonly #agent = new Agent({ keepAlive: true, timeout: 30_000 });

  constructor(server: S3Server) {
    const { accessKeyId, secretAccessKey, region } = server;
    this.#server = new URL(server.endpoint);
    this.#signer = new SignatureV4({
      credentials: { accessKeyId, secretAccessKey },
      region,
      service: 's3',
      sha256: Sha256,
      uriEscapePath: false,
    });
  }

  async send(request: Pick<S3Request, 'method' | 'path' | 'query' | 'headers' | 'body'>): Promise<S3Answer> {
    const { method, path, query, body } = request;
    const { hostname, port } = this.#server;
    const kept = Object.entries(request.headers).filter(([name]) => !OF_ONE_HOP.has(name));
    const headers: Record<string, string> = {
      ...Object.fromEntries(kept),
      host: `${hostname}:${port}`,
      'content-length': String(body.length),
      'x-amz-content-sha256': createHash('sha256').update(body).digest('hex'),
    };
    const encoding = headers['content-encoding']?.replace(/\baws-chunked\b,? */, '');
    if (encoding === '') delete headers['content-encoding'];
    else if (encoding !== undefined) headers['content-encoding'] = encoding;
    const signed = await this.#signer.sign({
      method,
      protocol: 'http:',
      hostname,
      path,
      query: Object.fromEntries(query),
      headers,
    });
    const search = [...query].map((pair) => pair.map(percentEncoded).join('=')).join('&');
    return new Promise((resolve, reject) => {
      const outgoing = httpRequest({
        agent: this.#agent,
        host: hostname,
        port,
        method,
        path: search === '' ? path : `${path}?${search}`,
        headers: signed.headers,
      });
      outgoing.once('error', reject);
      outgoing.once('response', (incoming) => {
        incoming.toArray().then(
          (chunks) =>
            resolve({
              status: incoming.statusCode ?? 0,
              headers: answerHeaders(incoming),
              body: Buffer.concat(chunks),
            }),
          reject,
        );
      });
      outgoing.end(body);
    });
  }

  close(): void {
    this.#agent.destroy();
  }
}

/** As S3 and its signatures want it (RFC 3986). */
export function percentEncoded(text: string): string {
  return encodeURIComponent(text).replaceAll(
    /[!'()*]/g,
    (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`,
  );
}

/** What the signer wants of a hash; with a secret, of an HMAC. */
export class Sha256 {
  readonly #hash;

  constructor(secret?: string | ArrayBuffer | ArrayBufferView) {
    this.#hash = secret === undefined ? createHash('sha256') : createHmac('sha256', bytesOf(secret));
  }

  update(data: string | ArrayBuffer | ArrayBufferView): void {
    this.#hash.update(bytesOf(data));
  }

  async digest(): Promise<Uint8Array> {
    return this.#hash.digest();
  }

  reset(): never {
    throw new Error('the signer takes a new one');
  }
}

function bytesOf(data: string | ArrayBuffer | ArrayBufferView): Uint8Array {
  if (typeof data === 'string') return Buffer.from(data);
  return ArrayBuffer.isView(data)
    ? new Uint8Array(data.buffer, data.byteOffset, data.byteLength)
    : new Uint8Array(data);
}
