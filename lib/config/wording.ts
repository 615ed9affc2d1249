import { quote } from '../domain/key.ts';

/** `expected X, got Y`, with Y short and fit for a terminal. */
export function expected(what: string, got: unknown): string {
  return `expected ${what}, got ${shown(got)}`;
}

const SHOWN = 60;

function shown(value: unknown): string {
  if (value === undefined) return 'nothing';
  if (Array.isArray(value)) return value.length === 0 ? 'an empty list' : 'a list';
  if (typeof value === 'string') return shownText(value);
  if (value === null || typeof value === 'number' || typeof value === 'boolean') return String(value);
  return 'a mapping';
}

/** A text in quotes, cut short; without what may be credentials, as errors go to logs that many may read. */
export function shownText(text: string): string {
  const safe = text.replace(/^(\w+:\/\/)[^/@]+@/, '$1…@');
  return quote(safe.length <= SHOWN ? safe : `${safe.slice(0, SHOWN).toWellFormed()}…`);
}
