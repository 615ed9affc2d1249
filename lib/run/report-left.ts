import { messageOf } from '../domain/errors.ts';
import { printable } from '../domain/key.ts';
import type { Place } from './place.ts';

/** Says that a recovery could not look at an object, and has left its tombstone as it is. */
export function reportLeft(
  place: Pick<Place, 'report'>,
  { key, id }: { key: string; id: string },
  error: unknown,
): void {
  const why = messageOf(error);
  const about = why.startsWith(printable(key)) ? why : `${printable(key)}: ${why}`;
  place.report('error', `${about}; what a run that died has left of it stays as it is`, {
    key,
    id,
    hint: 'see to the store; the next recovery looks again',
  });
}
