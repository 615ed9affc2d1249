import type { Clock } from '../../domain/clock.ts';

/** How long what is asked of the disk at one moment may take, about. ms. */
const AHEAD_MS = 50;
const LEAST = 64;
const MOST = 1024;

/**
 * How much may be asked of a disk before it has answered: by how much it does in a time, as it
 * was last seen. So it has something to do while this thread does something else, and is never
 * asked for much that would be hard to wait for.
 */
export class Depth {
  readonly #clock: Clock;
  most = LEAST;
  #since: number;
  #ended = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#since = clock.monotonic();
  }

  /** The disk has had nothing to do: what comes next is measured from now on. */
  begin(): void {
    this.#since = this.#clock.monotonic();
    this.#ended = 0;
  }

  /** Something has ended. */
  note(): void {
    this.#ended += 1;
    if (this.#ended < this.most / 2) return;
    const took = this.#clock.monotonic() - this.#since;
    if (took <= 0) return;
    this.most = Math.round(Math.min(MOST, Math.max(LEAST, (this.#ended / took) * AHEAD_MS)));
    this.begin();
  }
}

/** What was asked of a disk and is on its way. */
export class Flight {
  readonly #depth: Depth;
  #size = 0;
  #failure: { readonly error: unknown } | undefined;
  #waiting: { readonly most: number; readonly resolve: () => void } | undefined;

  constructor(depth: Depth) {
    this.#depth = depth;
    depth.begin();
  }

  get isFull(): boolean {
    return this.#size >= this.#depth.most;
  }

  add(work: Promise<void>): void {
    this.#size += 1;
    work.then(
      () => this.#land(),
      (error: unknown) => {
        this.#failure ??= { error };
        this.#land();
      },
    );
  }

  #land(): void {
    this.#size -= 1;
    this.#depth.note();
    if (this.#waiting === undefined || this.#size > this.#waiting.most) return;
    this.#waiting.resolve();
    this.#waiting = undefined;
  }

  /** Waits, while it is full, until there is room for a few. Throws the first failure. */
  async room(): Promise<void> {
    if (this.isFull) await this.#until(this.#depth.most / 2);
    if (this.#failure !== undefined) throw this.#failure.error;
  }

  /** Waits until nothing is on its way, also where something has failed: then throws that. */
  async landed(): Promise<void> {
    await this.#until(0);
    if (this.#failure !== undefined) throw this.#failure.error;
  }

  async #until(most: number): Promise<void> {
    if (this.#size <= most) return;
    await new Promise<void>((resolve) => {
      this.#waiting = { most, resolve };
    });
  }
}
