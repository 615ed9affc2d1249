import { mkdtempSync, rmSync } from 'node:fs';
import path from 'node:path';
import { buffer } from 'node:stream/consumers';
import { Catalog } from '../../lib/catalog/catalog.ts';
import { purge } from '../../lib/purge/purge.ts';
import { openSession, type Session, type ViewedKey } from '../../lib/reader/session.ts';
import type { Place } from '../../lib/run/place.ts';
import { createIdentity } from '../../lib/store/identity.ts';
import { createOwner } from '../../lib/store/owner.ts';
import type { Capabilities } from '../../lib/store/s3/api.ts';
import { ControlObjects } from '../../lib/store/s3/control-objects.ts';
import { probe } from '../../lib/store/s3/probe.ts';
import { S3Store } from '../../lib/store/s3/s3-store.ts';
import { sweep } from '../../lib/sweep/sweep.ts';
import { MemoryS3 } from '../s3/memory-api.ts';
import { HeldClock } from '../support/held-clock.ts';
import { FAST } from '../support/phases.ts';
import { ACTOR, age, DAY, NO_GUARDS, seeded } from '../support/place.ts';

const PENDING = 'pending_deletion/';
const STORE_UUID = '00000000-0000-4000-8000-000000000001';
const CATALOG_UUID = '00000000-0000-4000-8000-00000000000a';

/** How many requests each work makes. */
export type Requests = Readonly<Record<'keys' | 'fetch' | 'sweep' | 'purge', number>>;

/** A store in a bucket in memory with so many old objects, and its catalog: each request is counted. */
export class MemoryBucket implements Disposable {
  readonly #directory = mkdtempSync(path.join(FAST, 'tombstoned-counts-'));
  readonly #clock = new HeldClock();
  readonly #api: MemoryS3;
  readonly #place: Place;

  static async make(preset: 'amazon' | 'rgw', count: number): Promise<MemoryBucket> {
    const bucket = new MemoryBucket(preset);
    const { store, catalog } = bucket.#place;
    const createdAt = new Date(bucket.#clock.now()).toISOString();
    await createIdentity(store.control, { uuid: STORE_UUID, pendingPrefix: PENDING, createdAt });
    await createOwner(store.control, { catalog: catalog.uuid, host: ACTOR.host, since: createdAt });
    for (let i = 0; i < count; i++) bucket.#api.seed(`${Math.floor(i / 100)}/${i}`, `content ${i}`);
    bucket.#clock.leap(2 * DAY);
    return bucket;
  }

  private constructor(preset: 'amazon' | 'rgw') {
    const clock = this.#clock;
    const api = new MemoryS3({ preset, clock, prefix: 'some/prefix/' });
    let probed: Promise<Capabilities> | undefined;
    const capabilities = async (): Promise<Capabilities> => (probed ??= probe(api, clock));
    const control = new ControlObjects({ api, capabilities, clock });
    const store = new S3Store({ api, control, capabilities, pendingPrefix: PENDING, clock, concurrency: 16 });
    const catalog = Catalog.create(path.join(this.#directory, 'catalog.db'), CATALOG_UUID, clock.now());
    const row = catalog.addStore({ name: 'spec', uuid: STORE_UUID, url: api.url, pendingPrefix: PENDING });
    this.#api = api;
    this.#place = {
      store,
      catalog,
      row,
      format: 'plain',
      safetyWindow: 0,
      clock,
      random: seeded(7),
      actor: ACTOR,
      report: () => undefined,
    };
  }

  /** How many requests it takes to list all objects, to read them, to sweep them and to purge them. */
  async requests(): Promise<Requests> {
    const policies = [age()];
    return {
      keys: await this.#session(() => undefined),
      fetch: await this.#session(async (session, listed) => {
        await buffer((await session.openListed(listed)).read());
      }),
      sweep: await this.#counted(async () =>
        sweep(this.#place, { policies, dropIns: [], guards: NO_GUARDS, dryRun: false }),
      ),
      purge: await this.#counted(async () => purge(this.#place, { dryRun: false, historyFor: DAY })),
    };
  }

  [Symbol.dispose](): void {
    this.#place.store.close();
    this.#place.catalog.close();
    rmSync(this.#directory, { recursive: true });
  }

  /** How many requests a session makes that does something with each object of its view. */
  async #session(work: (session: Session, listed: ViewedKey) => unknown): Promise<number> {
    const { store, clock, random, actor } = this.#place;
    return this.#counted(async () => {
      const surroundings = { clock, random, actor, onClose: () => undefined };
      const session = await openSession(store, surroundings, { prefixes: [''] });
      try {
        for (const page of session.view()) for (const listed of page) await work(session, listed);
      } finally {
        await session.close();
      }
    });
  }

  async #counted(work: () => Promise<unknown>): Promise<number> {
    const before = this.#api.count();
    await work();
    return this.#api.count() - before;
  }
}
