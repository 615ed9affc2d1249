import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as passed } from 'node:timers/promises';
import { DeleteObjectsCommand, PutObjectCommand } from '@aws-sdk/client-s3';
import { S3Proxy } from '../../spec/support/s3-proxy.ts';
import { freshBucket, type S3Server, s3Client, s3Server } from '../../spec/support/s3-server.ts';
import { isInstalled, lastLine, type Sample, TOMBSTONECTL } from './contenders.ts';
import { numberIn, type Stopwatch } from './measure.ts';
import { type Bench, type Found, type Goal, goalOf } from './part.ts';
import { markdown, ratiosIn, rowsOf, tableOf } from './report.ts';

const CONCURRENCY = 32;
/** As many names as one request takes. */
const BATCH = 1000;
const OURS = 'tombstonectl';
/** What expires is older than this; what is younger is looked at once more before it is deleted. ms */
const AGE = 61_000;

type Bucket = Awaited<ReturnType<typeof freshBucket>>;
type Run = (bucket: Bucket) => Promise<Sample[]>;

/** Whole processes side by side on a real S3 server, against rclone with the same concurrency; requests by a proxy. */
export async function s3(bench: Bench): Promise<Found | undefined> {
  const server = s3Server();
  if (server === undefined) {
    bench.say('skipped: S3 (no server: see scripts/s3-server)');
    return undefined;
  }
  process.env['AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED'] = 'true';
  process.env['AWS_ACCESS_KEY_ID'] = server.accessKeyId;
  process.env['AWS_SECRET_ACCESS_KEY'] = server.secretAccessKey;
  delete process.env['AWS_CA_BUNDLE']; // rclone takes none, and loopback needs none
  const measured = new S3Bench(bench, server);
  try {
    return await measured.run();
  } finally {
    await measured.close();
  }
}

class S3Bench {
  readonly #bench: Bench;
  readonly #server: S3Server;
  readonly #client: ReturnType<typeof s3Client>;
  readonly #stopwatch: Stopwatch;
  readonly #scratch: string;
  readonly #buckets = new Set<Bucket>();

  constructor(bench: Bench, server: S3Server) {
    this.#bench = bench;
    this.#server = server;
    this.#client = s3Client(server);
    this.#stopwatch = bench.stopwatch;
    this.#scratch = path.join(bench.scratch, 's3');
    mkdirSync(this.#scratch);
  }

  async close(): Promise<void> {
    for (const bucket of this.#buckets) await bucket.remove();
    this.#client.destroy();
    rmSync(this.#scratch, { recursive: true, force: true });
  }

  async run(): Promise<Found> {
    const { objects, rounds: count, say } = this.#bench;
    const runs: Run[] = [async (bucket) => this.#ours(bucket, this.#server.endpoint)];
    if (isInstalled('rclone')) runs.push(async (bucket) => this.#rclone(bucket));
    else say('skipped: rclone is not installed');
    runs.push(async (bucket) => this.#limit(bucket));
    const rounds: Sample[][] = [];
    for (let round = 0; round < count; round++) {
      say(`round ${round + 1} of ${count}: ${runs.length} buckets of ${objects} objects`);
      const filled: Bucket[] = [];
      for (const _ of runs) filled.push(await this.#filled());
      await passed(AGE);
      const samples: Sample[] = [];
      for (let i = 0; i < runs.length; i++) {
        const at = (i + round) % runs.length;
        const bucket = filled[at];
        if (bucket === undefined) throw new Error('no bucket');
        samples.push(...((await runs[at]?.(bucket)) ?? []));
        await this.#remove(bucket);
      }
      rounds.push(samples);
    }
    say('counting requests');
    const requests = await this.#requests();
    const rows = rowsOf(rounds, objects, OURS);
    const goals = ratiosIn(
      rows,
      [
        { task: 'sweep', command: 'rclone move', atLeast: 1 },
        { task: 'purge', command: 'rclone delete', atLeast: 1.5 },
        { task: 'purge', command: 'DeleteObjects alone' },
        { task: 'fetch', command: 'rclone copy' },
      ],
      'S3 ',
    );
    const table = markdown(
      ['task', 'requests in all', 'start', 'an object'],
      requests.map(({ task, all, start }) => [
        task,
        String(all),
        String(start),
        ((all - start) / objects).toFixed(4),
      ]),
    );
    return {
      goals: [...goals, ...this.#requestGoals(requests)],
      table: `${tableOf(rows, OURS)}\n\n${table}`,
      samples: { objects, concurrency: CONCURRENCY, rows, rounds, requests },
    };
  }

  #requestGoals(requests: readonly Requests[]): Goal[] {
    const { objects } = this.#bench;
    return requests.flatMap(({ task, all, start }) => {
      const each = (all - start) / objects;
      if (task === 'sweep')
        return [goalOf('S3 sweep, requests an object', [each], { unit: 'requests', atMost: 2 })];
      if (task === 'purge')
        return [goalOf('S3 purge, requests per 1,000', [each * 1000], { unit: 'requests', atMost: 2 })];
      return [];
    });
  }

  /** What each task asks of the server, and what it asks for one object alone, counted by a proxy between. */
  async #requests(): Promise<Requests[]> {
    const [whole, none] = [await this.#filled(), await this.#filled(1)];
    await passed(AGE);
    const counts: number[][] = [];
    for (const [bucket, expected] of [
      [whole, this.#bench.objects],
      [none, 1],
    ] as const) {
      const proxy = await S3Proxy.start(this.#server, 'gateway');
      const ofBucket: number[] = [];
      await this.#ours(bucket, proxy.endpoint, expected, () => {
        ofBucket.push(proxy.seen.length);
        proxy.forget();
      });
      counts.push(ofBucket);
      await proxy.close();
      await this.#remove(bucket);
    }
    const [all = [], start = []] = counts;
    // The first is of `init`.
    return (['fetch', 'sweep', 'purge'] as const).map((task, i) => ({
      task,
      all: all[i + 1] ?? Number.NaN,
      start: start[i + 1] ?? Number.NaN,
    }));
  }

  async #filled(objects = this.#bench.objects): Promise<Bucket> {
    const bucket = await freshBucket(this.#server);
    this.#buckets.add(bucket);
    const numbers = Array.from({ length: objects }, (_, i) => i).values();
    const work = async (): Promise<void> => {
      for (const i of numbers) {
        await this.#client.send(
          new PutObjectCommand({ Bucket: bucket.name, Key: nameOf(i), Body: Buffer.alloc(1024, 7) }),
        );
      }
    };
    await Promise.all(Array.from({ length: CONCURRENCY }, work));
    return bucket;
  }

  async #remove(bucket: Bucket): Promise<void> {
    await bucket.remove();
    this.#buckets.delete(bucket);
  }

  /** Ours: `init`, which is not counted, a fetch, a sweep and a purge; `after` each. */
  async #ours(
    bucket: Bucket,
    endpoint: string,
    objects = this.#bench.objects,
    after: () => void = () => undefined,
  ): Promise<Sample[]> {
    const directory = mkdtempSync(path.join(this.#scratch, 'ours-'));
    const config = path.join(directory, 'tombstoned.yaml');
    const store = {
      name: 'bench',
      url: `s3://${bucket.name}/live`,
      s3: { endpoint, region: this.#server.region, forcePathStyle: true },
      throttle: { concurrency: CONCURRENCY },
      safetyWindow: '0s',
      minimumAge: '0s',
      limits: { maxObjects: null, maxFraction: null, maxBytes: null },
      policies: [{ name: 'everything', type: 'age', olderThan: '0s' }],
    };
    writeFileSync(config, JSON.stringify({ catalog: path.join(directory, 'catalog.db'), stores: [store] }));
    const command = [process.execPath, TOMBSTONECTL, '--config', config, '--json'];
    await this.#stopwatch.run([...command, 'init', '--store', 'bench']);
    after();
    const samples: Sample[] = [];
    const to = path.join(directory, 'out');
    const tasks = [
      {
        task: 'fetch',
        words: ['fetch', '', '--to', to, '--concurrency', String(CONCURRENCY)],
        done: 'objects',
      },
      { task: 'sweep', words: ['sweep'], done: 'moved' },
      { task: 'purge', words: ['purge'], done: 'purged' },
    ] as const;
    for (const { task, words, done } of tasks) {
      const { stdout, ...usage } = await this.#stopwatch.run([...command, ...words]);
      expectAll(task, numberIn(lastLine(stdout), done), objects);
      samples.push({ task, command: `${OURS} ${task}`, ...usage });
      after();
    }
    return samples;
  }

  async #rclone(bucket: Bucket): Promise<Sample[]> {
    const { endpoint, accessKeyId, secretAccessKey } = this.#server;
    const at = `:s3,provider=Ceph,endpoint='${endpoint}',access_key_id=${accessKeyId},secret_access_key=${secretAccessKey}:${bucket.name}`;
    const flags = ['--config', '', '--transfers', String(CONCURRENCY), '--checkers', String(CONCURRENCY)];
    const to = path.join(mkdtempSync(path.join(this.#scratch, 'rclone-')), 'out');
    const tasks = [
      { task: 'fetch', words: ['copy', `${at}/live`, to] },
      { task: 'sweep', words: ['move', `${at}/live`, `${at}/moved`] },
      { task: 'purge', words: ['delete', `${at}/moved`] },
    ] as const;
    const samples: Sample[] = [];
    for (const { task, words } of tasks) {
      const { stdout: _, ...usage } = await this.#stopwatch.run(['rclone', ...flags, ...words]);
      samples.push({ task, command: `rclone ${words[0]}`, ...usage });
    }
    return samples;
  }

  /** What the server needs for a purge: its names are known, and removed in batches that are all in flight. */
  async #limit(bucket: Bucket): Promise<Sample[]> {
    const { objects } = this.#bench;
    const before = process.cpuUsage();
    const began = performance.now();
    const batches = Array.from({ length: Math.ceil(objects / BATCH) }, (_, n) =>
      Array.from({ length: Math.min(BATCH, objects - n * BATCH) }, (__, i) => ({
        Key: nameOf(n * BATCH + i),
      })),
    );
    const answers = await Promise.all(
      batches.map(async (Objects) =>
        this.#client.send(new DeleteObjectsCommand({ Bucket: bucket.name, Delete: { Objects } })),
      ),
    );
    const seconds = (performance.now() - began) / 1000;
    const removed = answers.reduce((sum, { Deleted = [] }) => sum + Deleted.length, 0);
    expectAll('DeleteObjects', removed, objects);
    const { user, system } = process.cpuUsage(before);
    return [
      {
        task: 'purge',
        command: 'DeleteObjects alone',
        seconds,
        userSeconds: user / 1e6,
        systemSeconds: system / 1e6,
        peakKiB: process.resourceUsage().maxRSS,
      },
    ];
  }
}

interface Requests {
  readonly task: 'fetch' | 'sweep' | 'purge';
  readonly all: number;
  /** Of a bucket with one object. */
  readonly start: number;
}

function nameOf(i: number): string {
  return `live/epoch-${i % 20}/part-${String(i).padStart(8, '0')}`;
}

function expectAll(what: string, count: number, objects: number): void {
  if (count !== objects) throw new Error(`${what}: ${count} objects instead of ${objects}`);
}
