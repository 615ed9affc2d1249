import { assert } from 'chai';
import { systemClock } from '../../lib/domain/clock.ts';
import { TombstonedError } from '../../lib/domain/errors.ts';
import { type Capabilities, Unanswered } from '../../lib/store/s3/api.ts';
import { S3Client } from '../../lib/store/s3/client.ts';
import { ControlObjects } from '../../lib/store/s3/control-objects.ts';
import { probe } from '../../lib/store/s3/probe.ts';
import { DrivenClock } from '../support/place.ts';
import { S3Proxy } from '../support/s3-proxy.ts';
import { type FreshBucket, freshBucket, type S3Server, s3ServerOrSkip } from '../support/s3-server.ts';
import { type Fate, type MemoryOptions, type MemoryRequest, MemoryS3, serverError } from './memory-api.ts';

const LEASE = 'leases/l-1.json';
const FENCE = 'fences/r-1-1.json';
const AT = (name: string) => `.tombstoned/${name}`;

interface Control {
  readonly s3: MemoryS3;
  readonly control: ControlObjects;
  readonly clock: DrivenClock;
  readonly capabilities: Capabilities;
}

async function controlOf(options: MemoryOptions): Promise<Control> {
  const clock = new DrivenClock();
  const s3 = new MemoryS3({ clock, ...options });
  const capabilities = await probe(s3, clock);
  s3.requests.clear();
  const control = new ControlObjects({ api: s3, capabilities: async () => capabilities, clock });
  return { s3, clock, control, capabilities };
}

/** Lets each of the next requests of a kind have one of these fates, then none. */
function fated(s3: MemoryS3, kind: MemoryRequest['kind'], ...fates: (Fate | undefined)[]): void {
  s3.before = (request) => (request.kind === kind ? fates.shift() : undefined);
}

/** Somebody acts before the n-th request of a kind (from 1). */
function acting(s3: MemoryS3, kind: MemoryRequest['kind'], n: number, act: () => void): void {
  let seen = 0;
  s3.before = (request) => {
    if (request.kind === kind && (seen += 1) === n) act();
    return undefined;
  };
}

const BUCKETS = [
  { preset: 'amazon' },
  { preset: 'amazon', versioning: 'enabled' },
  { preset: 'amazon', versioning: 'suspended' },
  { preset: 'rgw' },
  { preset: 'rgw', versioning: 'enabled' },
  { preset: 'rgw', versioning: 'suspended' },
  { preset: 'swift' },
] as const satisfies MemoryOptions[];

for (const options of BUCKETS) {
  const { preset } = options;
  const versioning = 'versioning' in options ? options.versioning : 'off';

  describe(`control objects of a bucket as of ${preset}, versions ${versioning}`, () => {
    it('are made, read, listed, rewritten and removed', async () => {
      const { s3, control } = await controlOf(options);
      await control.prepare();
      assert.isUndefined(await control.read(LEASE));
      assert.deepEqual(await control.list('leases'), []);
      assert.equal(await control.create(LEASE, '{"n":1}\n'), 'created');
      assert.equal(String(await control.read(LEASE)), '{"n":1}\n');
      assert.equal(s3.peek(AT(LEASE))?.contentType, 'application/json');
      assert.deepEqual(await control.list('leases'), ['l-1.json']);
      assert.equal(await control.rewrite(LEASE, '{"n":1}\n', '{"n":2}\n'), 'rewritten');
      assert.equal(String(await control.read(LEASE)), '{"n":2}\n');
      await control.remove(LEASE);
      assert.isUndefined(await control.read(LEASE));
      assert.deepEqual(await control.list('leases'), []);
      await control.remove(LEASE);
      assert.equal(await control.create(LEASE, '{"n":3}\n'), 'created');
    });

    it('are never made over another, whoever was first', async () => {
      const { s3, control, capabilities } = await controlOf(options);
      assert.equal(await control.create('store.json', 'ours'), 'created');
      assert.equal(await control.create('store.json', 'theirs'), 'exists');
      assert.equal(await control.create('store.json', 'ours'), 'exists');
      assert.equal(String(await control.read('store.json')), 'ours');
      acting(s3, 'put', 1, () => s3.seed(AT('owner.json'), 'theirs'));
      if (capabilities.putIfAbsent) {
        assert.equal(await control.create('owner.json', 'ours'), 'exists');
        assert.equal(String(await control.read('owner.json')), 'theirs');
      }
    });

    it('of which two are made at once have one maker', async () => {
      const { s3, control } = await controlOf(options);
      const outcomes = await Promise.all([
        control.create('store.json', 'one'),
        control.create('store.json', 'two'),
        control.create('store.json', 'six'),
      ]);
      assert.deepEqual(outcomes.toSorted(), ['created', 'exists', 'exists']);
      const made = ['one', 'two', 'six'][outcomes.indexOf('created')];
      assert.equal(String(s3.peek(AT('store.json'))?.body), made);
    });

    for (const fate of ['lost', 'answer-lost', 'late'] as const) {
      it(`are made though the first request is ${fate}, and the second too`, async () => {
        for (const fates of [[fate], [fate, fate], ['late', fate], ['answer-lost', fate]] as Fate[][]) {
          const { s3, control } = await controlOf(options);
          fated(s3, 'put', ...fates);
          assert.equal(await control.create(FENCE, 'ours'), 'created', fates.join());
          assert.equal(String(s3.peek(AT(FENCE))?.body), 'ours', fates.join());
          s3.land();
          assert.equal(String(s3.peek(AT(FENCE))?.body), 'ours', fates.join());
        }
      });

      it(`are rewritten though the first request is ${fate}, and the second too`, async () => {
        for (const fates of [[fate], [fate, fate], ['late', fate], ['answer-lost', fate]] as Fate[][]) {
          const { s3, control } = await controlOf(options);
          await control.create(LEASE, 'a');
          fated(s3, 'put', ...fates);
          assert.equal(await control.rewrite(LEASE, 'a', 'b'), 'rewritten', fates.join());
          assert.equal(String(s3.peek(AT(LEASE))?.body), 'b', fates.join());
        }
      });

      it(`are replaced and removed though the first request is ${fate}`, async () => {
        const { s3, control } = await controlOf(options);
        await control.create('owner.json', 'theirs');
        fated(s3, 'put', fate);
        await control.replace('owner.json', 'ours');
        assert.equal(String(await control.read('owner.json')), 'ours');
        fated(s3, 'delete', fate, fate);
        await control.remove('owner.json');
        assert.isUndefined(await control.read('owner.json'));
      });
    }

    it('are ours when a request that got no answer lands before it is made again', async () => {
      const { s3, control } = await controlOf(options);
      let puts = 0;
      s3.before = ({ kind }) => {
        if (kind !== 'put') return undefined;
        puts += 1;
        if (puts === 1) return 'late';
        s3.land();
        return undefined;
      };
      assert.equal(await control.create(FENCE, 'ours'), 'created');
      assert.equal(String(s3.peek(AT(FENCE))?.body), 'ours');
    });

    it("are another's when that came before a request that got no answer", async () => {
      const { s3, control } = await controlOf(options);
      s3.before = ({ kind }) => {
        if (kind !== 'put') return undefined;
        s3.seed(AT('owner.json'), 'theirs');
        return 'lost';
      };
      assert.equal(await control.create('owner.json', 'ours'), 'exists');
    });

    it('are not known when no request is answered and nothing is seen: that is thrown', async () => {
      const { s3, control, clock } = await controlOf(options);
      const { mono } = clock;
      s3.before = ({ kind }) => (kind === 'put' ? 'late' : undefined);
      assert.instanceOf(await failure(control.create(FENCE, 'ours')), Unanswered);
      assert.isAbove(clock.mono - mono, 60_000);
      await control.remove(FENCE).catch(() => undefined);
      s3.before = undefined;
      s3.land(); // what its maker does not know of
      assert.equal(String(await control.read(FENCE)), 'ours');
    });

    it('are not known when the look fails too: the first trouble is thrown, not what came after', async () => {
      const { s3, control } = await controlOf(options);
      let puts = 0;
      s3.before = ({ kind, ...request }) => {
        if (kind === 'put' && (puts += 1) === 1) return 'late';
        if (puts > 0) throw serverError(403, 'AccessDenied', 'name' in request ? request.name : '');
        return undefined;
      };
      assert.instanceOf(await failure(control.create(FENCE, 'ours')), Unanswered);
    });

    it('are not rewritten when they are not what they were', async () => {
      const { s3, control } = await controlOf(options);
      assert.equal(await control.rewrite(LEASE, 'a', 'b'), 'gone');
      s3.seed(AT(LEASE), 'x');
      assert.equal(await control.rewrite(LEASE, 'a', 'b'), 'changed');
      assert.equal(await control.rewrite(LEASE, 'a', 'x'), 'changed');
      assert.equal(String(await control.read(LEASE)), 'x');
      assert.instanceOf(await failure(control.rewrite(LEASE, 'x', 'longer')), RangeError);
    });

    it('are removed, or changed, by somebody just before they are rewritten', async () => {
      for (const [act, outcome] of [
        ['unseed', 'gone'],
        ['seed', 'changed'],
      ] as const) {
        const { s3, control, capabilities } = await controlOf(options);
        await control.create(LEASE, 'a');
        acting(s3, 'put', 1, () => (act === 'seed' ? s3.seed(AT(LEASE), 'x') : s3.unseed(AT(LEASE))));
        if (capabilities.putIfMatch !== 'no') {
          assert.equal(await control.rewrite(LEASE, 'a', 'b'), outcome);
          assert.equal(String(await control.read(LEASE)), act === 'seed' ? 'x' : 'undefined');
        } else {
          // What this store leaves open: nothing keeps it from writing over that.
          assert.equal(await control.rewrite(LEASE, 'a', 'b'), 'rewritten');
        }
      }
    });

    it('are removed, or changed, by somebody just after they are rewritten, and looked at where that must be', async () => {
      const { s3, control, capabilities } = await controlOf(options);
      if (capabilities.putIfMatch !== 'no') return;
      await control.create(LEASE, 'a');
      acting(s3, 'get', 2, () => s3.unseed(AT(LEASE)));
      assert.equal(await control.rewrite(LEASE, 'a', 'b'), 'gone');
      s3.before = undefined;
      await control.create(LEASE, 'a');
      acting(s3, 'get', 2, () => s3.seed(AT(LEASE), 'x'));
      assert.equal(await control.rewrite(LEASE, 'a', 'b'), 'changed');
    });

    it('are looked at where the loser of a race gets an error 500', async () => {
      for (const status of [500, 503, 409]) {
        const { s3, control } = await controlOf(options);
        await control.create(LEASE, 'a');
        let puts = 0;
        s3.before = (request) => {
          if (request.kind !== 'put' || (puts += 1) > 1) return undefined;
          s3.seed(AT(LEASE), 'x');
          throw serverError(status, 'InternalError', request.name);
        };
        assert.equal(await control.rewrite(LEASE, 'a', 'b'), 'changed');
        s3.before = undefined;
        s3.after = (request) => {
          if (request.kind === 'put') throw serverError(status, 'InternalError', request.name);
        };
        assert.equal(await control.rewrite(LEASE, 'x', 'c'), 'rewritten');
        assert.equal(await control.create(FENCE, 'ours'), 'created');
      }
    });

    it('are made and removed though the server is not reached for a moment', async () => {
      const { s3, control } = await controlOf(options);
      let tries = 0;
      s3.before = ({ kind }) => {
        const cause = Object.assign(new Error('connect ECONNREFUSED'), { code: 'ECONNREFUSED' });
        if (kind !== 'list' && (tries += 1) <= 4) throw new TombstonedError('failed', 'refused', { cause });
        return undefined;
      };
      assert.equal(await control.create(FENCE, 'ours'), 'created');
      tries = 0;
      await control.remove(FENCE);
      assert.deepEqual(await control.list('fences'), []);
    });

    it('are written again where a 409 has left nothing there', async () => {
      const { s3, control } = await controlOf(options);
      let puts = 0;
      s3.before = (request) => {
        if (request.kind === 'put' && (puts += 1) === 1) throw serverError(409, 'Conflict', request.name);
        return undefined;
      };
      assert.equal(await control.create(FENCE, 'ours'), 'created');
    });

    it('are not gone, nor made, where the store says no', async () => {
      const { s3, control, clock } = await controlOf(options);
      await control.create(LEASE, 'a');
      const { mono } = clock;
      s3.before = ({ kind }) => {
        throw serverError(403, 'AccessDenied', kind);
      };
      for (const attempt of [
        async () => control.read(LEASE),
        async () => control.list('leases'),
        async () => control.create(FENCE, 'ours'),
        async () => control.rewrite(LEASE, 'a', 'b'),
        async () => control.replace('owner.json', 'ours'),
        async () => control.remove(LEASE),
      ]) {
        assert.match((await failure(attempt())).message, /AccessDenied/);
      }
      assert.equal(clock.mono, mono, 'at once');
    });

    it('are replaced by the last of two, and by nothing that is late', async () => {
      const { s3, control, capabilities } = await controlOf(options);
      await control.replace('owner.json', 'one');
      fated(s3, 'put', 'late');
      await control.replace('owner.json', 'two');
      await control.replace('owner.json', 'six');
      s3.land();
      if (capabilities.putIfMatch !== 'no') assert.equal(String(await control.read('owner.json')), 'six');
      acting(s3, 'put', 1, () => s3.seed(AT('owner.json'), 'ten'));
      await control.replace('owner.json', 'own');
      assert.equal(String(await control.read('owner.json')), 'own');
    });
  });
}

describe('control objects of a bucket', () => {
  it('are listed page by page, only those right below a directory', async () => {
    const { s3, control } = await controlOf({ pageSize: 2 });
    for (const name of ['b', 'a', 'c', 'd', 'below/a', '']) s3.seed(AT(`fences/${name}`), 'x');
    for (const name of ['fences.json', 'leases/e', 'store.json']) s3.seed(AT(name), 'x');
    s3.seed('fences/live', 'x');
    assert.deepEqual(await control.list('fences'), ['a', 'b', 'c', 'd']);
    assert.deepEqual(await control.list(''), ['fences.json', 'store.json']);
    assert.deepEqual(await control.list('holds'), []);
  });

  it('are listed complete or not at all', async () => {
    const { s3, control } = await controlOf({ pageSize: 2 });
    for (const name of ['a', 'b', 'c']) s3.seed(AT(`fences/${name}`), 'x');
    let pages = 0;
    s3.before = ({ kind }) => {
      if (kind === 'list' && (pages += 1) === 2) throw serverError(503, 'SlowDown', 'fences');
      return undefined;
    };
    assert.match((await failure(control.list('fences'))).message, /SlowDown/);
  });

  it('are below 64 MiB', async () => {
    const { s3, control } = await controlOf({});
    s3.seed(AT(FENCE), Buffer.alloc(64 * 1024 * 1024 + 1));
    assert.match((await failure(control.read(FENCE))).message, /no object of ours/);
    s3.seed(AT(FENCE), '');
    assert.equal((await control.read(FENCE))?.length, 0);
  });

  it('are read though nothing is known of what the bucket honours', async () => {
    const clock = new DrivenClock();
    const s3 = new MemoryS3({ clock });
    s3.seed(AT('store.json'), 'x');
    const capabilities = async (): Promise<Capabilities> => Promise.reject(new Error('read-only'));
    const control = new ControlObjects({ api: s3, capabilities, clock });
    assert.equal(String(await control.read('store.json')), 'x');
    assert.deepEqual(await control.list(''), ['store.json']);
    assert.match((await failure(control.create(FENCE, 'x'))).message, /read-only/);
  });

  it('take one request each where nothing is in the way', async () => {
    const { s3, control } = await controlOf({});
    await control.create(LEASE, 'a');
    assert.deepEqual([...s3.requests], [['put', 1]]);
    await control.rewrite(LEASE, 'a', 'b');
    assert.deepEqual(
      [...s3.requests],
      [
        ['put', 2],
        ['get', 1],
      ],
    );
    await control.remove(LEASE);
    assert.equal(s3.count(), 4);
  });

  it('whose bytes are cut short are read again, and never believed', async () => {
    const { s3, control } = await controlOf({});
    s3.seed(AT(FENCE), 'whole');
    const get: MemoryS3['get'] = s3.get.bind(s3);
    let gets = 0;
    s3.get = async (...given) => {
      const got = await get(...given);
      gets += 1;
      return got === undefined || gets > 2 ? got : { ...got, size: got.size + 1 };
    };
    assert.equal(String(await control.read(FENCE)), 'whole');
    assert.equal(gets, 3);
    s3.get = async (...given) => {
      const got = await get(...given);
      got?.body.destroy(new Error('reset'));
      return got;
    };
    assert.match((await failure(control.read(FENCE))).message, /can't be read: reset/);
  });

  it('are given up where others change them for ever', async () => {
    const { s3, control } = await controlOf({});
    let n = 0;
    s3.before = (request) => {
      if (request.kind === 'put') s3.seed(request.name, String((n += 1)));
      return undefined;
    };
    assert.match((await failure(control.replace('owner.json', 'ours'))).message, /again and again/);
  });
});

/** What RGW and Amazon honour, with versions and without. */
const REAL = [
  {
    name: 'RGW',
    versioned: false,
    found: {
      putIfAbsent: true,
      putIfMatch: 'unquoted',
      copyIfMatch: 'rgw',
      deleteIfMatch: false,
      deleteUnmodifiedSince: true,
    },
  },
  {
    name: 'RGW with versions',
    versioned: true,
    found: {
      putIfAbsent: false,
      putIfMatch: 'no',
      copyIfMatch: 'rgw',
      deleteIfMatch: false,
      deleteUnmodifiedSince: false,
    },
  },
  {
    name: 'RGW behind a proxy that does as Amazon',
    versioned: false,
    semantics: 'amazon',
    found: {
      putIfAbsent: true,
      putIfMatch: 'quoted',
      copyIfMatch: 'standard',
      copyUnmodifiedSince: true,
      copyIfAbsent: true,
      deleteIfMatch: true,
      deleteUnmodifiedSince: false,
    },
  },
] as const;

describe('control objects on a real server', function () {
  this.timeout(60_000);
  let server: S3Server;

  before(function () {
    server = s3ServerOrSkip(this);
    process.env['AWS_ACCESS_KEY_ID'] = server.accessKeyId;
    process.env['AWS_SECRET_ACCESS_KEY'] = server.secretAccessKey;
  });
  after(() => {
    delete process.env['AWS_ACCESS_KEY_ID'];
    delete process.env['AWS_SECRET_ACCESS_KEY'];
  });

  for (const kind of REAL) {
    const { name, versioned, found } = kind;
    describe(`of ${name}`, () => {
      const open: { close(): void }[] = [];
      let bucket: FreshBucket;
      let proxy: S3Proxy | undefined;
      let api: S3Client;

      beforeEach(async () => {
        bucket = await freshBucket(server, { versioned });
        proxy = 'semantics' in kind ? await S3Proxy.start(server, kind.semantics) : undefined;
        api = await S3Client.open({
          bucket: bucket.name,
          prefix: 'some/prefix/',
          url: `s3://${bucket.name}/some/prefix/`,
          config: {
            endpoint: proxy?.endpoint ?? server.endpoint,
            region: server.region,
            forcePathStyle: true,
          },
          throttle: { requestsPerSecond: null, concurrency: 16 },
          clock: systemClock,
        });
        open.push(api);
      });
      afterEach(async () => {
        for (const one of open.splice(0)) one.close();
        await proxy?.close();
        await bucket.remove();
      });

      it('are under the conditions that are probed, and nothing of the probing is left', async () => {
        const capabilities = await probe(api, systemClock);
        assert.deepInclude(capabilities, { ...found, versioning: versioned ? 'enabled' : 'off' });
        for await (const page of api.listVersions('')) assert.deepEqual(page, []);
      });

      it('are made, rewritten, replaced and removed', async () => {
        const capabilities = await probe(api, systemClock);
        const control = new ControlObjects({
          api,
          capabilities: async () => capabilities,
          clock: systemClock,
        });
        assert.equal(await control.create(LEASE, 'a'), 'created');
        assert.equal(await control.create(LEASE, 'b'), 'exists');
        assert.equal(await control.rewrite(LEASE, 'a', 'b'), 'rewritten');
        assert.equal(await control.rewrite(LEASE, 'a', 'c'), 'changed');
        assert.deepEqual(await control.list('leases'), ['l-1.json']);
        await control.remove(LEASE);
        await control.remove(LEASE);
        assert.isUndefined(await control.read(LEASE));
        assert.equal(await control.rewrite(LEASE, 'b', 'c'), 'gone');
        assert.deepEqual(await control.list('leases'), []);
        await control.replace('owner.json', 'one');
        await control.replace('owner.json', 'two');
        assert.equal(String(await control.read('owner.json')), 'two');
      });

      it('have one maker, and one who rewrites them, of many at once', async () => {
        const capabilities = await probe(api, systemClock);
        const control = new ControlObjects({
          api,
          capabilities: async () => capabilities,
          clock: systemClock,
        });
        const bodies = Array.from({ length: 8 }, (_, i) => `body ${i}`);
        const made = await Promise.all(bodies.map(async (body) => control.create('owner.json', body)));
        assert.equal(made.filter((outcome) => outcome === 'created').length, 1);
        assert.equal(String(await control.read('owner.json')), bodies[made.indexOf('created')]);
        if (capabilities.putIfMatch === 'no') return;
        await control.create(LEASE, 'before');
        const texts = bodies.map((body) => body.replace('body ', 'after'));
        const outcomes = await Promise.all(texts.map(async (text) => control.rewrite(LEASE, 'before', text)));
        assert.equal(outcomes.filter((outcome) => outcome === 'rewritten').length, 1);
        assert.equal(String(await control.read(LEASE)), texts[outcomes.indexOf('rewritten')]);
      });

      if (!('semantics' in kind)) return;
      for (const when of ['before', 'after'] as const) {
        it(`are known though a connection is reset ${when} a PUT has its effect`, async () => {
          const capabilities = await probe(api, systemClock);
          const control = new ControlObjects({
            api,
            capabilities: async () => capabilities,
            clock: systemClock,
          });
          const reset = () =>
            proxy?.inject({ match: ({ method }) => method === 'PUT', fault: { as: 'reset', when } });
          reset();
          assert.equal(await control.create(LEASE, 'a'), 'created');
          reset();
          assert.equal(await control.rewrite(LEASE, 'a', 'b'), 'rewritten');
          reset();
          await control.replace('owner.json', 'ours');
          assert.equal(String(await control.read(LEASE)), 'b');
          assert.equal(String(await control.read('owner.json')), 'ours');
        });
      }
    });
  }
});

async function failure(promise: Promise<unknown>): Promise<Error> {
  try {
    await promise;
  } catch (error) {
    assert.instanceOf(error, Error);
    return error;
  }
  assert.fail('it did not fail');
}
