import { isIP } from 'node:net';
import { defaultProvider } from '@aws-sdk/credential-provider-node';
import {
  loadConfig,
  NODE_REGION_CONFIG_FILE_OPTIONS,
  NODE_REGION_CONFIG_OPTIONS,
  NODE_USE_DUALSTACK_ENDPOINT_CONFIG_OPTIONS,
  NODE_USE_FIPS_ENDPOINT_CONFIG_OPTIONS,
} from '@smithy/core/config';
import { TombstonedError } from '../../domain/errors.ts';

/** Where the bucket is, as the config has it; null: as the SDK's default chain says. */
export interface S3Place {
  readonly endpoint: string | null;
  readonly region: string | null;
  readonly forcePathStyle: boolean;
}

type Credentials = ReturnType<typeof defaultProvider>;

/** Where requests go, and how they are signed. */
export interface Way {
  readonly protocol: string;
  readonly hostname: string;
  readonly port?: number;
  /** What an object's path begins with, without the slash at its end. */
  readonly root: string;
  readonly host: string;
  readonly region: string;
  readonly credentials: Credentials;
}

/** The region of servers that don't care, as other than Amazon's mostly don't. */
export const ANY_REGION = 'us-east-1';
export const AMAZON = '.amazonaws.com';

/**
 * The way to a bucket that has an endpoint of its own, and its name in the path: all that
 * decides is said, but for the region and the credentials, which are those of the SDK's
 * default chain. Undefined where the SDK has more to say than that; to load it takes longer
 * than many a command. Throws where the endpoint is none.
 */
export async function plainWay(place: S3Place, bucket: string): Promise<Way | undefined> {
  const { endpoint, forcePathStyle } = place;
  if (endpoint === null) return undefined;
  const { protocol, hostname, port, host, pathname } = endpointUrl(endpoint);
  const isPlain = /^[a-z\d][a-z\d.-]+[a-z\d]$/.test(bucket) && !bucket.includes('--') && pathname === '/';
  if (!isPlain || /\.amazonaws\.com(\.cn)?$/.test(hostname)) return undefined;
  if (!forcePathStyle && !isBareHost(hostname)) return undefined;
  if (await loadConfig(NODE_USE_FIPS_ENDPOINT_CONFIG_OPTIONS)()) return undefined;
  if (await loadConfig(NODE_USE_DUALSTACK_ENDPOINT_CONFIG_OPTIONS)()) return undefined;
  const region = place.region ?? (await regionOfChain()) ?? ANY_REGION;
  // Some names of regions mean others.
  if (!/^[a-z\d-]+$/i.test(region) || /fips|aws-global/.test(region)) return undefined;
  return {
    protocol,
    hostname,
    ...(port === '' ? {} : { port: Number(port) }),
    root: `/${bucket}`,
    host,
    region,
    credentials: defaultProvider({ parentClientConfig: { region }, logger: SILENT }),
  };
}

/** Without one the SDK writes to this process's stderr, such as of each PUT of a stream that is refused. */
export const SILENT = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
};

/** Whether a host's name can have no bucket's before it. */
export function isBareHost(hostname: string): boolean {
  return isIP(hostname.replace(/^\[(.*)\]$/, '$1')) !== 0 || hostname === 'localhost';
}

/** An endpoint of the config; throws where it is none. */
export function endpointUrl(endpoint: string): URL {
  const url = URL.canParse(endpoint) ? new URL(endpoint) : undefined;
  const isPlain =
    url !== undefined && url.search === '' && url.hash === '' && url.username + url.password === '';
  if (isPlain && /^https?:$/.test(url.protocol)) return url;
  // What stands before an @ may be a secret.
  const shown = endpoint.replace(/\/\/[^/]*@/, '//…@');
  throw new TombstonedError('failed', `s3.endpoint ${shown} is no address of a server`, {
    key: 's3.endpoint',
    hint: 'write it as https://host or http://host:port',
  });
}

/** The region of the default chain; undefined where it has none. */
async function regionOfChain(): Promise<string | undefined> {
  try {
    return await loadConfig(NODE_REGION_CONFIG_OPTIONS, NODE_REGION_CONFIG_FILE_OPTIONS)();
  } catch {
    return undefined; // it has none to give: whatever it tried has failed
  }
}
