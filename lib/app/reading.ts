import type { StoreConfig } from '../config/config.ts';
import { storeConfigFromUrl } from '../config/store-url.ts';
import { systemClock } from '../domain/clock.ts';
import { BorrowedLease } from '../reader/borrowed-lease.ts';
import { Reader, type RefusedName } from '../reader/reader.ts';
import { openForReading } from './open-store.ts';

/**
 * Opens a store for reading through both prefixes, by its URL; needs neither
 * config nor catalog. `onRefusal` is told what listings leave out because it is
 * no object. Throws `usage` for a text that is no store's URL, and `failed` when
 * there is no store.
 */
export async function openReader(options: {
  url: string;
  onRefusal?: (refused: RefusedName) => void;
}): Promise<Reader> {
  return readerOf(storeConfigFromUrl(options.url), options.onRefusal);
}

/** The same, by a store's config; perhaps under a lease of `with-lease`, by its id. */
export async function readerOf(
  storeConfig: StoreConfig,
  onRefusal?: (refused: RefusedName) => void,
  borrowed?: string,
): Promise<Reader> {
  const clock = systemClock;
  const store = await openForReading(storeConfig, clock);
  try {
    const lease = borrowed === undefined ? undefined : await BorrowedLease.take(store, clock, borrowed);
    return new Reader(store, { onRefusal, clock, lease });
  } catch (error) {
    store.close();
    throw error;
  }
}
