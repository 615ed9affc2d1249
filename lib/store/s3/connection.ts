import type { S3ClientConfig, S3Client as Sdk } from '@aws-sdk/client-s3';
import { TombstonedError } from '../../domain/errors.ts';
import type { Connections } from './http.ts';
import { AMAZON, ANY_REGION, endpointUrl, isBareHost, type S3Place, SILENT, type Way } from './way.ts';

type Commands = typeof import('@aws-sdk/client-s3');

/** The SDK, as it is asked where no request of our own will do. */
export interface ViaSdk {
  readonly client: Sdk;
  readonly commands: Commands;
}

/**
 * An SDK client that makes exactly one attempt of each request and signs it with
 * this host's clock, and the host (with its port) that it asks.
 */
export async function connect(
  place: S3Place,
  bucket: string,
  connections: Connections,
): Promise<ViaSdk & { host: string }> {
  if (place.endpoint !== null) endpointUrl(place.endpoint);
  // Not before it is needed: it takes as long to load as a command on a small store.
  const commands = await import('@aws-sdk/client-s3');
  const own: S3ClientConfig = place.endpoint === null ? {} : { endpoint: place.endpoint };
  const url = await askedUrl(commands, own, bucket);
  const region = place.region ?? (await regionOf(commands, url.hostname, bucket));
  const client = new commands.S3Client({
    ...own,
    region,
    forcePathStyle: place.forcePathStyle || isBareHost(url.hostname),
    requestHandler: connections,
    maxAttempts: 1,
    disableClockSkewCorrection: true,
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
    expectContinueHeader: false,
    followRegionRedirects: false,
    logger: SILENT,
  });
  const { hostname, port } = place.endpoint === null && url.hostname.endsWith(AMAZON) ? amazon(region) : url;
  return { client, commands, host: port === '' ? hostname : `${hostname}:${port}` };
}

/** The way that the SDK's requests for a bucket's objects go. */
export async function wayOf(sdk: ViaSdk, bucket: string): Promise<Way> {
  const asked = await signedBySdk(sdk, bucket);
  const scope = /^AWS4-HMAC-SHA256 Credential=.*\/\d{8}\/([^/]+)\/s3\/aws4_request,/.exec(
    asked.authorization,
  );
  const region = scope?.[1];
  if (region === undefined || !asked.path.endsWith(`/${PROBED}`)) {
    throw new TombstonedError('failed', `requests for s3://${bucket} are signed in a way that is not known`, {
      key: bucket,
      hint: 'directory buckets and access points of several regions are no stores',
    });
  }
  const { protocol, hostname, port, path, host } = asked;
  return {
    protocol,
    hostname,
    ...(port === undefined ? {} : { port }),
    root: path.slice(0, -PROBED.length - 1),
    host,
    region,
    credentials: sdk.client.config.credentials,
  };
}

/** A key that no store has; nothing is sent for it. */
const PROBED = 'tombstoned-asks-where';

interface Asked extends Pick<Way, 'protocol' | 'hostname' | 'port' | 'host'> {
  readonly path: string;
  readonly authorization: string;
}

/** A request as the SDK would send it. */
async function signedBySdk({ client, commands }: ViaSdk, bucket: string): Promise<Asked> {
  let asked: Asked | undefined;
  const command = new commands.HeadObjectCommand({ Bucket: bucket, Key: PROBED });
  command.middlewareStack.add(
    () =>
      async ({ request }) => {
        asked = askedOf(request);
        return { response: undefined, output: { $metadata: {} } };
      },
    { step: 'deserialize', priority: 'high', name: 'tombstonedAsked' },
  );
  await client.send(command);
  if (asked === undefined) throw new TypeError('the SDK did not say what it would send');
  return asked;
}

function askedOf(request: unknown): Asked {
  if (typeof request !== 'object' || request === null) throw new TypeError('the SDK made no request');
  const { protocol, hostname, port, path, headers } = {
    protocol: 'https:',
    hostname: '',
    port: undefined,
    path: '',
    headers: {},
    ...request,
  };
  const { host = '', authorization = '' }: Record<string, string> = headers;
  return { protocol, hostname, ...(typeof port === 'number' ? { port } : {}), path, host, authorization };
}

function amazon(region: string): { hostname: string; port: string } {
  return { hostname: `s3.${region}${AMAZON}`, port: '' };
}

/** The URL the SDK would ask, whoever set the endpoint: the environment and ~/.aws may, too. */
async function askedUrl(commands: Commands, own: S3ClientConfig, bucket: string): Promise<URL> {
  // Nothing is sent, so nobody's credentials will do.
  const credentials = { accessKeyId: 'none', secretAccessKey: 'none' };
  const probe = new commands.S3Client({ ...own, credentials, region: ANY_REGION, forcePathStyle: true });
  let url: URL | undefined;
  probe.middlewareStack.add(
    () =>
      async ({ request }) => {
        url = urlOf(request);
        return { response: undefined, output: { $metadata: {} } };
      },
    { step: 'build', name: 'tombstonedAskedUrl' },
  );
  try {
    await probe.send(new commands.HeadBucketCommand({ Bucket: bucket }));
  } catch (cause) {
    throw new TombstonedError('failed', `s3://${bucket} can't be asked for: ${textOf(cause)}`, {
      hint: "check the store's url, and s3.endpoint, AWS_ENDPOINT_URL and ~/.aws/config",
      cause,
    });
  } finally {
    probe.destroy();
  }
  if (url === undefined) throw new TypeError('the SDK did not say what it would ask');
  return url;
}

function urlOf(request: unknown): URL {
  if (typeof request !== 'object' || request === null) throw new TypeError('the SDK made no request');
  const { protocol, hostname, port } = {
    protocol: 'https:',
    hostname: '',
    port: undefined,
    ...request,
  };
  return new URL(`${protocol}//${hostname}${port === undefined ? '' : `:${String(port)}`}`);
}

/** The region of the default chain; other servers than Amazon's mostly don't care. */
async function regionOf(commands: Commands, hostname: string, bucket: string): Promise<string> {
  const chain = new commands.S3Client({});
  try {
    return await chain.config.region();
  } catch (cause) {
    if (!hostname.endsWith(AMAZON)) return ANY_REGION;
    throw new TombstonedError('failed', `no region is set for s3://${bucket}`, {
      hint: "set s3.region in the config, or AWS_REGION, to the bucket's",
      cause,
    });
  } finally {
    chain.destroy();
  }
}

function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
