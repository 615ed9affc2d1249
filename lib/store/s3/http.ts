import { Agent, type ClientRequest, type IncomingMessage, request as plainRequest } from 'node:http';
import { Agent as SecureAgent, request as secureRequest } from 'node:https';
import type { Socket } from 'node:net';
import { Readable } from 'node:stream';
import type { S3ClientConfig } from '@aws-sdk/client-s3';
import { messageOf } from '../../domain/errors.ts';

type Handler = Extract<NonNullable<S3ClientConfig['requestHandler']>, { handle: unknown }>;
type Request = Parameters<Handler['handle']>[0];
type Response = Awaited<ReturnType<Handler['handle']>>;
type Options = NonNullable<Parameters<Handler['handle']>[1]>;

/** What is known of one request and its answer, whatever the SDK makes of them. */
export class Attempt {
  /** The root element of the answer's document; `null` where it has none; `'stream'`: the body is the caller's. */
  readonly answers: string | null;
  /** How long not a byte may come. ms */
  readonly patience: number;
  /** What the request was signed with, ms since 1970; undefined until it was handed to the connection. */
  signedAt: number | undefined;
  /** Whether any of it may have reached the server. */
  wasSent = false;
  answer: Answer | undefined;

  constructor(answers: string | null, patience: number) {
    this.answers = answers;
    this.patience = patience;
  }
}

export interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  /** The whole body as text; empty where it is a stream. */
  readonly text: string;
}

/** What one `send` of the SDK is given. */
export interface AttemptOptions extends Options {
  readonly attempt: Attempt;
}

const CONNECT_MS = 5000;
/** Servers close idle connections after 5 s or more; one that is closed under a request leaves its fate unknown. */
const IDLE_MS = 4000;
/** No document that S3 answers with is longer. Bytes. */
const LONGEST_DOCUMENT = 64 * 2 ** 20;

/**
 * Carries the SDK's requests: it notes in each one's attempt what was sent and
 * what came back, reads documents whole, and waits for a byte only so long.
 */
export class Connections {
  readonly metadata = { handlerProtocol: 'http/1.1' };
  readonly #plain: Agent;
  readonly #secure: SecureAgent;
  readonly #answered: (answer: Answer) => void;

  /** `sockets`: how many idle ones are kept. */
  constructor(sockets: number, answered: (answer: Answer) => void) {
    // Requests in flight are bounded by the throttle; bodies that callers read must not keep others out.
    const options = {
      keepAlive: true,
      maxFreeSockets: sockets,
      timeout: IDLE_MS,
      scheduling: 'lifo',
    } as const;
    this.#plain = new Agent(options);
    this.#secure = new SecureAgent(options);
    this.#answered = answered;
  }

  async handle(request: Request, options?: Options & { attempt?: Attempt }): Promise<Response> {
    const attempt = options?.attempt;
    // Without it nobody could tell what became of the request.
    if (!(attempt instanceof Attempt)) throw new Error('a request without an attempt is not sent');
    const signal = options?.abortSignal instanceof AbortSignal ? options.abortSignal : undefined;
    signal?.throwIfAborted();
    attempt.signedAt = signedDate(request.headers['x-amz-date']);
    const response = await this.#exchange(request, attempt, signal);
    const status = response.statusCode ?? 0;
    const headers = headersOf(response);
    const isStream = attempt.answers === 'stream' && status < 300;
    const document = isStream ? undefined : await readDocument(response);
    attempt.answer = { status, headers, text: document?.toString() ?? '' };
    this.#answered(attempt.answer);
    if (!isStream && status < 300 && attempt.answers !== null) checkDocument(attempt.answer, attempt.answers);
    return { response: { statusCode: status, headers, body: document ?? response } };
  }

  async #exchange(request: Request, attempt: Attempt, signal?: AbortSignal): Promise<IncomingMessage> {
    return new Promise((resolve, reject) => {
      const isSecure = request.protocol === 'https:';
      const sent = (isSecure ? secureRequest : plainRequest)({
        agent: isSecure ? this.#secure : this.#plain,
        hostname: request.hostname.replace(/^\[(.*)\]$/, '$1'),
        ...(request.port === undefined ? {} : { port: request.port }),
        method: request.method,
        path: request.path + queryOf(request.query),
        headers: request.headers,
        ...(signal === undefined ? {} : { signal }),
      });
      let response: IncomingMessage | undefined;
      sent.on('error', (error) => {
        reject(error);
      });
      sent.on('response', (message) => {
        response = message;
        // It is also the iteration's that reads it; unread, it must not end the process.
        message.on('error', () => undefined);
        resolve(message);
      });
      watch(sent, isSecure, attempt, () => response);
      writeBody(sent, request.body);
    });
  }

  updateHttpClientConfig(): void {
    // Nothing of it is the SDK's to change.
  }

  httpHandlerConfigs(): object {
    return {};
  }

  /** Closes every connection; what is in flight fails. */
  destroy(): void {
    this.#plain.destroy();
    this.#secure.destroy();
  }
}

/** Notes when the request may have reached the server, and ends it when the connection is silent for too long. */
function watch(
  sent: ClientRequest,
  isSecure: boolean,
  attempt: Attempt,
  response: () => IncomingMessage | undefined,
): void {
  sent.once('socket', (socket: Socket) => {
    let connecting: NodeJS.Timeout | undefined;
    const connected = () => {
      clearTimeout(connecting);
      if (sent.destroyed) return;
      attempt.wasSent = true;
      socket.setTimeout(attempt.patience);
      socket.on('timeout', silent);
      sent.once('close', () => socket.off('timeout', silent));
    };
    const silent = () => {
      const message = response();
      // There are bytes that the reader has not taken: it is slow, not the store.
      if (message !== undefined && message.readableLength > 0) {
        socket.setTimeout(attempt.patience);
        return;
      }
      const seconds = Math.round(attempt.patience / 1000);
      const error = Object.assign(new Error(`not a byte came for ${seconds} s`), { code: 'ETIMEDOUT' });
      if (message === undefined) sent.destroy(error);
      else message.destroy(error);
    };
    if (!socket.connecting) {
      connected();
      return;
    }
    connecting = setTimeout(() => {
      sent.destroy(Object.assign(new Error('no connection within 5 s'), { code: 'ETIMEDOUT' }));
    }, CONNECT_MS);
    sent.once('close', () => clearTimeout(connecting));
    socket.once(isSecure ? 'secureConnect' : 'connect', connected);
  });
}

function writeBody(sent: ClientRequest, body: unknown): void {
  if (body instanceof Readable) {
    body.once('error', (error) => sent.destroy(error));
    sent.once('close', () => body.destroy());
    body.pipe(sent);
  } else if (typeof body === 'string' || body instanceof Uint8Array) sent.end(body);
  else if (body === undefined || body === null) sent.end();
  else sent.destroy(new Error('a body of an unknown kind is not sent'));
}

/** By its events: an iteration takes longer than all else of a small answer. */
async function readDocument(response: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let length = 0;
  return new Promise((resolve, reject) => {
    response.on('data', (chunk: Buffer) => {
      chunks.push(chunk);
      length += chunk.length;
      if (length > LONGEST_DOCUMENT) response.destroy(new MalformedAnswer('the answer does not end'));
    });
    response.once('error', reject);
    const over = (): void => {
      if (response.complete) resolve(Buffer.concat(chunks));
      else reject(new MalformedAnswer('the answer was cut short'));
    };
    response.once('end', over);
    response.once('close', over);
  });
}

/** An answer that is not what S3 answers with. */
export class MalformedAnswer extends Error {
  constructor(message: string, cause?: unknown) {
    super(message, { cause });
    this.name = 'MalformedAnswer';
  }
}

/** A 200 may hold an error, another server's page, or half a document, which a parser may take for an empty one. */
export function checkDocument({ text }: Answer, root: string): void {
  const end = text.trimEnd();
  if (end.endsWith(`</${root}>`)) return;
  if (end.endsWith('/>') && end.lastIndexOf('<') === end.lastIndexOf(`<${root}`)) return;
  const code = /<Error>.*?<Code>([^<]*)<\/Code>/s.exec(text)?.[1];
  const what = text === '' ? 'nothing' : (code ?? 'something that is no such document');
  throw new MalformedAnswer(`the answer has ${what} in the place of ${root}`);
}

/** ms since 1970 of `20261122T101500Z`. */
function signedDate(text: string | undefined): number | undefined {
  const parts = /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/.exec(text ?? '');
  if (parts === null) return undefined;
  const [, year, month, day, hour, minute, second] = parts;
  return Date.parse(`${year}-${month}-${day}T${hour}:${minute}:${second}Z`);
}

function headersOf(response: IncomingMessage): Record<string, string> {
  const headers: Record<string, string> = {};
  for (const [name, value] of Object.entries(response.headers)) {
    if (value !== undefined) headers[name] = Array.isArray(value) ? value.join(', ') : value;
  }
  return headers;
}

/** A query as it is signed and sent, by its names' order; empty where there is none. What is undefined is left out. */
export function queryText(query: Readonly<Record<string, string | undefined>>): string {
  return Object.keys(query)
    .toSorted()
    .flatMap((name) => {
      const value = query[name];
      return value === undefined ? [] : [`${escapeUri(name)}=${escapeUri(value)}`];
    })
    .join('&');
}

function queryOf(query: Request['query']): string {
  const parts: string[] = [];
  for (const name of Object.keys(query ?? {}).toSorted()) {
    const value = query[name];
    if (value === null || value === undefined) parts.push(escapeUri(name));
    else for (const one of [value].flat()) parts.push(`${escapeUri(name)}=${escapeUri(one)}`);
  }
  return parts.length === 0 ? '' : `?${parts.join('&')}`;
}

/** Percent-encodes all but RFC 3986's unreserved characters, as signatures want it. */
export function escapeUri(text: string): string {
  return encodeURIComponent(text).replaceAll(
    /[!'()*]/g,
    (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`,
  );
}

/** What went wrong below HTTP, of an error that may be many (one an address). */
export function connectionText(error: unknown): string {
  if (error instanceof AggregateError && error.message === '') {
    return [...new Set(error.errors.map((one) => messageOf(one)))].join('; ');
  }
  return messageOf(error);
}
