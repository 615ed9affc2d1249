import { randomInt } from 'node:crypto';
import type { Key } from './key.ts';
import { asKey } from './key.ts';
import { base32, type Revision, revisionHash, sameRevision } from './revision.ts';

/** `YYYYMMDDTHHMMSSmmmZ-` then 8 characters of revision hash, 4 of counter, 2 random. */
const TOMBSTONE_ID = /^(\d{8}T\d{9}Z)-([0-9a-hjkmnp-tv-z]{8})([0-9a-hjkmnp-tv-z]{6})$/;
const PLAIN_ID = /^([srlhq])-(\d{8}T\d{9}Z)-[0-9a-hjkmnp-tv-z]{6}$/;

/** `~` and an id: what a pending name is longer than its key, in bytes. */
export const PENDING_SUFFIX_BYTES = 35;

/** How many ids one batch can give out. */
export const MAX_BATCH = 32 ** 4;

/** Where the random part of ids comes from, so that tests can drive it: an integer in [0, below). */
export type RandomSource = (below: number) => number;

export const systemRandom: RandomSource = (below) => randomInt(below);

/** A wall time as ids begin with it. Throws RangeError outside years 0–9999. */
export function idTime(ms: number): string {
  const iso = new Date(ms).toISOString();
  if (iso.length !== 24) throw new RangeError(`no id can be made at ${iso}`);
  return iso.replaceAll(/[-:.]/g, '');
}

/** Reads an id's time back as ms; undefined when there is no such time. */
function parseIdTime(text: string): number | undefined {
  // Ids that are read together are of few batches, and a batch has one time.
  if (text !== lastTime.text) lastTime = { text, ms: idTimeOf(text) };
  return lastTime.ms;
}

let lastTime: { readonly text: string; readonly ms: number | undefined } = { text: '', ms: undefined };

function idTimeOf(text: string): number | undefined {
  const iso = text.replace(/^(.{4})(.{2})(.{5})(.{2})(.{2})(.{3})Z$/, '$1-$2-$3:$4:$5.$6Z');
  const ms = Date.parse(iso);
  return Number.isNaN(ms) || new Date(ms).toISOString() !== iso ? undefined : ms;
}

/**
 * A tombstone id (design, section 3). `batchTime` is `idTime` of the batch,
 * `counter` the object's place in it (0 to MAX_BATCH - 1).
 */
export function makeTombstoneId(
  batchTime: string,
  hash: string,
  counter: number,
  random: RandomSource,
): string {
  return `${batchTime}-${hash}${base32(counter, 4)}${base32(random(1024), 2)}`;
}

export interface TombstoneIdParts {
  /** When its batch was moved, ms since 1970. */
  readonly at: number;
  readonly revisionHash: string;
}

/** Reads a tombstone id; undefined when the text is none. */
export function parseTombstoneId(text: string): TombstoneIdParts | undefined {
  const match = TOMBSTONE_ID.exec(text);
  if (match?.[1] === undefined || match[2] === undefined) return undefined;
  const at = parseIdTime(match[1]);
  return at === undefined ? undefined : { at, revisionHash: match[2] };
}

/**
 * Whether a pending copy is one of a revision: on S3 its id says so, since a
 * copy's ETag may be another than its source's (R6); locally only the file does.
 */
export function isCopyOf(id: string, copy: Revision, revision: Revision): boolean {
  if (sameRevision(copy, revision)) return true;
  if (copy.kind !== 's3' || revision.kind !== 's3' || copy.size !== revision.size) return false;
  return parseTombstoneId(id)?.revisionHash === revisionHash(revision);
}

/**
 * Whether a pending copy on S3 has another ETag than its source had, both of the form of
 * an MD5: they are not the same bytes, unless either was encrypted with a key.
 */
export function hasOtherMd5(copy: Revision, revision: Revision): boolean {
  if (copy.kind !== 's3' || revision.kind !== 's3') return false;
  return copy.etag !== revision.etag && [copy, revision].every(({ etag }) => MD5.test(etag));
}

const MD5 = /^[\da-f]{32}$/;

/** `s-`, `r-`, `l-`, `h-`, `q-`: sweep, run, lease, hold, request. */
export type PlainIdKind = 's' | 'r' | 'l' | 'h' | 'q';

/** A sweep's, run's, lease's, hold's or request's id: its kind, the time, and 6 random characters. */
export function makePlainId(kind: PlainIdKind, ms: number, random: RandomSource): string {
  return `${kind}-${idTime(ms)}-${base32(random(32 ** 6), 6)}`;
}

/** Whether a text has the form of a sweep's, run's, lease's, hold's or request's id. */
export function isPlainId(text: string, kind: PlainIdKind): boolean {
  const match = PLAIN_ID.exec(text);
  return match?.[1] === kind && match[2] !== undefined && parseIdTime(match[2]) !== undefined;
}

/** When such an id was made, ms since 1970; undefined when the text is none. */
export function plainIdTime(text: string): number | undefined {
  const time = PLAIN_ID.exec(text)?.[2];
  return time === undefined ? undefined : parseIdTime(time);
}

/** `pending prefix + key + "~" + id`. */
export function pendingName(pendingPrefix: string, key: string, id: string): string {
  return `${pendingPrefix}${key}~${id}`;
}

/** A key and id from a name below the pending prefix, cut at the last `~`; undefined when it is none. */
export function splitPendingName(name: string): { key: Key; id: string } | undefined {
  const cut = name.lastIndexOf('~');
  if (cut < 0) return undefined;
  const key = asKey(name.slice(0, cut));
  const id = name.slice(cut + 1);
  return key === undefined || parseTombstoneId(id) === undefined ? undefined : { key, id };
}

/** The id of a lease, fence or hold, by the name of its file; a name that is no such one stays as it is. */
export function idOfFile(name: string): string {
  return name.replace(/\.json$/, '');
}
