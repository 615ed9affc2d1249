import { TombstonedError } from '../domain/errors.ts';
import { printable } from '../domain/key.ts';
import type { LineText } from '../metadata/lines.ts';
import type { LiveFiles } from '../metadata/live-files.ts';
import type { Place } from '../run/place.ts';

/** The first live metadata file that says nothing to rely on, as an error; those that the config protects, or that may go, are passed over. */
export function unreadableIn(
  { isProtected = () => false }: Pick<Place, 'isProtected'>,
  live: LiveFiles,
  mayGo?: ReadonlySet<string>,
): TombstonedError | undefined {
  for (const [name, error] of live.errors) {
    if (isProtected(name) || mayGo?.has(name) === true) continue;
    const { code, message, hint = '', cause } = error;
    return new TombstonedError(code, `nothing that metadata may need goes: ${message}`, {
      key: name,
      hint: `${hint}; or name it in protect, and it is passed over`,
      cause,
    });
  }
  return undefined;
}

/** Of a line as much as a message can hold. */
export function lineInWords(line: LineText): string {
  return printable(line.length <= 300 ? line : `${line.slice(0, 300).toWellFormed()}…`);
}
