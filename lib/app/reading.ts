import { storeConfigFromUrl } from '../config/store-url.ts';
import { Reader } from '../reader/reader.ts';
import { openForReading } from './open.ts';

/**
 * Opens a store for reading through both prefixes, by its URL; needs neither
 * config nor catalog. Throws `usage` for a text that is no store's URL, and
 * `failed` when there is no store.
 */
export async function openReader(options: { url: string }): Promise<Reader> {
  return new Reader(await openForReading(storeConfigFromUrl(options.url)));
}
