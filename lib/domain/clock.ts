import { setTimeout as delay } from 'node:timers/promises';

/** Where time comes from, so that tests can drive it. */
export interface Clock {
  /** Wall time, ms since 1970 UTC. */
  now(): number;
  /** Monotonic time of this process, ms; only differences mean anything. */
  monotonic(): number;
  /** Monotonic time of the machine since it booted, ms: the same in all its processes. */
  uptime(): number;
  /** Waits `ms`; ends early, without an error, when the signal aborts. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
}

export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  uptime: () => Number(process.hrtime.bigint() / 1_000_000n),
  sleep: async (ms, signal) => {
    try {
      let left = ms;
      do {
        await delay(Math.min(left, LONGEST_TIMER), undefined, signal === undefined ? {} : { signal });
        left -= LONGEST_TIMER;
      } while (left > 0);
    } catch (error) {
      if (signal?.aborted !== true) throw error;
    }
  },
};

/** Node ends a longer timer at once. */
const LONGEST_TIMER = 2 ** 31 - 1;

/** ISO 8601 UTC of a wall time, or null of none. */
export function isoTime(ms: number | null): string | null {
  return ms === null ? null : new Date(ms).toISOString();
}
