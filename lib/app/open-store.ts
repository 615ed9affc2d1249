import type { StoreConfig } from '../config/config.ts';
import { type Clock, systemClock } from '../domain/clock.ts';
import { TombstonedError } from '../domain/errors.ts';
import { readIdentity } from '../store/identity.ts';
import { LocalStore } from '../store/local/local-store.ts';
import type { Store } from '../store/store.ts';

/** Opens a store as its config says, without a look at whose it is. Throws for a kind this version lacks. */
export async function openStore(
  storeConfig: StoreConfig,
  access: 'read' | 'write',
  clock: Clock = systemClock,
): Promise<Store> {
  const { location, pendingPrefix, url } = storeConfig;
  if (location.kind === 's3') {
    throw new TombstonedError('config', `${url}: S3 stores are not supported by this version`, {
      key: url,
      hint: 'use a file:// URL',
    });
  }
  const settle = storeConfig.settle === 'auto' ? undefined : storeConfig.settle;
  return LocalStore.open({ path: location.directory, pendingPrefix, access, clock, settle });
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
