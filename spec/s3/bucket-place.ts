import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import {
  DeleteObjectCommand,
  GetObjectCommand,
  PutObjectCommand,
  type PutObjectCommandInput,
  paginateListObjectsV2,
  type S3Client,
} from '@aws-sdk/client-s3';
import type { Clock } from '../../lib/domain/clock.ts';
import { systemClock } from '../../lib/domain/clock.ts';
import { openS3Store } from '../../lib/store/s3/open.ts';
import type { S3Store } from '../../lib/store/s3/s3-store.ts';
import { type Ended, type RunOptions, tombstonectl } from '../support/built-cli.ts';
import { S3Proxy, type S3Semantics } from '../support/s3-proxy.ts';
import { type FreshBucket, freshBucket, type S3Server, s3Client, s3Server } from '../support/s3-server.ts';

export const PENDING = 'pending_deletion/';

export interface BucketKind {
  readonly versioned?: boolean;
  /** Whether versions can be locked; they are kept then. */
  readonly locks?: boolean;
  /** Through a proxy that gives it. */
  readonly semantics?: S3Semantics;
}

/** A fresh bucket, perhaps behind a proxy, a prefix in it for a store, and a directory for a config and a catalog. */
export class BucketPlace implements AsyncDisposable {
  /** Of the store. Specs that want many stores in one bucket set another. */
  prefix = 'some/prefix/';
  readonly server: S3Server;
  readonly bucket: FreshBucket;
  readonly directory: string;
  /** Of the same endpoint as the stores and programs here. */
  readonly client: S3Client;
  readonly #proxy: S3Proxy | undefined;
  readonly #stores: S3Store[] = [];

  static async make(
    { versioned = false, locks = false, semantics }: BucketKind = {},
    server = s3Server(),
  ): Promise<BucketPlace> {
    if (server === undefined) throw new Error('there is no server');
    const bucket = await freshBucket(server, { versioned, locks });
    return new BucketPlace(
      server,
      bucket,
      semantics === undefined ? undefined : await S3Proxy.start(server, semantics),
    );
  }

  private constructor(server: S3Server, bucket: FreshBucket, proxy: S3Proxy | undefined) {
    this.server = server;
    this.bucket = bucket;
    this.#proxy = proxy;
    this.client = s3Client(server, this.endpoint);
    this.directory = mkdtempSync(path.join(tmpdir(), 'tombstoned-s3-'));
  }

  get endpoint(): string {
    return this.#proxy?.endpoint ?? this.server.endpoint;
  }

  get proxy(): S3Proxy {
    if (this.#proxy === undefined) throw new Error('this place has no proxy');
    return this.#proxy;
  }

  get url(): string {
    return `s3://${this.bucket.name}/${this.prefix.slice(0, -1)}`;
  }

  get #credentials() {
    const { accessKeyId, secretAccessKey } = this.server;
    return { AWS_ACCESS_KEY_ID: accessKeyId, AWS_SECRET_ACCESS_KEY: secretAccessKey };
  }

  /** A store object over the bucket: whoever opens it needs `withCredentials`. Closed with the place. */
  async store(
    clock: Clock = systemClock,
    concurrency = 16,
    versions: 'keep' | 'purge' = 'keep',
  ): Promise<S3Store> {
    const store = await openS3Store(
      {
        url: `s3://${this.bucket.name}/${this.prefix}`,
        bucket: this.bucket.name,
        prefix: this.prefix,
        endpoint: this.endpoint,
        region: this.server.region,
        forcePathStyle: true,
        throttle: { requestsPerSecond: null, bytesPerSecond: null, concurrency },
        versions,
      },
      { pendingPrefix: PENDING, clock },
    );
    this.#stores.push(store);
    return store;
  }

  async put(name: string, Body: string | Buffer, more: Partial<PutObjectCommandInput> = {}): Promise<void> {
    const Key = this.prefix + name;
    await this.client.send(new PutObjectCommand({ Bucket: this.bucket.name, Key, Body, ...more }));
  }

  async putAll(contents: Readonly<Record<string, string>>): Promise<void> {
    await inFlight(32, Object.entries(contents), async ([name, content]) => this.put(name, content));
  }

  async drop(name: string): Promise<void> {
    const Key = this.prefix + name;
    await this.client.send(new DeleteObjectCommand({ Bucket: this.bucket.name, Key }));
  }

  async names(below = ''): Promise<string[]> {
    return Array.from(await this.#listed(below), ({ name }) => name);
  }

  /**
   * What is live and pending, by name, with its ETag: the MD5 of its bytes here. Not
   * what the programs keep for themselves.
   */
  async etags(): Promise<Map<string, string>> {
    const listed = await this.#listed('');
    return new Map(
      listed.filter(({ name }) => !name.startsWith('.tombstoned/')).map(({ name, etag }) => [name, etag]),
    );
  }

  async #listed(below: string): Promise<{ readonly name: string; readonly etag: string }[]> {
    const listed: { name: string; etag: string }[] = [];
    const Prefix = this.prefix + below;
    for await (const page of paginateListObjectsV2(
      { client: this.client },
      { Bucket: this.bucket.name, Prefix },
    )) {
      for (const { Key = '', ETag = '' } of page.Contents ?? [])
        listed.push({ name: Key.slice(this.prefix.length), etag: ETag.replaceAll('"', '') });
    }
    return listed;
  }

  async content(name: string, VersionId?: string): Promise<string> {
    const Key = this.prefix + name;
    const got = await this.client.send(new GetObjectCommand({ Bucket: this.bucket.name, Key, VersionId }));
    return (await got.Body?.transformToString()) ?? '';
  }

  /** What is live and pending, by name; not what the programs keep for themselves. */
  async contents(): Promise<Map<string, string>> {
    const names = (await this.names()).filter((name) => !name.startsWith('.tombstoned/'));
    const contents = new Map<string, string>();
    await inFlight(32, names, async (name) => {
      contents.set(name, await this.content(name));
    });
    return contents;
  }

  get config(): string {
    return path.join(this.directory, 'tombstoned.yaml');
  }

  /** Writes a config of one store, `b`; `more` lines are its own. */
  configure(more: readonly string[] = [], s3: readonly string[] = []): void {
    const connection = [`endpoint: "${this.endpoint}"`, `region: ${this.server.region}`, ...s3];
    const lines = [
      `catalog: ${path.join(this.directory, 'catalog.db')}`,
      'metrics: null',
      'stores:',
      '  - name: b',
      `    url: ${this.url}`,
      `    s3: { ${connection.join(', ')}, forcePathStyle: true }`,
      '    minimumAge: 0s',
      '    limits: { maxObjects: null, maxFraction: null, maxBytes: null }',
      ...more.map((line) => `    ${line}`),
    ];
    writeFileSync(this.config, `${lines.join('\n')}\n`);
  }

  /** What a program needs to reach the bucket by its config. */
  get env(): Readonly<Record<string, string>> {
    return { ...this.#credentials, HOME: this.directory };
  }

  async ctl(args: readonly string[], options: RunOptions = {}): Promise<Ended> {
    return tombstonectl(['--config', this.config, ...args], {
      ...options,
      env: { ...this.env, ...options.env },
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const store of this.#stores) store.close();
    this.client.destroy();
    await this.#proxy?.close();
    rmSync(this.directory, { recursive: true, force: true });
    await this.bucket.remove();
  }
}

/** Does something to each, so many at a time. */
export async function inFlight<Item>(
  count: number,
  items: Iterable<Item>,
  act: (item: Item) => Promise<void>,
): Promise<void> {
  const rest = items[Symbol.iterator]();
  const work = async (): Promise<void> => {
    for (let next = rest.next(); next.done !== true; next = rest.next()) await act(next.value);
  };
  await Promise.all(Array.from({ length: count }, work));
}

/** Gives this process the server's credentials, for the time of a suite's specs. */
export function withCredentials(): void {
  before(() => {
    const server = s3Server();
    process.env['AWS_ACCESS_KEY_ID'] = server?.accessKeyId;
    process.env['AWS_SECRET_ACCESS_KEY'] = server?.secretAccessKey;
  });
  after(() => {
    delete process.env['AWS_ACCESS_KEY_ID'];
    delete process.env['AWS_SECRET_ACCESS_KEY'];
  });
}
