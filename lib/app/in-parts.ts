import { setImmediate } from 'node:timers/promises';

/** How long one part may take, about. ms */
const PART_MS = 5;
const FIRST = 1000;
const LEAST = 100;
const MOST = 20_000;

/**
 * Goes through something large in parts, so that others get their turns between
 * them: each is given how much it may look at, which shrinks and grows with how long
 * the one before took, and gives where the next begins, or null. Ends early, with
 * false, when the signal aborts.
 */
export async function inParts<Start>(
  look: (start: Start | null, limit: number) => Start | null,
  monotonic: () => number,
  signal: AbortSignal,
): Promise<boolean> {
  let limit = FIRST;
  for (let start: Start | null = null; ; ) {
    const began = monotonic();
    start = look(start, limit);
    if (start === null) return true;
    const took = monotonic() - began;
    if (took > PART_MS) limit = Math.max(LEAST, Math.floor(limit / 2));
    else if (took < PART_MS / 2) limit = Math.min(MOST, limit * 2);
    await setImmediate();
    if (signal.aborted) return false;
  }
}
