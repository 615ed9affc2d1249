import { hash } from 'node:crypto';
import { Readable } from 'node:stream';
import type { Clock } from '../../lib/domain/clock.ts';
import { TombstonedError } from '../../lib/domain/errors.ts';
import { compareKeys } from '../../lib/domain/key.ts';
import {
  type Copied,
  type CopyOptions,
  type Deleted,
  type DeleteOptions,
  type Got,
  type Head,
  type ListedName,
  type ListedVersion,
  type ObjectLock,
  type Put,
  type PutOptions,
  type S3Api,
  Unanswered,
} from '../../lib/store/s3/api.ts';
import { DrivenClock } from '../support/place.ts';

/**
 * What a server does with a condition: holds to it in one step with the effect;
 * looks first and acts then (`between` is called in between); does as if it were
 * not there; or answers 501 or 400.
 */
export type Honour = 'atomic' | 'racy' | 'ignored' | 501 | 400;

export interface Conditions {
  readonly putIfAbsent: Honour;
  /** Where ETags in quotes never match, only those without hold. */
  readonly putIfMatch: Record<'quoted' | 'unquoted', Honour | 'never-matches'>;
  /** By the header of the standard, and by RGW's. */
  readonly copyIfMatch: { readonly standard: Honour; readonly rgw: Honour };
  /**
   * What a PUT's condition looks at: the live object; or as RGW, in a bucket that
   * keeps versions at nothing, and where that is suspended also at a marker.
   */
  readonly putSees: 'live' | 'as-rgw';
  /** Whether a copy that is made while versioning is suspended shows, as RGW's, what its source becomes. */
  readonly copiesFollow: boolean;
  readonly copyUnmodifiedSince: Honour;
  readonly copyIfAbsent: Honour;
  readonly deleteIfMatch: Honour;
  /** Where no versions are kept: RGW's markers are under no condition. */
  readonly deleteUnmodifiedSince: Honour;
  /** Whether the server knows of versions at all; where not, it answers 501. */
  readonly versions: boolean;
  /** Whether listings tell LastModified to the ms; all else does to the second. */
  readonly listsMs: boolean;
}

export const PRESETS = {
  amazon: {
    putIfAbsent: 'atomic',
    putIfMatch: { quoted: 'atomic', unquoted: 'atomic' },
    putSees: 'live',
    copiesFollow: false,
    copyIfMatch: { standard: 'atomic', rgw: 'ignored' },
    copyUnmodifiedSince: 'atomic',
    copyIfAbsent: 'atomic',
    deleteIfMatch: 'atomic',
    deleteUnmodifiedSince: 'ignored',
    versions: true,
    listsMs: false,
  },
  rgw: {
    putIfAbsent: 'atomic',
    putIfMatch: { quoted: 'never-matches', unquoted: 'atomic' },
    putSees: 'as-rgw',
    copiesFollow: true,
    copyIfMatch: { standard: 'ignored', rgw: 'atomic' },
    copyUnmodifiedSince: 'ignored',
    copyIfAbsent: 'ignored',
    deleteIfMatch: 'ignored',
    deleteUnmodifiedSince: 'atomic',
    versions: true,
    listsMs: true,
  },
  swift: {
    putIfAbsent: 501,
    putIfMatch: { quoted: 501, unquoted: 501 },
    putSees: 'live',
    copiesFollow: false,
    copyIfMatch: { standard: 'racy', rgw: 'ignored' },
    copyUnmodifiedSince: 'racy',
    copyIfAbsent: 501,
    deleteIfMatch: 'racy',
    deleteUnmodifiedSince: 'ignored',
    versions: false,
    listsMs: false,
  },
} as const satisfies Record<string, Conditions>;

export type Versioning = 'enabled' | 'suspended' | 'off';

export interface MemoryOptions extends Partial<Conditions> {
  /** What holds where nothing else is said; `amazon` unless set. */
  readonly preset?: keyof typeof PRESETS;
  readonly versioning?: Versioning;
  readonly clock?: Clock;
  readonly prefix?: string;
  /** How many names are in a page of a listing. */
  readonly pageSize?: number;
}

/** A request as the hooks see it. */
export type MemoryRequest =
  | { readonly kind: 'head' | 'get'; readonly name: string }
  | { readonly kind: 'put'; readonly name: string; readonly body: Buffer; readonly options: PutOptions }
  | {
      readonly kind: 'copy';
      readonly from: string;
      /** The destination. */
      readonly name: string;
      readonly options: CopyOptions;
    }
  | { readonly kind: 'delete'; readonly name: string; readonly options: DeleteOptions }
  | { readonly kind: 'deleteMany'; readonly items: readonly { name: string; versionId?: string }[] }
  | { readonly kind: 'list' | 'listVersions'; readonly prefix: string }
  | { readonly kind: 'versioning' };

/**
 * What becomes of a request, as `before` says: it and its effect are lost; its
 * answer is lost; it takes effect when the spec calls `land()`. Each ends in `Unanswered`.
 */
export type Fate = 'lost' | 'answer-lost' | 'late';

/** Where its answer came, what is returned; what is thrown is thrown at the caller. */
type Hook<T> = (request: MemoryRequest) => T | undefined | Promise<T | undefined>;

export interface MemoryVersion {
  /** `null` where versions are not kept. */
  readonly versionId: string;
  readonly isMarker: boolean;
  readonly body: Buffer;
  readonly etag: string;
  /** ms since 1970, to the ms. */
  readonly modifiedAt: number;
  readonly contentType: string | undefined;
  readonly storageClass: string | undefined;
  /** It can't be read or copied. */
  readonly isArchived: boolean;
  readonly lock?: ObjectLock | undefined;
  /** The name that it shows in its place. */
  readonly follows?: string;
}

/** How long a signed request may still take effect (R5). ms. */
const SIGNED_FOR_MS = 16 * 60_000;

/** An S3 server of one bucket in memory, and its client: each effect is one step, between `before` and `after`. */
export class MemoryS3 implements S3Api {
  readonly bucket = 'memory';
  readonly prefix: string;
  readonly url: string;
  readonly clock: Clock;
  readonly requests = new Map<string, number>();
  /** Specs change these while it is in use: what the server does, and the bucket's versioning. */
  conditions: Conditions;
  keepsVersions: Versioning;
  /** Before its effect. What it returns becomes of the request. */
  before: Hook<Fate> | undefined;
  /** After its effect, before its answer. */
  after: Hook<void> | undefined;
  /** Between the look and the effect of a condition that is `racy`. */
  between: Hook<void> | undefined;
  /** The error of one name in `deleteMany`. */
  refuse: ((name: string) => Error | undefined) | undefined;
  isClosed = false;
  readonly #pageSize: number;
  /** Of each name newest first; no name has none. */
  readonly #names = new Map<string, MemoryVersion[]>();
  /** Names that had a version or a marker at some time. */
  readonly #hadVersions = new Set<string>();
  #late: (() => unknown)[] = [];
  #lastDate: { readonly date: number; readonly monotonic: number } | undefined;
  #unansweredUntil: number | undefined;
  #lastVersion = 0;

  constructor(options: MemoryOptions = {}) {
    const {
      preset = 'amazon',
      versioning = 'off',
      clock = new DrivenClock(),
      prefix = '',
      pageSize = 1000,
      ...own
    } = options;
    this.conditions = { ...PRESETS[preset], ...own };
    this.keepsVersions = versioning;
    this.clock = clock;
    this.prefix = prefix;
    this.url = `s3://${this.bucket}/${prefix}`;
    this.#pageSize = pageSize;
  }

  get lastDate() {
    return this.#lastDate;
  }

  get unansweredUntil(): number | undefined {
    return this.#unansweredUntil;
  }

  close(): void {
    this.isClosed = true;
  }

  /** What is there now of a name: nothing of it is a request. Undefined where there is none, or a marker. */
  peek(name: string): MemoryVersion | undefined {
    const newest = this.#names.get(name)?.[0];
    if (newest?.isMarker !== false) return undefined;
    if (newest.follows === undefined) return newest;
    // A source that has gone shows as nothing, and yet is there.
    const shown = this.#names.get(newest.follows)?.[0];
    return { ...newest, body: shown?.body ?? Buffer.alloc(0), etag: shown?.etag ?? '' };
  }

  /** All versions and markers of a name, newest first. */
  versionsOf(name: string): readonly MemoryVersion[] {
    return this.#names.get(name) ?? [];
  }

  /** All names that have a live object, in byte order. */
  names(): string[] {
    return [...this.#names.keys()].filter((name) => this.peek(name) !== undefined).toSorted(compareKeys);
  }

  /** All names with anything, markers too, in byte order. */
  allNames(): string[] {
    return [...this.#names.keys()].toSorted(compareKeys);
  }

  /**
   * Puts an object there, as another program does, at once. `parts`: by a multipart
   * upload, whose ETag a copy does not keep.
   */
  seed(
    name: string,
    body: string | Buffer,
    given: {
      parts?: number;
      modifiedAt?: number;
      contentType?: string;
      storageClass?: string;
      isArchived?: boolean;
    } = {},
  ): MemoryVersion {
    const { parts, modifiedAt = this.clock.now(), contentType, storageClass, isArchived = false } = given;
    const bytes = Buffer.from(body);
    const etag = md5(bytes) + (parts === undefined ? '' : `-${parts}`);
    return this.#write(name, { body: bytes, etag, modifiedAt, contentType, storageClass, isArchived });
  }

  /** Takes an object away, or a version of it for good, as another program does, at once. */
  unseed(name: string, versionId?: string): void {
    this.#delete(name, versionId);
  }

  /** Puts a version under an object lock, or with undefined lets it go. */
  lock(name: string, versionId: string, lock: ObjectLock | undefined): void {
    const versions = this.versionsOf(name);
    this.#keep(
      name,
      versions.map((version) => (version.versionId === versionId ? { ...version, lock } : version)),
    );
  }

  /** The error of a server that is asked to remove a locked version. */
  #locked(name: string, versionId: string | undefined): TombstonedError | undefined {
    const lock = this.versionsOf(name).find((version) => version.versionId === versionId)?.lock;
    if (lock === undefined) return undefined;
    const isLocked = lock.isHeld || (lock.until !== null && lock.until > this.clock.now());
    return isLocked ? serverError(403, 'AccessDenied', name) : undefined;
  }

  /** Lets all requests that are late have their effect, in their order; what each would have been answered. */
  land(): unknown[] {
    const late = this.#late;
    this.#late = [];
    return late.map((act) => {
      try {
        return act();
      } catch (error) {
        return error;
      }
    });
  }

  /** How many requests were made, of one kind or of all. */
  count(kind?: MemoryRequest['kind']): number {
    if (kind !== undefined) return this.requests.get(kind) ?? 0;
    return [...this.requests.values()].reduce((sum, n) => sum + n, 0);
  }

  async head(name: string, { versionId }: { versionId?: string } = {}): Promise<Head | undefined> {
    return this.#request({ kind: 'head', name }, () => {
      const found = this.#find(name, versionId);
      return found === undefined ? undefined : this.#headOf(found);
    });
  }

  async get(
    name: string,
    { from = 0, ifMatch, versionId }: { from?: number; ifMatch?: string; versionId?: string } = {},
  ): Promise<Got | undefined> {
    return this.#request({ kind: 'get', name }, () => {
      const found = this.#find(name, versionId);
      if (found === undefined || (ifMatch !== undefined && found.etag !== ifMatch)) return undefined;
      if (found.isArchived) throw serverError(403, 'InvalidObjectState', name);
      if (from > 0 && from >= found.body.length) throw serverError(416, 'InvalidRange', name);
      const rest = found.body.subarray(from);
      const body = Readable.from(rest.length === 0 ? [] : [rest], { objectMode: false });
      return { ...this.#headOf(found), body };
    });
  }

  async put(
    name: string,
    body: string | Buffer,
    options: PutOptions = {},
  ): Promise<Put | 'exists' | 'changed'> {
    const bytes = Buffer.from(body);
    const request = { kind: 'put', name, body: bytes, options } as const;
    const { ifAbsent = false, ifMatch, contentType } = options;
    const { putIfAbsent, putIfMatch } = this.conditions;
    const byMatch = ifMatch === undefined ? 'ignored' : putIfMatch[ifMatch.quoted ? 'quoted' : 'unquoted'];
    return this.#request(request, () => {
      const { etag, versionId } = this.#write(name, { body: bytes, etag: md5(bytes), contentType });
      return { etag, versionId: idOrNull(versionId) };
    }, [
      {
        honour: ifAbsent ? putIfAbsent : 'ignored',
        refusal: () => (this.#seenByPut(name) === undefined ? undefined : 'exists'),
      },
      {
        honour: byMatch === 'never-matches' ? 'atomic' : byMatch,
        refusal: () =>
          byMatch === 'never-matches' || this.#seenByPut(name)?.etag !== ifMatch?.etag
            ? 'changed'
            : undefined,
      },
    ]);
  }

  #seenByPut(name: string): MemoryVersion | undefined {
    if (this.conditions.putSees === 'live' || this.keepsVersions === 'off') return this.peek(name);
    return this.keepsVersions === 'enabled' ? undefined : this.versionsOf(name)[0];
  }

  async copy(
    from: string,
    to: string,
    options: CopyOptions,
  ): Promise<Copied | 'changed' | 'gone' | 'exists'> {
    const { source, guard, ifAbsent = false } = options;
    const { copyIfAbsent } = this.conditions;
    if (source.storageClass === undefined) {
      // As the client does, which has to tell the server the class.
      const head = await this.head(from, source.versionId === null ? {} : { versionId: source.versionId });
      if (head === undefined) return 'gone';
      if (head.etag !== source.etag || head.size !== source.size) return 'changed';
    }
    const find = () => this.#find(from, guard === 'version' ? (source.versionId ?? NULL_VERSION) : undefined);
    return this.#request<Copied | 'gone', 'changed' | 'exists'>({
      kind: 'copy',
      from,
      name: to,
      options,
    }, () => {
      const found = find();
      if (found === undefined) return 'gone';
      if (found.isArchived) throw serverError(403, 'InvalidObjectState', from);
      const { body, contentType, storageClass } = found;
      // RGW's take the source's name for their own where that has had versions.
      const isFollowing =
        this.conditions.copiesFollow && this.keepsVersions === 'suspended' && this.#hadVersions.has(from);
      const follows = isFollowing ? { follows: from } : {};
      const copy = this.#write(to, { body, etag: md5(body), contentType, storageClass, ...follows });
      const { etag, modifiedAt, versionId } = copy;
      return { etag, modifiedAt: wholeSeconds(modifiedAt), versionId: idOrNull(versionId) };
    }, [
      {
        honour: this.#honourOf(guard),
        refusal: () => {
          const found = find();
          if (found === undefined) return undefined; // gone comes before changed
          const isSame =
            guard === 'unmodified-since'
              ? wholeSeconds(found.modifiedAt) <= wholeSeconds(source.modifiedAt)
              : found.etag === source.etag;
          return isSame ? undefined : 'changed';
        },
      },
      {
        honour: ifAbsent ? copyIfAbsent : 'ignored',
        refusal: () => (find() === undefined || this.peek(to) === undefined ? undefined : 'exists'),
      },
    ]);
  }

  #honourOf(guard: CopyOptions['guard']): Honour {
    const { copyUnmodifiedSince, copyIfMatch } = this.conditions;
    switch (guard) {
      case 'unmodified-since':
        return copyUnmodifiedSince;
      case 'if-match':
        return copyIfMatch.standard;
      case 'rgw-if-match':
        return copyIfMatch.rgw;
      case 'version':
      case 'none':
        return 'ignored';
    }
  }

  async copyByPut(
    from: string,
    to: string,
    source: Pick<Head, 'etag' | 'size'>,
  ): Promise<Put | 'changed' | 'gone' | 'exists'> {
    const found = this.peek(from);
    const got = await this.get(from);
    if (got === undefined || found === undefined) return 'gone';
    if (got.etag !== source.etag || got.size !== source.size) return 'changed';
    const { contentType, body } = found;
    return this.put(to, body, { ifAbsent: true, ...(contentType === undefined ? {} : { contentType }) });
  }

  async delete(name: string, options: DeleteOptions = {}): Promise<Deleted | 'changed'> {
    const { versionId, ifMatch, unmodifiedSince } = options;
    const find = () => this.#find(name, versionId);
    return this.#request<Deleted, 'changed'>({ kind: 'delete', name, options }, () => {
      // Nothing is there for the condition to hold of: no marker either.
      if (ifMatch !== undefined && find() === undefined) return { outcome: 'deleted', markerVersionId: null };
      const error = this.#locked(name, versionId);
      if (error !== undefined) throw error;
      return this.#delete(name, versionId);
    }, [
      {
        honour: ifMatch === undefined ? 'ignored' : this.conditions.deleteIfMatch,
        refusal: () => {
          const found = find();
          return found === undefined || found.etag === ifMatch ? undefined : 'changed';
        },
      },
      {
        honour:
          unmodifiedSince === undefined || this.keepsVersions !== 'off'
            ? 'ignored'
            : this.conditions.deleteUnmodifiedSince,
        refusal: () => {
          const found = find();
          const isSame = wholeSeconds(found?.modifiedAt ?? 0) <= wholeSeconds(unmodifiedSince ?? 0);
          return isSame ? undefined : 'changed';
        },
      },
    ]);
  }

  async deleteMany(items: readonly { name: string; versionId?: string }[]): Promise<('deleted' | Error)[]> {
    if (items.length > 1000) throw serverError(400, 'MalformedXML', this.bucket);
    const act = (): ('deleted' | Error)[] =>
      items.map(({ name, versionId }) => {
        const error = this.refuse?.(name) ?? this.#locked(name, versionId);
        if (error !== undefined) return error;
        this.#delete(name, versionId);
        return 'deleted';
      });
    try {
      return await this.#request({ kind: 'deleteMany', items }, act);
    } catch (error) {
      if (error instanceof Unanswered) return items.map(() => error); // as the client says it
      throw error;
    }
  }

  async *list(
    prefix: string,
    {
      signal,
      after = '',
      pageSize = this.#pageSize,
    }: { signal?: AbortSignal; after?: string; pageSize?: number } = {},
  ): AsyncGenerator<ListedName[]> {
    for (let last = after; ; ) {
      signal?.throwIfAborted();
      // Each page is of its own moment, as a server's is.
      const { page, next } = await this.#request({ kind: 'list', prefix }, () => {
        const all = this.names().filter((name) => name.startsWith(prefix) && isAfter(name, last));
        const names = all.slice(0, Math.min(pageSize, this.#pageSize));
        const listed = names.flatMap((name) => this.#listed(name));
        return { page: listed, next: all.length > names.length ? names.at(-1) : undefined };
      });
      if (page.length > 0) yield page;
      if (next === undefined) return;
      last = next;
    }
  }

  #listed(name: string): ListedName[] {
    const found = this.peek(name);
    if (found === undefined) return [];
    const { etag, body, storageClass, modifiedAt } = found;
    const told = this.conditions.listsMs ? modifiedAt : wholeSeconds(modifiedAt);
    return [{ name, etag, size: body.length, modifiedAt: told, storageClass }];
  }

  async *listVersions(
    prefix: string,
    { signal }: { signal?: AbortSignal } = {},
  ): AsyncGenerator<ListedVersion[]> {
    // After a version in a name, as the markers of a server's pages are.
    for (let last: ListedVersion | undefined; ; ) {
      signal?.throwIfAborted();
      const { page, isLast } = await this.#request({ kind: 'listVersions', prefix }, () => {
        if (!this.conditions.versions) throw serverError(501, 'NotImplemented', prefix);
        const all = this.#listedVersions(prefix, last);
        return { page: all.slice(0, this.#pageSize), isLast: all.length <= this.#pageSize };
      });
      if (page.length > 0) yield page;
      if (isLast) return;
      last = page.at(-1);
    }
  }

  #listedVersions(prefix: string, after: ListedVersion | undefined): ListedVersion[] {
    const listed = [...this.#names.keys()]
      .filter((name) => name.startsWith(prefix))
      .toSorted(compareKeys)
      .flatMap((name) =>
        this.versionsOf(name).map((version, i) => ({
          name,
          versionId: version.versionId,
          isMarker: version.isMarker,
          isLatest: i === 0,
          etag: version.etag,
          size: version.body.length,
          modifiedAt: this.conditions.listsMs ? version.modifiedAt : wholeSeconds(version.modifiedAt),
        })),
      );
    if (after === undefined) return listed;
    const seen = listed.findIndex(
      ({ name, versionId }) => name === after.name && versionId === after.versionId,
    );
    return seen >= 0 ? listed.slice(seen + 1) : listed.filter(({ name }) => isAfter(name, after.name));
  }

  async versioning(): Promise<Versioning> {
    return this.#request({ kind: 'versioning' }, () => {
      if (!this.conditions.versions) throw serverError(501, 'NotImplemented', this.bucket);
      return this.keepsVersions;
    });
  }

  /**
   * One request: its fate, its conditions, its effect in the same step as those that
   * are atomic, its answer.
   */
  async #request<T, Refusal = never>(
    request: MemoryRequest,
    effect: () => T,
    conditions: readonly {
      readonly honour: Honour;
      readonly refusal: () => Refusal | undefined;
    }[] = [],
  ): Promise<T | Refusal> {
    this.requests.set(request.kind, (this.requests.get(request.kind) ?? 0) + 1);
    const signedAt = this.clock.now();
    const act = (): T | Refusal => {
      for (const { honour, refusal } of conditions) {
        if (honour !== 'atomic') continue;
        const refused = refusal();
        if (refused !== undefined) return refused;
      }
      return effect();
    };
    try {
      const fate = await this.before?.(request);
      await Promise.resolve();
      if (fate === 'lost') throw unanswered(request, signedAt);
      for (const { honour } of conditions)
        if (typeof honour === 'number')
          throw serverError(
            honour,
            honour === 501 ? 'NotImplemented' : 'InvalidRequest',
            'name' in request ? request.name : '',
          );
      if (fate === 'late') {
        this.#late.push(() => {
          for (const { honour, refusal } of conditions) {
            const refused = honour === 'racy' ? refusal() : undefined;
            if (refused !== undefined) return refused;
          }
          return act();
        });
        throw unanswered(request, signedAt);
      }
      const racy = conditions.filter(({ honour }) => honour === 'racy');
      for (const { refusal } of racy) {
        const refused = refusal();
        if (refused !== undefined) return await this.#answered(request, refused, fate, signedAt);
      }
      if (racy.length > 0) await this.between?.(request);
      return await this.#answered(request, act(), fate, signedAt);
    } catch (error) {
      if (!(error instanceof Unanswered)) this.#dated();
      else if (MAY_CHANGE.has(request.kind))
        this.#unansweredUntil = Math.max(this.#unansweredUntil ?? 0, error.signedAt + SIGNED_FOR_MS);
      throw error;
    }
  }

  async #answered<T>(
    request: MemoryRequest,
    answer: T,
    fate: Fate | undefined,
    signedAt: number,
  ): Promise<T> {
    await this.after?.(request);
    if (fate === 'answer-lost') throw unanswered(request, signedAt);
    this.#dated();
    return answer;
  }

  #dated(): void {
    this.#lastDate = { date: wholeSeconds(this.clock.now()), monotonic: this.clock.monotonic() };
  }

  #find(name: string, versionId: string | undefined): MemoryVersion | undefined {
    if (versionId === undefined) return this.peek(name);
    const found = this.versionsOf(name).find((version) => version.versionId === versionId);
    return found?.isMarker === false ? found : undefined;
  }

  #headOf({ etag, body, modifiedAt, versionId, storageClass, isArchived, lock }: MemoryVersion): Head {
    return {
      ...(lock === undefined ? {} : { lock }),
      etag,
      md5: etag.includes('-') ? undefined : etag,
      size: body.length,
      modifiedAt: wholeSeconds(modifiedAt),
      versionId: idOrNull(versionId),
      storageClass,
      isArchived,
    };
  }

  #write(
    name: string,
    given: Pick<MemoryVersion, 'body' | 'etag' | 'contentType'> & Partial<MemoryVersion>,
  ): MemoryVersion {
    const version: MemoryVersion = {
      versionId: this.#nextId(),
      isMarker: false,
      modifiedAt: this.clock.now(),
      storageClass: undefined,
      isArchived: false,
      ...given,
    };
    this.#names.set(name, [version, ...this.#others(name, version.versionId)]);
    if (version.isMarker || version.versionId !== NULL_VERSION) this.#hadVersions.add(name);
    return version;
  }

  #delete(name: string, versionId: string | undefined): Deleted {
    if (versionId === undefined) return this.#deleteLive(name);
    this.#keep(name, this.#others(name, versionId));
    return { outcome: 'deleted', markerVersionId: null };
  }

  #deleteLive(name: string): Deleted {
    if (this.keepsVersions === 'off') {
      this.#keep(name, this.#others(name, NULL_VERSION));
      return { outcome: 'deleted', markerVersionId: null };
    }
    const marker = this.#write(name, {
      body: Buffer.alloc(0),
      etag: '',
      contentType: undefined,
      isMarker: true,
    });
    return { outcome: 'deleted', markerVersionId: idOrNull(marker.versionId) };
  }

  #nextId(): string {
    if (this.keepsVersions !== 'enabled') return NULL_VERSION;
    this.#lastVersion += 1;
    return `v${String(this.#lastVersion).padStart(6, '0')}`;
  }

  #others(name: string, versionId: string): MemoryVersion[] {
    return this.versionsOf(name).filter((version) => version.versionId !== versionId);
  }

  #keep(name: string, versions: MemoryVersion[]): void {
    if (versions.length === 0) this.#names.delete(name);
    else this.#names.set(name, versions);
  }
}

const NULL_VERSION = 'null';
const MAY_CHANGE = new Set<MemoryRequest['kind']>(['put', 'copy', 'delete', 'deleteMany']);

/** An answer of the server that is an error, as the client throws it. */
export function serverError(status: number, code: string, name: string): TombstonedError {
  const cause = Object.assign(new Error(code), { name: code, $metadata: { httpStatusCode: status } });
  return new TombstonedError('failed', `${name}: ${code} (${status})`, { key: name, cause });
}

/** What a request ends in that got no answer. */
function unanswered(request: MemoryRequest, signedAt: number): Unanswered {
  return new Unanswered(`${request.kind}: no answer`, signedAt, new Error('socket hang up'));
}

function md5(body: Buffer): string {
  return hash('md5', body, 'hex');
}

function idOrNull(versionId: string): string | null {
  return versionId === NULL_VERSION ? null : versionId;
}

function wholeSeconds(ms: number): number {
  return Math.floor(ms / 1000) * 1000;
}

function isAfter(name: string, other: string): boolean {
  return compareKeys(name, other) > 0;
}
