import type { Clock } from '../../domain/clock.ts';

export interface ThrottleOptions {
  /** Null: as fast as it goes. */
  readonly requestsPerSecond: number | null;
  /** Of objects that are copied, by their size; null or left out: as fast as it goes. */
  readonly bytesPerSecond?: number | null;
  /** At most so many at once. */
  readonly concurrency: number;
}

interface Waiter {
  readonly start: () => void;
}

/**
 * Bounds requests: so many a second, so many at once; and what is copied: so many bytes a second. When the store says that
 * they come too fast, half as many at once, then one more a round, up to the bound.
 */
export class Throttle {
  readonly #perSecond: number | null;
  readonly #bytesPerSecond: number | null;
  readonly #most: number;
  readonly #clock: Clock;
  /** How many may be under way now; a fraction is on its way to one more. */
  #allowed: number;
  #running = 0;
  readonly #waiters = new Set<Waiter>();
  /** When the next request may start, by the monotonic clock. */
  #nextAt = Number.NEGATIVE_INFINITY;
  /** When all that was copied so far is paid for, by the monotonic clock. */
  #paidAt = Number.NEGATIVE_INFINITY;
  /** When the bound was halved: what was started before then says nothing of the bound as it is. */
  #halvedAt = Number.NEGATIVE_INFINITY;

  constructor(options: ThrottleOptions, clock: Clock) {
    this.#perSecond = options.requestsPerSecond;
    this.#bytesPerSecond = options.bytesPerSecond ?? null;
    this.#most = Math.max(1, options.concurrency);
    this.#allowed = this.#most;
    this.#clock = clock;
  }

  /** How many requests may be under way at once now. */
  get allowed(): number {
    return Math.floor(this.#allowed);
  }

  /** Makes a request when it may be made; it returns whether the store said "slow down". */
  async run(request: () => Promise<{ readonly isTooFast: boolean }>, signal?: AbortSignal): Promise<void> {
    await this.#slot(signal);
    try {
      await this.#turn(signal);
      const startedAt = this.#clock.monotonic();
      const { isTooFast } = await request();
      if (!isTooFast) this.#allowed = Math.min(this.#most, this.#allowed + 1 / this.#allowed);
      else if (startedAt >= this.#halvedAt) {
        this.#allowed = Math.max(1, this.#allowed / 2);
        this.#halvedAt = this.#clock.monotonic();
      }
    } finally {
      this.#running -= 1;
      this.#startNext();
    }
  }

  /**
   * Waits until so many bytes may be copied: an object goes at once when those before it are
   * paid for, however large it is, and is paid for by those after it. Whoever waits here
   * is in no other request's way.
   */
  async bytes(count: number): Promise<void> {
    if (this.#bytesPerSecond === null) return;
    const now = this.#clock.monotonic();
    const turn = Math.max(this.#paidAt, now);
    this.#paidAt = turn + (count / this.#bytesPerSecond) * 1000;
    if (turn > now) await this.#clock.sleep(turn - now);
  }

  async #slot(signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted();
    if (this.#running < this.allowed && this.#waiters.size === 0) {
      this.#running += 1;
      return;
    }
    await new Promise<void>((resolve, reject) => {
      const end = () => {
        this.#waiters.delete(waiter);
        signal?.removeEventListener('abort', abort);
      };
      const waiter: Waiter = {
        start: () => {
          end();
          this.#running += 1;
          resolve();
        },
      };
      const abort = () => {
        end();
        reject(signal?.reason instanceof Error ? signal.reason : new Error('stopped'));
      };
      this.#waiters.add(waiter);
      signal?.addEventListener('abort', abort);
    });
  }

  #startNext(): void {
    for (const waiter of this.#waiters) {
      if (this.#running >= this.allowed) return;
      waiter.start();
    }
  }

  /** Waits for this request's turn in the second; after a quiet time a tenth of a second's worth may go at once. */
  async #turn(signal?: AbortSignal): Promise<void> {
    if (this.#perSecond === null) return;
    const now = this.#clock.monotonic();
    const turn = Math.max(this.#nextAt, now - BURST_MS);
    this.#nextAt = turn + 1000 / this.#perSecond;
    if (turn > now) await this.#clock.sleep(turn - now, signal);
    signal?.throwIfAborted();
  }
}

const BURST_MS = 100;
