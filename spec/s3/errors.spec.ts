import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { type AddressInfo, createServer as createTcpServer, type Server as TcpServer } from 'node:net';
import { expect } from 'chai';
import { TombstonedError } from '../../lib/domain/errors.ts';
import { Unanswered } from '../../lib/store/s3/api.ts';
import { S3Client, type S3ClientOptions, type S3Limits } from '../../lib/store/s3/client.ts';
import { DrivenClock } from '../support/place.ts';

const CREDENTIALS = { AWS_ACCESS_KEY_ID: 'key', AWS_SECRET_ACCESS_KEY: 'secret' };
const NO_CREDENTIALS = {
  AWS_EC2_METADATA_DISABLED: 'true',
  AWS_SHARED_CREDENTIALS_FILE: '/nonexistent',
  AWS_CONFIG_FILE: '/nonexistent',
};
const SOURCE = { etag: 'e', size: 1, modifiedAt: 0, versionId: null, storageClass: 'STANDARD' };

describe('S3 client without a good server', () => {
  const environment = { ...process.env };
  const ends: (() => unknown)[] = [];
  let clock: DrivenClock;

  beforeEach(() => {
    clock = new DrivenClock();
    for (const name of Object.keys(process.env)) if (name.startsWith('AWS_')) delete process.env[name];
    Object.assign(process.env, NO_CREDENTIALS, CREDENTIALS);
  });
  afterEach(async () => {
    for (const end of ends.splice(0).toReversed()) await end();
    for (const name of Object.keys(process.env)) if (name.startsWith('AWS_')) delete process.env[name];
    Object.assign(process.env, environment);
  });

  async function open(endpoint: string | null, options: Partial<S3ClientOptions> = {}): Promise<S3Client> {
    const client = await S3Client.open({
      bucket: 'bucket',
      prefix: 'p/',
      url: 's3://bucket/p/',
      config: { endpoint, region: null, forcePathStyle: false },
      throttle: { requestsPerSecond: null, concurrency: 4 },
      clock,
      ...options,
    });
    ends.push(() => client.close());
    return client;
  }

  type Handler = (request: IncomingMessage, response: ServerResponse) => unknown;

  /** A client of a server that answers like that. */
  async function answered(handler: Handler, options: Partial<S3ClientOptions> = {}): Promise<S3Client> {
    const server = createServer((request, response) => {
      request.resume();
      request.once('end', () => handler(request, response));
    });
    await listening(server);
    ends.push(
      () => new Promise((resolve) => server.close(resolve)),
      () => server.closeAllConnections(),
    );
    return open(urlOf(server), options);
  }

  const error =
    (status: number, code: string, more = '', headers: Record<string, string> = {}): Handler =>
    ({ method }, response) => {
      response.writeHead(status, { 'content-type': 'application/xml', 'x-amz-request-id': '1', ...headers });
      response.end(
        method === 'HEAD' ? '' : `<Error><Code>${code}</Code><Message>so &amp; so</Message>${more}</Error>`,
      );
    };

  const body =
    (text: string, headers: Record<string, string> = {}): Handler =>
    (_, response) => {
      response.writeHead(200, { 'content-type': 'application/xml', ...headers });
      response.end(text);
    };

  describe('refusals', () => {
    const refusals: readonly (readonly [number, string, string, RegExp, RegExp])[] = [
      [403, 'AccessDenied', '', /the store denies it \(AccessDenied: so & so\)/, /s3:PutObject/],
      [403, 'InvalidAccessKeyId', '', /does not know the access key/, /credentials/],
      [403, 'SignatureDoesNotMatch', '', /signature is not accepted/, /secret key/],
      [400, 'ExpiredToken', '', /have expired/, /renew/],
      [404, 'NoSuchBucket', '', /there is no bucket bucket at 127\.0\.0\.1:\d+/, /s3\.endpoint/],
      [301, 'PermanentRedirect', '', /in another region/, /s3\.region/],
      [
        400,
        'AuthorizationHeaderMalformed',
        '<Region>eu-west-1</Region>',
        /in region eu-west-1/,
        /s3\.region: eu-west-1/,
      ],
      [501, 'NotImplemented', '', /does not support PutObject/, /doctor/],
      [418, '', '', /refuses it/, /HTTP 418/],
    ];
    for (const [status, code, more, message, hint] of refusals) {
      it(`${status} ${code} is one clear line, and nothing is unanswered`, async () => {
        const client = await answered(error(status, code, more));
        const thrown = await failure(client.put('a', 'b'));
        expect(thrown.message)
          .to.match(message)
          .and.to.match(/^s3:\/\/bucket\/p\/a can't be written: .*$/);
        expect(thrown.hint).to.match(hint);
        expect(thrown.key).to.equal('a');
        expect(client.unansweredUntil).to.equal(undefined);
        expect(client.requests.get('PutObject')).to.equal(1);
        await failure(client.copy('a', 'b', { source: SOURCE, guard: 'none' }));
        await failure(client.delete('a'));
      });
    }

    it('for a wrong clock say by how much, also where the answer has no body', async () => {
      const date = new Date(Date.now() + 40 * 60_000).toUTCString();
      const client = await answered(error(403, 'RequestTimeTooSkewed', '', { date }));
      expect((await failure(client.put('a', 'b'))).message).to.match(/clock is 40 min behind the store's/);
      expect((await failure(client.head('a'))).message).to.match(/clock is 40 min behind the store's/);
    });

    it('are never taken for "gone" where a name is looked for', async () => {
      for (const [status, code] of [
        [403, 'AccessDenied'],
        [404, 'NoSuchBucket'],
        [404, 'Whatever'],
        [400, 'InvalidRequest'],
        [301, 'PermanentRedirect'],
      ] as const) {
        const client = await answered(error(status, code));
        await failure(client.head('a'));
        await failure(client.get('a'));
        await failure(client.copy('a', 'b', { source: SOURCE, guard: 'none' }));
        await failure(client.delete('a'));
        const [result] = await client.deleteMany([{ name: 'a' }]);
        expect(result, code).to.be.an.instanceof(TombstonedError);
      }
    });

    it('of what is no S3 server are never taken for its', async () => {
      const client = await answered((_, response) => response.writeHead(404).end('<html>not here</html>'));
      await failure(client.head('a'));
      await failure(client.get('a'));
    });

    it('of entries of a batch are read one by one', async () => {
      let requests = 0;
      const entry = (key: string, code: string) => `<Error><Key>p/${key}</Key><Code>${code}</Code></Error>`;
      const client = await answered((_, response) => {
        requests += 1;
        const left = requests === 1 ? `${entry('b', 'InternalError')}<Deleted><Key>p/a</Key></Deleted>` : '';
        const again =
          requests === 2 ? '<Deleted><Key>p/b</Key></Deleted><Deleted><Key>p/e</Key></Deleted>' : '';
        const denied = requests === 1 ? entry('c', 'AccessDenied') + entry('d', 'NoSuchKey') : '';
        response.end(`<DeleteResult>${left}${again}${denied}</DeleteResult>`);
      });
      const names = ['a', 'b', 'c', 'd', 'e'];
      const results = await client.deleteMany(names.map((name) => ({ name })));
      expect(results.map((result) => (result instanceof Error ? 'error' : result))).to.deep.equal([
        'deleted',
        'deleted',
        'error',
        'deleted',
        'deleted',
      ]);
      expect(results[2])
        .to.have.property('message')
        .that.matches(/p\/c can't be deleted: the store denies it/);
      expect(requests).to.equal(2);
    });

    it('of batches altogether are made up for one by one', async () => {
      const deleted: (string | undefined)[] = [];
      const client = await answered((request, response) => {
        if (request.method === 'POST') error(400, 'MissingContentMD5')(request, response);
        else {
          deleted.push(request.url?.split('?')[0]);
          response.writeHead(204).end();
        }
      });
      expect(await client.deleteMany([{ name: 'a' }, { name: 'b' }])).to.deep.equal(['deleted', 'deleted']);
      expect(new Set(deleted)).to.deep.equal(new Set(['/bucket/p/a', '/bucket/p/b']));
    });
  });

  describe('no connection', () => {
    it('that is refused is told, and nothing was done', async () => {
      const server = createTcpServer();
      await listening(server);
      const url = urlOf(server);
      await new Promise((resolve) => server.close(resolve));
      const client = await open(url);
      for (const asked of [client.put('a', 'b'), client.delete('a'), client.head('a')]) {
        const thrown = await failure(asked);
        expect(thrown.message).to.match(/127\.0\.0\.1:\d+ refuses the connection/);
        expect(thrown.hint).to.match(/check s3\.endpoint/);
      }
      expect(client.unansweredUntil).to.equal(undefined);
      expect(client.requests.get('PutObject')).to.equal(1);
      expect(client.requests.get('HeadObject')).to.equal(3);
    });

    it('to an unknown host is told', async () => {
      const client = await open('http://no-such-host.invalid', {
        config: { endpoint: 'http://no-such-host.invalid', region: null, forcePathStyle: true },
      });
      expect((await failure(client.put('a', 'b'))).message).to.match(
        /no-such-host\.invalid( is not known|.*can't be reached)|name servers don't answer for no-such-host\.invalid/,
      );
      expect(client.unansweredUntil).to.equal(undefined);
    });

    it('by TLS to a port without it is told', async () => {
      const server = createServer(body(''));
      await listening(server);
      ends.push(() => new Promise((resolve) => server.close(resolve)));
      const client = await open(urlOf(server).replace('http:', 'https:'));
      expect((await failure(client.put('a', 'b'))).message).to.match(/does not speak TLS/);
      expect(client.unansweredUntil).to.equal(undefined);
    });

    it('without credentials is not even tried', async () => {
      delete process.env['AWS_ACCESS_KEY_ID'];
      delete process.env['AWS_SECRET_ACCESS_KEY'];
      let requests = 0;
      const client = await answered((_, response) => {
        requests += 1;
        response.end();
      });
      const thrown = await failure(client.put('a', 'b'));
      expect(thrown.message).to.match(/there are no credentials/);
      expect(thrown.hint).to.match(/AWS_ACCESS_KEY_ID/);
      expect((await failure(client.head('a'))).message).to.match(/there are no credentials/);
      expect(requests).to.equal(0);
      expect(client.unansweredUntil).to.equal(undefined);
    });

    it('to a bad endpoint, or to Amazon without a region, is an error at once', async () => {
      expect((await failure(open('minio:9000'))).message).to.match(/s3\.endpoint minio:9000 is no address/);
      expect((await failure(open(null))).message).to.match(/no region is set for s3:\/\/bucket/);
    });
  });

  describe('the default chain', () => {
    it('names the endpoint and the region where the config does not', async () => {
      const seen: IncomingMessage[] = [];
      const server = createServer((request, response) => {
        seen.push(request);
        response.writeHead(200, { etag: '"e"' }).end();
      });
      await listening(server);
      ends.push(() => new Promise((resolve) => server.close(resolve)));
      process.env['AWS_ENDPOINT_URL_S3'] = urlOf(server).replace('127.0.0.1', 'localhost');
      process.env['AWS_REGION'] = 'eu-north-1';
      const client = await open(null);
      expect(await client.put('a', 'b')).to.deep.equal({ etag: 'e', versionId: null });
      expect(seen[0]?.url).to.match(/^\/bucket\/p\/a(\?|$)/);
      expect(seen[0]?.headers.authorization).to.match(/\/eu-north-1\/s3\//);
      client.close();
    });
  });

  describe('answers that are none', () => {
    const listing = (rest: string) =>
      `<ListBucketResult><Name>bucket</Name><EncodingType>url</EncodingType>${rest}</ListBucketResult>`;
    const entry = (key: string) =>
      `<Contents><Key>${key}</Key><LastModified>2026-11-22T10:00:00.000Z</LastModified><ETag>"e"</ETag><Size>1</Size></Contents>`;

    it('to what may not be repeated leave its fate unknown', async () => {
      for (const handler of [
        body('<CopyObjectResult></CopyObjectResult>'),
        body('<CopyObjectResult><ETag>"e"</ETag>'),
        body('<Error><Code>InternalError</Code></Error>\n'),
        body('<html></html>'),
        body(''),
        error(500, 'InternalError'),
        error(503, 'SlowDown'),
        (_: IncomingMessage, response: ServerResponse) => response.destroy(),
        (_: IncomingMessage, response: ServerResponse) => response.socket?.end('not http\r\n\r\n'),
      ]) {
        const client = await answered(handler);
        const before = Math.floor(Date.now() / 1000) * 1000;
        const thrown = await rejection(client.copy('a', 'b', { source: SOURCE, guard: 'none' }));
        expect(thrown).to.be.an.instanceof(Unanswered);
        expect(thrown).to.have.property('signedAt').within(before, Date.now());
        expect(client.requests.get('CopyObject')).to.equal(1);
      }
    });

    it('are waited for no longer than the patience allows', async () => {
      const limits = { patience: 100 };
      const client = await answered(() => undefined, { limits });
      expect(await rejection(client.put('a', 'b'))).to.be.an.instanceof(Unanswered);
      expect((await failure(client.head('a'))).message).to.match(/no good answer .* not a byte came/);
      const slow = await answered(
        (_, response) => {
          response.writeHead(200, {
            etag: '"e"',
            'content-length': '10',
            'last-modified': new Date().toUTCString(),
          });
          response.write('12345');
        },
        { limits },
      );
      const got = await slow.get('a');
      expect((await rejection(got?.body.toArray() ?? Promise.resolve())).message).to.match(
        /cut short after 5 of 10 bytes: not a byte came/,
      );
    });

    it('are repeated for about a minute, then it is told', async () => {
      const client = await answered(error(503, 'SlowDown'));
      const thrown = await failure(client.head('a'));
      expect(thrown.message).to.match(
        /p\/a can't be looked at: no good answer from 127.* for \d+ s \(the last: HTTP 503\)/,
      );
      expect(clock.mono).to.be.within(40_000, 60_000);
      expect(client.requests.get('HeadObject')).to.be.within(8, 20);
    });

    it('to a batch of deletions are unanswered, each', async () => {
      const client = await answered(error(500, 'InternalError'));
      const results = await client.deleteMany([{ name: 'a' }, { name: 'b' }]);
      for (const result of results) expect(result).to.be.an.instanceof(Unanswered);
      expect(client.unansweredUntil).to.be.closeTo(Date.now() + 16 * 60_000, 5000);
    });

    it('say nothing of versioning, sizes or names', async () => {
      for (const text of [
        '',
        '<html></html>',
        '<VersioningConfiguration><Status>Enab',
        '<Error></Error>\n',
      ]) {
        await failure((await answered(body(text))).versioning());
      }
      await failure((await answered((_, response) => response.end())).head('a'));
    });

    const pages: readonly (readonly [string, string])[] = [
      ['cut short', listing(`<IsTruncated>false</IsTruncated>${entry('p/a')}`).slice(0, -3)],
      ['an error', '<Error><Code>InternalError</Code></Error>\n'],
      ['empty', ''],
      ['silent about its end', listing(entry('p/a'))],
      ['truncated without a token', listing(`<IsTruncated>true</IsTruncated>${entry('p/a')}`)],
      ['of another prefix', listing(`<IsTruncated>false</IsTruncated>${entry('q/a')}`)],
      ['out of order', listing(`<IsTruncated>false</IsTruncated>${entry('p/b')}${entry('p/a')}`)],
      ['repeating', listing(`<IsTruncated>false</IsTruncated>${entry('p/a')}${entry('p/a')}`)],
      ['short of names', listing(`<IsTruncated>false</IsTruncated><KeyCount>2</KeyCount>${entry('p/a')}`)],
      ['not decodable', listing(`<IsTruncated>false</IsTruncated>${entry('p/%ff')}`)],
      [
        'never ending',
        listing('<IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>'),
      ],
    ];
    for (const [what, text] of pages) {
      it(`a listing that is ${what} is an error`, async () => {
        const client = await answered(body(text));
        await failure(all(client.list('')));
      });
    }

    it('a range that is not the one asked for is an error', async () => {
      const headers = { etag: '"e"', 'last-modified': new Date().toUTCString() };
      const client = await answered((_, response) => response.writeHead(200, headers).end('whole'));
      await failure(client.get('a', { from: 2 }));
      const other = await answered((_, response) =>
        response.writeHead(206, { ...headers, 'content-range': 'bytes 1-4/5' }).end('hole'),
      );
      await failure(other.get('a', { from: 2 }));
    });
  });

  describe('the throttle', () => {
    it('makes no more requests at once than it is told, fewer when they come too fast, and more again', async () => {
      let atOnce = 0;
      let most = 0;
      let isTooFast = false;
      const client = await answered(async (request, response) => {
        atOnce += 1;
        most = Math.max(most, atOnce);
        await new Promise((resolve) => setTimeout(resolve, 5));
        atOnce -= 1;
        if (isTooFast) error(503, 'SlowDown')(request, response);
        else response.writeHead(200, { etag: '"e"' }).end();
      });
      const burst = async (count: number) => {
        most = 0;
        await Promise.allSettled(Array.from({ length: count }, async () => client.put('a', 'b')));
        return most;
      };
      expect(await burst(20)).to.equal(4);
      isTooFast = true;
      await burst(4);
      isTooFast = false;
      expect(await burst(2)).to.be.at.most(2);
      await burst(40);
      expect(await burst(20)).to.equal(4);
    });

    it('makes no more requests a second than it is told', async () => {
      const client = await answered((_, response) => response.writeHead(200, { etag: '"e"' }).end(), {
        throttle: { requestsPerSecond: 10, concurrency: 4 },
      });
      for (let i = 0; i < 21; i++) await client.put('a', 'b');
      expect(clock.mono).to.be.within(1800, 2000);
    });

    describe('of bytes', () => {
      const PACED = { throttle: { requestsPerSecond: null, bytesPerSecond: 1000, concurrency: 4 } };
      const time = new Date(SOURCE.modifiedAt).toUTCString();

      /** A store where all is of one size and ETag, and each copy works. */
      const paced = async (size: number, limits: Partial<S3Limits> = {}): Promise<S3Client> =>
        answered(
          ({ method, url = '' }, response) => {
            response.setHeader('etag', '"e"').setHeader('last-modified', time);
            response.setHeader('x-amz-request-id', '1');
            if (method === 'HEAD' || (method === 'GET' && !url.includes('tagging'))) {
              response.writeHead(200, { 'content-length': String(size) });
              response.end(method === 'HEAD' ? '' : Buffer.alloc(size));
              return;
            }
            const root = url.includes('uploads')
              ? 'InitiateMultipartUploadResult'
              : url.includes('partNumber')
                ? 'CopyPartResult'
                : url.includes('uploadId')
                  ? 'CompleteMultipartUploadResult'
                  : url.includes('tagging')
                    ? 'Tagging'
                    : 'CopyObjectResult';
            const inner = root === 'Tagging' ? '<TagSet/>' : '<UploadId>u</UploadId><ETag>"e"</ETag>';
            response.end(`<${root}>${inner}</${root}>`);
          },
          { ...PACED, limits },
        );

      it('lets one object go at once, and the next when it is paid for', async () => {
        const client = await paced(500);
        const source = { ...SOURCE, etag: 'e', size: 500 };
        await client.copy('a', 'b', { source, guard: 'none' });
        expect(clock.mono).to.equal(0);
        for (let i = 0; i < 4; i++) await client.copy('a', 'b', { source, guard: 'none' });
        expect(clock.mono).to.equal(2000);
      });

      it('counts an object that is read and written once, and each part as it is copied', async () => {
        const client = await paced(3000, { copyAtOnce: 2999, partSize: 1000 });
        const source = { ...SOURCE, etag: 'e', size: 3000 };
        await client.copyByPut('a', 'b', source);
        expect(clock.mono).to.equal(0);
        await client.copy('a', 'b', { source, guard: 'none' });
        expect(clock.mono).to.be.within(5000, 6000);
      });

      it('keeps neither looks nor claims waiting, nor counts them', async () => {
        const client = await paced(500);
        const source = { ...SOURCE, etag: 'e', size: 500_000 };
        await client.copy('a', 'b', { source, guard: 'none' });
        await client.head('a');
        (await client.get('a'))?.body.destroy();
        await client.put('a', 'b'.repeat(5000));
        expect(clock.mono).to.equal(0);
      });
    });
  });
});

async function listening(server: TcpServer): Promise<void> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
}

function urlOf(server: TcpServer): string {
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

async function all<T>(pages: AsyncIterable<T[]>): Promise<T[]> {
  const found: T[] = [];
  for await (const page of pages) found.push(...page);
  return found;
}

async function rejection(promise: Promise<unknown>): Promise<Error> {
  const thrown: unknown = await promise.then(
    () => new TypeError('it resolved'),
    (reason: unknown) => reason,
  );
  if (!(thrown instanceof Error)) throw new TypeError('what was thrown is no error');
  return thrown;
}

async function failure(promise: Promise<unknown>): Promise<TombstonedError> {
  const thrown = await rejection(promise);
  if (!(thrown instanceof TombstonedError)) throw thrown;
  expect(thrown.code).to.equal('failed');
  expect(thrown.message).not.to.match(/\n/);
  return thrown;
}
