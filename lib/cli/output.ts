import { writeSync } from 'node:fs';
import { isatty } from 'node:tty';
import { styleText } from 'node:util';
import { errnoOf, messageOf, TombstonedError } from '../domain/errors.ts';
import type { Report } from '../run/place.ts';
import { errorJson, errorText, oneLine } from './fail.ts';

const STDOUT = 1;
const STDERR = 2;
/** How much is gathered before it is written. Characters. */
const FULL = 65_536;

export type Style = Parameters<typeof styleText>[0];

/**
 * What a command says: results to stdout, talk to stderr. Writes wait for the
 * reader, so that nothing piles up in memory. When the reader has gone, results
 * are dropped without a word; a long listing looks at `isClosed` and ends.
 */
export class Output {
  readonly isJson: boolean;
  readonly isDebug: boolean;
  readonly isUnicode: boolean;
  readonly #isDumb: boolean;
  #isColoured: boolean | undefined;
  #gathered = '';
  #isScheduled = false;
  #isClosed = false;
  #failure: unknown;
  #beforeTalk: (() => void) | undefined;

  constructor(settings: {
    isJson: boolean;
    isDebug: boolean;
    isUnicode: boolean;
    isDumb: boolean;
    noColor: boolean;
  }) {
    this.isJson = settings.isJson;
    this.isDebug = settings.isDebug;
    this.isUnicode = settings.isUnicode && !settings.isDumb;
    this.#isDumb = settings.isDumb;
    if (settings.noColor || settings.isDumb) this.#isColoured = false;
  }

  /** Whether nobody reads the results any more. */
  get isClosed(): boolean {
    return this.#isClosed;
  }

  /** Whether somebody watches stderr, so that a progress bar makes sense. */
  get isWatched(): boolean {
    return !this.isJson && !this.#isDumb && isatty(STDERR);
  }

  /** A line of the result. */
  line(text: string): void {
    this.#gathered += `${text}\n`;
    if (this.#gathered.length >= FULL) this.flush();
    else if (!this.#isScheduled) {
      this.#isScheduled = true;
      setImmediate(() => this.flush());
    }
  }

  /** One thing of the result: an object with `--json`, a line without. */
  result(object: { readonly type: string; readonly [member: string]: unknown }, text: () => string): void {
    this.line(this.isJson ? JSON.stringify(object) : text());
  }

  /** Bytes of the result, as they come. */
  async bytes(chunks: AsyncIterable<Uint8Array>): Promise<void> {
    this.flush();
    for await (const chunk of chunks) {
      this.#write(chunk);
      if (this.#isClosed) return;
    }
  }

  /** A text in a colour, where that is wanted. */
  styled(style: Style, text: string): string {
    this.#isColoured ??= isatty(STDOUT);
    return this.#isColoured ? styleText(style, text) : text;
  }

  /** A line to the operator. */
  talk(text: string): void {
    this.flush();
    this.#beforeTalk?.();
    writeAll(STDERR, Buffer.from(`tombstonectl: ${oneLine(text)}\n`));
  }

  /** What the library has to say while it works. */
  readonly report: Report = (level, message, fields) => {
    const hint = fields?.['hint'];
    const prefix = level === 'info' ? '' : level === 'warn' ? 'warning: ' : 'error: ';
    this.talk(`${prefix}${message}${typeof hint === 'string' ? ` (${hint})` : ''}`);
  };

  /** An error: one line, or one object; the stack only with `--debug`. */
  fail(error: unknown): void {
    if (this.isDebug && error instanceof Error) {
      this.flush();
      this.#beforeTalk?.();
      writeAll(STDERR, Buffer.from(`${stackOf(error)}\n`));
    }
    if (!this.isJson) this.talk(errorText(error));
    else {
      this.flush();
      writeAll(STDERR, Buffer.from(`${errorJson(error)}\n`));
    }
  }

  /** What is done before a line of talk: a progress bar makes way. */
  onTalk(before: (() => void) | undefined): void {
    this.#beforeTalk = before;
  }

  flush(): void {
    this.#isScheduled = false;
    const text = this.#gathered;
    this.#gathered = '';
    if (text !== '') this.#write(Buffer.from(text));
  }

  /** Writes what is left. Throws when a result could not be written, other than because nobody reads. */
  finish(): void {
    this.flush();
    if (this.#failure === undefined) return;
    throw new TombstonedError('failed', `stdout can't be written: ${messageOf(this.#failure)}`, {
      hint: "what was done is done; the command's result is not complete",
      cause: this.#failure,
    });
  }

  /** Kept for `finish`: an error here may not break a batch that is under way. */
  #write(data: Uint8Array): void {
    if (this.#isClosed) return;
    const failure = writeAll(STDOUT, data);
    if (failure === undefined) return;
    this.#isClosed = true;
    if (errnoOf(failure) !== 'EPIPE') this.#failure = failure;
  }
}

/** Writes all of it, waiting for a slow reader; gives the error that stopped it. */
function writeAll(fd: number, data: Uint8Array): unknown {
  for (let from = 0; from < data.length; ) {
    try {
      from += writeSync(fd, data, from);
    } catch (error) {
      if (errnoOf(error) !== 'EAGAIN') return error;
      // Somebody else made the pipe non-blocking.
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5);
    }
  }
  return undefined;
}

function stackOf(error: Error): string {
  const stack = error.stack ?? error.message;
  return error.cause instanceof Error ? `${stack}\ncaused by ${stackOf(error.cause)}` : stack;
}
