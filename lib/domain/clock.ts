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
  monotonic: () => Number(process.hrtime.bigint()) / 1e6, // `performance` takes longer to load
  uptime: () => Number(process.hrtime.bigint() / 1_000_000n),
  sinceBoot: () => {
    const monotonic = systemClock.uptime(); // first: what passes between is none that it is ahead
    return sinceBootOf((bootId ??= bootIn('/proc')), readFileSync('/proc/uptime', 'utf8'), monotonic);
  },
  isSynced: async () => (await askedOfNtp()) === 'yes',
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

/** Whether wall time is kept right by NTP, as the system says it; `unknown` where nothing does. */
export async function askedOfNtp(): Promise<'yes' | 'no' | 'unknown'> {
  return new Promise((resolve) => {
    const asked = ['show', '--property=NTPSynchronized', '--value'];
    // Where it is missing, or there is no systemd, nothing is known of it.
    execFile('timedatectl', asked, { timeout: SYNCED_TIMEOUT_MS }, (error, output) => {
      const said = output.trim();
      resolve(error === null && (said === 'yes' || said === 'no') ? said : 'unknown');
    });
  });
}

const SYNCED_TIMEOUT_MS = 3000;

let bootId: string | undefined;

/** The kernel's id of this boot, and whose count of it this process sees: a time namespace has its own. */
export function bootIn(proc: string): string {
  const boot = readFileSync(`${proc}/sys/kernel/random/boot_id`, 'utf8').trim();
  try {
    return `${boot} ${readlinkSync(`${proc}/self/ns/time`)}`;
  } catch (error) {
    // Linux before 5.6 has no time namespaces, and later ones may be built without: there is one count.
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return boot;
    throw error;
  }
}

/**
 * Time since boot, as `/proc/uptime` says it. In a container that may be a file of its
 * own (lxcfs), with the time since the container was started: less than the kernel's
 * monotonic time. Then that counts, as a count of its own: what two counts differ by
 * is no time that has passed.
 */
export function sinceBootOf(boot: string, uptime: string, monotonic: number): SinceBoot {
  const ms = Math.round(Number(uptime.split(' ')[0]) * 1000);
  if (!Number.isSafeInteger(ms)) throw new Error('/proc/uptime says no time');
  return ms < monotonic - UPTIME_STEP_MS ? { boot: `${boot} monotonic`, ms: monotonic } : { boot, ms };
}

/** More than /proc/uptime is rounded by. */
const UPTIME_STEP_MS = 1000;

/** Node ends a longer timer at once. */
const LONGEST_TIMER = 2 ** 31 - 1;

/** ISO 8601 UTC of a wall time, or null of none. */
export function isoTime(ms: number | null): string | null {
  return ms === null ? null : new Date(ms).toISOString();
}
