import type { StoreConfig } from '../config/config.ts';
import { storeConfigFromUrl } from '../config/store-url.ts';
import { LeaseHolder, type LeaseOptions } from '../reader/lease-holder.ts';
import { openSession as openSessionIn, type Session, type SessionOptions } from '../reader/session.ts';
import type { Store } from '../store/store.ts';
import { openForClaims, openForReading } from './open-store.ts';
import { realSurroundings } from './surroundings.ts';

/**
 * Opens a session at a store, by its URL; needs neither config nor catalog. What
 * is below its prefixes is listed as one view, and can be read as it was listed
 * until `close`, whatever sweeps and purges do. Throws `blocked` when a batch
 * under way is not over in time or the lease is lost, and `failed` when the
 * store can't be listed or no lease can be written.
 */
export async function openSession(options: SessionOptions & { readonly url: string }): Promise<Session> {
  return sessionOf(storeConfigFromUrl(options.url), options);
}

/** The same, by a store's config. */
export async function sessionOf(storeConfig: StoreConfig, options: SessionOptions): Promise<Session> {
  const { clock, random, actor } = realSurroundings(() => undefined);
  const store = await openForReading(storeConfig, clock);
  return openSessionIn(store, { clock, random, actor, onClose: () => store.close() }, options);
}

/**
 * Writes a lease at a store, by its config; `work` waits for the batches under way
 * before it relies on it. The lease is not released here.
 */
export async function withLeaseAt<T>(
  storeConfig: StoreConfig,
  options: LeaseOptions,
  work: (lease: LeaseHolder, store: Store) => Promise<T>,
): Promise<T> {
  const { clock, random, actor } = realSurroundings(() => undefined);
  const store = await openForClaims(storeConfig, clock);
  try {
    return await work(await LeaseHolder.acquire(store, { clock, random, actor }, options), store);
  } finally {
    store.close();
  }
}
