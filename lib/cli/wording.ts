import { formatDuration } from '../domain/quantities.ts';

/** `3 objects`, `1 object`. */
export function counted(count: number, thing: string): string {
  return `${count} ${thing}${count === 1 ? '' : 's'}`;
}

/** `4 hold, 1 changed`; nothing of nothing. */
export function byReason(kept: ReadonlyMap<string, number>): string {
  return [...kept].map(([reason, count]) => `${count} ${reason}`).join(', ');
}

/** When something that is due at a time goes: `now`, `in 6d 3h`. */
export function until(at: number, now: number): string {
  return at <= now ? 'now' : `in ${formatDuration(at - now)}`;
}
