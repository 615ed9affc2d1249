import { parseTombstoneId } from '../domain/ids.ts';
import { keyProblem } from '../domain/key.ts';
import { parseDuration, parseTime } from '../domain/quantities.ts';
import { STATES, type State } from '../domain/state.ts';
import { usageError } from './fail.ts';

const WHOLE_NUMBER = /^\d{1,15}$/;

/** `--state S`. */
export function stateOf(text: string): State {
  const state = STATES.find((known) => known === text);
  if (state !== undefined) return state;
  throw usageError(`--state ${JSON.stringify(text)} is no state`, `there are: ${STATES.join(', ')}`, text);
}

/** `--limit N`. */
export function limitOf(text: string): number {
  if (WHOLE_NUMBER.test(text)) return Number(text);
  throw usageError(`--limit ${JSON.stringify(text)} is no whole number`, 'such as 100; 0 is all', text);
}

/** `--after ID`. */
export function afterOf(text: string): string {
  if (parseTombstoneId(text) !== undefined) return text;
  throw usageError(
    `--after ${JSON.stringify(text)} is no tombstone's id`,
    'give the last id of the page before',
    text,
  );
}

/** `--since T`, `--due-before T`: ms since 1970. */
export function timeOf(option: string, text: string, direction: 'ago' | 'ahead'): number {
  const time = parseTime(text, Date.now(), direction);
  if (time !== undefined) return time;
  throw usageError(
    `${option} ${JSON.stringify(text)} is no time`,
    'such as 2026-11-22T10:00:00Z, now, 36h or 7d',
    text,
  );
}

/** `--fence-timeout T` and the like: ms. */
export function durationOf(option: string, text: string | undefined): number | undefined {
  const duration = text === undefined ? undefined : parseDuration(text);
  if (duration !== undefined || text === undefined) return duration;
  throw usageError(`${option} ${JSON.stringify(text)} is no duration`, 'such as 90s or 15m', text);
}

/** `--prefix P`: the beginning of keys, or nothing for all. */
export function prefixOf(text: string): string {
  const problem = keyProblem(`${text}x`);
  if (problem === undefined) return text;
  throw usageError(`--prefix ${JSON.stringify(text)} can't begin a key: it ${problem}`, undefined, text);
}
