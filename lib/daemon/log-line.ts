import { isoTime } from '../domain/clock.ts';
import { printable } from '../domain/key.ts';

export type Level = 'error' | 'warn' | 'info' | 'debug';

/** What a line says beside its message: `store`, `key`, `hint`, figures. Undefined members are left out. */
export type Fields = Readonly<Record<string, unknown>>;

export interface Entry {
  readonly time: number;
  readonly level: Level;
  readonly message: string;
  readonly fields: Fields;
}

/** An entry for machines: one JSON object on one line. */
export function jsonLine({ time, level, message, fields }: Entry): string {
  return JSON.stringify({ time: isoTime(time), level, message, ...fields });
}

/** An entry for people: time, level, store, message, hint; a stack below it. `paint` colours a text by its level. */
export function readableLine(entry: Entry, paint: (level: Level, text: string) => string): string {
  const { time, level, message, fields } = entry;
  const { store, hint, stack } = fields;
  const where = typeof store === 'string' ? `${printable(store)}: ` : '';
  const what = typeof hint === 'string' ? `${printable(message)} (${printable(hint)})` : printable(message);
  const below = typeof stack === 'string' ? stack.split('\n').map((line) => `\n    ${printable(line)}`) : [];
  return `${isoTime(time)} ${paint(level, level.padEnd(5))} ${where}${what}${below.join('')}`;
}
