import type { StoreConfig } from '../config/config.ts';
import { quietSdk } from '../config/environment.ts';
import { type Clock, systemClock } from '../domain/clock.ts';
import { TombstonedError } from '../domain/errors.ts';
import { readIdentity } from '../store/identity.ts';
import { LocalStore } from '../store/local/local-store.ts';
import type { S3Place } from '../store/s3/open.ts';
import type { Store } from '../store/store.ts';

/** Is told each request to a store in S3: S3's name of it, and how it ended. */
export type OnRequest = (operation: string, outcome: string) => void;

/** Opens a store as its config says, without a look at whose it is. */
export async function openStore(
  storeConfig: StoreConfig,
  access: 'read' | 'write',
  clock: Clock = systemClock,
  onRequest?: OnRequest,
): Promise<Store> {
  const { location, pendingPrefix } = storeConfig;
  const settle = storeConfig.settle === 'auto' ? undefined : storeConfig.settle;
  if (location.kind === 's3') {
    const { openS3Store } = await loadS3();
    return openS3Store(s3PlaceOf(storeConfig, location), {
      pendingPrefix,
      clock,
      settle,
      onRequest,
    });
  }
  return LocalStore.open({ path: location.directory, pendingPrefix, access, clock, settle });
}

/** Throws `config` when a store would be inside another one of the same bucket. */
export async function refuseParentInBucket(storeConfig: StoreConfig, clock: Clock): Promise<void> {
  const { location, url } = storeConfig;
  if (location.kind !== 's3') return;
  const { storeAbove } = await loadS3();
  const above = await storeAbove(s3PlaceOf(storeConfig, location), clock);
  if (above === undefined) return;
  throw new TombstonedError('config', `${url} is inside the store ${above}`, {
    key: url,
    hint: 'use that store with a policy on the prefix, or move one out of the other',
  });
}

/** Loaded when it is needed: the SDK takes long. */
async function loadS3() {
  quietSdk();
  return import('../store/s3/open.ts');
}

function s3PlaceOf(
  { url, s3: { endpoint, region, forcePathStyle, versions }, throttle }: StoreConfig,
  { bucket, prefix }: { bucket: string; prefix: string },
): S3Place {
  return { url, bucket, prefix, endpoint, region, forcePathStyle, throttle, versions };
}

/** Opens a store for reading by itself: its own `store.json` says where pending copies are. */
export async function openForReading(storeConfig: StoreConfig, clock: Clock = systemClock): Promise<Store> {
  return openByItself(storeConfig, 'read', clock);
}

/** The same for those who claim something there: throws where this program may write nothing. */
export async function openForClaims(storeConfig: StoreConfig, clock: Clock = systemClock): Promise<Store> {
  return openByItself(storeConfig, 'write', clock);
}

async function openByItself(
  storeConfig: StoreConfig,
  access: 'read' | 'write',
  clock: Clock,
): Promise<Store> {
  const store = await openStore(storeConfig, 'read', clock);
  const pendingPrefix = await pendingPrefixOf(store, access).catch((error: unknown) => {
    store.close();
    throw error;
  });
  if (pendingPrefix === store.pendingPrefix) return store;
  store.close();
  return openStore({ ...storeConfig, pendingPrefix }, 'read', clock);
}

async function pendingPrefixOf(store: Store, access: 'read' | 'write'): Promise<string> {
  const identity = await readIdentity(store.control, access);
  if (identity !== undefined) return identity.pendingPrefix;
  throw new TombstonedError('failed', `${store.url} has no .tombstoned/store.json: it is no store`, {
    key: store.url,
    hint: 'is the disk mounted? A new store is made known by `tombstonectl init`',
  });
}
