import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';

export interface Address {
  readonly host: string;
  readonly port: number;
}

export interface Page {
  readonly status: number;
  readonly type: string;
  readonly body: string;
}

/** What is served, by path. */
export type Pages = Readonly<Record<string, () => Promise<Page> | Page>>;

/** Nobody keeps a connection, or the daemon, for longer. ms */
const PATIENCE_MS = 10_000;
const MOST_CONNECTIONS = 64;
const TEXT = 'text/plain; charset=utf-8';

/** Serves pages over HTTP on one address, which can be changed while it runs. */
export class PageServer {
  readonly #pages: Pages;
  readonly #onFailure: (error: unknown) => void;
  #server: Server | undefined;
  #address: Address | undefined;

  /** `onFailure` is told what a page throws; whoever asked is told nothing of it. */
  constructor(pages: Pages, onFailure: (error: unknown) => void) {
    this.#pages = pages;
    this.#onFailure = onFailure;
  }

  /** Where it listens: its `port` is the one that 0 became. Undefined when it does not. */
  get url(): string | undefined {
    const at = this.#server?.address();
    if (typeof at !== 'object' || at === null) return undefined;
    const host = at.family === 'IPv6' ? `[${at.address}]` : at.address;
    return `http://${host}:${at.port}`;
  }

  /** Listens there and nowhere else; `null`: nowhere. Says whether anything changed. Throws what `listen` does. */
  async listen(address: Address | null): Promise<boolean> {
    const isSame = address?.host === this.#address?.host && address?.port === this.#address?.port;
    if (isSame) return false;
    await this.close();
    if (address === null) return true;
    const server = createServer(
      { headersTimeout: PATIENCE_MS, requestTimeout: PATIENCE_MS, maxHeaderSize: 8192 },
      (request, response) => void this.#answer(request, response),
    );
    server.maxConnections = MOST_CONNECTIONS;
    server.timeout = PATIENCE_MS;
    server.listen(address.port, address.host);
    await once(server, 'listening');
    server.on('error', this.#onFailure);
    this.#server = server;
    this.#address = address;
    return true;
  }

  async close(): Promise<void> {
    const server = this.#server;
    this.#server = undefined;
    this.#address = undefined;
    if (server === undefined) return;
    const closed = once(server, 'close');
    server.close();
    server.closeAllConnections();
    await closed;
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { status, type, body } = await this.#pageFor(request);
    response.writeHead(status, {
      'content-type': type,
      'content-length': Buffer.byteLength(body),
      'cache-control': 'no-store',
      'x-content-type-options': 'nosniff',
      ...(status === 405 ? { allow: 'GET, HEAD' } : {}),
    });
    response.end(request.method === 'HEAD' ? undefined : body);
  }

  async #pageFor({ method, url = '/' }: IncomingMessage): Promise<Page> {
    if (method !== 'GET' && method !== 'HEAD')
      return { status: 405, type: TEXT, body: 'only GET and HEAD\n' };
    const path = url.replace(/[?#].*$/s, '');
    const page = Object.hasOwn(this.#pages, path) ? this.#pages[path] : undefined;
    if (page === undefined) {
      return { status: 404, type: TEXT, body: `there are ${Object.keys(this.#pages).join(', ')}\n` };
    }
    try {
      return await page();
    } catch (error) {
      this.#onFailure(error);
      return { status: 500, type: TEXT, body: 'the daemon could not tell: see its log\n' };
    }
  }
}
