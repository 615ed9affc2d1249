import { messageOf, TombstonedError } from '../../domain/errors.ts';

/** What was examined, and how it stands. What is not known is never `ok`. */
export interface Finding {
  readonly check: string;
  readonly level: 'ok' | 'warn' | 'fail';
  readonly text: string;
  /** What to do about it, a command where there is one; or null. */
  readonly remedy: string | null;
}

export function ok(check: string, text: string): Finding {
  return { check, level: 'ok', text, remedy: null };
}

export function warning(check: string, text: string, remedy: string | null): Finding {
  return { check, level: 'warn', text, remedy };
}

export function failing(check: string, text: string, remedy: string | null): Finding {
  return { check, level: 'fail', text, remedy };
}

/** What went wrong while something was examined. */
export function failed(check: string, error: unknown): Finding {
  const hint = error instanceof TombstonedError ? error.hint : undefined;
  return failing(check, messageOf(error), hint ?? null);
}

/** What `work` says of something, or what it throws: nothing that is wrong ends the examination. */
export async function examined(
  check: string,
  work: () => Promise<string | Finding> | string | Finding,
): Promise<Finding> {
  try {
    const found = await work();
    return typeof found === 'string' ? ok(check, found) : found;
  } catch (error) {
    return failed(check, error);
  }
}
