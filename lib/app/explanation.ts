import type { CachedHold } from '../catalog/holds.ts';
import { TombstonedError } from '../domain/errors.ts';
import { idOfFile, splitPendingName } from '../domain/ids.ts';
import type { KeptReason } from '../domain/kept-reason.ts';
import { isBelowPrefix, type Key, printable } from '../domain/key.ts';
import type { State } from '../domain/state.ts';
import type { Store } from '../store/store.ts';
import {
  type FenceStanding,
  fenceText,
  holdText,
  type LeaseStanding,
  leaseDetail,
} from './standing-claims.ts';

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
  /** Of one that is kept: the policy that would take it otherwise, or null. */
  readonly wouldTake: string | null;
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
  /** How it came to its end; null of one that has not, or that the catalog does not know. */
  readonly ended: ExplainedEnd | null;
  readonly kept: readonly Because[];
}

/** When a tombstone was purged or abandoned (ms since 1970), by whom (`user@host`), and how. */
export interface ExplainedEnd {
  readonly at: number;
  readonly by: string | null;
  readonly detail: string | null;
}

/** A request of a drop-in directory that names a key, and is not done with. */
export interface ExplainedRequest {
  /** Its file's name, without `.keys`. */
  readonly name: string;
  readonly policy: string;
  /** Whether it is over a limit. */
  readonly isWaiting: boolean;
  /** The plan under which it waits for approval, or null. */
  readonly sweep: string | null;
  /** Why it asks, as it says itself. */
  readonly reason: string | null;
}

/** Where a key is in one store, and why. */
export interface Explanation {
  readonly key: Key;
  readonly store: string;
  readonly live: ExplainedLive | null;
  /** Newest first. */
  readonly copies: readonly ExplainedCopy[];
  readonly requests: readonly ExplainedRequest[];
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

/**
 * What a hold or exemption says. `ctl` is how a command line about its store
 * begins, `byHand` the command that goes past an exemption, or null.
 */
export function becauseOfHold(
  hold: Pick<CachedHold, 'name' | 'kind' | 'until' | 'reason' | 'by' | 'problem'>,
  ctl: string,
  byHand: string | null,
): Because {
  const { name, kind, until } = hold;
  const release = `${ctl} release ${shellWord(idOfFile(name))}`;
  const detail = holdText(hold);
  if (kind === 'hold') return { reason: 'hold', until, detail, change: release };
  const change = byHand === null ? 'it ends by itself' : `it ends by itself; until then ${byHand}`;
  return { reason: 'exempt', until, detail, change: `${change}, or ${release}` };
}

/** What a lease says: it ends with its restore. */
export function becauseOfLease(standing: LeaseStanding, ctl: string): Because {
  const command = `${ctl} lease break ${shellWord(standing.lease.id)} --reason TEXT`;
  const change =
    standing.lease.problem === null ? `it ends with its restore; if that is dead, ${command}` : command;
  return { reason: 'lease', until: null, detail: leaseDetail(standing), change };
}

/** What a fence says: a batch is about the object right now, or was when its process died. */
export function becauseOfFence(standing: FenceStanding, ctl: string): Because {
  const id = shellWord(idOfFile(standing.fence.name));
  const command = `${ctl} fence break ${id} --reason TEXT`;
  return {
    reason: 'fence',
    until: null,
    detail: fenceText(standing),
    change: CHANGES[standing.life](command),
  };
}

const CHANGES = {
  running: () => 'it is over soon; look again',
  died: () => 'any sweep, purge or restore finishes what it left',
  elsewhere: (command) =>
    `its own catalog's next sweep or purge finishes it; if its process is gone for good, ${command} --force`,
  unclear: (command) => `if its process is gone for good, ${command} --force`,
} as const satisfies Record<FenceStanding['life'], (command: string) => string>;

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
