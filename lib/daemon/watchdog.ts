import type { Clock } from '../domain/clock.ts';

/** How long a loop may wait without a sign of life, however patient the watchdog. ms. */
const MOST_SLICE_MS = 30_000;

/**
 * Feeds the service manager's watchdog as long as every loop shows signs of life. There
 * is no timer: a loop's own looks at the clock are its signs, since no work goes on for
 * long without one, and so are the slices of its own waits. Where one loop hangs, the
 * others' signs feed nobody.
 */
export class Watchdog {
  readonly #clock: Clock;
  readonly #every: number;
  readonly #feed: () => void;
  readonly #onBeat: () => void;
  readonly #loops = new Set<Heart>();
  #fedAt: number;

  /** `limit` is how long the service manager waits, ms; `onBeat` is told every sign of life. */
  constructor(clock: Clock, limit: number, { feed, onBeat }: { feed: () => void; onBeat: () => void }) {
    this.#clock = clock;
    this.#onBeat = onBeat;
    this.#every = limit / 4;
    this.#feed = feed;
    this.#fedAt = clock.monotonic();
  }

  /** A loop to be watched, until it ends. */
  join(): Heart {
    const heart = new Heart(this.#clock, Math.min(this.#every, MOST_SLICE_MS), () => this.#look());
    this.#loops.add(heart);
    return heart;
  }

  leave(heart: Heart): void {
    this.#loops.delete(heart);
  }

  #look(): void {
    this.#onBeat();
    const now = this.#clock.monotonic();
    if (now - this.#fedAt < this.#every) return;
    for (const { hasBeaten } of this.#loops) if (!hasBeaten) return;
    for (const heart of this.#loops) heart.hasBeaten = false;
    this.#fedAt = now;
    this.#feed();
  }
}

/** One loop's signs of life. */
export class Heart implements Clock {
  hasBeaten = false;
  readonly #clock: Clock;
  readonly #slice: number;
  readonly #onBeat: () => void;

  constructor(clock: Clock, slice: number, onBeat: () => void) {
    this.#clock = clock;
    this.#slice = slice;
    this.#onBeat = onBeat;
  }

  beat(): void {
    this.hasBeaten = true;
    this.#onBeat();
  }

  now(): number {
    this.beat();
    return this.#clock.now();
  }

  monotonic(): number {
    this.beat();
    return this.#clock.monotonic();
  }

  uptime(): number {
    this.beat();
    return this.#clock.uptime();
  }

  sinceBoot(): ReturnType<Clock['sinceBoot']> {
    this.beat();
    return this.#clock.sinceBoot();
  }

  async isSynced(): Promise<boolean> {
    this.beat();
    return this.#clock.isSynced();
  }

  async sleep(ms: number, signal?: AbortSignal): Promise<void> {
    for (let left = ms; ; left -= this.#slice) {
      this.beat();
      await this.#clock.sleep(Math.min(left, this.#slice), signal);
      if (left <= this.#slice || signal?.aborted === true) return;
    }
  }
}
