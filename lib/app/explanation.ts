import type { CachedHold } from '../catalog/holds.ts';
import { TombstonedError } from '../domain/errors.ts';
import { splitPendingName } from '../domain/ids.ts';
import type { KeptReason } from '../domain/kept-reason.ts';
import { isBelowPrefix, type Key, printable } from '../domain/key.ts';
import type { State } from '../domain/state.ts';
import type { Store } from '../store/store.ts';

/** One reason why something is kept, and what would change that. */
export interface Because {
  readonly reason: KeptReason;
  /** When it ends by itself, ms since 1970, or null. */
  readonly until: number | null;
  readonly detail: string;
  readonly change: string;
}

export interface ExplainedLive {
  /** Bytes. */
  readonly size: number;
  /** ms since 1970. */
  readonly modifiedAt: number;
  /** The policy that takes it with the next sweep; null of one that is kept, or of a look without a config. */
  readonly takenBy: string | null;
  readonly kept: readonly Because[];
}

export interface ExplainedCopy {
  readonly id: string;
  /** As the catalog has it; null of one that it does not know. */
  readonly state: State | null;
  /** Bytes; null of one that is not in the store. */
  readonly size: number | null;
  /** ms since 1970. */
  readonly tombstonedAt: number;
  /** When a purge may take it; null when none will, or when only the catalog knows. */
  readonly dueAt: number | null;
  readonly kept: readonly Because[];
}

/** Where a key is in one store, and why. */
export interface Explanation {
  readonly key: Key;
  readonly store: string;
  readonly live: ExplainedLive | null;
  /** Newest first. */
  readonly copies: readonly ExplainedCopy[];
}

/** Throws `usage` for the name of a pending copy: it is no object's key. */
export function refusePendingName(store: Store, key: Key): void {
  if (!isBelowPrefix(`${key}/`, store.pendingPrefix)) return;
  const parts = splitPendingName(key.slice(store.pendingPrefix.length));
  throw new TombstonedError(
    'usage',
    `${printable(key)} is below ${store.pendingPrefix}, where pending copies are`,
    {
      key,
      hint: parts === undefined ? 'name an object by its key' : `see tombstonectl explain ${parts.id}`,
    },
  );
}

/** What a hold or exemption says. `byHand` is the command that goes past an exemption, or null. */
export function becauseOf(
  hold: Pick<CachedHold, 'name' | 'kind' | 'until' | 'reason' | 'by' | 'problem'>,
  byHand: string | null,
): Because {
  const { name, kind, until, reason, by, problem } = hold;
  const id = name.replace(/\.json$/, '');
  if (kind === 'exempt') {
    const change = byHand === null ? 'it ends by itself' : `it ends by itself; until then ${byHand}`;
    return { reason: 'exempt', until, detail: `policies leave it alone: ${reason} (${id})`, change };
  }
  const detail = problem === null ? `hold ${id} of ${by}: ${reason}` : `.tombstoned/holds/${name} ${problem}`;
  return { reason: 'hold', until, detail, change: `whoever set it takes .tombstoned/holds/${name} away` };
}

/** A text as one word of a shell's command line. */
export function shellWord(text: string): string {
  if (/^[\w@%+=:,./][\w@%+=:,./-]*$/.test(text)) return text;
  const quoted =
    printable(text) === text ? `'${text.replaceAll("'", String.raw`'\''`)}'` : `$'${escaped(text)}'`;
  return text.startsWith('-') ? `-- ${quoted}` : quoted;
}

/** What bash reads between `$'` and `'`. */
function escaped(text: string): string {
  return text.replaceAll(/[\\']/g, String.raw`\$&`).replaceAll(UNPRINTABLE, (c) => {
    return String.raw`\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`;
  });
}

const UNPRINTABLE = /[\p{Cc}\p{Bidi_Control}\u2028\u2029]/gu;
