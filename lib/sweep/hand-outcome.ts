import type { KeptReason } from '../domain/kept-reason.ts';
import { keeperText, reasonOf } from '../run/claims.ts';
import type { MoveEnd } from './move.ts';

/** What became of one key that somebody has named. */
export interface HandOutcome {
  readonly key: string;
  /** The tombstone's id, where there is one. */
  readonly id: string | null;
  /** `already`: it has a pending copy and no live object, which is success. */
  readonly outcome: 'tombstoned' | 'already' | 'gone' | 'changed' | 'blocked' | 'failed';
  readonly detail: string | null;
  readonly reason: KeptReason | null;
}

/** What a guard that says no more means. */
export const GUARD_TEXT = {
  protected: 'it is protected by the config',
  'too-young': 'it is younger than minimumAge',
  error: "it can't be moved",
} as const;

/** What became of a key that a sweep was to move. */
export function outcomeOf({ key, id, end }: MoveEnd): HandOutcome {
  switch (end.as) {
    case 'moved':
      return ended(key, id, 'tombstoned', null);
    case 'gone':
      return ended(key, null, 'gone', 'it was gone before it was moved');
    case 'changed':
      return ended(key, null, 'changed', 'it was changed before it was moved', 'changed');
    case 'failed':
      return ended(key, null, 'failed', end.error.message, 'error');
    case 'held':
      return ended(key, null, 'blocked', keeperText(end.by), reasonOf(end.by));
  }
}

/** An outcome, said shortly. */
export function ended(
  key: string,
  id: string | null,
  outcome: HandOutcome['outcome'],
  detail: string | null,
  reason: KeptReason | null = null,
): HandOutcome {
  return { key, id, outcome, detail, reason };
}
