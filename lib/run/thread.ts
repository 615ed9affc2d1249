import { once } from 'node:events';
import path from 'node:path';
import { parentPort, type ResourceLimits, Worker } from 'node:worker_threads';
import { type ErrorDetails, errnoOf, messageOf, TombstonedError } from '../domain/errors.ts';

/** An error as it crosses threads. */
interface CrossingError {
  readonly code: TombstonedError['code'] | null;
  readonly message: string;
  readonly stack: string | undefined;
  readonly errno: string | undefined;
  readonly details: Omit<ErrorDetails, 'cause'>;
}

type Reply<Answer> = { readonly answer: Answer } | { readonly error: CrossingError };

interface Waiting<Answer> {
  readonly resolve: (answer: Answer) => void;
  readonly reject: (error: Error) => void;
}

/** A thread that answers in the order it is asked. Its file calls `serve`. */
export class Thread<Request, Answer> {
  readonly #worker: Worker;
  readonly #waiting: Waiting<Answer>[] = [];
  readonly #name: string;
  #failure: Error | undefined;

  /** `file` is without its suffix: .ts as it is run in specs, .js as it is built. `name` is for messages. */
  constructor(options: { file: URL; name: string; settings: unknown; limits?: ResourceLimits }) {
    const { file, name, settings, limits } = options;
    this.#name = name;
    this.#worker = new Worker(new URL(`${file.href}${path.extname(import.meta.url)}`), {
      workerData: settings,
      // What it opens may be handed to this thread: it must not be closed twice.
      trackUnmanagedFds: false,
      ...(limits === undefined ? {} : { resourceLimits: limits }),
    });
    this.#worker.on('message', (reply: Reply<Answer>) => {
      const waiting = this.#waiting.shift();
      if ('error' in reply) waiting?.reject(revived(reply.error));
      else waiting?.resolve(reply.answer);
    });
    this.#worker.on('error', (error) => this.#fail(error));
    this.#worker.on('messageerror', (error) => this.#fail(error));
    this.#worker.on('exit', (code) => this.#fail(new Error(`${name} ended with ${code}`)));
  }

  #fail(error: Error): void {
    this.#failure ??= error;
    void this.#worker.terminate();
    for (const { reject } of this.#waiting.splice(0)) reject(this.#failure);
  }

  /** Why it can be asked no more, if so. */
  get failure(): Error | undefined {
    return this.#failure;
  }

  /** Asks it. Rejects with what its handler has thrown, or when the thread has failed. */
  async ask(request: Request): Promise<Answer> {
    if (this.#failure !== undefined) throw this.#failure;
    const answered = new Promise<Answer>((resolve, reject) => {
      this.#waiting.push({ resolve, reject });
    });
    this.#worker.postMessage(request);
    return answered;
  }

  /** Lets it end what it was asked, and waits until it is gone. */
  async close(): Promise<void> {
    if (this.#failure !== undefined) return;
    const gone = once(this.#worker, 'exit');
    this.#failure = new Error(`${this.#name} was closed`);
    this.#worker.postMessage(null);
    await gone;
  }
}

type Answering<Request, Answer> = (request: Request) => Promise<Answer>;

/** The thread's side: answers one request after the other; `onEnd` is called when it is closed. */
export function serve<Request, Answer>({
  answerTo,
  onEnd,
}: {
  answerTo: Answering<Request, Answer>;
  onEnd: () => void;
}): void {
  const port = parentPort;
  if (port === null) throw new Error('this is the beginning of a thread');
  const handle = async (request: Request | null): Promise<void> => {
    if (request === null) {
      onEnd();
      port.close();
      return;
    }
    const reply: Reply<Answer> = await answerTo(request).then(
      (answer) => ({ answer }),
      (error: unknown) => ({ error: crossing(error) }),
    );
    port.postMessage(reply);
  };
  let before: Promise<void> = Promise.resolve();
  port.on('message', (request: Request | null) => {
    before = before.then(async () => handle(request));
  });
}

function crossing(error: unknown): CrossingError {
  const isOurs = error instanceof TombstonedError;
  return {
    code: isOurs ? error.code : null,
    message: messageOf(error),
    stack: error instanceof Error ? error.stack : undefined,
    errno: errnoOf(isOurs ? error.cause : error),
    details: isOurs ? { reason: error.reason, key: error.key, hint: error.hint } : {},
  };
}

function revived({ code, message, stack, errno, details }: CrossingError): Error {
  const cause = errno === undefined ? undefined : Object.assign(new Error(message), { code: errno });
  const error =
    code === null ? new Error(message, { cause }) : new TombstonedError(code, message, { ...details, cause });
  if (stack !== undefined) error.stack = stack;
  return error;
}
