import { compareKeys, printable } from '../../domain/key.ts';
import type { ListedName, ListedVersion } from './api.ts';
import type { DirectAnswer } from './direct.ts';
import { bareEtag, isTrue, listedKey, NotUtf8, numberOf, sizeOf, timeIn } from './encoding.ts';
import { MalformedAnswer } from './http.ts';
import { failed, type Sender } from './sender.ts';
import { type Fields, type Records, readRecords, type Wanted } from './xml.ts';

export interface ListingOptions {
  /** Of the names, below the store's. */
  readonly prefix: string;
  readonly pageSize: number;
  readonly signal?: AbortSignal | undefined;
}

interface Page<T> {
  readonly entries: T[];
  readonly isTruncated: boolean;
  readonly token: string | undefined;
}

/** Names below a prefix, in pages; complete, or it throws. */
export async function* listNames(
  sender: Sender,
  options: ListingOptions & { readonly after: string | undefined },
): AsyncGenerator<ListedName[]> {
  const order = new Order(sender, options.prefix, options.after, 'ListObjectsV2');
  let token: string | undefined;
  for (;;) {
    // After a name, not by the token, where there is one: a token that a server has not encoded would lose some.
    const start = token === undefined ? { 'start-after': order.lastKey } : { 'continuation-token': token };
    const page = await sender.repeated<DirectAnswer, Page<ListedName> | NotUtf8>({
      operation: 'ListObjectsV2',
      what: 'listed',
      name: options.prefix,
      answers: NAMES.root,
      signal: options.signal,
      send: async (direct, sent) =>
        direct.send(
          { method: 'GET', query: { 'list-type': '2', ...common(sender, options), ...start } },
          sent,
        ),
      read: (_, { text }) => unlessNotUtf8(() => readNames(readRecords(text, NAMES), sender.prefix)),
    });
    if (page instanceof NotUtf8) throw order.odd(page);
    for (const { name } of page.entries) order.next(name, false);
    const next = order.follow(page);
    if (page.entries.length > 0) yield page.entries;
    if (next === undefined) return;
    if (page.entries.length === 0 && next === token) throw order.stuck();
    token = page.entries.length > 0 ? undefined : next;
  }
}

/** What is asked with each page. */
function common(sender: Sender, { prefix, pageSize }: ListingOptions): Record<string, string> {
  return { prefix: sender.prefix + prefix, 'encoding-type': 'url', 'max-keys': String(pageSize) };
}

const OF_ALL = ['EncodingType', 'IsTruncated', 'Key', 'LastModified', 'ETag', 'Size'] as const;

const NAMES: Wanted = {
  root: 'ListBucketResult',
  records: new Set(['Contents']),
  fields: new Set([...OF_ALL, 'KeyCount', 'NextContinuationToken', 'StorageClass']),
};

const VERSIONS: Wanted = {
  root: 'ListVersionsResult',
  records: new Set(['Version', 'DeleteMarker']),
  fields: new Set([...OF_ALL, 'NextKeyMarker', 'VersionId', 'IsLatest']),
};

function readNames({ fields, records }: Records, prefix: string): Page<ListedName> {
  const encoding = fields.get('EncodingType');
  const entries = records.map(({ fields: one }) => ({
    name: nameOf(one, encoding, prefix),
    etag: bareEtag(one.get('ETag')),
    size: sizeOf(numberOf(one.get('Size'))),
    modifiedAt: timeIn(one.get('LastModified')),
    storageClass: one.get('StorageClass'),
  }));
  const count = fields.get('KeyCount');
  if (count !== undefined && numberOf(count) !== entries.length) {
    throw new MalformedAnswer(`the listing has ${entries.length} names and says ${count}`);
  }
  return { entries, ...truncation(fields, 'NextContinuationToken') };
}

/** Versions and markers below a prefix, in pages; complete, or it throws. */
export async function* listAllVersions(
  sender: Sender,
  options: ListingOptions,
): AsyncGenerator<ListedVersion[]> {
  const order = new Order(sender, options.prefix, undefined, 'ListObjectVersions');
  let versionId: string | undefined;
  for (;;) {
    const marker =
      versionId === undefined ? {} : { 'key-marker': order.lastKey, 'version-id-marker': versionId };
    const page = await sender.repeated<DirectAnswer, Page<ListedVersion> | NotUtf8>({
      operation: 'ListObjectVersions',
      what: 'listed',
      name: options.prefix,
      answers: VERSIONS.root,
      signal: options.signal,
      send: async (direct, sent) =>
        direct.send({ method: 'GET', query: { versions: '', ...common(sender, options), ...marker } }, sent),
      read: (_, { text }) => unlessNotUtf8(() => readVersions(readRecords(text, VERSIONS), sender.prefix)),
    });
    if (page instanceof NotUtf8) throw order.odd(page);
    const before = order.lastKey;
    for (const { name } of page.entries) order.next(name, true);
    const last = page.entries.at(-1);
    const next = order.follow(page);
    if (page.entries.length > 0) yield page.entries;
    if (next === undefined) return;
    if (last === undefined || (order.lastKey === before && last.versionId === versionId)) throw order.stuck();
    versionId = last.versionId;
  }
}

function readVersions({ fields, records }: Records, prefix: string): Page<ListedVersion> {
  const encoding = fields.get('EncodingType');
  const entries = records.map(({ name: kind, fields: one }): ListedVersion => {
    const isMarker = kind === 'DeleteMarker';
    return {
      name: nameOf(one, encoding, prefix),
      versionId: one.get('VersionId') ?? 'null',
      isLatest: isTrue(one.get('IsLatest')) === true,
      modifiedAt: timeIn(one.get('LastModified')),
      isMarker,
      etag: isMarker ? '' : bareEtag(one.get('ETag')),
      size: isMarker ? 0 : sizeOf(numberOf(one.get('Size'))),
    };
  });
  return { entries, ...truncation(fields, 'NextKeyMarker') };
}

function nameOf(entry: Fields, encoding: string | undefined, prefix: string): string {
  const key = listedKey(entry.get('Key') ?? '', encoding);
  if (key === '') throw new MalformedAnswer('the listing has an entry without a name');
  if (!key.startsWith(prefix))
    throw new MalformedAnswer(`the listing has ${printable(key)}, not below ${prefix}`);
  return key.slice(prefix.length);
}

/** A page; or, as a result that is not asked for again, what keeps it from being read. */
function unlessNotUtf8<T>(read: () => T): T | NotUtf8 {
  try {
    return read();
  } catch (error) {
    if (error instanceof NotUtf8) return error;
    throw error;
  }
}

function truncation(fields: Fields, token: string) {
  const isTruncated = isTrue(fields.get('IsTruncated'));
  if (isTruncated === undefined) throw new MalformedAnswer('the listing does not say whether it is complete');
  return { isTruncated, token: fields.get(token) };
}

/** Holds a listing to its prefix and order: one that jumps or repeats has lost something. */
class Order {
  readonly #sender: Sender;
  readonly #prefix: string;
  readonly #operation: string;
  #last: string | undefined;

  constructor(sender: Sender, prefix: string, after: string | undefined, operation: string) {
    this.#sender = sender;
    this.#prefix = prefix;
    this.#last = after;
    this.#operation = operation;
  }

  /** The whole key of the last name. */
  get lastKey(): string | undefined {
    return this.#last === undefined ? undefined : this.#sender.prefix + this.#last;
  }

  next(name: string, mayRepeat: boolean): void {
    if (!name.startsWith(this.#prefix)) throw this.#wrong(`${printable(name)} is not below the prefix`);
    const step = this.#last === undefined ? 1 : compareKeys(name, this.#last);
    if (step < 0 || (step === 0 && !mayRepeat)) {
      throw this.#wrong(`${printable(name)} came after ${printable(this.#last ?? '')}`);
    }
    this.#last = name;
  }

  /** Where the next page begins by the server's token; undefined where there is none. */
  follow({ isTruncated, token }: Page<unknown>): string | undefined {
    if (!isTruncated) return undefined;
    if (token === undefined || token === '') throw this.#wrong('it is cut short and does not say where');
    return token;
  }

  stuck(): Error {
    return this.#wrong('it does not go on');
  }

  odd({ message }: NotUtf8): Error {
    const hint = 'remove or rename it with the program that made it';
    return failed(this.#about(), message, hint);
  }

  #about() {
    return this.#sender.about({ operation: this.#operation, what: 'listed', name: this.#prefix });
  }

  #wrong(what: string): Error {
    return failed(
      this.#about(),
      `the store's listing is not to be relied on: ${what}`,
      'see whether the store lists names in byte order, and completely; directory buckets do not',
    );
  }
}
