import { type ErrorCode, messageOf, TombstonedError } from '../domain/errors.ts';

/** An error of the command line itself. */
export function usageError(message: string, hint?: string, key?: string): TombstonedError {
  return new TombstonedError('usage', message, { hint, key });
}

/** `MESSAGE (HINT)`. */
export function errorText(error: unknown): string {
  const hint = hintOf(error);
  return hint === null ? messageOf(error) : `${messageOf(error)} (${hint})`;
}

/** The error as the last line of stderr has it with `--json` (design, section 7). */
export function errorJson(error: unknown): string {
  const known = error instanceof TombstonedError ? error : undefined;
  return JSON.stringify({
    type: 'error',
    code: known?.code ?? ('failed' satisfies ErrorCode),
    reason: known?.reason ?? null,
    key: known?.key ?? null,
    message: messageOf(error),
    hint: hintOf(error),
  });
}

function hintOf(error: unknown): string | null {
  if (error instanceof TombstonedError) return error.hint ?? null;
  const isBug = error instanceof TypeError || error instanceof RangeError;
  return isBug ? 'this is a bug: run it again with --debug, and report what it says' : null;
}

const UNFIT = /[\p{Cc}\p{Bidi_Control}\p{Surrogate}\u2028\u2029]/gu;

/** A text without what would break the line or steer a terminal. */
export function oneLine(text: string): string {
  return text.replaceAll(UNFIT, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`);
}
