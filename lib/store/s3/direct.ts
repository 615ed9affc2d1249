import { createHash, createHmac, type Hash, type Hmac } from 'node:crypto';
import { HeadObjectCommand, type S3Client as Sdk } from '@aws-sdk/client-s3';
import { SignatureV4 } from '@smithy/signature-v4';
import { TombstonedError } from '../../domain/errors.ts';
import { type Answer, type AttemptOptions, type Connections, escapeUri, MalformedAnswer } from './http.ts';

/** A request about one object, as it is sent. */
export interface DirectRequest {
  readonly method: 'HEAD' | 'GET' | 'PUT' | 'DELETE';
  readonly key: string;
  readonly versionId?: string | null | undefined;
  /** Beside those that every request has; those that are undefined are left out. */
  readonly headers?: Readonly<Record<string, string | undefined>>;
}

/** An answer's headers, and its body where the caller reads it. */
export interface DirectAnswer {
  readonly answer: Answer;
  readonly body: unknown;
}

type Response = Awaited<ReturnType<Connections['handle']>>['response'];

/** Where requests go, and how they are signed: what the SDK made of one. */
interface Way {
  readonly protocol: string;
  readonly hostname: string;
  readonly port?: number;
  /** What an object's path begins with, without the slash at its end. */
  readonly root: string;
  readonly host: string;
  readonly signer: SignatureV4;
}

/**
 * The requests that are made for each object, past the SDK's middleware, which costs
 * more than all the rest of a request. Credentials, the endpoint and the region
 * are the SDK's all the same.
 */
export class DirectRequests {
  readonly #sdk: Sdk;
  readonly #connections: Connections;
  readonly #bucket: string;
  #way: Promise<Way> | undefined;

  constructor(sdk: Sdk, connections: Connections, bucket: string) {
    this.#sdk = sdk;
    this.#connections = connections;
    this.#bucket = bucket;
  }

  /** Makes the request, once. Throws where the answer is no good one: the attempt has it. */
  async send(request: DirectRequest, options: AttemptOptions): Promise<DirectAnswer> {
    const { protocol, hostname, port, root, host, signer } = await this.#ready();
    const { method, key, versionId, headers = {} } = request;
    const given = Object.entries(headers).flatMap(([name, value]) =>
      value === undefined ? [] : [[name, value] as const],
    );
    const signed = await signer.sign({
      method,
      protocol,
      hostname,
      ...(port === undefined ? {} : { port }),
      path: `${root}/${key.split('/').map(escapeUri).join('/')}`,
      query: typeof versionId === 'string' ? { versionId } : {},
      headers: { host, 'user-agent': 'tombstoned', ...Object.fromEntries(given) },
    });
    const { response } = await this.#connections.handle(signed, options);
    const { answer } = options.attempt;
    if (answer === undefined) throw new TypeError('an answer was not noted');
    if (answer.status >= 300) throw new MalformedAnswer(`the answer was ${answer.status}`);
    return { answer, body: bodyOf(response) };
  }

  /** Asks the SDK once; where it fails, it is asked again with the next request. */
  async #ready(): Promise<Way> {
    const way = (this.#way ??= this.#ask());
    try {
      return await way;
    } catch (error) {
      if (this.#way === way) this.#way = undefined;
      throw error;
    }
  }

  async #ask(): Promise<Way> {
    const asked = await signedBySdk(this.#sdk, this.#bucket);
    const scope = /^AWS4-HMAC-SHA256 Credential=.*\/\d{8}\/([^/]+)\/s3\/aws4_request,/.exec(
      asked.authorization,
    );
    const region = scope?.[1];
    if (region === undefined || !asked.path.endsWith(`/${PROBED}`)) {
      throw new TombstonedError(
        'failed',
        `requests for s3://${this.#bucket} are signed in a way that is not known`,
        {
          key: this.#bucket,
          hint: 'directory buckets and access points of several regions are no stores',
        },
      );
    }
    const { protocol, hostname, port, path, host } = asked;
    return {
      protocol,
      hostname,
      ...(port === undefined ? {} : { port }),
      root: path.slice(0, -PROBED.length - 1),
      host,
      signer: new SignatureV4({
        credentials: this.#sdk.config.credentials,
        region,
        service: 's3',
        sha256: Sha256,
        uriEscapePath: false,
      }),
    };
  }
}

/** A key that no store has; nothing is sent for it. */
const PROBED = 'tombstoned-asks-where';

interface Asked extends Omit<Way, 'root' | 'signer'> {
  readonly path: string;
  readonly authorization: string;
}

/** A request as the SDK would send it. */
async function signedBySdk(sdk: Sdk, bucket: string): Promise<Asked> {
  let asked: Asked | undefined;
  const command = new HeadObjectCommand({ Bucket: bucket, Key: PROBED });
  command.middlewareStack.add(
    () =>
      async ({ request }) => {
        asked = askedOf(request);
        return { response: undefined, output: { $metadata: {} } };
      },
    { step: 'deserialize', priority: 'high', name: 'tombstonedAsked' },
  );
  await sdk.send(command);
  if (asked === undefined) throw new TypeError('the SDK did not say what it would send');
  return asked;
}

function askedOf(request: unknown): Asked {
  if (typeof request !== 'object' || request === null) throw new TypeError('the SDK made no request');
  const { protocol, hostname, port, path, headers } = {
    protocol: 'https:',
    hostname: '',
    port: undefined,
    path: '',
    headers: {},
    ...request,
  };
  const { host = '', authorization = '' }: Record<string, string> = headers;
  return { protocol, hostname, ...(typeof port === 'number' ? { port } : {}), path, host, authorization };
}

function bodyOf(response: Response): unknown {
  return response.body;
}

/** Node's hashes, as the signer wants them. */
class Sha256 {
  readonly #hash: Hash | Hmac;

  constructor(secret?: string | ArrayBuffer | ArrayBufferView) {
    this.#hash = secret === undefined ? createHash('sha256') : createHmac('sha256', keyOf(secret));
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

function keyOf(secret: string | ArrayBuffer | ArrayBufferView): string | Uint8Array {
  if (typeof secret === 'string') return secret;
  if (secret instanceof ArrayBuffer) return new Uint8Array(secret);
  return new Uint8Array(secret.buffer, secret.byteOffset, secret.byteLength);
}
