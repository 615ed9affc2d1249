import { spawnSync } from 'node:child_process';
import path from 'node:path';
import { Readable } from 'node:stream';
import {
  CompleteMultipartUploadCommand,
  CopyObjectCommand,
  CreateMultipartUploadCommand,
  DeleteObjectCommand,
  DeleteObjectsCommand,
  GetObjectCommand,
  HeadObjectCommand,
  ListObjectsV2Command,
  ListObjectVersionsCommand,
  PutObjectCommand,
  type S3Client,
  S3ServiceException,
  UploadPartCommand,
  UploadPartCopyCommand,
} from '@aws-sdk/client-s3';
import { assert } from 'chai';
import { type S3Fault, S3Proxy, type S3Semantics } from './s3-proxy.ts';
import type { S3Kind, S3Request } from './s3-request.ts';
import {
  type FreshBucket,
  freshBucket,
  type S3Server,
  s3Client,
  s3Server,
  s3ServerOrSkip,
} from './s3-server.ts';

const WRONG = '"00000000000000000000000000000000"';
const LONG_AGO = new Date('2001-01-01T00:00:00Z');
/** Names that need care in XML, in paths and in `x-amz-copy-source`. */
const AWKWARD = ['a b/c+d', "it's (1)!*", '<&>"', 'häßlich ☃', 'a%2Fb', 'q?x=1&y'];

describe('a proxy that makes an Amazon S3 of the real server', () => {
  let server: S3Server;
  let bucket: FreshBucket;
  let versioned: FreshBucket;
  let proxy: S3Proxy;
  let client: S3Client;
  let Bucket: string;

  before(async function () {
    server = s3ServerOrSkip(this);
    bucket = await freshBucket(server);
    versioned = await freshBucket(server, { versioned: true });
  });

  after(async () => {
    await bucket?.remove();
    await versioned?.remove();
  });

  beforeEach(async () => {
    Bucket = bucket.name;
    await begin('amazon');
  });

  afterEach(async () => {
    client.destroy();
    await proxy.close();
    await bucket.empty();
  });

  async function begin(semantics: S3Semantics): Promise<void> {
    proxy = await S3Proxy.start(server, semantics);
    client = s3Client(server, proxy.endpoint);
  }

  async function become(semantics: S3Semantics): Promise<void> {
    client.destroy();
    await proxy.close();
    await begin(semantics);
  }

  /** Puts an object; its ETag, quoted as the SDK gives it. */
  async function put(Key: string, Body: string, conditions: { IfMatch?: string; IfNoneMatch?: string } = {}) {
    const { ETag = '' } = await client.send(new PutObjectCommand({ Bucket, Key, Body, ...conditions }));
    return ETag;
  }

  async function copy(from: string, Key: string, conditions: Partial<CopyObjectCommand['input']> = {}) {
    const CopySource = `${Bucket}/${encodeURIComponent(from)}`;
    const { CopyObjectResult } = await client.send(
      new CopyObjectCommand({ Bucket, Key, CopySource, ...conditions }),
    );
    return CopyObjectResult?.ETag ?? '';
  }

  async function remove(Key: string, IfMatch?: string, VersionId?: string): Promise<void> {
    await client.send(
      new DeleteObjectCommand({
        Bucket,
        Key,
        ...(IfMatch === undefined ? {} : { IfMatch }),
        ...(VersionId === undefined ? {} : { VersionId }),
      }),
    );
  }

  /** What is there, undefined for nothing; past the proxy. */
  async function content(Key: string): Promise<string | undefined> {
    const direct = s3Client(server);
    try {
      const { Body } = await direct.send(new GetObjectCommand({ Bucket, Key }));
      return await Body?.transformToString();
    } catch (error) {
      if (error instanceof S3ServiceException && error.$metadata.httpStatusCode === 404) return undefined;
      throw error;
    } finally {
      direct.destroy();
    }
  }

  /** How a request was refused: its status, and the code that the server gave. */
  async function refusal(sent: Promise<unknown>): Promise<string> {
    try {
      await sent;
    } catch (error) {
      if (!(error instanceof S3ServiceException)) throw error;
      return `${error.$metadata.httpStatusCode} ${error.name}`;
    }
    return 'none';
  }

  const CHANGED = '412 PreconditionFailed';

  describe('PUT', () => {
    it('with If-None-Match puts nothing where there is something', async () => {
      await put('a', 'one', { IfNoneMatch: '*' });
      assert.equal(await refusal(put('a', 'two', { IfNoneMatch: '*' })), CHANGED);
      assert.equal(await content('a'), 'one');
    });

    it('with If-Match puts only over that ETag, quoted or not', async () => {
      const one = await put('a', 'one');
      assert.match(one, /^"[0-9a-f]{32}"$/);
      assert.equal(await refusal(put('a', 'two', { IfMatch: WRONG })), CHANGED);
      const two = await put('a', 'two', { IfMatch: one });
      assert.equal(await refusal(put('a', 'three', { IfMatch: one })), CHANGED);
      await put('a', 'three', { IfMatch: two.replaceAll('"', '') });
      assert.equal(await content('a'), 'three');
      assert.equal(await refusal(put('b', 'one', { IfMatch: one })), '404 NoSuchKey');
    });

    it('with If-Match has one winner, and 412 for all others', async () => {
      let etag = await put('a', 'first');
      for (let round = 0; round < 10; round++) {
        const outcomes = await Promise.all(
          Array.from({ length: 10 }, (_, i) => refusal(put('a', `${round} by ${i}`, { IfMatch: etag }))),
        );
        assert.deepEqual(outcomes.toSorted(), [...Array.from({ length: 9 }, () => CHANGED), 'none']);
        const { ETag = '' } = await client.send(new HeadObjectCommand({ Bucket, Key: 'a' }));
        assert.equal(await content('a'), `${round} by ${outcomes.indexOf('none')}`);
        etag = ETag;
      }
    });

    it('takes a stream with the checksums that the SDK makes by default', async () => {
      const chunky = s3Client(server, proxy.endpoint, { requestChecksumCalculation: 'WHEN_SUPPORTED' });
      const body = Buffer.alloc(300_000, 'streamed');
      await chunky.send(
        new PutObjectCommand({
          Bucket,
          Key: 'a',
          Body: Readable.from([body.subarray(0, 70_001), body.subarray(70_001)]),
          ContentLength: body.length,
        }),
      );
      await chunky.send(new PutObjectCommand({ Bucket, Key: 'b', Body: body }));
      chunky.destroy();
      assert.equal(await content('a'), body.toString());
      assert.equal(await content('b'), body.toString());
      const { ContentEncoding } = await client.send(new HeadObjectCommand({ Bucket, Key: 'a' }));
      assert.isUndefined(ContentEncoding);
    });

    it('works with names and metadata of every kind', async () => {
      for (const name of AWKWARD) {
        const input = {
          Bucket,
          Key: name,
          Body: name,
          Metadata: { about: 'a  b' },
          ContentEncoding: 'identity',
        };
        const { ETag = '' } = await client.send(new PutObjectCommand(input));
        await copy(name, `${name}-copy`, { CopySourceIfMatch: ETag });
        assert.equal(await content(`${name}-copy`), name);
        const head = await client.send(new HeadObjectCommand({ Bucket, Key: `${name}-copy` }));
        assert.deepEqual(head.Metadata, { about: 'a  b' });
        assert.equal(head.ContentEncoding, 'identity');
        await remove(name, ETag);
        assert.isUndefined(await content(name));
      }
      const { Contents = [] } = await client.send(new ListObjectsV2Command({ Bucket, EncodingType: 'url' }));
      assert.equal(Contents.length, AWKWARD.length);
    });
  });

  describe('COPY', () => {
    it('copies only what its source conditions say', async () => {
      const one = await put('a', 'one');
      const { LastModified } = await client.send(new HeadObjectCommand({ Bucket, Key: 'a' }));
      const never: [string, Partial<CopyObjectCommand['input']>][] = [
        ['another ETag', { CopySourceIfMatch: WRONG }],
        ['not this ETag', { CopySourceIfNoneMatch: one }],
        ['modified since', { CopySourceIfUnmodifiedSince: LONG_AGO }],
        ['not modified since', { CopySourceIfModifiedSince: LastModified }],
        [
          'another ETag, not modified since',
          { CopySourceIfMatch: WRONG, CopySourceIfUnmodifiedSince: LastModified },
        ],
      ];
      for (const [what, condition] of never) {
        assert.equal(await refusal(copy('a', 'b', condition)), CHANGED, what);
        assert.isUndefined(await content('b'), what);
      }
      const always: [string, Partial<CopyObjectCommand['input']>][] = [
        ['this ETag', { CopySourceIfMatch: one }],
        ['another ETag', { CopySourceIfNoneMatch: WRONG }],
        ['not modified since', { CopySourceIfUnmodifiedSince: LastModified }],
        ['modified since', { CopySourceIfModifiedSince: LONG_AGO }],
        [
          'this ETag, though modified since',
          { CopySourceIfMatch: one, CopySourceIfUnmodifiedSince: LONG_AGO },
        ],
      ];
      for (const [what, condition] of always) {
        await copy('a', what, condition);
        assert.equal(await content(what), 'one', what);
      }
      assert.equal(await refusal(copy('none', 'b', { CopySourceIfMatch: one })), '404 NoSuchKey');
    });

    it('overwrites nothing where it must not', async () => {
      const one = await put('a', 'one');
      await copy('a', 'b', { IfNoneMatch: '*' });
      const two = await put('a', 'two');
      assert.equal(await refusal(copy('a', 'b', { IfNoneMatch: '*' })), CHANGED);
      assert.equal(await refusal(copy('a', 'b', { IfMatch: two })), CHANGED);
      assert.equal(await content('b'), 'one');
      await copy('a', 'b', { IfMatch: one });
      assert.equal(await content('b'), 'two');
    });

    it('knows nothing of the conditions that only the gateway has', async () => {
      await put('a', 'one');
      client.middlewareStack.add(
        (next) => async (args) => {
          const request = args.request as { headers: Record<string, string> };
          request.headers['x-amz-copy-if-match'] = WRONG;
          return next(args);
        },
        { step: 'build' },
      );
      await copy('a', 'b');
      assert.equal(await content('b'), 'one');
    });

    it('of a part is held by its source condition', async () => {
      const one = await put('a', 'one');
      const { UploadId } = await client.send(new CreateMultipartUploadCommand({ Bucket, Key: 'b' }));
      const part = (CopySourceIfMatch: string) =>
        client.send(
          new UploadPartCopyCommand({
            Bucket,
            Key: 'b',
            UploadId,
            PartNumber: 1,
            CopySource: `${Bucket}/a`,
            CopySourceIfMatch,
          }),
        );
      assert.equal(await refusal(part(WRONG)), CHANGED);
      const { CopyPartResult } = await part(one);
      assert.equal(CopyPartResult?.ETag, one);
    });
  });

  describe('complete-multipart', () => {
    it('with If-None-Match overwrites nothing', async () => {
      const upload = async (Body: string): Promise<void> => {
        const { UploadId } = await client.send(new CreateMultipartUploadCommand({ Bucket, Key: 'a' }));
        const { ETag } = await client.send(
          new UploadPartCommand({ Bucket, Key: 'a', UploadId, PartNumber: 1, Body }),
        );
        await client.send(
          new CompleteMultipartUploadCommand({
            Bucket,
            Key: 'a',
            UploadId,
            IfNoneMatch: '*',
            MultipartUpload: { Parts: [{ ETag, PartNumber: 1 }] },
          }),
        );
      };
      await upload('one');
      assert.equal(await refusal(upload('two')), CHANGED);
      assert.equal(await content('a'), 'one');
      const kinds: S3Kind[] = ['create-multipart', 'upload-part', 'complete-multipart'];
      assert.deepEqual(
        kinds.map((kind) => proxy.count(kind)),
        [2, 2, 2],
      );
    });
  });

  describe('DELETE', () => {
    it('with If-Match takes only that ETag', async () => {
      const one = await put('a', 'one');
      assert.equal(await refusal(remove('a', WRONG)), CHANGED);
      assert.equal(await content('a'), 'one');
      await remove('a', one);
      assert.isUndefined(await content('a'));
      assert.equal(await refusal(remove('a', one)), '404 NoSuchKey');
      assert.equal(await refusal(remove('a', '*')), CHANGED);
      await remove('a');
    });

    it('with If-Match never takes a newer content, in 50 races', async () => {
      let taken = 0;
      for (let round = 0; round < 50; round++) {
        const Key = `a${round}`;
        const old = await put(Key, 'old');
        // Either is late by a little, in turn.
        const late = round % 2 === 0 ? 'put' : 'delete';
        proxy.inject({
          match: ({ kind }) => kind === late,
          fault: { as: 'latency', when: 'before', ms: round % 9 },
        });
        const [, outcome] = await Promise.all([put(Key, 'new'), refusal(remove(Key, old))]);
        assert.equal(await content(Key), 'new', `round ${round}`);
        assert.oneOf(outcome, ['none', CHANGED]);
        if (outcome === 'none') taken++;
      }
      assert.isAbove(taken, 0, 'it was never first');
      assert.isBelow(taken, 50, 'it was always first');
    });

    it('of a batch reads the ETag of each entry', async () => {
      const etags = new Map<string, string>();
      for (const Key of [...AWKWARD, 'free']) etags.set(Key, await put(Key, Key));
      const entries = AWKWARD.map((Key, i) => ({ Key, ETag: i % 2 === 0 ? etags.get(Key) : WRONG }));
      const { Deleted = [], Errors = [] } = await client.send(
        new DeleteObjectsCommand({
          Bucket,
          Delete: { Objects: [...entries, { Key: 'free' }, { Key: 'none', ETag: WRONG }] },
        }),
      );
      const kept = AWKWARD.filter((_, i) => i % 2 === 1);
      assert.sameMembers(
        Deleted.map(({ Key }) => Key),
        [...AWKWARD.filter((_, i) => i % 2 === 0), 'free'],
      );
      assert.sameMembers(
        Errors.map(({ Key, Code }) => `${Code} ${Key}`),
        [...kept.map((Key) => `PreconditionFailed ${Key}`), 'NoSuchKey none'],
      );
      for (const Key of AWKWARD) assert.equal(await content(Key), kept.includes(Key) ? Key : undefined);
    });

    it('of a batch says nothing of what it did, if it is to be quiet, and all of what it did not', async () => {
      const one = await put('a', 'one');
      await put('b', 'two');
      const batch = (...Objects: { Key: string; ETag: string }[]) =>
        client.send(new DeleteObjectsCommand({ Bucket, Delete: { Objects, Quiet: true } }));
      const refused = await batch({ Key: 'b', ETag: WRONG });
      assert.deepEqual(
        refused.Errors?.map(({ Key, Code }) => [Key, Code]),
        [['b', 'PreconditionFailed']],
      );
      const mixed = await batch({ Key: 'a', ETag: one }, { Key: 'b', ETag: one });
      assert.isUndefined(mixed.Deleted);
      assert.deepEqual(
        mixed.Errors?.map(({ Key, Code }) => [Key, Code]),
        [['b', 'PreconditionFailed']],
      );
      assert.isUndefined(await content('a'));
      assert.equal(await content('b'), 'two');
    });

    it('in a versioned bucket looks at the current version, and a marker is none', async () => {
      Bucket = versioned.name;
      const one = await put('a', 'one');
      const two = await put('a', 'two');
      assert.equal(await refusal(remove('a', one)), CHANGED);
      await remove('a', two);
      assert.equal(await refusal(remove('a', two)), '404 NoSuchKey');
      assert.equal(await refusal(put('a', 'three', { IfMatch: two })), '404 NoSuchKey');
      await put('a', 'three', { IfNoneMatch: '*' });
      assert.equal(await content('a'), 'three');
    });
  });

  it('says the version of a copy', async () => {
    Bucket = versioned.name;
    await put('a', 'one');
    const { VersionId } = await client.send(
      new CopyObjectCommand({ Bucket, Key: 'b', CopySource: `${Bucket}/a` }),
    );
    assert.equal(VersionId, (await client.send(new HeadObjectCommand({ Bucket, Key: 'b' }))).VersionId);
    assert.isString(VersionId);
  });

  it('lists whole seconds, the same that HEAD says', async () => {
    await put('a', 'one');
    const { LastModified } = await client.send(new HeadObjectCommand({ Bucket, Key: 'a' }));
    const { Contents } = await client.send(new ListObjectsV2Command({ Bucket }));
    assert.deepEqual(Contents?.[0]?.LastModified, LastModified);
  });

  it('has the semantics of what is behind it, if so told', async () => {
    await become('gateway');
    await put('a', 'one');
    await copy('a', 'b', { CopySourceIfMatch: WRONG });
    assert.equal(await content('b'), 'one');
    await remove('a', WRONG);
    assert.isUndefined(await content('a'));
  });

  describe('where copies get new ETags', () => {
    beforeEach(() => become('amazon-kms'));

    const headed = async (Key: string): Promise<string | undefined> =>
      (await client.send(new HeadObjectCommand({ Bucket, Key }))).ETag;
    const listedEtags = async (): Promise<Record<string, string | undefined>> => {
      const { Contents = [] } = await client.send(new ListObjectsV2Command({ Bucket }));
      return Object.fromEntries(Contents.map(({ Key, ETag }) => [Key, ETag]));
    };

    it('every answer shows the same one', async () => {
      const one = await put('a', 'one');
      const copied = await copy('a', "it's <b>");
      assert.match(copied, /^"[0-9a-f]{32}-1"$/);
      assert.notEqual(copied, await copy('a', 'c'));
      assert.equal(await headed("it's <b>"), copied);
      assert.equal((await client.send(new GetObjectCommand({ Bucket, Key: "it's <b>" }))).ETag, copied);
      assert.deepEqual(await listedEtags(), { a: one, "it's <b>": copied, c: (await headed('c')) ?? '' });
    });

    it('conditions are about that one', async () => {
      const one = await put('a', 'one');
      const copied = await copy('a', 'b');
      const get = (IfMatch: string) => client.send(new GetObjectCommand({ Bucket, Key: 'b', IfMatch }));
      assert.equal(await refusal(get(one)), CHANGED);
      await get(copied);
      assert.equal(await refusal(put('b', 'two', { IfMatch: one })), CHANGED);
      assert.equal(await refusal(copy('b', 'c', { CopySourceIfMatch: one })), CHANGED);
      assert.equal(await refusal(remove('b', one)), CHANGED);
      await copy('b', 'c', { CopySourceIfMatch: copied });
      await remove('b', copied);
      assert.deepEqual([await content('b'), await content('c')], [undefined, 'one']);
    });

    it('a put over a copy has its own', async () => {
      const one = await put('a', 'one');
      await copy('a', 'b');
      await put('b', 'one');
      assert.deepEqual(await listedEtags(), { a: one, b: one });
      await copy('a', 'b');
      await remove('b');
      await put('b', 'one');
      assert.equal(await headed('b'), one);
    });

    it('each version has its own', async () => {
      Bucket = versioned.name;
      await versioned.empty();
      const one = await put('a', 'one');
      const copied = await copy('a', 'b');
      await put('b', 'one');
      assert.equal(await headed('b'), one);
      assert.deepEqual(await listedEtags(), { a: one, b: one });
      const { Versions = [] } = await client.send(new ListObjectVersionsCommand({ Bucket, Prefix: 'b' }));
      assert.deepEqual(
        Versions.map(({ ETag }) => ETag),
        [one, copied],
      );
      await remove('b', undefined, Versions[0]?.VersionId);
      assert.equal(await headed('b'), copied);
      assert.deepEqual(await listedEtags(), { a: one, b: copied });
    });
  });

  describe('a fault', () => {
    const onPut = ({ kind }: S3Request): boolean => kind === 'put';
    const inject = (fault: S3Fault, match = onPut) => proxy.inject({ match, fault });
    /** The code of what a connection threw. */
    const thrown = async (sent: Promise<unknown>): Promise<string> => {
      try {
        await sent;
      } catch (error) {
        return error instanceof Error && 'code' in error ? String(error.code) : String(error);
      }
      return 'none';
    };

    for (const when of ['before', 'after'] as const) {
      const expected = when === 'before' ? undefined : 'one';

      it(`answers with an error ${when} the effect, once`, async () => {
        const injected = inject({ as: 'answer', when, status: 503, code: 'SlowDown' });
        assert.equal(await refusal(put('a', 'one')), '503 SlowDown');
        assert.equal(await content('a'), expected);
        await put('a', 'two');
        assert.equal(injected.struck, 1);
        assert.deepEqual(
          proxy.seen.map(({ status }) => status),
          [503, 200],
        );
      });

      it(`resets the connection ${when} the effect`, async () => {
        inject({ as: 'reset', when });
        assert.equal(await thrown(put('a', 'one')), 'ECONNRESET');
        assert.equal(await content('a'), expected);
      });

      it(`never answers, ${when} the effect`, async () => {
        inject({ as: 'silence', when });
        const sent = client.send(new PutObjectCommand({ Bucket, Key: 'a', Body: 'one' }), {
          abortSignal: AbortSignal.timeout(200),
        });
        assert.include(await thrown(sent), 'AbortError');
        assert.equal(await content('a'), expected);
      });

      it(`says 200 to a copy, with an error in it, ${when} the effect`, async () => {
        await put('b', 'one');
        inject({ as: 'error in 200', when, code: 'InternalError' }, ({ kind }) => kind === 'copy');
        assert.include(await refusal(copy('b', 'a')), 'InternalError');
        assert.equal(await content('a'), expected);
      });

      it(`is somebody who acts ${when} the effect`, async () => {
        let found: string | undefined = 'never run';
        const deed = async (): Promise<void> => {
          found = await content('a');
          await put('a', 'theirs');
        };
        inject({ as: 'deed', when, deed }, (request) => onPut(request) && request.body.toString() === 'one');
        await put('a', 'one');
        assert.equal(found, expected);
        assert.equal(await content('a'), when === 'before' ? 'one' : 'theirs');
      });
    }

    it('lets time pass', async () => {
      inject({ as: 'latency', when: 'before', ms: 300 });
      const begun = performance.now();
      await put('a', 'one');
      assert.isAtLeast(performance.now() - begun, 299);
    });

    it('cuts a body', async () => {
      const body = Buffer.alloc(100_000, 'x').toString();
      await put('a', body);
      for (const bytes of [0, 70_000]) {
        inject({ as: 'cut', bytes }, ({ kind }) => kind === 'get');
        const { Body, ContentLength } = await client.send(new GetObjectCommand({ Bucket, Key: 'a' }));
        assert.equal(ContentLength, 100_000);
        let came = 0;
        const read = async (): Promise<void> => {
          for await (const chunk of Body as Readable) came += (chunk as Buffer).length;
        };
        assert.equal(await thrown(read()), 'ECONNRESET');
        assert.equal(came, bytes);
      }
    });

    it('strikes as often as it is told, until it is removed; others wait behind it', async () => {
      const first = proxy.inject({
        match: onPut,
        fault: { as: 'answer', when: 'before', status: 500, code: 'InternalError' },
        times: 2,
      });
      const second = proxy.inject({
        match: onPut,
        fault: { as: 'answer', when: 'before', status: 503, code: 'SlowDown' },
        times: Infinity,
      });
      const outcomes: string[] = [];
      for (let i = 0; i < 4; i++) outcomes.push((await refusal(put('a', 'one'))).slice(0, 3));
      assert.deepEqual(outcomes, ['500', '500', '503', '503']);
      assert.deepEqual([first.struck, second.struck], [2, 2]);
      second.remove();
      await put('a', 'one');
    });

    it('holds a request back until after its sender has given up', async () => {
      const held = proxy.hold(onPut);
      const givingUp = new AbortController();
      const sent = client.send(new PutObjectCommand({ Bucket, Key: 'a', Body: 'late' }), {
        abortSignal: givingUp.signal,
      });
      const { key } = await held.arrived;
      assert.equal(key, 'a');
      givingUp.abort();
      assert.include(await thrown(sent), 'AbortError');
      await put('a', 'newer'); // only one is held
      assert.equal(await content('a'), 'newer');
      assert.equal((await held.release())?.status, 200);
      assert.equal(await content('a'), 'late');
    });

    it('holds a request back, and its sender that waits is answered', async () => {
      const held = proxy.hold(onPut);
      const sent = put('a', 'one');
      await held.arrived;
      assert.isUndefined(await content('a'));
      await held.release();
      assert.match(await sent, /^"/);
    });

    it('of the proxy itself is thrown when it closes', async () => {
      const own = await S3Proxy.start(server);
      own.inject({
        match: () => {
          throw new Error('a bad rule');
        },
        fault: { as: 'reset', when: 'before' },
      });
      const other = s3Client(server, own.endpoint);
      assert.equal(await thrown(other.send(new HeadObjectCommand({ Bucket, Key: 'a' }))), 'ECONNRESET');
      other.destroy();
      const error: unknown = await own.close().catch((reason: unknown) => reason);
      assert.include(String((error as AggregateError).errors), 'a bad rule');
    });
  });

  it('ends requests that are under way when it closes', async () => {
    const own = await S3Proxy.start(server);
    const held = own.hold(() => true);
    const other = s3Client(server, own.endpoint);
    const sent = other.send(new HeadObjectCommand({ Bucket, Key: 'a' })).catch((error: unknown) => error);
    await held.arrived;
    await own.close();
    assert.instanceOf(await sent, Error);
    other.destroy();
  });

  it('counts requests by their kind, and keeps them', async () => {
    await put('a', 'one');
    await copy('a', 'b');
    await client.send(new HeadObjectCommand({ Bucket, Key: 'b' }));
    await client.send(new GetObjectCommand({ Bucket, Key: 'b' }));
    await client.send(new ListObjectsV2Command({ Bucket, Prefix: 'b', Delimiter: '/', MaxKeys: 5 }));
    await client.send(new ListObjectVersionsCommand({ Bucket }));
    await remove('a', await put('a', 'two'));
    await client.send(new DeleteObjectsCommand({ Bucket, Delete: { Objects: [{ Key: 'b' }] } }));
    const kinds = 'put copy head get list list-versions put delete batch-delete'.split(' ');
    assert.deepEqual(
      proxy.seen.map(({ request }) => request.kind),
      kinds as S3Kind[],
    );
    assert.equal(proxy.count('put', 'copy'), 3);
    assert.equal(proxy.count(), 9);
    assert.deepEqual(proxy.seen[1]?.request.source, { bucket: Bucket, key: 'a' });
    assert.equal(proxy.seen[0]?.request.body.toString(), 'one');
    proxy.forget();
    assert.equal(proxy.count(), 0);
  });

  it('shifts the Date', async () => {
    const dated = async (): Promise<number> => {
      const response = await fetch(`${proxy.endpoint}/${Bucket}`, { method: 'HEAD' });
      return Date.parse(response.headers.get('date') ?? '');
    };
    assert.closeTo(await dated(), Date.now(), 5000);
    proxy.dateShift = -3_600_000;
    assert.closeTo(await dated(), Date.now() - 3_600_000, 5000);
  });
});

describe('scripts/s3-server', () => {
  const script = path.resolve(import.meta.dirname, '../../scripts/s3-server');

  it('says in a line that nothing is installed, with exit code 3', () => {
    const { status, stderr } = spawnSync('/bin/bash', [script, 'start'], {
      env: { PATH: '/nowhere' },
      encoding: 'utf8',
    });
    assert.equal(status, 3);
    assert.match(stderr, /^scripts\/s3-server: radosgw is not installed .*\n$/);
  });

  it('is content where it is up, and where it is down', function () {
    s3ServerOrSkip(this);
    const run = (port: string, ...args: string[]): string => {
      const env = { ...process.env, TOMBSTONED_TEST_S3_PORT: port };
      const { status, stdout } = spawnSync(script, args, { env, encoding: 'utf8' });
      return `${status} ${stdout.trim()}`;
    };
    const { port } = new URL(s3Server()?.endpoint ?? '');
    assert.equal(run(port, 'start'), `0 already up: http://127.0.0.1:${port}`);
    assert.equal(run(port, 'status'), `0 up: http://127.0.0.1:${port}`);
    assert.equal(run('9380', 'stop'), '0 down: http://127.0.0.1:9380');
    assert.equal(run('9380', 'status'), '1 down: http://127.0.0.1:9380');
  });
});
