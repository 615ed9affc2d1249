import type { Clock } from '../domain/clock.ts';
import { TombstonedError } from '../domain/errors.ts';
import { formatDuration } from '../domain/quantities.ts';

/** A lease that is no longer in force: what it kept may have been purged since. */
export class LeaseLost extends TombstonedError {
  constructor(id: string, why: string, cause?: unknown) {
    super('blocked', `lease ${id} is lost: ${why}`, {
      reason: 'lease',
      key: id,
      hint: 'begin again: what it kept may be purged',
      cause,
    });
    this.name = 'LeaseLost';
  }
}

/** A moment by both clocks, ms. */
export interface Instant {
  readonly wall: number;
  readonly monotonic: number;
}

/** The part of a TTL after which nobody relies on a lease; a watcher waits for all of it. */
const RELIABLE = 0.9;

/**
 * How long a lease may be relied on without news of it from the store (design,
 * "Leases without clocks"). Once lost, always lost.
 */
export class LeaseTerm {
  /** Aborted, with the `LeaseLost`, when the lease is lost. */
  readonly signal: AbortSignal;
  readonly id: string;
  readonly #clock: Clock;
  readonly #ttl: number;
  readonly #controller = new AbortController();
  #since: Instant;
  #trouble: unknown;
  #lost: LeaseLost | undefined;

  /** `ttl` in ms; `since` is when what counts first began. */
  constructor(clock: Clock, id: string, ttl: number, since: Instant) {
    this.id = id;
    this.#clock = clock;
    this.#ttl = ttl;
    this.#since = since;
    this.signal = this.#controller.signal;
  }

  /** How often news must be sought, ms. */
  get interval(): number {
    return Math.min(60_000, this.#ttl / 3);
  }

  get isLost(): boolean {
    return this.#lost !== undefined;
  }

  /** How long ago the last news that counted began, ms: by whichever clock says that more has passed. */
  get passed(): number {
    const { wall, monotonic } = instantOf(this.#clock);
    return Math.max(wall - this.#since.wall, monotonic - this.#since.monotonic);
  }

  /** How long it may still be relied on, ms. */
  get left(): number {
    return this.#ttl * RELIABLE - this.passed;
  }

  /** Throws `LeaseLost` when the lease may no longer be relied on. */
  check(): void {
    if (this.#lost !== undefined) throw this.#lost;
    const { passed } = this;
    if (passed < this.#ttl * RELIABLE) return;
    const trouble = this.#trouble instanceof Error ? `; at last: ${this.#trouble.message}` : '';
    throw this.lose(
      `${formatDuration(passed)} have passed without a renewal, and its TTL is ${formatDuration(this.#ttl)}${trouble}`,
      this.#trouble,
    );
  }

  /** News that began at this moment has come: it counts if it came in time, and throws otherwise. */
  counts(began: Instant): void {
    this.check();
    this.#since = began;
    this.#trouble = undefined;
  }

  /** Keeps why news has not come, for the error that may follow. */
  troubled(by: unknown): void {
    this.#trouble = by;
  }

  /** Gives the lease up for lost; gives the first reason for it. */
  lose(why: string, cause?: unknown): LeaseLost {
    if (this.#lost !== undefined) return this.#lost;
    this.#lost = new LeaseLost(this.id, why, cause);
    this.#controller.abort(this.#lost);
    return this.#lost;
  }
}

/** This moment. */
export function instantOf(clock: Clock): Instant {
  return { wall: clock.now(), monotonic: clock.monotonic() };
}
