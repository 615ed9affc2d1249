import { Readable } from 'node:stream';

/**
 * The bytes of an open object. `check` is called before each chunk is handed out,
 * also one that was read long before; what it throws ends the stream.
 */
export class LeasedBytes extends Readable {
  readonly #source: Readable;
  readonly #check: () => void;

  constructor(source: Readable, check: () => void) {
    super();
    this.#source = source;
    this.#check = check;
    source.pause();
    source.on('data', (chunk: Buffer) => {
      if (this.#stands() && !this.push(chunk)) source.pause();
    });
    source.once('end', () => this.push(null));
    source.once('error', (error) => this.destroy(error));
  }

  override read(size?: number): unknown {
    return this.#stands() ? super.read(size) : null;
  }

  override _read(): void {
    this.#source.resume();
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    if (this.#source.closed) done(error);
    else this.#source.once('close', () => done(error));
    this.#source.destroy();
  }

  #stands(): boolean {
    if (this.destroyed) return false;
    try {
      this.#check();
      return true;
    } catch (error) {
      this.destroy(error instanceof Error ? error : new Error(String(error)));
      return false;
    }
  }
}
