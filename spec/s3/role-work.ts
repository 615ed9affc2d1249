import { hash } from 'node:crypto';
import { finished } from 'node:stream/promises';
import {
  AbortMultipartUploadCommand,
  ListMultipartUploadsCommand,
  PutObjectCommand,
  type PutObjectCommandInput,
} from '@aws-sdk/client-s3';
import { assert } from 'chai';
import { systemClock } from '../../lib/domain/clock.ts';
import { idTime, makeTombstoneId, pendingName } from '../../lib/domain/ids.ts';
import { type Key, parseKey } from '../../lib/domain/key.ts';
import { type Revision, revisionHash } from '../../lib/domain/revision.ts';
import type { Capabilities } from '../../lib/store/s3/api.ts';
import { S3Client } from '../../lib/store/s3/client.ts';
import { ControlObjects } from '../../lib/store/s3/control-objects.ts';
import { copyGuardOf } from '../../lib/store/s3/guards.ts';
import { storeAbove } from '../../lib/store/s3/open.ts';
import { probe } from '../../lib/store/s3/probe.ts';
import { S3Store } from '../../lib/store/s3/s3-store.ts';
import type { MoveItem, OpenObject } from '../../lib/store/store.ts';
import { S3Proxy } from '../support/s3-proxy.ts';
import type { RestrictedUser } from '../support/s3-users.ts';
import { type BucketPlace, PENDING } from './bucket-place.ts';

/** Above it a copy is made in parts here. Bytes. */
const COPY_AT_ONCE = 1000;
const TAGGED = { Tagging: 'colour=dark%20blue', Metadata: { one: 'first' } };

type More = Partial<PutObjectCommandInput>;

/** Whose work is done, and where. */
export interface Given {
  /** Whoever made it may do all. */
  readonly place: BucketPlace;
  /** Whose credentials are in the environment. */
  readonly user: RestrictedUser;
  /** What is honoured here. */
  readonly capabilities: Capabilities;
}

interface Prepared extends Given {
  readonly client: S3Client;
  readonly store: S3Store;
  /** The same, where objects above 5 GiB are small. */
  readonly storeOfParts: S3Store;
}

/**
 * The requests of each role's work, by the library, as the credentials in the environment
 * may make them: each throws where one is denied, or leaves something that it should not.
 */
export const WORK = {
  daemon: async (given: Given) =>
    withStore(given, async (prepared) => {
      const { place, user, store, storeOfParts, client, capabilities } = prepared;
      await listed(store);
      await claimed(store, 'fences/r-1-1.json');
      const small = await written(place, 'small', 'small');
      const large = await written(place, 'large', 'x'.repeat(2 * COPY_AT_ONCE), readableBy(user));
      for (const [key, by] of [
        [small, store],
        [large, storeOfParts],
      ] as const) {
        const item = await intent(by, key);
        told(await by.move([item], { resume: false }), 'moved');
        await read(await by.openPending(key, item.id));
        told(await by.putBack([{ ...item, to: key }]), 'restored');
        told(await by.remove([{ ...item, from: 'restored' }]), 'removed');
      }
      // A move whose process died before it deleted anything, as recovery finds it.
      const item = await intent(store, small);
      const live = await client.head(small);
      if (live === undefined) throw new Error('nothing is live');
      const guard = copyGuardOf(capabilities);
      const source = { ...live, versionId: guard === 'version' ? live.versionId : null };
      await client.copy(small, pendingName(PENDING, small, item.id), { source, guard });
      told(await store.move([item], { resume: true }), 'moved');
      await copyThatFails(prepared);
      await aboveIsSeen(place);
    }),

  'restore-host': async (given: Given) =>
    withStore(given, async ({ place, store }) => {
      const key = await written(place, 'live', 'live');
      const id = await pendingCopy(place, 'pending', 'pending');
      await listed(store);
      await read(await store.openLive(key));
      if ((await store.openLive(parseKey('pending'))) !== undefined) throw new Error('it is live');
      await read(await store.openPending(parseKey('pending'), id));
      await store.control.list('fences');
      await claimed(store, 'leases/l-1.json');
    }),

  admin: async (given: Given) =>
    withStore(given, async (prepared) => {
      const { place, user, store, storeOfParts } = prepared;
      await listed(store);
      for (const name of ['holds/h-1.json', 'fences/r-1-1.json', 'leases/l-1.json'])
        await claimed(store, name);
      for (const [name, content, by] of [
        ['back', 'small', store],
        ['back-in-parts', 'x'.repeat(2 * COPY_AT_ONCE), storeOfParts],
      ] as const) {
        const key = parseKey(name);
        const id = await pendingCopy(place, name, content, readableBy(user));
        const copy = await by.headPending(key, id);
        if (copy === undefined) throw new Error('nothing is pending');
        await read(await by.openPending(key, id));
        told(await by.putBack([{ key, id, revision: copy.revision, to: key }]), 'restored');
      }
      await copyThatFails(prepared);
    }),
} as const;

async function withStore(given: Given, work: (prepared: Prepared) => Promise<void>): Promise<void> {
  const { place, capabilities } = given;
  const client = await opened(place, place.endpoint, 5 * 2 ** 30);
  const partly = await opened(place, place.endpoint, COPY_AT_ONCE);
  try {
    const storeOf = (api: S3Client): S3Store => {
      const known = async () => capabilities;
      const control = new ControlObjects({ api, capabilities: known, clock: systemClock });
      const common = { pendingPrefix: PENDING, clock: systemClock, concurrency: 4 };
      return new S3Store({ api, control, capabilities: known, ...common });
    };
    const store = storeOf(client);
    await work({ ...given, client, store, storeOfParts: storeOf(partly) });
    // Each begins with it; here it is the last, as it takes the longest.
    assert.deepEqual(await probe(client, systemClock), capabilities);
  } finally {
    client.close();
    partly.close();
  }
}

/**
 * For what is copied in parts: RGW 16 asks no policy, only its ACL, whether the source of a
 * part may be read.
 */
function readableBy({ name }: RestrictedUser): More {
  return { GrantRead: `id=${name}` };
}

async function opened(place: BucketPlace, endpoint: string, copyAtOnce: number): Promise<S3Client> {
  return S3Client.open({
    bucket: place.bucket.name,
    prefix: place.prefix,
    url: place.url,
    config: { endpoint, region: place.server.region, forcePathStyle: true },
    throttle: { requestsPerSecond: null, concurrency: 4 },
    clock: systemClock,
    limits: { copyAtOnce },
  });
}

async function listed(store: S3Store): Promise<void> {
  for await (const page of store.list('')) if (page.length > 1000) throw new RangeError('a page');
}

/** A control object is made, renewed and taken away. */
async function claimed({ control }: S3Store, name: string): Promise<void> {
  await control.create(name, 'one');
  await control.rewrite(name, 'one', 'two');
  await control.remove(name);
}

async function written(place: BucketPlace, name: string, content: string, more: More = {}): Promise<Key> {
  await place.put(name, content, { ...TAGGED, ...more });
  return parseKey(name);
}

/** A tombstone of a key, as a daemon has left it: its id. */
async function pendingCopy(
  place: BucketPlace,
  name: string,
  content: string,
  more: More = {},
): Promise<string> {
  const key = parseKey(name);
  const etag = hash('md5', content, 'hex');
  const size = content.length;
  const id = newId({ kind: 's3', etag, size, modifiedAt: 0, versionId: null, storageClass: null });
  await place.drop(name);
  await place.put(pendingName(PENDING, key, id), content, { ...TAGGED, ...more });
  return id;
}

async function intent(store: S3Store, key: Key): Promise<MoveItem> {
  const live = await store.head(key);
  if (live === undefined) throw new Error(`${key} is not live`);
  const { revision } = live;
  return { key, id: newId(revision), revision };
}

let batch = Date.now();

function newId(revision: Revision): string {
  return makeTombstoneId(idTime(batch++), revisionHash(revision), 0, () => 7);
}

async function read(object: OpenObject | undefined): Promise<void> {
  if (object === undefined) throw new Error('it is not there');
  await finished(object.read().resume());
}

type Told = { readonly outcome: string; readonly error?: Error };

function told([outcome]: readonly Told[], meant: string): void {
  if (outcome?.error !== undefined) throw outcome.error;
  if (outcome?.outcome !== meant) throw new Error(`${outcome?.outcome} where it should be ${meant}`);
}

/** A copy in parts that the store breaks off: nothing of it may be left, as it takes room that nobody sees. */
async function copyThatFails({ place, user, client, capabilities }: Prepared): Promise<void> {
  await using proxy = await S3Proxy.start(user.server, 'gateway');
  const broken = await opened(place, proxy.endpoint, COPY_AT_ONCE);
  proxy.inject({
    match: ({ kind }) => kind === 'copy-part',
    fault: { as: 'answer', when: 'before', status: 400, code: 'InvalidRange' },
  });
  try {
    const from = await written(place, 'torn', 'x'.repeat(2 * COPY_AT_ONCE));
    const head = await client.head(from);
    if (head === undefined) throw new Error(`${from} is not live`);
    const guard = copyGuardOf(capabilities);
    const failure = await broken
      .copy(from, pendingName(PENDING, from, 'torn'), { source: head, guard })
      .catch((error: unknown) => error);
    if (!(failure instanceof Error) || !failure.message.includes('InvalidRange')) throw failure;
  } finally {
    broken.close();
  }
  const Bucket = place.bucket.name;
  const { Uploads = [] } = await place.client.send(new ListMultipartUploadsCommand({ Bucket }));
  for (const { Key, UploadId } of Uploads)
    await place.client.send(new AbortMultipartUploadCommand({ Bucket, Key, UploadId }));
  if (Uploads.length > 0) throw new Error('parts are left: s3:AbortMultipartUpload');
}

/** A store that this one would be inside of is seen, as `init` has to. */
async function aboveIsSeen(place: BucketPlace): Promise<void> {
  const { endpoint, url, prefix } = place;
  const { region } = place.server;
  const throttle = { requestsPerSecond: null, bytesPerSecond: null, concurrency: 4 };
  const bucket = place.bucket.name;
  await place.client.send(
    new PutObjectCommand({ Bucket: bucket, Key: 'some/.tombstoned/store.json', Body: '{}' }),
  );
  const where = { url, bucket, prefix, endpoint, region, forcePathStyle: true, throttle };
  const above = await storeAbove(where, systemClock);
  if (above !== `s3://${bucket}/some/`) throw new Error(`${above} is no store above`);
}
