import {
  type Answer,
  type AttemptOptions,
  type Connections,
  escapeUri,
  MalformedAnswer,
  queryText,
} from './http.ts';
import { once } from './once.ts';
import { Signer } from './signing.ts';
import type { Way } from './way.ts';

/** A request about one object, or about the bucket, as it is sent. */
export interface DirectRequest {
  readonly method: 'HEAD' | 'GET' | 'PUT' | 'POST' | 'DELETE';
  /** Undefined: the bucket. */
  readonly key?: string;
  readonly versionId?: string | null | undefined;
  /** Beside the version; what is undefined is left out. */
  readonly query?: Readonly<Record<string, string | undefined>>;
  /** Beside those that every request has; those that are undefined are left out. */
  readonly headers?: Readonly<Record<string, string | undefined>>;
  readonly body?: Uint8Array;
}

/** An answer's headers, and its body where the caller reads it. */
export interface DirectAnswer {
  readonly answer: Answer;
  readonly body: unknown;
}

type Response = Awaited<ReturnType<Connections['handle']>>['response'];

interface Signed extends Way {
  readonly signer: Signer;
}

/**
 * Requests past the SDK's middleware, which costs more than all the rest of a request.
 * Credentials, the endpoint and the region are the SDK's all the same.
 */
export class DirectRequests {
  readonly #connections: Connections;
  readonly #ready: () => Promise<Signed>;

  /** `ask` is asked for the way once; where it fails, again with the next request. */
  constructor(connections: Connections, ask: () => Promise<Way>) {
    this.#connections = connections;
    this.#ready = once(async () => {
      const way = await ask();
      return { ...way, signer: new Signer(way.region) };
    });
  }

  /** Makes the request, once. Throws where the answer is no good one: the attempt has it. */
  async send(request: DirectRequest, options: AttemptOptions): Promise<DirectAnswer> {
    const { protocol, hostname, port, root, host, signer, credentials } = await this.#ready();
    const { method, key = '', versionId, headers, body } = request;
    const path = `${root}/${key.split('/').map(escapeUri).join('/')}`;
    const query = queryText({ ...request.query, versionId: versionId ?? undefined });
    const unsigned = { host, 'user-agent': 'tombstoned', ...lengthOf(method, body), ...given(headers) };
    const signed = signer.sign(
      { method, path, query, headers: unsigned, body },
      await credentials(),
      Date.now(),
    );
    const { response } = await this.#connections.handle(
      {
        method,
        protocol,
        hostname,
        ...(port === undefined ? {} : { port }),
        path: query === '' ? path : `${path}?${query}`,
        query: {},
        headers: signed,
        ...(body === undefined ? {} : { body }),
      },
      options,
    );
    const { answer } = options.attempt;
    if (answer === undefined) throw new TypeError('an answer was not noted');
    if (answer.status >= 300) throw new MalformedAnswer(`the answer was ${answer.status}`);
    return { answer, body: bodyOf(response) };
  }
}

function given(members: Readonly<Record<string, string | undefined>> = {}): Record<string, string> {
  const known: Record<string, string> = {};
  for (const [name, value] of Object.entries(members)) if (value !== undefined) known[name] = value;
  return known;
}

/** Said of what may have a body: a server need not be told in pieces, nor guess that there is none. */
function lengthOf(method: DirectRequest['method'], body: Uint8Array | undefined): Record<string, string> {
  return method === 'PUT' || method === 'POST' ? { 'content-length': String(body?.length ?? 0) } : {};
}

function bodyOf(response: Response): unknown {
  return response.body;
}
