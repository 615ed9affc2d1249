import type { StoreConfig } from '../config/config.ts';
import { storeConfigFromUrl } from '../config/store-url.ts';
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

/** The same, by a store's config. */
export async function readerOf(
  storeConfig: StoreConfig,
  onRefusal?: (refused: RefusedName) => void,
): Promise<Reader> {
  return new Reader(await openForReading(storeConfig), onRefusal);
}
