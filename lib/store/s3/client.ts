import { Readable } from 'node:stream';
import type { Clock } from '../../domain/clock.ts';
import { messageOf, TombstonedError } from '../../domain/errors.ts';
import type {
  Copied,
  CopyOptions,
  Deleted,
  DeleteOptions,
  Got,
  Head,
  ListedName,
  ListedVersion,
  Put,
  PutOptions,
  S3Api,
} from './api.ts';
import { deleteBatches } from './batch-deletion.ts';
import { CheckedBody } from './checked-body.ts';
import { addHeaders, guardHeaders, guardOf } from './copy-guard.ts';
import type { DirectAnswer } from './direct.ts';
import { bareEtag, elementOf, quotedEtag, sizeOf, timeOf, versionOf } from './encoding.ts';
import { isConditionFailed, isNoSuchObject, type Refusal } from './errors.ts';
import { type Answer, MalformedAnswer } from './http.ts';
import { listAllVersions, listNames } from './listing.ts';
import { copyParts } from './part-copies.ts';
import { wholeSeconds } from './revisions.ts';
import { failed, Sender } from './sender.ts';
import { headOf, propertiesOf } from './source-properties.ts';
import type { ThrottleOptions } from './throttle.ts';
import type { S3Place } from './way.ts';
import { readRecords, type Wanted } from './xml.ts';

export interface S3ClientOptions {
  readonly bucket: string;
  /** Empty, or ends in `/`. */
  readonly prefix: string;
  readonly url: string;
  readonly config: S3Place;
  readonly throttle: ThrottleOptions;
  readonly clock: Clock;
  /** From 0 to 1, for pauses. */
  readonly random?: () => number;
  readonly limits?: Partial<S3Limits>;
  /** Is told each request, and how it ended. */
  readonly onRequest?: (operation: string, outcome: string) => void;
}

/** What specs make smaller. */
export interface S3Limits {
  /** Above it a copy is made in parts. Bytes. */
  readonly copyAtOnce: number;
  /** Of a copy in parts, but for the last; null: as large as S3 wants them. Bytes. */
  readonly partSize: number | null;
  /** Names in a page of a listing. */
  readonly pageSize: number;
  /** How long not a byte may come. ms */
  readonly patience: number;
}

const LIMITS: S3Limits = { copyAtOnce: 5 * 2 ** 30, partSize: null, pageSize: 1000, patience: 60_000 };
/** What one PUT takes. Bytes. */
const PUT_AT_ONCE = 5 * 2 ** 30;
/** How fast, at least, a store copies; the answer may come only when it has. Bytes per ms. */
const COPY_PACE = (8 * 2 ** 20) / 1000;

const VERSIONING: Wanted = {
  root: 'VersioningConfiguration',
  records: new Set(),
  fields: new Set(['Status']),
};

/** Of S3's archives: what is in them can't be read before it is restored. */
const ARCHIVES = new Set<string | undefined>(['GLACIER', 'DEEP_ARCHIVE']);

/** The requests of an S3 store: one attempt each; what may be repeated is repeated here. */
export class S3Client implements S3Api {
  readonly url: string;
  readonly #sender: Sender;
  readonly #limits: S3Limits;

  /** Makes no request. Throws where the settings can't work. */
  static async open(options: S3ClientOptions): Promise<S3Client> {
    const { bucket, prefix, config, throttle, clock } = options;
    const limits = { ...LIMITS, ...options.limits };
    const sender = await Sender.open({
      bucket,
      prefix,
      place: config,
      throttle,
      clock,
      random: options.random ?? Math.random,
      patience: limits.patience,
      ...(options.onRequest === undefined ? {} : { onRequest: options.onRequest }),
    });
    return new S3Client(options.url, sender, limits);
  }

  private constructor(url: string, sender: Sender, limits: S3Limits) {
    this.url = url;
    this.#sender = sender;
    this.#limits = limits;
  }

  get bucket(): string {
    return this.#sender.bucket;
  }

  get prefix(): string {
    return this.#sender.prefix;
  }

  get lastDate(): S3Api['lastDate'] {
    return this.#sender.lastDate;
  }

  get unansweredUntil(): number | undefined {
    return this.#sender.unansweredUntil;
  }

  get requests(): ReadonlyMap<string, number> {
    return this.#sender.requests;
  }

  close(): void {
    this.#sender.close();
  }

  async head(name: string, options: { versionId?: string } = {}): Promise<Head | undefined> {
    const head = await this.#sender.repeated<DirectAnswer, Head | 'gone' | 'unclear'>({
      operation: 'HeadObject',
      what: 'looked at',
      name,
      versionId: options.versionId,
      answers: null,
      send: async (direct, sent) =>
        direct.send({ method: 'HEAD', key: this.prefix + name, versionId: options.versionId }, sent),
      read: (_, { headers }) => this.#headIn(headers, lengthOf(headers)),
      refused: (refusal) => {
        if (isMarker(refusal)) return 'gone';
        if (refusal.status !== 404) return undefined;
        // A HEAD has no code: whatever is on the way to the store may have said it.
        return 'x-amz-request-id' in refusal.headers ? 'gone' : 'unclear';
      },
    });
    if (head === 'unclear') {
      const got = await this.get(name, options);
      got?.body.destroy();
      if (got === undefined) return undefined;
      const about = this.#sender.about({ operation: 'HeadObject', what: 'looked at', name });
      throw failed(
        about,
        'the store has it, but not for HEAD requests',
        'see what is between here and the store',
      );
    }
    if (head !== 'gone') return head;
    await this.#seeBucket();
    return undefined;
  }

  async get(
    name: string,
    options: { from?: number; ifMatch?: string; versionId?: string } = {},
  ): Promise<Got | undefined> {
    const { from = 0, ifMatch, versionId } = options;
    const got = await this.#sender.repeated<DirectAnswer, Got | 'gone' | 'past-end'>({
      operation: 'GetObject',
      what: 'read',
      name,
      versionId,
      answers: 'stream',
      send: async (direct, sent) => {
        const headers = {
          range: from > 0 ? `bytes=${from}-` : undefined,
          'if-match': ifMatch === undefined ? undefined : quotedEtag(ifMatch),
        };
        return direct.send({ method: 'GET', key: this.prefix + name, versionId, headers }, sent);
      },
      read: async ({ body }, { status, headers }) => {
        if (!(body instanceof Readable)) throw new MalformedAnswer('the answer has no body');
        try {
          const size = sizeOfRange(headers, status, from);
          const head = this.#headIn(headers, size);
          if (ifMatch !== undefined && head.etag !== ifMatch) {
            body.destroy();
            return 'gone';
          }
          return { ...head, body: await CheckedBody.begin(body, size - from, this.#cut(name, size - from)) };
        } catch (error) {
          body.destroy();
          throw error;
        }
      },
      refused: (refusal) => {
        if (isNoSuchObject(refusal) || isMarker(refusal)) return 'gone';
        if (ifMatch !== undefined && refusal.status === 412) return 'gone';
        return refusal.status === 416 && from > 0 ? 'past-end' : undefined;
      },
    });
    if (got === 'past-end') return this.#atEnd(name, from, ifMatch, versionId);
    return got === 'gone' ? undefined : got;
  }

  async put(
    name: string,
    body: string | Buffer,
    options: PutOptions = {},
  ): Promise<Put | 'exists' | 'changed'> {
    const { ifAbsent, ifMatch, contentType } = options;
    const bytes = typeof body === 'string' ? Buffer.from(body) : body;
    return this.#sender.once<DirectAnswer, Put | 'exists' | 'changed'>({
      operation: 'PutObject',
      what: 'written',
      name,
      answers: null,
      send: async (direct, sent) => {
        const headers = {
          'content-type': contentType ?? 'application/octet-stream',
          'if-none-match': ifAbsent === true ? '*' : undefined,
          'if-match':
            ifMatch === undefined ? undefined : ifMatch.quoted ? quotedEtag(ifMatch.etag) : ifMatch.etag,
        };
        return direct.send({ method: 'PUT', key: this.prefix + name, headers, body: bytes }, sent);
      },
      read: (_, { headers }) => readPut(headers),
      refused: (refusal) => {
        if (ifAbsent === true && isConditionFailed(refusal)) return 'exists';
        const isChanged = isConditionFailed(refusal) || isNoSuchObject(refusal);
        return ifMatch !== undefined && isChanged ? 'changed' : undefined;
      },
    });
  }

  async copy(
    from: string,
    to: string,
    options: CopyOptions,
  ): Promise<Copied | 'changed' | 'gone' | 'exists'> {
    const { source, ifAbsent } = options;
    const guarded = guardOf(this.bucket, this.prefix + from, options);
    if (source.size > this.#limits.copyAtOnce) {
      await this.#seeBucket();
      const { partSize } = this.#limits;
      return copyParts(this.#sender, {
        ...options,
        from,
        to,
        guarded,
        partSize,
        patienceOf: (bytes) => this.#patienceOf(bytes),
      });
    }
    let { storageClass } = source;
    if (storageClass === undefined) {
      // A copy falls back to the standard class if it is not told.
      const versionId = source.versionId === null ? {} : { versionId: source.versionId };
      const head = await this.head(from, versionId);
      if (head === undefined) return 'gone';
      if (head.etag !== source.etag || head.size !== source.size) return 'changed';
      storageClass = head.storageClass ?? 'STANDARD';
    }
    await this.#sender.mayCopy(source.size);
    const call = {
      operation: 'CopyObject',
      what: 'copied',
      name: from,
      versionId: guarded.versionId,
    };
    const copied = await this.#sender.once<DirectAnswer, Copied | 'changed' | 'gone' | 'exists' | 'unclear'>({
      ...call,
      answers: 'CopyObjectResult',
      patience: this.#patienceOf(source.size),
      send: async (direct, sent) => {
        const headers = {
          ...guardHeaders(guarded),
          'x-amz-metadata-directive': 'COPY',
          'x-amz-tagging-directive': 'COPY',
          'x-amz-storage-class': storageClass === 'STANDARD' ? undefined : storageClass,
          'if-none-match': ifAbsent === true ? '*' : undefined,
        };
        return direct.send({ method: 'PUT', key: this.prefix + to, headers }, sent);
      },
      read: (_, { headers, text }) => ({
        etag: bareEtag(elementOf(text, 'ETag')),
        modifiedAt: modifiedIn(text),
        versionId: versionOf(headers['x-amz-version-id']),
      }),
      refused: (refusal) => {
        if (isNoSuchObject(refusal)) return 'gone';
        if (!isConditionFailed(refusal)) return undefined;
        if (ifAbsent !== true) return 'changed';
        if (options.guard === 'none' || options.guard === 'version') return 'exists';
        if (refusal.condition === undefined) return 'unclear';
        return /source|copy/i.test(refusal.condition) ? 'changed' : 'exists';
      },
    });
    if (copied !== 'unclear') return copied;
    return (await this.head(to)) === undefined ? 'changed' : 'exists';
  }

  async copyByPut(
    from: string,
    to: string,
    source: Pick<Head, 'etag' | 'size'>,
  ): Promise<Put | 'changed' | 'gone' | 'exists'> {
    await this.#seeBucket();
    if (source.size > PUT_AT_ONCE) {
      const about = this.#sender.about({ operation: 'PutObject', what: 'copied', name: from });
      throw failed(
        about,
        'it is larger than 5 GiB, and the store ignores conditions of copies',
        'copy it by hand',
      );
    }
    const head = await headOf(this.#sender, from, source);
    if (typeof head === 'string') return head;
    const { input, headers } = await propertiesOf(this.#sender, from, source, head);
    await this.#sender.mayCopy(source.size);
    const got = await this.get(from, { ifMatch: source.etag });
    if (got === undefined) return 'changed';
    try {
      return await this.#sender.once<unknown, Put | 'exists'>({
        operation: 'PutObject',
        what: 'written',
        name: to,
        answers: null,
        patience: this.#patienceOf(source.size),
        send: async (_, sent, sdk) => {
          const { client, commands } = await sdk();
          const command = new commands.PutObjectCommand({
            ...this.#at(to),
            ...input,
            Body: got.body,
            ContentLength: source.size,
            IfNoneMatch: '*',
          });
          addHeaders(command, headers);
          return client.send(command, sent);
        },
        read: (_, answer) => readPut(answer.headers),
        refused: (refusal) => (isConditionFailed(refusal) ? 'exists' : undefined),
      });
    } finally {
      got.body.destroy();
    }
  }

  async delete(name: string, options: DeleteOptions = {}): Promise<Deleted | 'changed'> {
    const { versionId, ifMatch, unmodifiedSince } = options;
    return this.#sender.once<DirectAnswer, Deleted | 'changed'>({
      operation: 'DeleteObject',
      what: 'deleted',
      name,
      versionId,
      answers: null,
      send: async (direct, sent) => {
        const headers = {
          'if-match': ifMatch === undefined ? undefined : quotedEtag(ifMatch),
          // RGW reads no date of HTTP's form here, and compares whole seconds.
          'x-amz-delete-if-unmodified-since':
            unmodifiedSince === undefined ? undefined : new Date(wholeSeconds(unmodifiedSince)).toISOString(),
        };
        return direct.send({ method: 'DELETE', key: this.prefix + name, versionId, headers }, sent);
      },
      read: (_, { headers }) => ({
        outcome: 'deleted',
        markerVersionId:
          versionId === undefined && headers['x-amz-delete-marker'] === 'true'
            ? (headers['x-amz-version-id'] ?? null)
            : null,
      }),
      refused: (refusal) => {
        if (isNoSuchObject(refusal)) return { outcome: 'deleted', markerVersionId: null };
        const isGuarded = ifMatch !== undefined || unmodifiedSince !== undefined;
        return isGuarded && isConditionFailed(refusal) ? 'changed' : undefined;
      },
    });
  }

  async deleteMany(items: readonly { name: string; versionId?: string }[]): Promise<('deleted' | Error)[]> {
    return deleteBatches(this.#sender, items);
  }

  list(
    prefix: string,
    options: { signal?: AbortSignal; after?: string; pageSize?: number } = {},
  ): AsyncIterable<ListedName[]> {
    const { signal, after, pageSize = this.#limits.pageSize } = options;
    return listNames(this.#sender, { prefix, after, signal, pageSize });
  }

  listVersions(prefix: string, options: { signal?: AbortSignal } = {}): AsyncIterable<ListedVersion[]> {
    return listAllVersions(this.#sender, { prefix, signal: options.signal, pageSize: this.#limits.pageSize });
  }

  async versioning(): Promise<'enabled' | 'suspended' | 'off'> {
    return this.#sender.repeated<DirectAnswer, 'enabled' | 'suspended' | 'off'>({
      operation: 'GetBucketVersioning',
      what: 'asked whether it keeps versions',
      answers: VERSIONING.root,
      send: async (direct, sent) => direct.send({ method: 'GET', query: { versioning: '' } }, sent),
      read: (_, { text }) => {
        const status = readRecords(text, VERSIONING).fields.get('Status');
        if (status === 'Enabled') return 'enabled';
        if (status === 'Suspended') return 'suspended';
        if (status === undefined || status === '') return 'off';
        throw new MalformedAnswer(`the answer has ${status} as the state of versioning`);
      },
    });
  }

  #at(name: string): { Bucket: string; Key: string } {
    return { Bucket: this.bucket, Key: this.prefix + name };
  }

  #patienceOf(bytes: number): number {
    return this.#limits.patience + Math.ceil(bytes / COPY_PACE);
  }

  /** A 404 is an object's only where the bucket is there; asked once, and not at all once anything was found in it. */
  async #seeBucket(): Promise<void> {
    if (this.#sender.isBucketSeen) return;
    await this.#sender.repeated<unknown, true>({
      operation: 'HeadBucket',
      what: 'used',
      answers: null,
      send: async (direct, sent) => direct.send({ method: 'HEAD' }, sent),
      read: () => true,
      refused: ({ status }) => {
        if (status !== 404) return undefined;
        const about = this.#sender.about({ operation: 'HeadBucket', what: 'used' });
        throw failed(
          about,
          `there is no bucket ${this.bucket} at ${about.host}`,
          "check the store's url, and s3.endpoint in the config",
        );
      },
    });
  }

  /** Nothing is left from a byte on: that is right where it is the end of the object asked for. */
  #headIn(headers: Headers, size: number): Head {
    const head = readHead(headers, size);
    // In a directory bucket an ETag is nothing but a name.
    return this.bucket.endsWith('--x-s3') ? { ...head, md5: undefined } : head;
  }

  async #atEnd(
    name: string,
    from: number,
    ifMatch: string | undefined,
    versionId: string | undefined,
  ): Promise<Got | undefined> {
    const head = await this.head(name, versionId === undefined ? {} : { versionId });
    if (head === undefined || (ifMatch !== undefined && head.etag !== ifMatch)) return undefined;
    if (head.size === from) return { ...head, body: Readable.from([], { objectMode: false }) };
    const about = this.#sender.about({ operation: 'GetObject', what: 'read', name });
    throw failed(
      about,
      `it has ${head.size} bytes, and byte ${from} was asked for`,
      'try again: it was replaced',
    );
  }

  #cut(name: string, length: number): (got: number, cause: unknown) => Error {
    return (got, cause) => {
      const about = this.#sender.about({ operation: 'GetObject', what: 'read', name });
      const message = `${about.where} was cut short after ${got} of ${length} bytes: ${messageOf(cause)}`;
      return new TombstonedError('failed', message, { key: name, hint: 'try again', cause });
    };
  }
}

type Headers = Answer['headers'];

function readHead(headers: Headers, size: number): Head {
  const storageClass = headers['x-amz-storage-class'];
  const isStored = ARCHIVES.has(storageClass) || headers['x-amz-archive-status'] !== undefined;
  const etag = bareEtag(headers['etag']);
  return {
    etag,
    md5: md5In(etag, headers),
    size,
    modifiedAt: timeOf(new Date(headers['last-modified'] ?? '')),
    versionId: versionOf(headers['x-amz-version-id']),
    storageClass: storageClass === 'STANDARD' ? undefined : storageClass,
    isArchived: isStored && headers['x-amz-restore']?.includes('ongoing-request="false"') !== true,
    ...lockIn(headers),
  };
}

/** An ETag that is the MD5 of the bytes: not of parts, and not under a key. */
function md5In(etag: string, headers: Headers): string | undefined {
  const by = headers['x-amz-server-side-encryption'] ?? 'AES256';
  const isPlain = by === 'AES256' && headers['x-amz-server-side-encryption-customer-algorithm'] === undefined;
  return isPlain && /^[\da-f]{32}$/.test(etag) ? etag : undefined;
}

function lockIn(headers: Headers): Pick<Head, 'lock'> {
  const date = headers['x-amz-object-lock-retain-until-date'];
  const until = date === undefined ? null : timeOf(new Date(date));
  const isHeld = headers['x-amz-object-lock-legal-hold'] === 'ON';
  return until === null && !isHeld ? {} : { lock: { until, isHeld } };
}

function lengthOf(headers: Headers): number {
  const text = headers['content-length'] ?? '';
  return sizeOf(/^\d+$/.test(text) ? Number(text) : undefined);
}

/** ms since 1970; null where the answer has no such time. */
function modifiedIn(document: string): number | null {
  const time = Date.parse(elementOf(document, 'LastModified') ?? '');
  return Number.isFinite(time) ? time : null;
}

function readPut(headers: Headers): Put {
  return { etag: bareEtag(headers['etag']), versionId: versionOf(headers['x-amz-version-id']) };
}

/** The object's size, of an answer that has it from a byte on. */
function sizeOfRange(headers: Headers, status: number, from: number): number {
  const length = lengthOf(headers);
  if (from === 0 && status === 200) return length;
  const parts = /^bytes (\d+)-(\d+)\/(\d+)$/.exec(headers['content-range'] ?? '');
  const [first, last, size] = (parts ?? []).slice(1).map(Number);
  if (status !== 206 || first !== from || size === undefined || last !== size - 1 || length !== size - from) {
    throw new MalformedAnswer(`the answer does not have the bytes from ${from} on`);
  }
  return size;
}

/** Whether the answer is about a delete marker: there is nothing to read. */
function isMarker({ status, headers }: Refusal): boolean {
  return (status === 404 || status === 405) && headers['x-amz-delete-marker'] === 'true';
}
