import type { Revision, S3Revision } from '../../domain/revision.ts';
import type { Head } from './api.ts';

/** What a listing or a look says of a content. */
export function revisionOf({
  etag,
  size,
  modifiedAt,
}: Pick<Head, 'etag' | 'size' | 'modifiedAt'>): S3Revision {
  // Some listings have ms, and no HEAD; version ids are in no listing of names.
  return { kind: 's3', etag, size, modifiedAt: wholeSeconds(modifiedAt), versionId: null };
}

export function wholeSeconds(ms: number): number {
  return Math.floor(ms / 1000) * 1000;
}

/** A revision of this kind of store. Throws for one of another: the catalog was not made for this store. */
export function s3Revision(revision: Revision): S3Revision {
  if (revision.kind === 's3') return revision;
  throw new TypeError('a revision of a local store, for a bucket');
}
