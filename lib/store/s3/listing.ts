import {
  ListObjectsV2Command,
  type ListObjectsV2CommandOutput,
  ListObjectVersionsCommand,
  type ListObjectVersionsCommandOutput,
  type ObjectVersion,
} from '@aws-sdk/client-s3';
import { compareKeys, printable } from '../../domain/key.ts';
import type { ListedName, ListedVersion } from './api.ts';
import { bareEtag, listedKey, NotUtf8, sizeOf, timeOf } from './encoding.ts';
import { MalformedAnswer } from './http.ts';
import { failed, type Sender } from './sender.ts';

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
    const start = token === undefined ? { StartAfter: order.lastKey } : { ContinuationToken: token };
    const page = await sender.repeated<ListObjectsV2CommandOutput, Page<ListedName> | NotUtf8>({
      operation: 'ListObjectsV2',
      what: 'listed',
      name: options.prefix,
      answers: 'ListBucketResult',
      signal: options.signal,
      send: async (sdk, sent) =>
        sdk.send(
          new ListObjectsV2Command({
            Bucket: sender.bucket,
            Prefix: sender.prefix + options.prefix,
            EncodingType: 'url',
            MaxKeys: options.pageSize,
            ...start,
          }),
          sent,
        ),
      read: (output) => unlessNotUtf8(() => readNames(output, sender.prefix)),
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

function readNames(output: ListObjectsV2CommandOutput, prefix: string): Page<ListedName> {
  const encoding = output.EncodingType;
  const entries = (output.Contents ?? []).map((one) => ({
    name: nameOf(one.Key, encoding, prefix),
    etag: bareEtag(one.ETag),
    size: sizeOf(one.Size),
    modifiedAt: timeOf(one.LastModified),
    storageClass: one.StorageClass,
  }));
  if (output.KeyCount !== undefined && output.KeyCount !== entries.length) {
    throw new MalformedAnswer(`the listing has ${entries.length} names and says ${output.KeyCount}`);
  }
  return { entries, ...truncation(output.IsTruncated, output.NextContinuationToken) };
}

/** Versions and markers below a prefix, in pages; complete, or it throws. */
export async function* listAllVersions(
  sender: Sender,
  options: ListingOptions,
): AsyncGenerator<ListedVersion[]> {
  const order = new Order(sender, options.prefix, undefined, 'ListObjectVersions');
  let versionId: string | undefined;
  for (;;) {
    const marker = versionId === undefined ? {} : { KeyMarker: order.lastKey, VersionIdMarker: versionId };
    const page = await sender.repeated<ListObjectVersionsCommandOutput, Page<ListedVersion> | NotUtf8>({
      operation: 'ListObjectVersions',
      what: 'listed',
      name: options.prefix,
      answers: 'ListVersionsResult',
      signal: options.signal,
      send: async (sdk, sent) =>
        sdk.send(
          new ListObjectVersionsCommand({
            Bucket: sender.bucket,
            Prefix: sender.prefix + options.prefix,
            EncodingType: 'url',
            MaxKeys: options.pageSize,
            ...marker,
          }),
          sent,
        ),
      read: (output, { text }) => unlessNotUtf8(() => readVersions(output, text, sender.prefix)),
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

/** The SDK gives versions and markers apart; only the document has them in their order. */
function readVersions(
  output: ListObjectVersionsCommandOutput,
  text: string,
  prefix: string,
): Page<ListedVersion> {
  const encoding = output.EncodingType;
  const common = (one: Pick<ObjectVersion, 'Key' | 'VersionId' | 'IsLatest' | 'LastModified'>) => ({
    name: nameOf(one.Key, encoding, prefix),
    versionId: one.VersionId ?? 'null',
    isLatest: one.IsLatest === true,
    modifiedAt: timeOf(one.LastModified),
  });
  const versions = (output.Versions ?? [])
    .map(
      (one): ListedVersion => ({
        ...common(one),
        isMarker: false,
        etag: bareEtag(one.ETag),
        size: sizeOf(one.Size),
      }),
    )
    .values();
  const markers = (output.DeleteMarkers ?? [])
    .map((one): ListedVersion => ({ ...common(one), isMarker: true, etag: '', size: 0 }))
    .values();
  const entries: ListedVersion[] = [];
  for (const [, kind] of text.matchAll(/<(Version|DeleteMarker)>/g)) {
    const { value } = (kind === 'Version' ? versions : markers).next();
    if (value === undefined) throw new MalformedAnswer('the listing has entries that were not read');
    entries.push(value);
  }
  if (versions.next().done !== true || markers.next().done !== true) {
    throw new MalformedAnswer('the listing has entries in no order');
  }
  return { entries, ...truncation(output.IsTruncated, output.NextKeyMarker) };
}

function nameOf(listed: string | undefined, encoding: string | undefined, prefix: string): string {
  const key = listedKey(listed ?? '', encoding);
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

function truncation(isTruncated: boolean | undefined, token: string | undefined) {
  if (isTruncated === undefined) throw new MalformedAnswer('the listing does not say whether it is complete');
  return { isTruncated, token };
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
