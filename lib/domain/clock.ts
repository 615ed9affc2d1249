import { execFile } from 'node:child_process';
import { readFileSync, readlinkSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';

/** Where time comes from, so that tests can drive it. */
export interface Clock {
  /** Wall time, ms since 1970 UTC. */
  now(): number;
  /** Monotonic time of this process, ms; only differences mean anything. */
  monotonic(): number;
  /** Monotonic time of the machine since it booted, ms: the same in all its processes. */
  uptime(): number;
  /** Time since the machine booted, with what it was suspended for: which boot, and ms. */
  sinceBoot(): SinceBoot;
  /** Whether the kernel says that wall time is kept right by others (NTP); false where nothing says so. */
  isSynced(): Promise<boolean>;
  /** Waits `ms`; ends early, without an error, when the signal aborts. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
}

interface SinceBoot {
  readonly boot: string;
  readonly ms: number;
}

export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  uptime: () => Number(process.hrtime.bigint() / 1_000_000n),
  sinceBoot: () => {
    const [seconds] = readFileSync('/proc/uptime', 'utf8').split(' ');
    const ms = Math.round(Number(seconds) * 1000);
    if (!Number.isSafeInteger(ms)) throw new Error('/proc/uptime says no time');
    return { boot: (bootId ??= readBootId()), ms };
  },
  isSynced: async () =>
    new Promise((resolve) => {
      const asked = ['show', '--property=NTPSynchronized', '--value'];
      // Where it is missing, or there is no systemd, nothing is known of it.
      execFile('timedatectl', asked, { timeout: SYNCED_TIMEOUT_MS }, (error, said) => {
        resolve(error === null && said.trim() === 'yes');
      });
    }),
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

const SYNCED_TIMEOUT_MS = 3000;

let bootId: string | undefined;

/** The kernel's id of this boot, and whose count of it this process sees: a time namespace has its own. */
function readBootId(): string {
  return `${readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()} ${readlinkSync('/proc/self/ns/time')}`;
}

/** Node ends a longer timer at once. */
const LONGEST_TIMER = 2 ** 31 - 1;

/** ISO 8601 UTC of a wall time, or null of none. */
export function isoTime(ms: number | null): string | null {
  return ms === null ? null : new Date(ms).toISOString();
}
