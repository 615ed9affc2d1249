// Whole processes side by side on a real S3 server: what a fetch, a sweep and a purge of a bucket cost, against
// rclone's copy, move and delete with the same concurrency. Each round runs both on fresh objects of their own.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as passed } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { DeleteObjectsCommand, PutObjectCommand } from '@aws-sdk/client-s3';
import { freshBucket, s3Client, s3Server } from '../../spec/support/s3-server.ts';
import type { Sample } from './contenders.ts';
import { isInstalled } from './contenders.ts';
import { numberIn, Stopwatch } from './measure.ts';
import { rowsOf, tableOf } from './report.ts';

const { values } = parseArgs({
  options: {
    objects: { type: 'string', default: '5000' },
    rounds: { type: 'string', default: '3' },
  },
});
const CONCURRENCY = 32;
/** As many names as one request takes. */
const BATCH = 1000;
const OURS = 'tombstonectl';
const ctl = path.resolve(import.meta.dirname, '../../dist/cli/main.js');
const objects = Number(values.objects);
const server = s3Server();
if (server === undefined) throw new Error('no S3 server is installed: see scripts/s3-server');
const { endpoint, accessKeyId, secretAccessKey, region } = server;
process.env['AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED'] = 'true';
process.env['AWS_ACCESS_KEY_ID'] = accessKeyId;
process.env['AWS_SECRET_ACCESS_KEY'] = secretAccessKey;
const scratch = mkdtempSync(path.join(tmpdir(), 'tombstoned-bench-s3-'));
const stopwatch = new Stopwatch(scratch);
const client = s3Client(server);

type Bucket = Awaited<ReturnType<typeof freshBucket>>;

async function filled(): Promise<Bucket> {
  if (server === undefined) throw new Error('no server');
  const bucket = await freshBucket(server);
  const numbers = Array.from({ length: objects }, (_, i) => i).values();
  const work = async (): Promise<void> => {
    for (const i of numbers) {
      await client.send(
        new PutObjectCommand({ Bucket: bucket.name, Key: nameOf(i), Body: Buffer.alloc(1024, 7) }),
      );
    }
  };
  await Promise.all(Array.from({ length: CONCURRENCY }, work));
  return bucket;
}

async function ours(bucket: Bucket): Promise<Sample[]> {
  const directory = mkdtempSync(path.join(scratch, 'ours-'));
  const config = path.join(directory, 'tombstoned.yaml');
  const store = {
    name: 'bench',
    url: `s3://${bucket.name}/live`,
    s3: { endpoint, region, forcePathStyle: true },
    throttle: { concurrency: CONCURRENCY },
    safetyWindow: '0s',
    minimumAge: '0s',
    limits: { maxObjects: null, maxFraction: null, maxBytes: null },
    policies: [{ name: 'everything', type: 'age', olderThan: '0s' }],
  };
  writeFileSync(config, JSON.stringify({ catalog: path.join(directory, 'catalog.db'), stores: [store] }));
  const command = [process.execPath, ctl, '--config', config, '--json'];
  await stopwatch.run([...command, 'init', '--store', 'bench']);
  const out = path.join(directory, 'out');
  const { stdout: copied, ...fetch } = await stopwatch.run([
    ...command,
    'fetch',
    '',
    '--to',
    out,
    '--concurrency',
    String(CONCURRENCY),
  ]);
  expectAll('fetched', numberIn(JSON.parse(copied.trim().split('\n').at(-1) ?? ''), 'objects'));
  const { stdout: swept, ...sweep } = await stopwatch.run([...command, 'sweep']);
  expectAll('moved', numberIn(JSON.parse(swept.trim().split('\n').at(-1) ?? ''), 'moved'));
  const { stdout: purged, ...purge } = await stopwatch.run([...command, 'purge']);
  expectAll('purged', numberIn(JSON.parse(purged.trim().split('\n').at(-1) ?? ''), 'purged'));
  await bucket.remove();
  return [
    { task: 'fetch', command: `${OURS} fetch`, ...fetch },
    { task: 'sweep', command: `${OURS} sweep`, ...sweep },
    { task: 'purge', command: `${OURS} purge`, ...purge },
  ];
}

async function rclone(bucket: Bucket): Promise<Sample[]> {
  const at = `:s3,provider=Ceph,endpoint='${endpoint}',access_key_id=${accessKeyId},secret_access_key=${secretAccessKey}:${bucket.name}`;
  const flags = ['--config', '', '--transfers', String(CONCURRENCY), '--checkers', String(CONCURRENCY)];
  const out = path.join(mkdtempSync(path.join(scratch, 'rclone-')), 'out');
  const { stdout: ___, ...copy } = await stopwatch.run(['rclone', ...flags, 'copy', `${at}/live`, out]);
  const { stdout: _, ...sweep } = await stopwatch.run([
    'rclone',
    ...flags,
    'move',
    `${at}/live`,
    `${at}/moved`,
  ]);
  const { stdout: __, ...purge } = await stopwatch.run(['rclone', ...flags, 'delete', `${at}/moved`]);
  await bucket.remove();
  return [
    { task: 'fetch', command: 'rclone copy', ...copy },
    { task: 'sweep', command: 'rclone move', ...sweep },
    { task: 'purge', command: 'rclone delete', ...purge },
  ];
}

/** What the server needs for a purge: its names are known, and removed in batches that are all in flight. */
async function limit(bucket: Bucket): Promise<Sample[]> {
  const before = process.cpuUsage();
  const began = performance.now();
  const batches = Array.from({ length: Math.ceil(objects / BATCH) }, (_, n) =>
    Array.from({ length: Math.min(BATCH, objects - n * BATCH) }, (__, i) => ({ Key: nameOf(n * BATCH + i) })),
  );
  const answers = await Promise.all(
    batches.map(async (Objects) =>
      client.send(new DeleteObjectsCommand({ Bucket: bucket.name, Delete: { Objects } })),
    ),
  );
  const seconds = (performance.now() - began) / 1000;
  expectAll(
    'removed',
    answers.reduce((sum, { Deleted = [] }) => sum + Deleted.length, 0),
  );
  const { user, system } = process.cpuUsage(before);
  const peakKiB = process.resourceUsage().maxRSS;
  await bucket.remove();
  return [
    {
      task: 'purge',
      command: 'DeleteObjects alone',
      seconds,
      userSeconds: user / 1e6,
      systemSeconds: system / 1e6,
      peakKiB,
    },
  ];
}

function nameOf(i: number): string {
  return `live/epoch-${i % 20}/part-${String(i).padStart(8, '0')}`;
}

function expectAll(what: string, count: number): void {
  if (count !== objects) throw new Error(`${what} ${count} of ${objects}`);
}

try {
  const rounds: Sample[][] = [];
  for (let round = 0; round < Number(values.rounds); round++) {
    console.log(`round ${round + 1} of ${values.rounds}`);
    const buckets = [await filled(), ...(isInstalled('rclone') ? [await filled()] : [])];
    // What expires is older than this; what is younger is looked at once more before it is deleted.
    await passed(61_000);
    const [first, second] = buckets;
    const samples = first === undefined ? [] : await ours(first);
    if (second !== undefined) samples.push(...(await rclone(second)));
    samples.push(...(await limit(await filled())));
    rounds.push(samples);
  }
  for (const { command, seconds, userSeconds, systemSeconds } of rounds.flat())
    console.log(`${command}: ${seconds.toFixed(2)} s, CPU ${(userSeconds + systemSeconds).toFixed(2)} s`);
  console.log(`\n${objects} objects of 1 KiB, ${CONCURRENCY} in flight\n`);
  console.log(tableOf(rowsOf(rounds, objects, OURS), OURS));
} finally {
  client.destroy();
  rmSync(scratch, { recursive: true, force: true });
}
