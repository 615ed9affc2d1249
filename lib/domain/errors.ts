import type { KeptReason } from './kept-reason.ts';

/**
 * The closed list of error codes. Each belongs to one exit code of the CLI
 * (design, section 7): `failed` 1, `usage` and `config` 2, `not-found` 3,
 * `conflict` 4, `blocked` 5, `incomplete` 6, `unwell` 7.
 */
export const EXIT_CODES = {
  failed: 1,
  usage: 2,
  config: 2,
  'not-found': 3,
  conflict: 4,
  blocked: 5,
  incomplete: 6,
  unwell: 7,
} as const;

export type ErrorCode = keyof typeof EXIT_CODES;

export interface ErrorDetails {
  /** Why something is kept, where that is the error. */
  readonly reason?: KeptReason | undefined;
  /** The key, id, file or config path the error is about. */
  readonly key?: string | undefined;
  /** What the operator can do, as an instruction. */
  readonly hint?: string | undefined;
  readonly cause?: unknown;
}

/** The one error of this program: one line that says what and where, a code, and a hint. */
export class TombstonedError extends Error {
  readonly code: ErrorCode;
  readonly reason: KeptReason | undefined;
  readonly key: string | undefined;
  readonly hint: string | undefined;

  constructor(code: ErrorCode, message: string, details: ErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.name = 'TombstonedError';
    this.code = code;
    this.reason = details.reason;
    this.key = details.key;
    this.hint = details.hint;
  }
}

/** The exit code of whatever was thrown; anything unknown is a plain failure. */
export function exitCodeOf(error: unknown): number {
  return error instanceof TombstonedError ? EXIT_CODES[error.code] : EXIT_CODES.failed;
}

const WORST_FIRST = [1, 2, 6, 5, 4, 3, 7];

/** The worse of two exit codes of a bulk command: 1, 6, 5, 4, 3, then 0 (design, section 7). */
export function worstExitCode(a: number, b: number): number {
  if (a === 0 || b === 0) return a === 0 ? b : a;
  return WORST_FIRST.indexOf(a) <= WORST_FIRST.indexOf(b) ? a : b;
}

/** The message of whatever was thrown, on one line. */
export function messageOf(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  return text.replaceAll(/\s*[\n\r]\s*/g, ' ');
}

/** The message of whatever was thrown, with its errno name or SQLite code, once. */
export function messageWithCode(error: unknown): string {
  const text = messageOf(error);
  const code = errnoOf(error);
  return code === undefined || text.startsWith(`${code}:`) ? text : `${text} (${code})`;
}

/** The errno name (`ENOENT`, …) or SQLite code of whatever was thrown. */
export function errnoOf(error: unknown): string | undefined {
  if (typeof error !== 'object' || error === null || !('code' in error)) return undefined;
  return typeof error.code === 'string' ? error.code : undefined;
}
