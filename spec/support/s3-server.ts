import { execFile, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type Server } from 'node:net';
import path from 'node:path';
import { promisify } from 'node:util';
import {
  AbortMultipartUploadCommand,
  CreateBucketCommand,
  DeleteBucketCommand,
  DeleteObjectsCommand,
  ListMultipartUploadsCommand,
  ListObjectVersionsCommand,
  PutBucketVersioningCommand,
  S3Client,
  type S3ClientConfig,
} from '@aws-sdk/client-s3';

/** A real S3 server on loopback, and the one user it knows. */
export interface S3Server {
  readonly endpoint: string;
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly region: string;
}

const SCRIPT = path.resolve(import.meta.dirname, '../../scripts/s3-server');
/** What the script exits with where the server is not installed. */
const NOT_INSTALLED = 3;

let found: S3Server | 'not installed' | undefined;

/**
 * The S3 server of this machine, started by scripts/s3-server where it is not up, and left up: other runs may use
 * it. Undefined where it is not installed; throws there if $TOMBSTONED_TEST_S3 is `required`, as in CI.
 */
export function s3Server(): S3Server | undefined {
  found ??= start();
  return found === 'not installed' ? undefined : found;
}

/** The same for a `before` hook: where there is no server, its specs are skipped, and stderr says why. */
export function s3ServerOrSkip(hook: Mocha.Context): S3Server {
  hook.timeout(120_000);
  const server = s3Server();
  if (server !== undefined) return server;
  process.stderr.write(`skipped, as no S3 server is installed: ${hook.test?.parent?.fullTitle() ?? ''}\n`);
  return hook.skip();
}

/** A server of one spec, which may kill it. */
export interface OwnS3Server extends S3Server {
  /** Kills it, as a crash does; its objects stay. */
  kill(): Promise<void>;
  /** Starts it again. */
  resume(): Promise<void>;
  stop(): Promise<void>;
}

/** Starts one beside the other, which nobody else uses. */
export async function ownS3Server(): Promise<OwnS3Server> {
  const port = String(await freePort());
  const script = async (verb: string): Promise<void> => {
    const env = { ...process.env, TOMBSTONED_TEST_S3_PORT: port };
    await promisify(execFile)(SCRIPT, verb === 'start' ? [verb, '--fresh'] : [verb], { env });
  };
  // A process that ends before its hooks leaves none behind.
  const stopNow = (): void => {
    spawnSync(SCRIPT, ['stop'], { env: { ...process.env, TOMBSTONED_TEST_S3_PORT: port } });
  };
  process.once('exit', stopNow);
  await script('start');
  return {
    ...serverAt(port),
    kill: async () => script('kill'),
    resume: async () => script('resume'),
    stop: async () => {
      await script('stop');
      process.removeListener('exit', stopNow);
    },
  };
}

/** A port that is free, as is the next; from 10 to 60 above it the server finds free ones itself. */
async function freePort(): Promise<number> {
  for (;;) {
    const first = await listening(0);
    const address = first?.address();
    const port = typeof address === 'object' && address !== null ? address.port : 0;
    const second = port < 65_500 ? await listening(port + 1) : undefined;
    for (const one of [first, second]) one?.close();
    if (first !== undefined && second !== undefined) return port;
  }
}

/** A server on a port of loopback, or undefined where that is taken. */
async function listening(port: number): Promise<Server | undefined> {
  const server = createServer().listen(port, '127.0.0.1');
  return once(server, 'listening').then(
    () => server,
    () => undefined,
  );
}

const PORT = process.env['TOMBSTONED_TEST_S3_PORT'] ?? '9480';

function start(): S3Server | 'not installed' {
  const { status, stderr, error } = spawnSync(SCRIPT, ['start'], {
    encoding: 'utf8',
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  if (status === NOT_INSTALLED && process.env['TOMBSTONED_TEST_S3'] !== 'required') return 'not installed';
  if (status !== 0) throw new Error(`there is no S3 server: ${stderr}`, { cause: error });
  return serverAt(PORT);
}

function serverAt(port: string): S3Server {
  return {
    endpoint: `http://127.0.0.1:${port}`,
    accessKeyId: process.env['TOMBSTONED_TEST_S3_KEY'] ?? 'tombtestaccess',
    secretAccessKey: process.env['TOMBSTONED_TEST_S3_SECRET'] ?? 'tombtestsecret0123456789',
    region: 'us-east-1',
  };
}

/** A client that tries once, of the server or of a proxy before it. The caller destroys it. */
export function s3Client(server: S3Server, endpoint = server.endpoint, more: S3ClientConfig = {}): S3Client {
  const { accessKeyId, secretAccessKey, region } = server;
  return new S3Client({
    endpoint,
    region,
    credentials: { accessKeyId, secretAccessKey },
    forcePathStyle: true,
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
    maxAttempts: 1,
    ...more,
  });
}

/** A bucket of one spec. It is made, emptied and removed at the server itself, past any proxy. */
export interface FreshBucket {
  readonly name: string;
  /** Removes every object, every version and marker, and every upload that was begun. */
  empty(): Promise<void>;
  /** Empties it and removes it. */
  remove(): Promise<void>;
}

export async function freshBucket(
  server: S3Server,
  options: { readonly versioned?: boolean; readonly locks?: boolean } = {},
): Promise<FreshBucket> {
  const name = `spec-${randomBytes(8).toString('hex')}`;
  await withClient(server, async (client) => {
    const ObjectLockEnabledForBucket = options.locks === true; // which keeps versions too
    await client.send(new CreateBucketCommand({ Bucket: name, ObjectLockEnabledForBucket }));
    if (options.versioned !== true) return;
    const VersioningConfiguration = { Status: 'Enabled' } as const;
    await client.send(new PutBucketVersioningCommand({ Bucket: name, VersioningConfiguration }));
  });
  return {
    name,
    empty: () => withClient(server, (client) => emptied(client, name)),
    remove: () =>
      withClient(server, async (client) => {
        await emptied(client, name);
        await client.send(new DeleteBucketCommand({ Bucket: name }));
      }),
  };
}

async function withClient(server: S3Server, work: (client: S3Client) => Promise<void>): Promise<void> {
  const client = s3Client(server);
  try {
    await work(client);
  } finally {
    client.destroy();
  }
}

async function emptied(client: S3Client, Bucket: string): Promise<void> {
  for (;;) {
    const { Versions = [], DeleteMarkers = [] } = await client.send(
      new ListObjectVersionsCommand({ Bucket }),
    );
    const Objects = [...Versions, ...DeleteMarkers].map(({ Key, VersionId }) => ({ Key, VersionId }));
    if (Objects.length === 0) break;
    const { Errors = [] } = await client.send(
      new DeleteObjectsCommand({ Bucket, Delete: { Objects }, BypassGovernanceRetention: true }),
    );
    if (Errors.length > 0) throw new Error(`${Bucket} can't be emptied: ${JSON.stringify(Errors)}`);
  }
  const { Uploads = [] } = await client.send(new ListMultipartUploadsCommand({ Bucket }));
  for (const { Key, UploadId } of Uploads) {
    await client.send(new AbortMultipartUploadCommand({ Bucket, Key, UploadId }));
  }
}
