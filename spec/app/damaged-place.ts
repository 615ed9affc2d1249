import { mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { Difference, Repair } from '../../lib/app/verify/difference.ts';
import { type VerifyOptions, type VerifyResult, verify } from '../../lib/app/verify/verify.ts';
import { Catalog } from '../../lib/catalog/catalog.ts';
import type { Place } from '../../lib/run/place.ts';
import { createIdentity } from '../../lib/store/identity.ts';
import { createOwner } from '../../lib/store/owner.ts';
import type { Capabilities } from '../../lib/store/s3/api.ts';
import { ControlObjects } from '../../lib/store/s3/control-objects.ts';
import { probe } from '../../lib/store/s3/probe.ts';
import { S3Store } from '../../lib/store/s3/s3-store.ts';
import { MemoryS3 } from '../s3/memory-api.ts';
import { FAST, filesBelow } from '../support/phases.ts';
import { ACTOR, DAY, DrivenClock, seeded, TempPlace } from '../support/place.ts';

export const PENDING = 'pending_deletion/';

/** A store and its catalog, with somebody who changes things behind its back. Names are below the store's root. */
export interface DamagedPlace {
  readonly place: Place;
  readonly clock: DrivenClock;
  /** Makes a live object that is older than a day; no two have one revision. */
  make(key: string): Promise<void>;
  write(name: string, content: string): Promise<void>;
  drop(name: string): Promise<void>;
  rename(from: string, to: string): Promise<void>;
  /** Everything but control objects. */
  contents(): Promise<Map<string, string>>;
  remove(): void;
}

export async function localPlace(): Promise<DamagedPlace> {
  const temp = await TempPlace.make(FAST);
  const file = (name: string): string => path.join(temp.root, name);
  let made = 0;
  const write = (name: string, content: string): void => {
    mkdirSync(path.dirname(file(name)), { recursive: true });
    writeFileSync(file(name), content);
  };
  return {
    place: temp.open(),
    clock: temp.clock,
    make: async (key) => temp.write(key, `content of ${key}`, 3 * DAY - ++made * 1000),
    write: async (name, content) => write(name, content),
    drop: async (name) => rmSync(file(name)),
    rename: async (from, to) => {
      mkdirSync(path.dirname(file(to)), { recursive: true });
      renameSync(file(from), file(to));
    },
    contents: async () => {
      const names = filesBelow(temp.root).filter((name) => !name.startsWith('.tombstoned/'));
      return new Map(names.map((name) => [name, readFileSync(file(name), 'utf8')]));
    },
    remove: () => temp.remove(),
  };
}

/** The same with a bucket in memory. */
export interface BucketInMemory extends DamagedPlace {
  readonly api: MemoryS3;
}

export async function memoryPlace(): Promise<BucketInMemory> {
  const directory = mkdtempSync(path.join(tmpdir(), 'tombstoned-'));
  const clock = new DrivenClock();
  const api = new MemoryS3({ clock, pageSize: 5 });
  let probed: Promise<Capabilities> | undefined;
  const capabilities = async (): Promise<Capabilities> => (probed ??= probe(api, clock));
  const control = new ControlObjects({ api, capabilities, clock });
  const store = new S3Store({ api, control, capabilities, pendingPrefix: PENDING, clock, concurrency: 8 });
  const catalog = Catalog.create(path.join(directory, 'catalog.db'), 'the-catalog', clock.now());
  const identity = { uuid: 'the-store', pendingPrefix: PENDING, createdAt: '2026-11-22T10:00:00.000Z' };
  await createIdentity(control, identity);
  await createOwner(control, { catalog: catalog.uuid, host: 'here', since: identity.createdAt });
  const row = catalog.addStore({ name: 'spec', uuid: identity.uuid, url: api.url, pendingPrefix: PENDING });
  const place: Place = {
    store,
    catalog,
    row,
    format: 'plain',
    safetyWindow: 7 * DAY,
    clock,
    random: seeded(7),
    actor: ACTOR,
    report: () => undefined,
  };
  const contentOf = (name: string): string => api.peek(name)?.body.toString() ?? '';
  return {
    place,
    clock,
    api,
    make: async (key) => {
      clock.advance(-3 * DAY);
      await api.put(key, `content of ${key}`);
      clock.advance(3 * DAY);
    },
    write: async (name, content) => void (await api.put(name, content)),
    drop: async (name) => void (await api.delete(name)),
    rename: async (from, to) => {
      await api.put(to, contentOf(from));
      await api.delete(from);
    },
    contents: async () => {
      const names = api.names().filter((name) => !name.startsWith('.tombstoned/'));
      return new Map(names.map((name) => [name, contentOf(name)]));
    },
    remove: () => {
      store.close();
      catalog.close();
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

export interface Verified extends VerifyResult {
  readonly told: readonly (Difference & { readonly repair: Repair })[];
  /** `problem key`, or what has none its id; sorted. */
  readonly problems: readonly string[];
}

export async function verified(place: Place, options: Partial<VerifyOptions> = {}): Promise<Verified> {
  const told: (Difference & { repair: Repair })[] = [];
  const result = await verify(place, {
    prefix: null,
    checksums: false,
    after: null,
    repair: 'no',
    tolerance: 5 * 60_000,
    isFirst: true,
    onDifference: (difference, repair) => told.push({ ...difference, repair }),
    ...options,
  });
  const problems = told.map(({ problem, key, id }) => `${problem} ${key ?? id}`).toSorted();
  return { ...result, told, problems };
}
