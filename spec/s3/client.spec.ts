import { randomBytes } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import {
  GetObjectTaggingCommand,
  HeadObjectCommand,
  ListMultipartUploadsCommand,
  PutObjectCommand,
  type PutObjectCommandInput,
  type S3Client as Sdk,
} from '@aws-sdk/client-s3';
import { expect } from 'chai';
import { systemClock } from '../../lib/domain/clock.ts';
import { compareKeys } from '../../lib/domain/key.ts';
import { type CopyGuard, type Head, type ListedVersion, Unanswered } from '../../lib/store/s3/api.ts';
import { S3Client, type S3Limits } from '../../lib/store/s3/client.ts';
import { xml } from '../support/s3-amazon.ts';
import { S3Proxy, type S3Semantics } from '../support/s3-proxy.ts';
import type { S3Request } from '../support/s3-request.ts';
import {
  type FreshBucket,
  freshBucket,
  type S3Server,
  s3Client,
  s3ServerOrSkip,
} from '../support/s3-server.ts';

const PREFIX = 'some/prefix/';
const MIB = 2 ** 20;
/** Names that some program on the way would rather change. */
const ODD_NAMES = [
  ' ',
  ' leading and trailing ',
  '%20',
  '%zz',
  '+',
  '/leading',
  '//',
  '=?&',
  "a!'()*b",
  'a#b?c',
  'a&amp;b',
  'a+b',
  'a//b',
  'a<b>"c\'&d',
  'a\\b',
  'a\u0001b',
  'a\u007fb',
  'a\nb',
  'a\r\nb',
  'a\u2028b',
  'a\uffffb',
  'a~20261122T101500123Z-k3v0q8tzm2xj4d',
  'trailing/',
  'é',
  'e\u0301',
  '\ufb01',
  '😀/😀',
].toSorted(compareKeys);

describe('S3 client', function () {
  this.timeout(60_000);
  let server: S3Server;
  let bucket: FreshBucket;
  let raw: Sdk;
  const opened: { close(): unknown }[] = [];

  before(async function () {
    server = s3ServerOrSkip(this);
    process.env['AWS_ACCESS_KEY_ID'] = server.accessKeyId;
    process.env['AWS_SECRET_ACCESS_KEY'] = server.secretAccessKey;
    bucket = await freshBucket(server);
    raw = s3Client(server);
  });
  afterEach(async () => {
    for (const one of opened.splice(0)) await one.close();
    await bucket.empty();
  });
  after(async () => {
    delete process.env['AWS_ACCESS_KEY_ID'];
    delete process.env['AWS_SECRET_ACCESS_KEY'];
    await bucket?.remove();
    raw?.destroy();
  });

  async function open(
    options: { endpoint?: string; prefix?: string; bucket?: string; limits?: Partial<S3Limits> } = {},
  ): Promise<S3Client> {
    const prefix = options.prefix ?? PREFIX;
    const name = options.bucket ?? bucket.name;
    const client = await S3Client.open({
      bucket: name,
      prefix,
      url: `s3://${name}/${prefix}`,
      config: { endpoint: options.endpoint ?? server.endpoint, region: null, forcePathStyle: false },
      throttle: { requestsPerSecond: null, concurrency: 8 },
      clock: systemClock,
      limits: options.limits ?? {},
    });
    opened.push(client);
    return client;
  }

  async function behindProxy(
    semantics: S3Semantics,
    limits: Partial<S3Limits> = {},
  ): Promise<{ client: S3Client; proxy: S3Proxy }> {
    const proxy = await S3Proxy.start(server, semantics);
    const client = await open({ endpoint: proxy.endpoint, limits });
    opened.push(proxy);
    return { client, proxy };
  }

  async function put(name: string, input: Partial<PutObjectCommandInput> = {}): Promise<void> {
    const Body = input.Body ?? name;
    await raw.send(new PutObjectCommand({ Bucket: bucket.name, Key: PREFIX + name, ...input, Body }));
  }

  describe('names', () => {
    it('are kept to the byte by every request', async () => {
      const client = await open({ limits: { pageSize: 5 } });
      for (const name of ODD_NAMES) {
        expect(await client.put(name, `of ${name}`)).to.have.keys('etag', 'versionId');
        expect(await textOf(client, name), JSON.stringify(name)).to.equal(`of ${name}`);
      }
      expect(await listed(client)).to.deep.equal(ODD_NAMES);
      expect((await listedVersions(client)).map(({ name }) => name)).to.deep.equal(ODD_NAMES);

      for (const name of ODD_NAMES) {
        const head = await there(client, name);
        const copied = await client.copy(name, `copy of ${name}`, { source: sourceOf(head), guard: 'none' });
        expect(copied, JSON.stringify(name)).to.include({ etag: head.etag });
        expect(await textOf(client, `copy of ${name}`)).to.equal(`of ${name}`);
        expect(await client.delete(`copy of ${name}`)).to.have.property('outcome', 'deleted');
      }
      const results = await client.deleteMany(ODD_NAMES.map((name) => ({ name })));
      expect(results).to.deep.equal(ODD_NAMES.map(() => 'deleted'));
      expect(await listed(client)).to.deep.equal([]);
    });

    it('of other prefixes of the bucket are not its own', async () => {
      await raw.send(new PutObjectCommand({ Bucket: bucket.name, Key: 'some/prefix', Body: 'a' }));
      await raw.send(new PutObjectCommand({ Bucket: bucket.name, Key: 'some/prefixed', Body: 'a' }));
      await put('a');
      expect(await listed(await open())).to.deep.equal(['a']);
      expect(await listed(await open({ prefix: '' }))).to.deep.equal([
        'some/prefix',
        'some/prefix/a',
        'some/prefixed',
      ]);
    });
  });

  describe('looking', () => {
    it('says what an object is', async () => {
      const client = await open();
      const before = Math.floor(Date.now() / 1000) * 1000;
      const { etag } = written(await client.put('a', 'four'));
      const head = await there(client, 'a');
      expect(head).to.include({ etag, size: 4, versionId: null, storageClass: undefined, isArchived: false });
      expect(head.modifiedAt).to.be.within(before, Date.now());
    });

    it('finds nothing where nothing is, and in no bucket at all is an error', async () => {
      const client = await open();
      expect(await client.head('nothing')).to.equal(undefined);
      expect(client.requests.get('HeadBucket')).to.equal(1);
      expect(await client.head('nothing')).to.equal(undefined);
      expect(await client.get('nothing')).to.equal(undefined);
      expect(client.requests.get('HeadBucket')).to.equal(1);

      const nowhere = await open({ bucket: 'no-such-bucket-here' });
      for (const asked of [
        async () => nowhere.head('a'),
        async () => nowhere.get('a'),
        async () => nowhere.put('a', 'b'),
        async () => nowhere.delete('a'),
        async () => nowhere.copy('a', 'b', { source: NOTHING, guard: 'none' }),
        async () => nowhere.versioning(),
        async () => listed(nowhere),
      ]) {
        const error = await rejection(asked());
        expect(error).to.have.property('code', 'failed');
        expect(error.message).to.match(/there is no bucket no-such-bucket-here at 127\.0\.0\.1/);
      }
      const [result] = await nowhere.deleteMany([{ name: 'a' }]);
      expect(result)
        .to.be.an('error')
        .with.property('message')
        .that.matches(/there is no bucket/);
    });

    it('notes the date of answers', async () => {
      const { client, proxy } = await behindProxy('gateway');
      expect(client.lastDate).to.equal(undefined);
      proxy.dateShift = 3_600_000;
      await client.head('nothing');
      expect(client.lastDate?.date).to.be.closeTo(Date.now() + 3_600_000, 10_000);
      expect(client.lastDate?.monotonic).to.be.closeTo(systemClock.monotonic(), 10_000);
    });
  });

  describe('reading', () => {
    it('gives all bytes, or those from one on', async () => {
      const client = await open();
      const bytes = randomBytes(3 * MIB);
      await client.put('a', bytes);
      const all = await client.get('a');
      expect(all).to.include({ size: bytes.length, versionId: null });
      expect(await bytesOf(all?.body)).to.deep.equal(bytes);
      const rest = await client.get('a', { from: 2 * MIB });
      expect(rest).to.include({ size: bytes.length });
      expect(await bytesOf(rest?.body)).to.deep.equal(bytes.subarray(2 * MIB));
    });

    it('of nothing, and from the end on, gives no bytes', async () => {
      const client = await open();
      await client.put('empty', '');
      await client.put('four', 'four');
      expect(await textOf(client, 'empty')).to.equal('');
      const end = await client.get('four', { from: 4 });
      expect(end).to.include({ size: 4 });
      expect((await bytesOf(end?.body)).length).to.equal(0);
      expect((await rejection(client.get('four', { from: 5 }))).message).to.match(/has 4 bytes, and byte 5/);
    });

    it('of another ETag gives nothing', async () => {
      const client = await open();
      const { etag } = written(await client.put('a', 'b'));
      expect(await client.get('a', { ifMatch: 'other' })).to.equal(undefined);
      const got = await client.get('a', { ifMatch: etag });
      expect(await bytesOf(got?.body)).to.deep.equal(Buffer.from('b'));
    });

    it('is tried again until bytes come, and ends in an error where they end too soon', async () => {
      const { client, proxy } = await behindProxy('gateway');
      const bytes = randomBytes(MIB);
      await put('a', { Body: bytes });
      proxy.inject({ match: ({ kind }) => kind === 'get', fault: { as: 'cut', bytes: 0 } });
      proxy.inject({
        match: ({ kind }) => kind === 'get',
        fault: { as: 'answer', when: 'before', status: 503, code: 'SlowDown' },
      });
      expect(await bytesOf((await client.get('a'))?.body)).to.deep.equal(bytes);
      expect(client.requests.get('GetObject')).to.equal(3);

      proxy.inject({ match: ({ kind }) => kind === 'get', fault: { as: 'cut', bytes: 1000 } });
      const got = await client.get('a');
      expect((await rejection(bytesOf(got?.body))).message).to.match(
        /a was cut short after 1000 of 1048576 bytes/,
      );
    });

    it('that is given up leaves nothing open', async () => {
      const client = await open();
      await client.put('a', randomBytes(8 * MIB));
      const got = await client.get('a');
      got?.body.destroy();
      await client.get('a').then((again) => again?.body.destroy());
    });
  });

  describe('putting', () => {
    it('only where there is nothing says when there is something', async () => {
      const client = await open();
      const { etag } = written(
        await client.put('a', '1', { ifAbsent: true, contentType: 'application/json' }),
      );
      expect(await client.put('a', '2', { ifAbsent: true })).to.equal('exists');
      expect(await textOf(client, 'a')).to.equal('1');
      expect(await client.put('a', '3', { ifMatch: { etag: 'other', quoted: false } })).to.equal('changed');
      expect(written(await client.put('a', '4', { ifMatch: { etag, quoted: false } })).etag).not.to.equal(
        etag,
      );
      expect(await client.put('b', '5', { ifMatch: { etag, quoted: false } })).to.equal('changed');
    });

    it('over an ETag in quotes, as Amazon wants it', async () => {
      const { client } = await behindProxy('amazon');
      const { etag } = written(await client.put('a', '1'));
      expect(await client.put('a', '2', { ifMatch: { etag: 'other', quoted: true } })).to.equal('changed');
      expect(await client.put('a', '2', { ifMatch: { etag, quoted: true } })).to.have.property('etag');
    });

    it('that got no answer is made once, and says until when it may have its effect', async () => {
      const { client, proxy } = await behindProxy('gateway', { patience: 300 });
      const faults = [
        { as: 'answer', when: 'after', status: 500, code: 'InternalError' },
        { as: 'answer', when: 'before', status: 503, code: 'SlowDown' },
        { as: 'reset', when: 'after' },
        { as: 'silence', when: 'after' },
      ] as const;
      expect(client.unansweredUntil).to.equal(undefined);
      for (const fault of faults) {
        proxy.inject({ match: ({ kind }) => kind === 'put', fault });
        const error = await rejection(client.put('a', 'b'));
        expect(error, JSON.stringify(fault)).to.be.an.instanceof(Unanswered);
        expect(error).to.have.property('signedAt').closeTo(Date.now(), 3000);
        expect(client.unansweredUntil).to.be.closeTo(Date.now() + 16 * 60_000, 3000);
      }
      expect(proxy.count('put')).to.equal(faults.length);
    });
  });

  describe('copying', () => {
    const guards: readonly (readonly [CopyGuard, S3Semantics])[] = [
      ['unmodified-since', 'amazon'],
      ['if-match', 'amazon'],
      ['rgw-if-match', 'gateway'],
    ];
    for (const [guard, semantics] of guards) {
      it(`under ${guard} copies what was meant, and nothing else (${semantics})`, async () => {
        const { client } = await behindProxy(semantics);
        await client.put('a', 'old');
        const old = await there(client, 'a');
        expect(await client.copy('a', 'b', { source: sourceOf(old), guard })).to.include({ etag: old.etag });
        await delay(1100);
        await client.put('a', 'new');
        const source = { ...sourceOf(old), storageClass: 'STANDARD' };
        expect(await client.copy('a', 'c', { source, guard })).to.equal('changed');
        expect(await client.head('c')).to.equal(undefined);
        await client.delete('a');
        expect(await client.copy('a', 'c', { source, guard })).to.equal('gone');
      });
    }

    it('by a version id copies that version', async () => {
      const versioned = await freshBucket(server, { versioned: true });
      try {
        const client = await open({ bucket: versioned.name });
        await client.put('a', 'old');
        const old = await there(client, 'a');
        await client.put('a', 'new');
        const source = { ...sourceOf(old), storageClass: 'STANDARD' };
        expect(await client.copy('a', 'b', { source, guard: 'version' })).to.include({ etag: old.etag });
        expect(await textOf(client, 'b')).to.equal('old');
      } finally {
        await versioned.remove();
      }
    });

    it('looks the storage class up where it is not told', async () => {
      const { client, proxy } = await behindProxy('gateway');
      await client.put('a', 'b');
      const source = sourceOf(await there(client, 'a'));
      proxy.forget();
      await client.copy('a', 'b', { source, guard: 'none' });
      expect(proxy.count('head')).to.equal(1);
      await client
        .copy('a', 'b', { source: { ...source, storageClass: 'GLACIER_IR' }, guard: 'none' })
        .catch(() => 0);
      expect(proxy.count('head')).to.equal(1);
      const sent = proxy.seen.filter(({ request }) => request.kind === 'copy');
      expect(sent.map(({ request }) => request.headers['x-amz-storage-class'])).to.deep.equal([
        undefined,
        'GLACIER_IR',
      ]);
    });

    it('only where there is nothing says when there is something, or that the source changed', async () => {
      const { client } = await behindProxy('amazon');
      await client.put('a', '1');
      const source = { ...sourceOf(await there(client, 'a')), storageClass: 'STANDARD' };
      const options = { source, guard: 'if-match', ifAbsent: true } as const;
      expect(await client.copy('a', 'b', options)).to.include({ etag: source.etag });
      expect(await client.copy('a', 'b', options)).to.equal('exists');
      await client.put('a', '2');
      expect(await client.copy('a', 'c', options)).to.equal('changed');
    });

    it('that got no answer, or an error within a 200, is made once and is unanswered', async () => {
      const { client, proxy } = await behindProxy('gateway', { patience: 300 });
      await client.put('a', 'b');
      const source = { ...sourceOf(await there(client, 'a')), storageClass: 'STANDARD' };
      const faults = [
        { as: 'error in 200', when: 'before', code: 'InternalError' },
        { as: 'error in 200', when: 'before', code: 'AccessDenied' },
        { as: 'answer', when: 'after', status: 500, code: 'InternalError' },
        { as: 'reset', when: 'before' },
        { as: 'cut', bytes: 60 },
        { as: 'silence', when: 'after' },
      ] as const;
      for (const fault of faults) {
        proxy.inject({ match: ({ kind }) => kind === 'copy', fault });
        const error = await rejection(client.copy('a', 'b', { source, guard: 'none' }));
        expect(error, JSON.stringify(fault)).to.be.an.instanceof(Unanswered);
      }
      expect(proxy.count('copy')).to.equal(faults.length);
    });

    it('by a GET and a PUT keeps everything, and replaces nothing', async () => {
      const client = await open();
      await put('a', DESCRIBED);
      const source = await there(client, 'a');
      expect(await client.copyByPut('a', 'b', source)).to.include({ etag: source.etag });
      await expectDescribed('b');
      expect(await client.copyByPut('a', 'b', source)).to.equal('exists');
      expect(await client.copyByPut('a', 'c', { ...source, etag: 'other' })).to.equal('changed');
      expect(await client.copyByPut('nothing', 'c', source)).to.equal('gone');
      expect(await client.head('c')).to.equal(undefined);
    });
  });

  it('copies by PUT, and in parts, with the KMS key of the source', async () => {
    const { client, proxy } = await behindProxy('gateway', { copyAtOnce: 6 * MIB, partSize: 5 * MIB });
    const key = {
      'x-amz-server-side-encryption': 'aws:kms',
      'x-amz-server-side-encryption-aws-kms-key-id': 'arn:of-a-key',
    };
    for (const [size, kind] of [
      [4, 'put'],
      [7 * MIB, 'create-multipart'],
    ] as const) {
      await put('a', { Body: Buffer.alloc(size, 'x') });
      const source = sourceOf(await there(client, 'a'));
      proxy.inject({
        match: ({ kind: is }) => is === 'head',
        fault: {
          as: 'own answer',
          when: 'before',
          answer: () => ({
            status: 200,
            headers: {
              ...key,
              etag: `"${source.etag}"`,
              'content-length': String(size),
              'last-modified': new Date(source.modifiedAt).toUTCString(),
            },
            body: Buffer.alloc(0),
          }),
        },
      });
      // The server here has no keys: what it is asked for is enough.
      proxy.inject({
        match: ({ kind: is }) => is === kind,
        fault: { as: 'answer', when: 'before', status: 403, code: 'AccessDenied' },
      });
      const copy =
        kind === 'put'
          ? client.copyByPut('a', 'b', source)
          : client.copy('a', 'b', { source, guard: 'none' });
      expect((await rejection(copy)).message).to.match(/the store denies it/);
      const asked = proxy.seen.find(({ request }) => request.kind === kind);
      expect(asked?.request.headers).to.include(key);
      proxy.forget();
    }
  });

  it('names a listed key that is no UTF-8, and lists nothing else as if it were all', async () => {
    const { client, proxy } = await behindProxy('gateway');
    await put('a', { Body: 'a' });
    proxy.inject({
      match: ({ kind }) => kind === 'list',
      times: Number.POSITIVE_INFINITY,
      fault: {
        as: 'own answer',
        when: 'before',
        answer: () =>
          xml(
            200,
            `<ListBucketResult><IsTruncated>false</IsTruncated><EncodingType>url</EncodingType><KeyCount>1</KeyCount>
             <Contents><Key>${PREFIX}logs/%FF.meta</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>
             <ETag>"e"</ETag><Size>1</Size></Contents></ListBucketResult>`,
          ),
      },
    });
    expect((await rejection(listed(client))).message).to.include(`${PREFIX}logs/%FF.meta`);
    expect(proxy.count('list'), 'asked once').to.equal(1);
  });

  describe('copying in parts', () => {
    const limits = { copyAtOnce: 6 * MIB, partSize: 5 * MIB };
    const bytes = randomBytes(12 * MIB + 1);

    it('keeps everything', async () => {
      const client = await open({ limits });
      await put('a', { ...DESCRIBED, Body: bytes });
      const source = sourceOf(await there(client, 'a'));
      const copied = await client.copy('a', 'b', { source, guard: 'rgw-if-match' });
      expect(copied).to.have.property('etag').that.matches(/-3$/);
      expect(await bytesOf((await client.get('b'))?.body)).to.deep.equal(bytes);
      await expectDescribed('b');
      expect(client.requests.get('UploadPartCopy')).to.equal(3);
      expect(await uploads()).to.equal(0);
    });

    it('takes back what it began where the source changes meanwhile, whatever guards the parts', async () => {
      const { client, proxy } = await behindProxy('gateway', limits);
      await put('a', { Body: bytes });
      const source = sourceOf(await there(client, 'a'));
      await delay(1100);
      proxy.inject({
        match: ({ kind, query }) => kind === 'copy-part' && query.get('partNumber') === '3',
        fault: { as: 'deed', when: 'before', deed: async () => put('a', { Body: bytes }) },
      });
      expect(await client.copy('a', 'b', { source, guard: 'none' })).to.equal('changed');
      expect(await client.head('b')).to.equal(undefined);
      expect(await uploads()).to.equal(0);
    });

    it('repeats parts, takes back what is refused, and leaves open what may be complete', async () => {
      const { client, proxy } = await behindProxy('gateway', limits);
      await put('a', { Body: bytes });
      const source = sourceOf(await there(client, 'a'));
      const copy = async () => client.copy('a', 'b', { source, guard: 'none' });
      proxy.inject({
        match: ({ kind }) => kind === 'copy-part',
        fault: { as: 'answer', when: 'before', status: 503, code: 'SlowDown' },
      });
      proxy.inject({
        match: ({ kind }) => kind === 'complete-multipart',
        fault: { as: 'answer', when: 'before', status: 403, code: 'AccessDenied' },
      });
      expect((await rejection(copy())).message).to.match(/the store denies it/);
      expect(proxy.count('copy-part')).to.equal(4);
      expect(await uploads()).to.equal(0);

      proxy.inject({
        match: ({ kind }) => kind === 'complete-multipart',
        fault: { as: 'error in 200', when: 'before', code: 'InternalError' },
      });
      expect(await rejection(copy())).to.be.an.instanceof(Unanswered);
      expect(await uploads()).to.equal(1);
    });

    it('is an error where its tags can not be kept', async () => {
      const { client, proxy } = await behindProxy('gateway', limits);
      await put('a', { Body: bytes, Tagging: 'k=v' });
      const source = sourceOf(await there(client, 'a'));
      const isOfTags = (request: S3Request, method: string): boolean =>
        request.query.has('tagging') && request.method === method && request.key === `${PREFIX}b`;
      proxy.inject({
        match: (request) => isOfTags(request, 'GET'),
        fault: {
          as: 'own answer',
          when: 'before',
          answer: () => xml(200, '<Tagging><TagSet></TagSet></Tagging>'),
        },
      });
      proxy.inject({
        match: (request) => isOfTags(request, 'PUT'),
        fault: { as: 'answer', when: 'before', status: 403, code: 'AccessDenied' },
      });
      expect((await rejection(client.copy('a', 'b', { source, guard: 'none' }))).message).to.match(
        /the store denies it/,
      );
      expect(await uploads()).to.equal(0);
    });

    async function uploads(): Promise<number> {
      const { Uploads = [] } = await raw.send(new ListMultipartUploadsCommand({ Bucket: bucket.name }));
      return Uploads.length;
    }
  });

  describe('deleting', () => {
    it('says when the guard did not hold, and that what is not there is deleted', async () => {
      const { client } = await behindProxy('amazon');
      const { etag } = written(await client.put('a', '1'));
      expect(await client.delete('a', { ifMatch: 'other' })).to.equal('changed');
      expect(await client.delete('a', { ifMatch: etag })).to.deep.equal({
        outcome: 'deleted',
        markerVersionId: null,
      });
      expect(await client.delete('a')).to.have.property('outcome', 'deleted');
    });

    it("says so too where RGW's own guard, the second of the last write, did not hold", async () => {
      const { client } = await behindProxy('gateway');
      await client.put('a', '1');
      const modifiedAt = (await client.head('a'))?.modifiedAt ?? 0;
      expect(await client.delete('a', { unmodifiedSince: modifiedAt - 1 })).to.equal('changed');
      expect(await client.head('a')).to.include({ modifiedAt });
      expect(await client.delete('a', { unmodifiedSince: modifiedAt + 999 })).to.have.property(
        'outcome',
        'deleted',
      );
      expect(await client.head('a')).to.equal(undefined);
    });

    it('of many reads what became of each, and repeats what failed for a while', async () => {
      const { client, proxy } = await behindProxy('gateway');
      const names = Array.from({ length: 1003 }, (_, i) => `n${String(i).padStart(4, '0')}`);
      await put('n0001');
      await put('n1002');
      for (const fault of [
        { as: 'answer', when: 'after', status: 500, code: 'InternalError' },
        { as: 'error in 200', when: 'before', code: 'SlowDown' },
      ] as const) {
        proxy.inject({ match: ({ kind }) => kind === 'batch-delete', fault });
      }
      const results = await client.deleteMany([...names, 'n0001', 'n0001'].map((name) => ({ name })));
      expect(results).to.have.length(1005);
      expect(new Set(results)).to.deep.equal(new Set(['deleted']));
      expect(await listed(client)).to.deep.equal([]);
      expect(client.unansweredUntil).to.equal(undefined);
    });

    it('of versions deletes those, in a bucket that keeps them', async () => {
      const versioned = await freshBucket(server, { versioned: true });
      try {
        const client = await open({ bucket: versioned.name, limits: { pageSize: 2 } });
        expect(await client.versioning()).to.equal('enabled');
        const first = written(await client.put('a', '1'));
        await client.put('b', '1');
        const marker = await client.delete('a');
        const second = written(await client.put('a', '2'));
        const again = await client.delete('a');
        if (marker === 'changed' || again === 'changed') throw new Error('nothing guards it');
        expect(await client.head('a')).to.equal(undefined);
        expect(await client.get('a')).to.equal(undefined);
        expect(await client.head('a', { versionId: again.markerVersionId ?? '' })).to.equal(undefined);
        expect(await client.head('a', { versionId: first.versionId ?? '' })).to.include({ etag: first.etag });
        const found = await listedVersions(client);
        expect(
          found.map(({ name, versionId, isMarker, isLatest }) => [name, versionId, isMarker, isLatest]),
        ).to.deep.equal([
          ['a', again.markerVersionId, true, true],
          ['a', second.versionId, false, false],
          ['a', marker.markerVersionId, true, false],
          ['a', first.versionId, false, false],
          ['b', found.at(-1)?.versionId, false, true],
        ]);
        const results = await client.deleteMany(found.map(({ name, versionId }) => ({ name, versionId })));
        expect(new Set(results)).to.deep.equal(new Set(['deleted']));
        expect(await listedVersions(client)).to.deep.equal([]);
      } finally {
        await versioned.remove();
      }
    });

    it('knows a bucket that keeps no versions', async () => {
      expect(await (await open()).versioning()).to.equal('off');
    });
  });

  describe('listing', () => {
    it('goes on after a name, and stops when it is told to', async () => {
      const client = await open({ limits: { pageSize: 2 } });
      for (const name of ['a', 'b', 'c/d', 'c/e', 'f']) await put(name);
      expect(await listed(client, 'c')).to.deep.equal(['c/d', 'c/e']);
      expect(await listed(client, '', 'c')).to.deep.equal(['c/d', 'c/e', 'f']);
      const stop = new AbortController();
      const seen: string[] = [];
      const error = await rejection(
        (async () => {
          for await (const page of client.list('', { signal: stop.signal })) {
            seen.push(...page.map(({ name }) => name));
            stop.abort();
          }
        })(),
      );
      expect(error.name).to.equal('AbortError');
      expect(seen).to.deep.equal(['a', 'b']);
    });

    it('repeats pages that were cut short, or had an error in a 200', async () => {
      const { client, proxy } = await behindProxy('gateway', { pageSize: 2 });
      for (const name of ['a', 'b', 'c']) await put(name);
      for (const fault of [
        { as: 'cut', bytes: 300 },
        { as: 'error in 200', when: 'before', code: 'InternalError' },
        { as: 'reset', when: 'before' },
      ] as const) {
        proxy.inject({ match: ({ kind, query }) => kind === 'list' && query.has('start-after'), fault });
      }
      expect(await listed(client)).to.deep.equal(['a', 'b', 'c']);
      expect(proxy.count('list')).to.equal(5);
    });
  });

  const DESCRIBED: Partial<PutObjectCommandInput> = {
    ContentType: 'text/x-odd; charset=utf-8',
    CacheControl: 'max-age=60',
    ContentDisposition: 'attachment; filename="a b"',
    ContentEncoding: 'identity',
    ContentLanguage: 'eo',
    Expires: new Date('2030-01-01T00:00:00Z'),
    Metadata: { one: '1 %', two: 'b+c' },
    Tagging: 'k=v&odd%20key=a%26b%2Bc',
  };

  async function expectDescribed(name: string): Promise<void> {
    const at = { Bucket: bucket.name, Key: PREFIX + name };
    const head = await raw.send(new HeadObjectCommand(at));
    const { Expires, Tagging: _, ...rest } = DESCRIBED;
    expect(head).to.deep.include(rest);
    expect(new Date(head.ExpiresString ?? '').getTime()).to.equal(Expires?.getTime());
    const { TagSet = [] } = await raw.send(new GetObjectTaggingCommand(at));
    expect(TagSet.toSorted((a, b) => compareKeys(a.Key ?? '', b.Key ?? ''))).to.deep.equal([
      { Key: 'k', Value: 'v' },
      { Key: 'odd key', Value: 'a&b+c' },
    ]);
  }
});

const NOTHING = { etag: 'none', size: 1, modifiedAt: 0, versionId: null, storageClass: 'STANDARD' };

function sourceOf({ etag, size, modifiedAt, versionId }: Head) {
  return { etag, size, modifiedAt, versionId };
}

function written<T>(put: T | 'exists' | 'changed'): T {
  if (put === 'exists' || put === 'changed') throw new Error('it is not written');
  return put;
}

async function there(client: S3Client, name: string): Promise<Head> {
  const head = await client.head(name);
  if (head === undefined) throw new Error(`${name} is not there`);
  return head;
}

async function textOf(client: S3Client, name: string): Promise<string> {
  return (await bytesOf((await client.get(name))?.body)).toString();
}

async function bytesOf(body: AsyncIterable<unknown> | undefined): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of body ?? []) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

async function listed(client: S3Client, prefix = '', after?: string): Promise<string[]> {
  const names: string[] = [];
  for await (const page of client.list(prefix, after === undefined ? {} : { after })) {
    names.push(...page.map(({ name }) => name));
  }
  return names;
}

async function listedVersions(client: S3Client): Promise<ListedVersion[]> {
  const versions: ListedVersion[] = [];
  for await (const page of client.listVersions('')) versions.push(...page);
  return versions;
}

async function rejection(promise: Promise<unknown>): Promise<Error> {
  const error: unknown = await promise.then(
    (value) => new Error(`it resolved: ${String(value)}`),
    (reason: unknown) => reason,
  );
  if (!(error instanceof Error)) throw new TypeError('what was thrown is no error');
  return error;
}
