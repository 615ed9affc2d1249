import type { Clock } from '../domain/clock.ts';
import { retireShared } from './batch.ts';
import type { Place } from './place.ts';
import type { Run } from './run.ts';

/** How much a store may be asked for in a second; null is no bound. */
export interface PaceSettings {
  readonly requestsPerSecond: number | null;
  readonly bytesPerSecond: number | null;
}

/**
 * Spreads batches over time: so many objects a second, and so many bytes. A batch
 * has about a second's worth, and the next begins when its time is over.
 */
export class Pace {
  readonly #settings: PaceSettings;
  readonly #clock: Clock;
  /** When the next batch may begin, by the monotonic clock. */
  #freeAt = Number.NEGATIVE_INFINITY;

  constructor(settings: PaceSettings, clock: Clock) {
    this.#settings = settings;
    this.#clock = clock;
  }

  /** The first of what a batch would have, as many as are worth a second; at least one. */
  first<T extends { readonly size: number }>(items: readonly T[]): readonly T[] {
    return firstOf(items, this.most, this.#settings.bytesPerSecond);
  }

  /** How many objects a batch has at the most. */
  get most(): number {
    return Math.max(1, Math.floor(this.#settings.requestsPerSecond ?? Number.MAX_SAFE_INTEGER));
  }

  /** How many bytes a batch has at the most, unless it is one object. */
  get mostBytes(): number | null {
    return this.#settings.bytesPerSecond;
  }

  /** Notes what a batch has taken. */
  spend(items: readonly { readonly size: number }[]): void {
    const { requestsPerSecond, bytesPerSecond } = this.#settings;
    const bytes = items.reduce((sum, { size }) => sum + size, 0);
    const seconds = Math.max(
      requestsPerSecond === null ? 0 : items.length / requestsPerSecond,
      bytesPerSecond === null ? 0 : bytes / bytesPerSecond,
    );
    this.#freeAt = Math.max(this.#freeAt, this.#clock.monotonic()) + seconds * 1000;
  }

  /** How long the next batch has to wait, ms. */
  get left(): number {
    return Math.max(0, this.#freeAt - this.#clock.monotonic());
  }
}

/** The first of some items: at most so many, and so many bytes; at least one. */
export function firstOf<T extends { readonly size: number }>(
  items: readonly T[],
  most: number,
  mostBytes: number | null,
): readonly T[] {
  let bytes = 0;
  const end = items.findIndex(({ size }, i) => {
    bytes += size;
    return i > 0 && (i >= most || (mostBytes !== null && bytes > mostBytes));
  });
  return end < 0 ? items : items.slice(0, end);
}

/** How long a fence that batches share may stay up for nothing. ms. */
const SHORT_MS = 10_000;

/** Waits until the next batch may begin, or the signal aborts; before its fence is up, so that nobody waits for it. */
export async function waitForPace(place: Place, run: Run, signal: AbortSignal | undefined): Promise<void> {
  const left = place.pace?.left ?? 0;
  if (left === 0) return;
  if (left > SHORT_MS) await retireShared(place, run);
  await place.clock.sleep(left, signal);
}
