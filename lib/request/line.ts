import { messageOf } from '../domain/errors.ts';
import { asKey, type Key, keyProblem, printable, quote } from '../domain/key.ts';
import { isRevision, type Revision } from '../domain/revision.ts';

/** Which revisions a store's objects have. */
export type StoreKind = Revision['kind'];

/** What one line of a request asks for. */
export interface Asked {
  readonly key: Key;
  /** Only this revision is meant; null is whichever there is. */
  readonly wanted: string | null;
  readonly reason: string | null;
}

/** Reads a line of a request (design, section 8): what it asks for, nothing (a comment), or what is wrong with it. */
export function readLine(text: string, kind: StoreKind): Asked | { readonly problem: string } | undefined {
  if (text === '' || text.startsWith('#')) return undefined;
  if (text.startsWith('{')) return readObject(text, kind);
  return asking(text, null, null);
}

const MEMBERS = ['key', 'revision', 'reason'];

function readObject(text: string, kind: StoreKind): Asked | { readonly problem: string } {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    return { problem: `not valid JSON: ${printable(messageOf(error)).slice(0, 200)}` };
  }
  if (typeof value !== 'object' || value === null) return { problem: 'not a JSON object' };
  // A misspelt revision would be no guard.
  const other = Object.keys(value).find((name) => !MEMBERS.includes(name));
  if (other !== undefined) {
    return {
      problem: `no member ${quote(other.slice(0, 60).toWellFormed())}; there are ${MEMBERS.join(', ')}`,
    };
  }
  const { key, revision = null, reason = null }: Readonly<Record<string, unknown>> = { ...value };
  if (typeof key !== 'string') return { problem: 'the object has no "key" that is a text' };
  if (reason !== null && (typeof reason !== 'string' || !reason.isWellFormed())) {
    return { problem: '"reason" is no text' };
  }
  if (revision === null) return asking(key, null, reason);
  if (typeof revision !== 'string' || !isRevision(revision, kind)) {
    const form = kind === 'local' ? 'SIZE|MTIME, in bytes and ns' : 'ETAG|SIZE';
    return { problem: `"revision" is none of this store: expected "${form}", as ls and show have it` };
  }
  return asking(key, revision, reason);
}

function asking(text: string, wanted: string | null, reason: string | null): Asked | { problem: string } {
  const key = asKey(text);
  if (key !== undefined) return { key, wanted, reason };
  return { problem: `${shortened(text)} is not a key: it ${keyProblem(text)}` };
}

function shortened(text: string): string {
  return quote(text.length <= 200 ? text : `${text.slice(0, 200).toWellFormed()}…`);
}
