import type { Readable } from 'node:stream';

/**
 * The requests an S3 store makes, in the store's words, on names below its prefix.
 * Each is one attempt of one HTTP request, unless it says "repeated". What was
 * asked about comes back as a value; all else is thrown: a `TombstonedError`
 * where the server has said no (403, no such bucket, …), an `Unanswered` where
 * it is not known what became of it. Nothing thrown ever means "gone" (R9).
 */
export interface S3Api {
  readonly bucket: string;
  /** Of all names: empty, or ends in `/`. */
  readonly prefix: string;
  readonly url: string;

  /** Repeated. Undefined where there is none (404 of this name; a delete marker too). */
  head(name: string, options?: { versionId?: string }): Promise<Head | undefined>;

  /** Repeated until bytes come. Undefined where there is none, or `ifMatch` does not hold. */
  get(
    name: string,
    options?: { from?: number; ifMatch?: string; versionId?: string },
  ): Promise<Got | undefined>;

  /** Puts a small object. `'exists'` and `'changed'`: a condition did not hold, nothing was done. */
  put(name: string, body: string | Buffer, options?: PutOptions): Promise<Put | 'exists' | 'changed'>;

  /**
   * Copies a name onto another, with everything that goes with it; above 5 GiB in
   * parts. `'changed'`: the source is not what the guard says; `'gone'`: there is none;
   * `'exists'`: the destination is there and must not be.
   */
  copy(from: string, to: string, options: CopyOptions): Promise<Copied | 'changed' | 'gone' | 'exists'>;

  /**
   * Copies a name to where there is nothing, by GET and PUT If-None-Match, with
   * everything that goes with it; for stores that ignore that condition of a copy.
   */
  copyByPut(
    from: string,
    to: string,
    source: Pick<Head, 'etag' | 'size'>,
  ): Promise<Put | 'changed' | 'gone' | 'exists'>;

  /** Deletes a live name or a version. `'changed'`: the guard did not hold. A name that is not there is `'deleted'`. */
  delete(name: string, options?: DeleteOptions): Promise<Deleted | 'changed'>;

  /** Deletes many names; what became of each, in their order. Repeated for those that failed for a while. */
  deleteMany(items: readonly { name: string; versionId?: string }[]): Promise<('deleted' | Error)[]>;

  /** Lists names below a byte prefix, in pages (of 1000, or fewer), in byte order; complete, or it throws. Repeated. */
  list(
    prefix: string,
    options?: { signal?: AbortSignal; after?: string; pageSize?: number },
  ): AsyncIterable<ListedName[]>;

  /** All versions and markers of names below a prefix, newest of a name first. Repeated. */
  listVersions(prefix: string, options?: { signal?: AbortSignal }): AsyncIterable<ListedVersion[]>;

  /** Whether the bucket keeps versions. Repeated. */
  versioning(): Promise<'enabled' | 'suspended' | 'off'>;

  /** The `Date` of the last answer, ms since 1970, and this process's monotonic time when it came; undefined before any. */
  readonly lastDate: { readonly date: number; readonly monotonic: number } | undefined;

  /**
   * Until when, by the store's `Date`, a request that got no answer may still take
   * effect: 16 min past the latest signed date of those (R5); undefined where all were answered.
   */
  readonly unansweredUntil: number | undefined;

  /** How many requests of each kind were made, for figures. */
  readonly requests: ReadonlyMap<string, number>;

  close(): void;
}

export interface Head {
  /** The MD5 of all its bytes, in hex, where its ETag is that: it was put whole, and without a key. */
  readonly md5: string | undefined;
  /** Without quotes or `W/`. */
  readonly etag: string;
  readonly size: number;
  /** ms since 1970. */
  readonly modifiedAt: number;
  /** Null where there is none, or it is `null`. */
  readonly versionId: string | null;
  /** As the store says it; undefined for the standard class. */
  readonly storageClass: string | undefined;
  /** Whether it is archived and not restored for a while: it can't be read or copied now. */
  readonly isArchived: boolean;
  /** What keeps this version from being removed, where it is asked for by its id and may be seen. */
  readonly lock?: ObjectLock | undefined;
}

/** An object lock of one version. */
export interface ObjectLock {
  /** Until when it is retained, ms since 1970; null where it is not. */
  readonly until: number | null;
  /** Whether it is under a legal hold, which has no end of its own. */
  readonly isHeld: boolean;
}

export interface Got extends Head {
  /** From the byte asked for to the end. */
  readonly body: Readable;
}

export interface Put {
  readonly etag: string;
  readonly versionId: string | null;
}

export interface PutOptions {
  /** Only where there is nothing. */
  readonly ifAbsent?: boolean;
  /** Only over this ETag; `quoted` as the standard says, which some stores don't understand. */
  readonly ifMatch?: { readonly etag: string; readonly quoted: boolean };
  readonly contentType?: string;
}

export interface CopyOptions {
  /** What the source must be. */
  readonly source: {
    readonly etag: string;
    readonly size: number;
    readonly modifiedAt: number;
    readonly versionId: string | null;
    /** `STANDARD`, or another: a copy keeps it only if it is told. Undefined: it is looked up, by a HEAD. */
    readonly storageClass?: string | undefined;
  };
  /** How the source is guarded, as probed. */
  readonly guard: CopyGuard;
  /** Only where there is nothing, by the standard's header. */
  readonly ifAbsent?: boolean;
}

/**
 * By what a copy's source is guarded: its ETag by the standard's header, or RGW's;
 * unmodified since its LastModified; the version copied by its id; or nothing.
 */
export type CopyGuard = 'unmodified-since' | 'if-match' | 'rgw-if-match' | 'version' | 'none';

export interface Copied {
  /** The copy's, which may be another than its source's. */
  readonly etag: string;
  readonly modifiedAt: number | null;
  readonly versionId: string | null;
}

export interface DeleteOptions {
  readonly versionId?: string;
  readonly ifMatch?: string;
  /** Only if what is there was not written in a later second than this, by RGW's header. ms since 1970. */
  readonly unmodifiedSince?: number;
}

export interface Deleted {
  readonly outcome: 'deleted';
  /** Of the marker that was put, in a versioned bucket. */
  readonly markerVersionId: string | null;
}

export interface ListedName {
  readonly name: string;
  readonly etag: string;
  readonly size: number;
  readonly modifiedAt: number;
  readonly storageClass: string | undefined;
}

export interface ListedVersion {
  readonly name: string;
  /** `null` is a version id like any other here. */
  readonly versionId: string;
  readonly isMarker: boolean;
  readonly isLatest: boolean;
  readonly etag: string;
  readonly size: number;
  readonly modifiedAt: number;
}

/** It is not known whether a request had its effect, or still will. */
export class Unanswered extends Error {
  /** ms since 1970: what the request was signed with. */
  readonly signedAt: number;
  /** False where the server has said that it did nothing yet, and may be asked again. */
  readonly mayBeLate: boolean;

  constructor(message: string, signedAt: number, cause: unknown, mayBeLate = true) {
    super(message, { cause });
    this.mayBeLate = mayBeLate;
    this.name = 'Unanswered';
    this.signedAt = signedAt;
  }
}

/** What a store honours, as probed on a scratch key; never trusted across a change of endpoint. */
export interface Capabilities {
  readonly putIfAbsent: boolean;
  readonly putIfMatch: 'quoted' | 'unquoted' | 'no';
  readonly copyIfMatch: 'standard' | 'rgw' | 'no';
  readonly copyUnmodifiedSince: boolean;
  readonly copyIfAbsent: boolean;
  readonly deleteIfMatch: boolean;
  /** RGW's: what was written in a later second is not deleted. */
  readonly deleteUnmodifiedSince: boolean;
  readonly versioning: 'enabled' | 'suspended' | 'off';
  /**
   * Whether a copy made while versioning is suspended shows what its source becomes, and
   * nothing when that is deleted, as RGW's does where the source's name had versions before.
   */
  readonly copiesFollow?: boolean;
}
