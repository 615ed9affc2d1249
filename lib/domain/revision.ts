import { hash } from 'node:crypto';

/** Tells two contents of one local key apart: size in bytes and mtime in ns since 1970. */
export interface LocalRevision {
  readonly kind: 'local';
  readonly size: number;
  readonly mtimeNs: bigint;
}

/** Tells two contents of one S3 key apart. */
export interface S3Revision {
  readonly kind: 's3';
  /** Without quotes or `W/`. */
  readonly etag: string;
  /** Bytes. */
  readonly size: number;
  /** LastModified, ms since 1970: whole seconds, except where a listing says more. */
  readonly modifiedAt: number;
  /** Null where there is none, or it is `null`. */
  readonly versionId: string | null;
  /** Null is the standard class: a copy must name it, and does not look for it. */
  readonly storageClass: string | null;
}

/** What tells two contents of one key apart (design, section 2). */
export type Revision = LocalRevision | S3Revision;

/**
 * The revision as one line of text, for the catalog and JSON: `size|mtimeNs`, or
 * `etag|size|modifiedAt|versionId`, with `|storageClass` of one that is not the standard.
 */
export function revisionText(revision: Revision): string {
  if (revision.kind === 'local') return `${revision.size}|${revision.mtimeNs}`;
  const { etag, size, modifiedAt, versionId, storageClass } = revision;
  const text = `${etag}|${size}|${modifiedAt}|${versionId === null ? '' : encodeURIComponent(versionId)}`;
  return storageClass === null ? text : `${text}|${storageClass}`;
}

const LOCAL = /^(0|[1-9]\d{0,15})\|(-?\d{1,30})$/;
const S3 = /^([^|]+)\|(0|[1-9]\d{0,15})\|(\d{1,15})\|([\w%.~!*'()-]*)(?:\|(\w+))?$/;

/** Reads what `revisionText` wrote; undefined when it is no revision. */
export function parseRevision(text: string): Revision | undefined {
  const local = LOCAL.exec(text);
  if (local?.[1] !== undefined && local[2] !== undefined)
    return { kind: 'local', size: Number(local[1]), mtimeNs: BigInt(local[2]) };
  const s3 = S3.exec(text);
  if (s3?.[1] === undefined || s3[4] === undefined) return undefined;
  const versionId = s3[4] === '' ? null : decoded(s3[4]);
  if (versionId === undefined) return undefined;
  const [, etag, size, modifiedAt, , storageClass = null] = s3;
  return { kind: 's3', etag, size: Number(size), modifiedAt: Number(modifiedAt), versionId, storageClass };
}

function decoded(text: string): string | undefined {
  try {
    return decodeURIComponent(text);
  } catch {
    return undefined;
  }
}

/**
 * Whether two revisions are one content, as far as readers tell: size and mtime,
 * or ETag and size (R6).
 */
export function sameRevision(a: Revision, b: Revision): boolean {
  if (a.kind === 'local') return b.kind === 'local' && a.size === b.size && a.mtimeNs === b.mtimeNs;
  return b.kind === 's3' && a.size === b.size && a.etag === b.etag;
}

/** When its content was written, ns since 1970, as far as the store knows. */
export function modifiedNs(revision: Revision): bigint {
  return revision.kind === 'local' ? revision.mtimeNs : BigInt(revision.modifiedAt) * 1_000_000n;
}

const ALPHABET = '0123456789abcdefghjkmnpqrstvwxyz';

/**
 * The 8 characters that stand for a revision in a tombstone id: the first 40
 * bits, most significant first, of SHA-256 over its ASCII text: `size|mtimeNs`, or
 * `etag|size` (design, section 3).
 */
export function revisionHash(revision: Revision): string {
  return hashOf(revision.kind === 'local' ? revisionText(revision) : `${revision.etag}|${revision.size}`);
}

/** The same, of what `revisionText` made. */
export function revisionTextHash(text: string): string {
  const end = text.indexOf('|', text.indexOf('|') + 1);
  return hashOf(end < 0 ? text : text.slice(0, end));
}

function hashOf(text: string): string {
  const hex = hash('sha256', text, 'hex');
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

/** What readers of a bucket compare: ETag and size, without the rest. */
const ETAG_AND_SIZE = /^([^|]+)\|(0|[1-9]\d{0,15})$/;

/** Whether a text names a revision of a kind of store, whole or so. */
export function isRevision(text: string, kind: Revision['kind']): boolean {
  if (kind === 's3' && ETAG_AND_SIZE.test(text)) return true;
  return parseRevision(text)?.kind === kind;
}

/** Whether a live object's revision is the one that such a text names. */
export function isWanted(live: Revision, wanted: string): boolean {
  const short = live.kind === 's3' ? ETAG_AND_SIZE.exec(wanted) : null;
  if (live.kind === 's3' && short !== null) return live.etag === short[1] && live.size === Number(short[2]);
  const revision = parseRevision(wanted);
  return revision !== undefined && sameRevision(live, revision);
}
