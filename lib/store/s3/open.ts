import { hostname } from 'node:os';
import type { Clock } from '../../domain/clock.ts';
import { CONTROL_SEGMENT } from '../../domain/key.ts';
import { IDENTITY_NAME } from '../identity.ts';
import type { Capabilities, S3Api } from './api.ts';
import { S3Client } from './client.ts';
import { ControlObjects } from './control-objects.ts';
import { once } from './once.ts';
import { probe, probePutIfAbsent, probePutIfMatch } from './probe.ts';
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
  const probed = new Probed(api, clock);
  const capabilities = async (versioning?: Capabilities['versioning']) => probed.all(versioning);
  function conditions(name: 'putIfAbsent'): Promise<Pick<Capabilities, 'putIfAbsent'>>;
  function conditions(name: 'putIfMatch'): Promise<Pick<Capabilities, 'putIfMatch'>>;
  async function conditions(name: 'putIfAbsent' | 'putIfMatch') {
    return name === 'putIfAbsent' ? probed.putIfAbsent() : probed.putIfMatch();
  }
  return new S3Store({
    api,
    control: new ControlObjects({ api, capabilities: conditions, clock }),
    capabilities,
    write: async () => conditions('putIfAbsent'),
    pendingPrefix,
    clock,
    concurrency: place.throttle.concurrency,
    isHere: isThisHost(place.endpoint),
    isPaced: place.throttle.bytesPerSecond !== null,
    ...(settle === undefined ? {} : { settle }),
    ...(place.versions === undefined ? {} : { versions: place.versions }),
  });
}

/** What a store honours, each asked once, and when it has to be known: a probe is many requests. */
class Probed {
  readonly #api: S3Api;
  readonly #clock: Clock;
  readonly putIfAbsent: () => Promise<Pick<Capabilities, 'putIfAbsent'>>;
  readonly putIfMatch: () => Promise<Pick<Capabilities, 'putIfMatch'>>;
  #all: (() => Promise<Capabilities>) | undefined;

  constructor(api: S3Api, clock: Clock) {
    this.#api = api;
    this.#clock = clock;
    const putIfAbsent = once(async () => ({ putIfAbsent: await probePutIfAbsent(api, clock) }));
    const putIfMatch = once(async () => ({ putIfMatch: await probePutIfMatch(api, clock) }));
    this.putIfAbsent = async () => (this.#all ?? putIfAbsent)();
    this.putIfMatch = async () => (this.#all ?? putIfMatch)();
  }

  /** All of it, as it is with this versioning. */
  async all(versioning?: Capabilities['versioning']): Promise<Capabilities> {
    const known = await (this.#all ??= this.#once())();
    if (versioning === undefined || versioning === known.versioning) return known;
    this.#all = this.#once();
    return this.#all();
  }

  #once(): () => Promise<Capabilities> {
    return once(async () => probe(this.#api, this.#clock));
  }
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
