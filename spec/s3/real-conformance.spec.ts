import { setTimeout as delay } from 'node:timers/promises';
import {
  DeleteObjectCommand,
  GetObjectCommand,
  PutObjectCommand,
  paginateListObjectsV2,
} from '@aws-sdk/client-s3';
import { systemClock } from '../../lib/domain/clock.ts';
import { openS3Store } from '../../lib/store/s3/open.ts';
import { conformance, type StoreToTest } from '../conformance/store.ts';
import { S3Proxy, type S3Semantics } from '../support/s3-proxy.ts';
import { freshBucket, s3Client, s3Server, s3ServerOrSkip } from '../support/s3-server.ts';

const PREFIX = 'some/prefix/';

interface Kind {
  readonly name: string;
  readonly versioned: boolean;
  /** Through a proxy that gives it. */
  readonly semantics?: S3Semantics;
}

const KINDS: readonly Kind[] = [
  { name: 'RGW', versioned: false },
  { name: 'RGW with versions', versioned: true },
  { name: 'RGW behind a proxy that does as Amazon', versioned: false, semantics: 'amazon' },
  { name: 'RGW with versions behind a proxy that does as Amazon', versioned: true, semantics: 'amazon' },
  { name: 'RGW behind a proxy that shows copies other ETags', versioned: false, semantics: 'amazon-kms' },
];

async function onServer({ versioned, semantics }: Kind): Promise<StoreToTest> {
  const server = s3Server();
  if (server === undefined) throw new Error('there is no server');
  const bucket = await freshBucket(server, { versioned });
  const proxy = semantics === undefined ? undefined : await S3Proxy.start(server, semantics);
  const endpoint = proxy?.endpoint ?? server.endpoint;
  const client = s3Client(server, endpoint);
  const store = await openS3Store(
    {
      url: `s3://${bucket.name}/${PREFIX}`,
      bucket: bucket.name,
      prefix: PREFIX,
      endpoint,
      region: server.region,
      forcePathStyle: true,
      throttle: { requestsPerSecond: null, bytesPerSecond: null, concurrency: 16 },
    },
    { pendingPrefix: 'pending_deletion/', clock: systemClock },
  );
  const written = new Set<string>();
  const put = async (name: string, content: string): Promise<void> => {
    // Two contents of a name never share a time, which is in whole seconds.
    if (written.has(name)) await delay(1100);
    written.add(name);
    const Key = PREFIX + name;
    await client.send(new PutObjectCommand({ Bucket: bucket.name, Key, Body: content }));
  };
  return {
    store,
    copiesHaveOtherEtags: semantics === 'amazon-kms',
    replacesUnasked: versioned && semantics === undefined,
    put,
    putAll: async (contents) => {
      const rest = contents.entries();
      const work = async (): Promise<void> => {
        for (const [name, content] of rest) await put(name, content);
      };
      await Promise.all(Array.from({ length: 32 }, work));
    },
    drop: async (name) => {
      await client.send(new DeleteObjectCommand({ Bucket: bucket.name, Key: PREFIX + name }));
    },
    contents: async () => {
      const found: Record<string, string> = {};
      for await (const page of paginateListObjectsV2({ client }, { Bucket: bucket.name, Prefix: PREFIX })) {
        for (const { Key = '' } of page.Contents ?? []) {
          if (Key.startsWith(`${PREFIX}.tombstoned/`)) continue;
          const got = await client.send(new GetObjectCommand({ Bucket: bucket.name, Key }));
          found[Key.slice(PREFIX.length)] = (await got.Body?.transformToString()) ?? '';
        }
      }
      return found;
    },
    remove: async () => {
      store.close();
      client.destroy();
      await proxy?.close();
      await bucket.remove();
    },
  };
}

describe('on a real server', function () {
  before(function () {
    const server = s3ServerOrSkip(this);
    process.env['AWS_ACCESS_KEY_ID'] = server.accessKeyId;
    process.env['AWS_SECRET_ACCESS_KEY'] = server.secretAccessKey;
  });
  after(() => {
    delete process.env['AWS_ACCESS_KEY_ID'];
    delete process.env['AWS_SECRET_ACCESS_KEY'];
  });
  this.timeout(60_000);
  for (const kind of KINDS) conformance(kind.name, async () => onServer(kind));
});
