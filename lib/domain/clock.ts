import { setTimeout as delay } from 'node:timers/promises';

/** Where time comes from, so that tests can drive it. */
export interface Clock {
  /** Wall time, ms since 1970 UTC. */
  now(): number;
  /** Monotonic time of this process, ms; only differences mean anything. */
  monotonic(): number;
  /** Waits `ms`; ends early, without an error, when the signal aborts. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
}

export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  sleep: async (ms, signal) => {
    try {
      await delay(ms, undefined, signal === undefined ? {} : { signal });
    } catch (error) {
      if (signal?.aborted !== true) throw error;
    }
  },
};

/** ISO 8601 UTC of a wall time, or null of none. */
export function isoTime(ms: number | null): string | null {
  return ms === null ? null : new Date(ms).toISOString();
}
