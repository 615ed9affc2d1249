import { type Limits, overLimit } from '../policy/policy.ts';
import type { Place } from '../run/place.ts';

/** Which limit a plan is over that is of the whole store, or null; the store is listed only as far as that takes. */
export async function overOfStore(
  place: Place,
  { limits, signal }: { limits: Limits; signal?: AbortSignal | undefined },
  planned: { objects: number; bytes: number },
): Promise<string | null> {
  if (planned.objects === 0) return null;
  const { maxFraction } = limits;
  const selected = maxFraction === null ? 0 : await countLive(place, signal, planned.objects / maxFraction);
  return overLimit(limits, { ...planned, selected });
}

/** How many live objects there are, counted until they are enough. */
export async function countLive(place: Place, signal?: AbortSignal, enough = Infinity): Promise<number> {
  let count = 0;
  for await (const page of place.store.list('', signal)) {
    count += page.filter(({ type }) => type === 'object').length;
    if (count >= enough) break;
  }
  return count;
}
