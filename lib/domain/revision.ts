import { hash } from 'node:crypto';

/** Tells two contents of one local key apart: size in bytes and mtime in ns since 1970. */
export interface LocalRevision {
  readonly kind: 'local';
  readonly size: number;
  readonly mtimeNs: bigint;
}

/** What tells two contents of one key apart (design, section 2). */
export type Revision = LocalRevision;

/** The revision as one line of text, for the catalog and JSON: `size|mtimeNs`. */
export function revisionText(revision: Revision): string {
  return `${revision.size}|${revision.mtimeNs}`;
}

const LOCAL = /^(0|[1-9]\d{0,15})\|(-?\d{1,30})$/;

/** Reads what `revisionText` wrote; undefined when it is no revision. */
export function parseRevision(text: string): Revision | undefined {
  const match = LOCAL.exec(text);
  if (match?.[1] === undefined || match[2] === undefined) return undefined;
  return { kind: 'local', size: Number(match[1]), mtimeNs: BigInt(match[2]) };
}

/** Whether two revisions are one content, as far as a listing can tell. */
export function sameRevision(a: Revision, b: Revision): boolean {
  return a.size === b.size && a.mtimeNs === b.mtimeNs;
}

const ALPHABET = '0123456789abcdefghjkmnpqrstvwxyz';

/**
 * The 8 characters that stand for a revision in a tombstone id: the first 40
 * bits, most significant first, of SHA-256 over its ASCII text (design, section 3).
 */
export function revisionHash(revision: Revision): string {
  const hex = hash('sha256', revisionText(revision), 'hex');
  const high = Number.parseInt(hex.slice(0, 5), 16);
  const low = Number.parseInt(hex.slice(5, 10), 16);
  return base32(high, 4) + base32(low, 4);
}

/** A number below 32^length in `length` characters of the ids' alphabet. */
export function base32(value: number, length: number): string {
  let text = '';
  for (let i = 0; i < length; i++) {
    text = (ALPHABET[value % 32] ?? '') + text;
    value = Math.floor(value / 32);
  }
  return text;
}
