import { formatDuration } from '../domain/quantities.ts';
import { matcher } from './glob.ts';
import type { Limits, Policy } from './policy.ts';

export interface AgeSettings {
  readonly name: string;
  readonly prefix: string;
  /** A glob on the key below the prefix. */
  readonly match: string;
  /** ms. */
  readonly olderThan: number;
  readonly keepLast: number;
  readonly unit: 'object' | 'directory';
  readonly limits: Limits;
}

/** The `age` policy (design, section 6): what is older than `olderThan`, but for the newest `keepLast`. */
export function agePolicy(settings: AgeSettings): Policy {
  const { name, prefix, match, olderThan, keepLast, unit, limits } = settings;
  const matches = matcher([match]);
  return {
    name,
    prefix,
    reason: `older than ${formatDuration(olderThan)}`,
    keepLast,
    limits,
    // The key that is the prefix itself has nothing left to match, and `**` is everything.
    selects: (key) => key.startsWith(prefix) && (match === '**' || matches(key.slice(prefix.length))),
    unitOf: (key) => {
      if (unit === 'object') return null;
      const end = key.indexOf('/', prefix.length);
      return end < 0 ? key : key.slice(0, end + 1);
    },
    isExpired: ({ modifiedAt }, now) => modifiedAt <= now - olderThan,
  };
}
