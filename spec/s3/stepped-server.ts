import diagnostics from 'node:diagnostics_channel';
import { type ClientRequest, createServer, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { readRequest, type S3Answer, type S3Request } from '../support/s3-request.ts';

const REQUESTS = 'http.client.request.start';

/** A request that has come, and waits. */
export interface Arrived {
  readonly request: S3Request;
  /** Answers it, at that time; `undefined` resets the connection. */
  answer(answer: S3Answer | undefined, date: number): Promise<void>;
}

/**
 * The address of a store for one simulated process: what comes there waits until
 * somebody answers it. It knows of this process's own requests also those that are
 * still on their way.
 */
export class SteppedServer {
  readonly endpoint: string;
  readonly #server: Server;
  /** Those of this process that are not answered yet. */
  readonly #open = new Set<ClientRequest>();
  readonly #started = (message: unknown): void => this.#start(message);
  #waiting: Arrived[] = [];
  #isDropped = false;

  static async start(): Promise<SteppedServer> {
    const server = createServer({ keepAliveTimeout: 600_000 });
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject).listen(0, '127.0.0.1', resolve);
    });
    return new SteppedServer(server);
  }

  private constructor(server: Server) {
    const { port } = server.address() as AddressInfo;
    this.endpoint = `http://127.0.0.1:${port}`;
    this.#server = server;
    server.on('request', (incoming, response) => {
      readRequest(incoming).then(
        (request) => this.#arrive(request, response),
        () => response.destroy(), // its sender has gone
      );
    });
    diagnostics.subscribe(REQUESTS, this.#started);
  }

  #start(message: unknown): void {
    const { request } = message as { readonly request: ClientRequest };
    if (request.getHeader('host') !== new URL(this.endpoint).host) return;
    this.#open.add(request);
    const over = (): void => void this.#open.delete(request);
    request.once('response', over).once('error', over).once('close', over);
  }

  #arrive(request: S3Request, response: ServerResponse): void {
    if (this.#isDropped) {
      response.socket?.resetAndDestroy();
      return;
    }
    const arrived: Arrived = {
      request,
      answer: async (answer, date) => {
        this.#waiting = this.#waiting.filter((other) => other !== arrived);
        if (answer === undefined) response.socket?.resetAndDestroy();
        else write(response, answer, date);
      },
    };
    this.#waiting.push(arrived);
  }

  /** What waits for an answer. */
  get waiting(): readonly Arrived[] {
    return this.#waiting;
  }

  /** Whether something is on its way, to here or back. */
  get isBusy(): boolean {
    return this.#open.size > this.#waiting.length;
  }

  /** Resets what waits, and all that comes; gives the requests that had come. */
  drop(): S3Request[] {
    this.#isDropped = true;
    const dropped = this.#waiting;
    for (const arrived of dropped) void arrived.answer(undefined, 0);
    return dropped.map(({ request }) => request);
  }

  async close(): Promise<void> {
    diagnostics.unsubscribe(REQUESTS, this.#started);
    const closed = new Promise<void>((resolve) => {
      this.#server.close(() => resolve());
    });
    this.#server.closeAllConnections();
    await closed;
  }
}

function write(response: ServerResponse, { status, headers, body }: S3Answer, date: number): void {
  const hasBody = response.req.method !== 'HEAD' && status !== 204 && status !== 304;
  const length = hasBody ? { 'content-length': String(body.length) } : {};
  response.writeHead(status, { ...headers, ...length, date: new Date(date).toUTCString() });
  response.end(hasBody ? body : undefined);
}
