import { hostname } from 'node:os';
import type { Clock } from '../../domain/clock.ts';
import { CONTROL_SEGMENT } from '../../domain/key.ts';
import { IDENTITY_NAME } from '../identity.ts';
import type { Capabilities } from './api.ts';
import { S3Client } from './client.ts';
import { ControlObjects } from './control-objects.ts';
import { probe } from './probe.ts';
import { S3Store } from './s3-store.ts';

/** Where a store in S3 is, and how to reach it. */
export interface S3Place {
  readonly url: string;
  readonly bucket: string;
  /** Empty, or ends in `/`. */
  readonly prefix: string;
  readonly endpoint: string | null;
  readonly region: string | null;
  readonly forcePathStyle: boolean;
  readonly throttle: {
    readonly requestsPerSecond: number | null;
    readonly bytesPerSecond: number | null;
    readonly concurrency: number;
  };
  /** What a purge does with old versions; unless set it keeps them. */
  readonly versions?: 'keep' | 'purge';
}

/** Opens a store in S3. Makes no request: what is wrong shows with the first. */
export async function openS3Store(
  place: S3Place,
  options: {
    pendingPrefix: string;
    clock: Clock;
    settle?: number | undefined;
    onRequest?: ((operation: string, outcome: string) => void) | undefined;
  },
): Promise<S3Store> {
  const { pendingPrefix, clock, settle, onRequest } = options;
  const api = await clientOf(place, place.prefix, clock, onRequest);
  let probing: Promise<Capabilities> | undefined;
  const probed = async (): Promise<Capabilities> => {
    const one = probe(api, clock);
    probing = one;
    one.catch(() => {
      if (probing === one) probing = undefined; // the next who asks tries again
    });
    return one;
  };
  const capabilities = async (versioning?: Capabilities['versioning']): Promise<Capabilities> => {
    const known = await (probing ?? probed());
    return versioning === undefined || versioning === known.versioning ? known : probed();
  };
  return new S3Store({
    api,
    control: new ControlObjects({ api, capabilities, clock }),
    capabilities,
    pendingPrefix,
    clock,
    concurrency: place.throttle.concurrency,
    isHere: isThisHost(place.endpoint),
    isPaced: place.throttle.bytesPerSecond !== null,
    ...(settle === undefined ? {} : { settle }),
    ...(place.versions === undefined ? {} : { versions: place.versions }),
  });
}

/** Whether an endpoint is surely on this host. */
function isThisHost(endpoint: string | null): boolean {
  if (endpoint === null) return false;
  const { hostname: name } = new URL(endpoint);
  return name === 'localhost' || name === '[::1]' || name.startsWith('127.') || name === hostname();
}

/** The prefix of a store that this one would be inside of, or undefined. */
export async function storeAbove(place: S3Place, clock: Clock): Promise<string | undefined> {
  const segments = place.prefix.split('/').slice(0, -1);
  for (let count = segments.length - 1; count >= 0; count--) {
    const prefix = segments
      .slice(0, count)
      .map((segment) => `${segment}/`)
      .join('');
    const api = await clientOf(place, prefix, clock);
    try {
      if ((await api.head(`${CONTROL_SEGMENT}/${IDENTITY_NAME}`)) !== undefined)
        return `s3://${place.bucket}/${prefix}`;
    } finally {
      api.close();
    }
  }
  return undefined;
}

async function clientOf(
  place: S3Place,
  prefix: string,
  clock: Clock,
  onRequest?: (operation: string, outcome: string) => void,
): Promise<S3Client> {
  const { url, bucket, endpoint, region, forcePathStyle, throttle } = place;
  return S3Client.open({
    bucket,
    prefix,
    url,
    config: { endpoint, region, forcePathStyle },
    throttle,
    clock,
    ...(onRequest === undefined ? {} : { onRequest }),
  });
}
