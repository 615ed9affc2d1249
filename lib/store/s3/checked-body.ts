import { Readable } from 'node:stream';

/** A body that ends in an error where it has other than the announced number of bytes. */
export class CheckedBody extends Readable {
  readonly #source: Readable;
  readonly #length: number;
  #got = 0;

  /** Resolves when the first bytes are there, or the end of none; rejects when the connection fails before. */
  static async begin(
    source: Readable,
    length: number,
    cut: (got: number, cause: unknown) => Error,
  ): Promise<CheckedBody> {
    return new Promise((resolve, reject) => {
      const body: CheckedBody = new CheckedBody(source, length, cut, (error) => {
        if (error === undefined) resolve(body);
        else reject(error);
      });
    });
  }

  private constructor(
    source: Readable,
    length: number,
    cut: (got: number, cause: unknown) => Error,
    begun: (error?: Error) => void,
  ) {
    super();
    this.#source = source;
    this.#length = length;
    const fail = (cause: unknown) => {
      const error = cut(this.#got, cause);
      const isUnread = this.#got === 0;
      begun(error);
      // Nobody has it yet: its error is the one that `begin` gives.
      this.destroy(isUnread ? undefined : error);
    };
    source.on('data', (chunk: Buffer) => {
      this.#got += chunk.length;
      if (this.#got > this.#length) {
        fail(new Error('there are more bytes than announced'));
        return;
      }
      begun();
      if (!this.push(chunk)) source.pause();
    });
    source.once('end', () => {
      if (this.#got !== this.#length) {
        fail(new Error('the body ended too soon'));
        return;
      }
      begun();
      this.push(null);
    });
    source.once('error', fail);
    source.once('close', () => {
      if (!source.readableEnded && !this.destroyed) fail(new Error('the connection was closed'));
    });
  }

  override _read(): void {
    this.#source.resume();
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.#source.on('error', () => undefined);
    this.#source.destroy();
    done(error);
  }
}
