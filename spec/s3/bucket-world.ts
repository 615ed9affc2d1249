import { mkdtempSync, rmSync } from 'node:fs';
import path from 'node:path';
import { PutObjectCommand } from '@aws-sdk/client-s3';
import { Catalog } from '../../lib/catalog/catalog.ts';
import type { Clock } from '../../lib/domain/clock.ts';
import type { Place } from '../../lib/run/place.ts';
import type { Capabilities } from '../../lib/store/s3/api.ts';
import { S3Client } from '../../lib/store/s3/client.ts';
import { ControlObjects } from '../../lib/store/s3/control-objects.ts';
import { S3Store } from '../../lib/store/s3/s3-store.ts';
import { Faults, Killed } from '../support/faults.ts';
import { FAST } from '../support/phases.ts';
import { ACTOR, seeded } from '../support/place.ts';
import type { Injected, S3Fault } from '../support/s3-proxy.ts';
import type { S3Request } from '../support/s3-request.ts';
import { type BucketPlace, PENDING } from './bucket-place.ts';

const STORE_UUID = '00000000-0000-4000-8000-000000000001';
const CATALOG_UUID = '00000000-0000-4000-8000-00000000000a';

/** How long a store has been there, by everybody's clocks, when it is made: longer than any case takes. ms. */
const MADE_MS = 5 * 60_000;

/** What befalls a request of a process, counted from 1; an outage befalls all after it too. */
export interface RequestFault {
  readonly at: number;
  /** Which requests are counted; all if left out. Some are sent at once, and come in either order. */
  readonly among?: (request: S3Request) => boolean;
  readonly when: 'before' | 'after';
  readonly as: 'kill' | 'error' | 'reset' | 'outage';
}

/** A simulated process: it dies at the proxy, and then neither its requests nor its catalog do anything. */
export interface BucketProcess {
  readonly place: Place;
  /** Kills it, whatever it waits for. What it does then is to be waited for before `end`. */
  die(): void;
  /** Ends it, as the kernel would; whether it was reached by its fault. */
  end(): { isStruck: boolean };
}

/**
 * One store in a bucket behind a proxy, with a catalog, and the processes that act
 * there, one after the other. Whoever sleeps is not kept waiting: the store's time
 * and everybody's clocks are put on.
 */
export class BucketWorld implements Disposable {
  readonly bucket: BucketPlace;
  readonly window: number;
  readonly clock: Clock;
  readonly #capabilities: Capabilities;
  readonly #directory = mkdtempSync(path.join(FAST, 'tombstoned-s3-'));

  /** A fresh store at a prefix of its own. */
  static async make(
    bucket: BucketPlace,
    name: string,
    options: { capabilities: Capabilities; window: number },
  ): Promise<BucketWorld> {
    const world = new BucketWorld(bucket, options);
    bucket.prefix = `${name}/`;
    bucket.proxy.dateShift = MADE_MS;
    const catalog = Catalog.create(world.#file, CATALOG_UUID, 0);
    catalog.addStore({ name: 'spec', uuid: STORE_UUID, url: bucket.url, pendingPrefix: PENDING });
    catalog.close();
    const createdAt = '2026-11-22T10:00:00.000Z';
    const identity = { uuid: STORE_UUID, layout: 1, minReader: 1, pendingPrefix: PENDING, createdAt };
    await world.#setControl('store.json', identity);
    await world.#setControl('owner.json', { catalog: CATALOG_UUID, host: 'spec-host', since: createdAt });
    return world;
  }

  private constructor(bucket: BucketPlace, options: { capabilities: Capabilities; window: number }) {
    const { proxy } = bucket;
    this.bucket = bucket;
    this.window = options.window;
    this.#capabilities = options.capabilities;
    const began = Date.now();
    this.clock = {
      now: () => began + proxy.dateShift,
      monotonic: () => proxy.dateShift,
      uptime: () => proxy.dateShift,
      sinceBoot: () => ({ boot: ACTOR.boot, ms: proxy.dateShift }),
      isSynced: async () => false,
      sleep: async (ms) => this.advance(ms),
    };
  }

  get #file(): string {
    return path.join(this.#directory, 'catalog.db');
  }

  advance(ms: number): void {
    this.bucket.proxy.dateShift += ms;
  }

  async #setControl(name: string, value: object): Promise<void> {
    const { client, prefix } = this.bucket;
    const Key = `${prefix}.tombstoned/${name}`;
    const Body = `${JSON.stringify(value)}\n`;
    await client.send(new PutObjectCommand({ Bucket: this.bucket.bucket.name, Key, Body }));
  }

  /** A process with a store of its own. What the store honours is known: it is not probed. */
  async process(seed: number, fault?: RequestFault): Promise<BucketProcess> {
    const { bucket, clock } = this;
    const faults = new Faults();
    const struck = fault === undefined ? [] : this.#inject(fault, () => faults.end());
    const dead = bucket.proxy.inject({
      match: () => faults.isDead,
      fault: { as: 'reset', when: 'before' },
      times: Infinity,
    });
    const own: Clock = {
      ...clock,
      sleep: async (ms, signal) => {
        if (faults.isDead) throw new Killed();
        await clock.sleep(ms, signal);
      },
    };
    const api = await this.#client(own);
    const capabilities = async (): Promise<Capabilities> => this.#capabilities;
    const store = new S3Store({
      api,
      control: new ControlObjects({ api, capabilities, clock: own }),
      capabilities,
      pendingPrefix: PENDING,
      clock: own,
      concurrency: 1, // the n-th request is the same each time
    });
    const catalog = Catalog.open(this.#file);
    const row = catalog.storeByName('spec');
    if (row === undefined) throw new Error('no store');
    return {
      place: {
        store,
        catalog: faults.catalog(catalog),
        row,
        format: 'plain',
        safetyWindow: this.window,
        clock: own,
        random: seeded(seed),
        actor: ACTOR,
        report: () => undefined,
      },
      die: () => {
        faults.end();
        store.close();
      },
      end: () => {
        faults.end();
        store.close();
        catalog.close();
        for (const rule of [dead, ...struck]) rule.remove();
        return { isStruck: struck.every((rule) => rule.struck > 0) };
      },
    };
  }

  async #client(clock: Clock): Promise<S3Client> {
    const { bucket } = this;
    return S3Client.open({
      bucket: bucket.bucket.name,
      prefix: bucket.prefix,
      url: bucket.url,
      config: { endpoint: bucket.endpoint, region: bucket.server.region, forcePathStyle: true },
      throttle: { requestsPerSecond: null, concurrency: 16 },
      clock,
      random: () => 0.5,
    });
  }

  #inject({ at, among = () => true, when, as }: RequestFault, kill: () => void): Injected[] {
    const { proxy } = this.bucket;
    let count = 0;
    let isIts = false;
    const counts = (request: S3Request): boolean => {
      if (among(request)) count += 1;
      isIts = as === 'outage' ? count >= at : count === at && among(request);
      return isIts;
    };
    const end: S3Fault =
      as === 'kill' || as === 'reset'
        ? { as: 'reset', when }
        : { as: 'answer', when, status: 500, code: 'InternalError' };
    const deed = async (): Promise<void> => {
      if (as === 'kill') kill();
    };
    const times = Infinity;
    return [
      proxy.inject({ match: counts, fault: { as: 'deed', when, deed }, times }),
      proxy.inject({ match: () => isIts, fault: end, times }),
    ];
  }

  /** The requests that some work makes. */
  async requestsOf(work: () => Promise<unknown>): Promise<S3Request[]> {
    const { proxy } = this.bucket;
    proxy.forget();
    await work();
    return proxy.seen.map(({ request }) => request);
  }

  [Symbol.dispose](): void {
    rmSync(this.#directory, { recursive: true, force: true });
  }
}
