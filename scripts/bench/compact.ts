// Whole processes: what it takes to load and compact the metadata of a large backup, on a local disk, and on a
// real S3 server by how many requests are in flight. One in flight is how the original tool loads.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { gzipSync } from 'node:zlib';
import { PutObjectCommand } from '@aws-sdk/client-s3';
import { S3Proxy } from '../../spec/support/s3-proxy.ts';
import { freshBucket, s3Client, s3Server } from '../../spec/support/s3-server.ts';
import { Stopwatch } from './measure.ts';

const { values } = parseArgs({
  options: {
    files: { type: 'string', default: '100000' },
    objects: { type: 'string', default: '1000' },
    /** How long each request travels, ms. */
    latency: { type: 'string', default: '20' },
    in: { type: 'string', default: path.resolve(import.meta.dirname, '../..') },
  },
});
const CONCURRENCIES = [1, 8, 32];
const ctl = path.resolve(import.meta.dirname, '../../dist/cli/main.js');
const scratch = mkdtempSync(path.join(values.in, '.bench-'));
const stopwatch = new Stopwatch(scratch);

/** So many metadata files: of ten, eight of transactions, one of an epoch's end, one of a snapshot. */
function* backup(count: number): Generator<readonly [string, Buffer]> {
  for (let i = 0; i < count; i++) {
    const epoch = Math.floor(i / 10);
    const [first, last] = [(epoch * 8 + (i % 10)) * 100_000, (epoch * 8 + (i % 10)) * 100_000 + 99_999];
    const end = epoch * 800_000 + 799_999;
    const [name, line] =
      i % 10 < 8
        ? [
            `transaction_${first}-${last}`,
            `{"TransactionBackup":{"first_version":${first},"last_version":${last},"manifest":"transaction_${first}-.ab12/transaction.manifest"}}`,
          ]
        : i % 10 === 8
          ? [
              `epoch_ending_${epoch}-${epoch}`,
              `{"EpochEndingBackup":{"first_epoch":${epoch},"last_epoch":${epoch},"first_version":${end},"last_version":${end},"manifest":"epoch_ending_${epoch}-.ab12/epoch_ending.manifest"}}`,
            ]
          : [
              `state_snapshot_ver_${end}`,
              `{"StateSnapshotBackup":{"epoch":${epoch},"version":${end},"manifest":"state_epoch_${epoch}_ver_${end}.ab12/state.manifest"}}`,
            ];
    yield [`metadata/${name}.meta`, gzipSync(`${line}\n`)];
  }
}

async function measured(what: string, store: Readonly<Record<string, unknown>>): Promise<void> {
  const config = path.join(scratch, `${what.replaceAll(/\W+/g, '-')}.yaml`);
  const settings = { name: 'bench', format: 'aptos', minimumAge: '0s', ...store };
  const catalog = `${config}.db`;
  writeFileSync(config, JSON.stringify({ catalog, metrics: null, stores: [settings] })); // JSON is YAML
  const command = [process.execPath, ctl, '--config', config];
  await stopwatch.run([...command, 'init', '--store', 'bench']);
  for (const turn of ['first', 'again']) {
    const { seconds, userSeconds, systemSeconds, peakKiB } = await stopwatch.run([
      ...command,
      'aptos',
      'compact',
    ]);
    const cpu = `${userSeconds.toFixed(1)} s user, ${systemSeconds.toFixed(1)} s system`;
    console.log(`${what}, ${turn}: ${seconds.toFixed(1)} s, ${cpu}, ${Math.round(peakKiB / 1024)} MiB`);
  }
}

async function local(): Promise<void> {
  const root = path.join(scratch, 'store');
  mkdirSync(path.join(root, 'metadata'), { recursive: true });
  for (const [key, bytes] of backup(Number(values.files))) writeFileSync(path.join(root, key), bytes);
  await measured(`${values.files} files on a disk`, { url: `file://${root}` });
}

async function inS3(): Promise<void> {
  const server = s3Server();
  if (server === undefined) {
    console.log('skipped: S3 (no server: see scripts/s3-server)');
    return;
  }
  process.env['AWS_ACCESS_KEY_ID'] = server.accessKeyId;
  process.env['AWS_SECRET_ACCESS_KEY'] = server.secretAccessKey;
  const client = s3Client(server);
  const proxy = await S3Proxy.start(server, 'gateway');
  const fault = { as: 'latency', when: 'before', ms: Number(values.latency) } as const;
  proxy.inject({ match: () => true, fault, times: Infinity });
  for (const concurrency of CONCURRENCIES) {
    const bucket = await freshBucket(server);
    try {
      const rest = backup(Number(values.objects));
      const work = async (): Promise<void> => {
        for (const [key, Body] of rest)
          await client.send(new PutObjectCommand({ Bucket: bucket.name, Key: `live/${key}`, Body }));
      };
      await Promise.all(Array.from({ length: 16 }, work));
      await measured(`${values.objects} objects in S3, ${values.latency} ms away, ${concurrency} in flight`, {
        url: `s3://${bucket.name}/live`,
        s3: { endpoint: proxy.endpoint, region: server.region, forcePathStyle: true },
        throttle: { concurrency },
      });
    } finally {
      await bucket.remove();
    }
  }
  client.destroy();
  await proxy.close();
}

try {
  await local();
  await inS3();
} finally {
  rmSync(scratch, { recursive: true, force: true });
}
