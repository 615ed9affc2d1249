import { Readable } from 'node:stream';
import type { Clock } from '../../domain/clock.ts';

/** The rest of an object's bytes, from one of them on; undefined where it is no longer to be had. */
export type Rest = (from: number) => Promise<Readable | undefined>;

const ATTEMPTS = 6;
const FIRST_PAUSE_MS = 200;

/**
 * An object's bytes that go on where a connection was cut: the same object, from
 * the next byte on. Ends in the last error when it can't be had any more, and in
 * one of its own when there are fewer or more bytes than there should be.
 */
export class ResumingBody extends Readable {
  readonly #rest: Rest;
  readonly #size: number;
  readonly #clock: Clock;
  readonly #changed: () => Error;
  #source: Readable | undefined;
  #position = 0;
  #failures = 0;
  readonly #ended = new AbortController();

  /** `changed` makes the error of an object that is another now, or gone. */
  constructor(options: { first: Readable; rest: Rest; size: number; clock: Clock; changed: () => Error }) {
    super();
    this.#rest = options.rest;
    this.#size = options.size;
    this.#clock = options.clock;
    this.#changed = options.changed;
    this.#take(options.first);
  }

  #take(source: Readable): void {
    this.#source = source;
    source.pause();
    source.on('data', (chunk: Buffer) => {
      if (this.#source !== source) return;
      this.#position += chunk.length;
      if (chunk.length > 0) this.#failures = 0;
      if (this.#position > this.#size) this.destroy(this.#changed());
      else if (!this.push(chunk)) source.pause();
    });
    source.once('end', () => this.#over(source, undefined));
    source.once('error', (error) => this.#over(source, error));
  }

  #over(source: Readable, error: Error | undefined): void {
    if (this.#source !== source || this.destroyed) return;
    this.#source = undefined;
    if (error === undefined && this.#position === this.#size) {
      this.push(null);
      return;
    }
    void this.#resume(
      error ?? new Error(`the connection ended after ${this.#position} of ${this.#size} bytes`),
    );
  }

  async #resume(cut: Error): Promise<void> {
    try {
      this.#failures += 1;
      if (this.#failures > ATTEMPTS) throw cut;
      await this.#clock.sleep(FIRST_PAUSE_MS * 2 ** (this.#failures - 1), this.#ended.signal);
      if (this.destroyed) return;
      const source = await this.#rest(this.#position);
      if (source === undefined) throw this.#changed();
      if (this.destroyed) source.destroy();
      else {
        this.#take(source);
        source.resume();
      }
    } catch (error) {
      this.destroy(error instanceof Error ? error : new Error(String(error)));
    }
  }

  override _read(): void {
    this.#source?.resume();
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.#ended.abort();
    const source = this.#source;
    this.#source = undefined;
    if (source !== undefined) {
      source.on('error', () => undefined); // nobody wants the rest
      source.destroy();
    }
    done(error);
  }
}
