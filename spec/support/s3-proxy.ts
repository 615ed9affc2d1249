import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as passed } from 'node:timers/promises';
import { Amazon, without, xml } from './s3-amazon.ts';
import { readRequest, type S3Answer, type S3Kind, type S3Request, Upstream } from './s3-request.ts';
import type { S3Server } from './s3-server.ts';

/**
 * Whose semantics it has: `gateway` those of what is behind it; `unguarded` the same, and no
 * condition of a deletion counts; `amazon` Amazon's conditions and whole seconds;
 * `amazon-kms` also gives every copy an ETag of its own, as KMS keys and multipart copies do.
 */
export type S3Semantics = 'gateway' | 'unguarded' | 'amazon' | 'amazon-kms';

/** Before or after the request has its effect in the store. */
type When = 'before' | 'after';

export type S3Fault =
  /** Answers with an error; `code` is what its XML says. */
  | { readonly as: 'answer'; readonly when: When; readonly status: number; readonly code: string }
  /** Answers by itself, in place of the store. */
  | { readonly as: 'own answer'; readonly when: 'before'; readonly answer: (request: S3Request) => S3Answer }
  /** Says 200 and then, in the body, that it failed: as COPY and complete-multipart may. */
  | { readonly as: 'error in 200'; readonly when: When; readonly code: string }
  /** Never answers; the connection stays open. */
  | { readonly as: 'silence'; readonly when: When }
  /** Resets the connection in place of an answer. */
  | { readonly as: 'reset'; readonly when: When }
  /** Waits, in real time. */
  | { readonly as: 'latency'; readonly when: When; readonly ms: number }
  /** Closes the connection after so many bytes of the answer's body. */
  | { readonly as: 'cut'; readonly bytes: number }
  /** Somebody acts, and is waited for. */
  | { readonly as: 'deed'; readonly when: When; readonly deed: () => Promise<unknown> };

export interface S3Rule {
  readonly match: (request: S3Request) => boolean;
  readonly fault: S3Fault;
  /** How many requests it strikes; 1 if left out. */
  readonly times?: number;
}

/** A rule in force. */
export interface Injected {
  /** How many requests it has struck. */
  readonly struck: number;
  remove(): void;
}

/** A request that is held back. */
export interface Held {
  /** Resolves when it has come. */
  readonly arrived: Promise<S3Request>;
  /** Lets it go on; its sender is answered if it still waits. What the store said; undefined if a fault came first. */
  release(): Promise<S3Answer | undefined>;
}

/** A request that came. */
export interface Seen {
  readonly request: S3Request;
  /** What the sender was told; undefined where it was told nothing, or not yet. */
  readonly status: number | undefined;
  /** When it was whole, by `performance.now()`. ms */
  readonly cameAt: number;
  /** When the sender was told; undefined as `status` is. ms */
  readonly toldAt: number | undefined;
}

/**
 * A proxy before the S3 server, on a loopback port of its own. It gives Amazon's semantics and injects faults.
 * Signatures are not verified, requests are signed anew. Bodies are held in memory, both ways. Rules strike in
 * their order, before any lock is taken or after it is freed.
 */
export class S3Proxy implements AsyncDisposable {
  /** Added to the `Date` of every answer, ms. */
  dateShift = 0;
  /** Whether the server behind it may be down: then connections are reset, as its own would be. */
  mayBeDown = false;
  readonly endpoint: string;
  readonly #server: Server;
  readonly #upstream: Upstream;
  readonly #answer: (request: S3Request) => Promise<S3Answer>;
  #rules: Active[] = [];
  #holds: Hold[] = [];
  #seen: Seen[] = [];
  readonly #errors: unknown[] = [];
  #isClosed = false;

  static async start(server: S3Server, semantics: S3Semantics = 'amazon'): Promise<S3Proxy> {
    const listening = createServer({ keepAliveTimeout: 600_000 });
    await new Promise<void>((resolve, reject) => {
      listening.once('error', reject).listen(0, '127.0.0.1', resolve);
    });
    return new S3Proxy(listening, new Upstream(server), semantics);
  }

  private constructor(server: Server, upstream: Upstream, semantics: S3Semantics) {
    const { port } = server.address() as AddressInfo;
    this.endpoint = `http://127.0.0.1:${port}`;
    this.#server = server;
    this.#upstream = upstream;
    const amazon = new Amazon(upstream, { copiesGetNewEtags: semantics === 'amazon-kms' });
    this.#answer = async (request) => {
      if (semantics === 'gateway') return upstream.send(request);
      if (semantics !== 'unguarded') return amazon.answer(request);
      return upstream.send({ ...request, headers: without(request, 'x-amz-delete-if-unmodified-since') });
    };
    server.on('request', (incoming, response) => {
      this.#serve(incoming, response).catch((error: unknown) => {
        if (!this.#isClosed && !this.mayBeDown) this.#errors.push(error);
        if (this.mayBeDown) response.socket?.resetAndDestroy();
        else response.destroy();
      });
    });
  }

  /** Refuses connections, and resets those that are open, as a machine without a server does. */
  async refuse(): Promise<void> {
    const closed = new Promise<void>((resolve) => {
      this.#server.close(() => resolve());
    });
    this.#server.closeAllConnections();
    await closed;
  }

  /** Takes connections again, at the same address. */
  async accept(): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', reject).listen(Number(new URL(this.endpoint).port), '127.0.0.1', resolve);
    });
  }

  /** All requests that came since `forget`, in the order in which they were whole. */
  get seen(): readonly Seen[] {
    return this.#seen;
  }

  /** How many requests of these kinds came since `forget`; of all kinds if none is named. */
  count(...kinds: readonly S3Kind[]): number {
    return this.#seen.filter(({ request }) => kinds.length === 0 || kinds.includes(request.kind)).length;
  }

  /** Begins to count anew. */
  forget(): void {
    this.#seen = [];
  }

  inject(rule: S3Rule): Injected {
    const active: Active = { rule, struck: 0 };
    this.#rules.push(active);
    return {
      get struck() {
        return active.struck;
      },
      remove: () => {
        this.#rules = this.#rules.filter((other) => other !== active);
      },
    };
  }

  /** Holds back the next request that matches, until it is released. */
  hold(match: (request: S3Request) => boolean): Held {
    const arrival = latch<S3Request>();
    const release = latch<void>();
    const end = latch<S3Answer | undefined>();
    this.#holds.push({ match, arrive: arrival.open, released: release.opened, end: end.open });
    return {
      arrived: arrival.opened,
      release: async () => {
        await arrival.opened;
        release.open();
        return end.opened;
      },
    };
  }

  /** Stops it, whatever is under way; throws what went wrong in it, which no rule asked for. */
  async close(): Promise<void> {
    this.#isClosed = true;
    const closed = new Promise<void>((resolve) => {
      this.#server.close(() => resolve());
    });
    this.#server.closeAllConnections();
    await closed;
    this.#upstream.close();
    if (this.#errors.length > 0) throw new AggregateError(this.#errors, 'the S3 proxy failed');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #serve(incoming: IncomingMessage, response: ServerResponse): Promise<void> {
    const request = await readRequest(incoming).catch((error: unknown) => {
      if (incoming.destroyed && !incoming.complete) return undefined; // its sender gave up
      throw error;
    });
    if (request === undefined) return;
    const seen: { -readonly [Name in keyof Seen]: Seen[Name] } = {
      request,
      status: undefined,
      cameAt: performance.now(),
      toldAt: undefined,
    };
    this.#seen.push(seen);
    const faults = this.#strike(request);
    const hold = this.#takeHold(request);
    hold?.arrive(request);
    await hold?.released;
    const early = await befall(request, faults, 'before');
    const answered = early === undefined ? this.#answer(request) : undefined;
    hold?.end(answered);
    const answer = await answered;
    const end = early ?? (await befall(request, faults, 'after')) ?? answer;
    if (end === 'silence' || end === undefined) return;
    if (end === 'reset') {
      response.socket?.resetAndDestroy();
      return;
    }
    seen.status = end.status;
    seen.toldAt = performance.now();
    this.#write(response, end, faults.find((fault) => fault.as === 'cut')?.bytes);
  }

  /** The faults that come over a request: the first that ends it, and all before that one that do not. */
  #strike(request: S3Request): S3Fault[] {
    const faults: S3Fault[] = [];
    for (const active of this.#rules) {
      const { match, fault, times = 1 } = active.rule;
      if (active.struck >= times || !match(request)) continue;
      active.struck++;
      faults.push(fault);
      if (fault.as !== 'latency' && fault.as !== 'deed') break;
    }
    return faults;
  }

  #takeHold(request: S3Request): Hold | undefined {
    const hold = this.#holds.find(({ match }) => match(request));
    this.#holds = this.#holds.filter((other) => other !== hold);
    return hold;
  }

  #write(response: ServerResponse, { status, headers, body }: S3Answer, cutAt = Infinity): void {
    const date = new Date(Date.parse(headers['date'] ?? new Date().toUTCString()) + this.dateShift);
    const hasBody = response.req.method !== 'HEAD' && status !== 204 && status !== 304;
    const length = hasBody ? { 'content-length': String(body.length) } : {};
    response.writeHead(status, { ...headers, ...length, date: date.toUTCString() });
    if (!hasBody || cutAt >= body.length) {
      response.end(hasBody ? body : undefined);
      return;
    }
    response.write(body.subarray(0, cutAt));
    response.socket?.destroySoon(); // once that is sent
  }
}

interface Active {
  readonly rule: S3Rule;
  struck: number;
}

interface Hold {
  readonly match: (request: S3Request) => boolean;
  readonly arrive: (request: S3Request) => void;
  readonly released: Promise<void>;
  readonly end: (answer: Promise<S3Answer> | undefined) => void;
}

/** Lets the faults of one side come over a request; what its sender gets if one of them ends it. */
async function befall(
  request: S3Request,
  faults: readonly S3Fault[],
  when: When,
): Promise<S3Answer | 'silence' | 'reset' | undefined> {
  for (const fault of faults) {
    if (fault.as === 'cut' || fault.when !== when) continue;
    switch (fault.as) {
      case 'latency':
        await passed(fault.ms);
        break;
      case 'deed':
        await fault.deed();
        break;
      case 'own answer':
        return fault.answer(request);
      case 'answer':
        return failure(fault.status, fault.code);
      case 'error in 200':
        return failure(200, fault.code);
      case 'silence':
      case 'reset':
        return fault.as;
    }
  }
  return undefined;
}

function failure(status: number, code: string): S3Answer {
  return xml(status, `<Error><Code>${code}</Code><Message>made by a spec</Message></Error>`);
}

interface Latch<T> {
  readonly opened: Promise<T>;
  readonly open: (value: T | PromiseLike<T>) => void;
}

function latch<T>(): Latch<T> {
  let open: Latch<T>['open'] = () => undefined;
  const opened = new Promise<T>((resolve) => {
    open = resolve;
  });
  return { opened, open };
}
