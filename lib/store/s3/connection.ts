import { isIP } from 'node:net';
import { HeadBucketCommand, type S3ClientConfig, S3Client as Sdk } from '@aws-sdk/client-s3';
import { TombstonedError } from '../../domain/errors.ts';
import type { Connections } from './http.ts';

/** Where the bucket is, as the config has it; null: as the SDK's default chain says. */
export interface S3Place {
  readonly endpoint: string | null;
  readonly region: string | null;
  readonly forcePathStyle: boolean;
}

/**
 * An SDK client that makes exactly one attempt of each request and signs it with
 * this host's clock, and the host (with its port) that it asks.
 */
export async function connect(
  place: S3Place,
  bucket: string,
  connections: Connections,
): Promise<{ sdk: Sdk; host: string }> {
  if (place.endpoint !== null) checkEndpoint(place.endpoint);
  const own: S3ClientConfig = place.endpoint === null ? {} : { endpoint: place.endpoint };
  const url = await askedUrl(own, bucket);
  const region = place.region ?? (await regionOf(url.hostname, bucket));
  const isBare = isIP(url.hostname) !== 0 || url.hostname === 'localhost';
  const sdk = new Sdk({
    ...own,
    region,
    forcePathStyle: place.forcePathStyle || isBare,
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
  return { sdk, host: port === '' ? hostname : `${hostname}:${port}` };
}

/** Without one the SDK writes to this process's stderr, such as of each PUT of a stream that is refused. */
const SILENT = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
};

const AMAZON = '.amazonaws.com';

function amazon(region: string): { hostname: string; port: string } {
  return { hostname: `s3.${region}${AMAZON}`, port: '' };
}

function checkEndpoint(endpoint: string): void {
  const url = URL.canParse(endpoint) ? new URL(endpoint) : undefined;
  const isPlain =
    url !== undefined && url.search === '' && url.hash === '' && url.username + url.password === '';
  if (isPlain && /^https?:$/.test(url.protocol)) return;
  // What stands before an @ may be a secret.
  const shown = endpoint.replace(/\/\/[^/]*@/, '//…@');
  throw new TombstonedError('failed', `s3.endpoint ${shown} is no address of a server`, {
    key: 's3.endpoint',
    hint: 'write it as https://host or http://host:port',
  });
}

/** The URL the SDK would ask, whoever set the endpoint: the environment and ~/.aws may, too. */
async function askedUrl(own: S3ClientConfig, bucket: string): Promise<URL> {
  // Nothing is sent, so nobody's credentials will do.
  const credentials = { accessKeyId: 'none', secretAccessKey: 'none' };
  const probe = new Sdk({ ...own, credentials, region: 'us-east-1', forcePathStyle: true });
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
    await probe.send(new HeadBucketCommand({ Bucket: bucket }));
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
async function regionOf(hostname: string, bucket: string): Promise<string> {
  const chain = new Sdk({});
  try {
    return await chain.config.region();
  } catch (cause) {
    if (!hostname.endsWith(AMAZON)) return 'us-east-1';
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
