import type { Clock } from '../domain/clock.ts';

/** How long a loop may be silent while it is not waiting; no batch is, for anything like it. ms */
const PATIENCE_MS = 600_000;

/**
 * The clock that a store's loop lives by, and what it tells of the loop: each look at
 * it is a sign of life, and while it sleeps it owes none.
 */
export class Life implements Clock {
  readonly #inner: Clock;
  readonly #base: Clock;
  readonly #sleeps = new Set<number>();
  #lastSign: number;

  /** `base` is looked at when somebody asks how the loop is; `inner` when the loop looks. */
  constructor(inner: Clock, base: Clock) {
    this.#inner = inner;
    this.#base = base;
    this.#lastSign = base.monotonic();
  }

  /** For how long it has shown no sign of life that it owed, ms; 0: it is well. */
  get silentFor(): number {
    const now = this.#base.monotonic();
    const silent = now - Math.max(this.#lastSign, ...this.#sleeps);
    return silent > PATIENCE_MS ? silent : 0;
  }

  sign(): void {
    this.#lastSign = this.#base.monotonic();
  }

  now(): number {
    this.sign();
    return this.#inner.now();
  }

  monotonic(): number {
    this.sign();
    return this.#inner.monotonic();
  }

  uptime(): number {
    this.sign();
    return this.#inner.uptime();
  }

  sinceBoot(): ReturnType<Clock['sinceBoot']> {
    this.sign();
    return this.#inner.sinceBoot();
  }

  async isSynced(): Promise<boolean> {
    this.sign();
    return this.#inner.isSynced();
  }

  async sleep(ms: number, signal?: AbortSignal): Promise<void> {
    const until = this.#base.monotonic() + ms;
    this.#sleeps.add(until);
    try {
      await this.#inner.sleep(ms, signal);
    } finally {
      this.#sleeps.delete(until);
      this.sign();
    }
  }
}
