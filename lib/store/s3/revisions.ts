import type { Revision, S3Revision } from '../../domain/revision.ts';
import type { Head } from './api.ts';

/** The class that a store names, or leaves out, where none was asked for. */
export const STANDARD = 'STANDARD';

/** What a listing or a look says of a content. */
export type Seen = Pick<Head, 'etag' | 'size' | 'modifiedAt' | 'storageClass'>;

export function revisionOf({ etag, size, modifiedAt, storageClass }: Seen): S3Revision {
  return {
    kind: 's3',
    etag,
    size,
    modifiedAt: wholeSeconds(modifiedAt), // some listings have ms, and no HEAD
    versionId: null, // a listing of names has none
    storageClass: storageClass === undefined || storageClass === STANDARD ? null : storageClass,
  };
}

export function wholeSeconds(ms: number): number {
  return Math.floor(ms / 1000) * 1000;
}

/** A revision of this kind of store. Throws for one of another: the catalog was not made for this store. */
export function s3Revision(revision: Revision): S3Revision {
  if (revision.kind === 's3') return revision;
  throw new TypeError('a revision of a local store, for a bucket');
}
