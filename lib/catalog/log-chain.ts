import { createHash } from 'node:crypto';

/** What the first entry has in place of a hash before it. */
export const GENESIS = Buffer.alloc(32);

/** What the hash of an entry is over: all that it says, and the hash of the one before. */
export interface Chained {
  readonly n: number;
  readonly at: number;
  readonly store: number | null;
  readonly run: number | null;
  readonly by: string | null;
  readonly uid: number | null;
  readonly via: string | null;
  readonly what: string;
  readonly tombstone: string | null;
  readonly key: string | null;
  readonly batchAt: number | null;
  readonly count: number | null;
  readonly bytes: number | null;
  readonly cause: string | null;
  readonly detail: string | null;
  readonly rows: Buffer | null;
  readonly prev: Buffer;
}

/** The hash of an entry: SHA-256 of a JSON array in UTF-8, digests in hex (docs/log.md). */
export function entryHash(entry: Chained): Buffer {
  const { n, at, store, run, by, uid, via, what, tombstone, key, batchAt, count, bytes } = entry;
  const { cause, detail, rows, prev } = entry;
  const about = [n, at, store, run, by, uid, via, what, tombstone, key, batchAt, count, bytes, cause, detail];
  return hashOf([...about, rows === null ? null : hex(rows), hex(prev)]);
}

/** The same of its members as SQL gives them, in that order; for a migration. */
export function hashOfValues(...values: unknown[]): Buffer {
  const prev = values.at(-1);
  const rows = values.at(-2);
  if (!(prev instanceof Uint8Array)) throw new TypeError('no hash before');
  const digest = rows instanceof Uint8Array ? hex(rows) : null;
  return hashOf([...values.slice(0, -2), digest, hex(prev)]);
}

function hashOf(values: readonly unknown[]): Buffer {
  return createHash('sha256')
    .update(JSON.stringify(['tombstoned log 1', ...values]))
    .digest();
}

/** What never changes in a tombstone. */
export interface DigestRow {
  readonly id: string;
  readonly key: string;
  readonly size: number;
  /** As text. */
  readonly revision: string;
}

/** The digest over tombstones, whatever their order: SHA-256 over a line of JSON each, by id. */
export function rowsDigest(rows: readonly DigestRow[]): Buffer {
  const digest = createHash('sha256');
  for (const { id, key, size, revision } of rows.toSorted((a, b) => (a.id < b.id ? -1 : 1)))
    digest.update(`${JSON.stringify([id, key, size, revision])}\n`);
  return digest.digest();
}

export function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}

/** A text as SQLite keeps it: half a character would be another one when it is read again. */
export function kept(text: string | undefined): string | null {
  return text === undefined ? null : text.toWellFormed();
}
