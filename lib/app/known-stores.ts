import type { Catalog, StoreRow } from '../catalog/catalog.ts';
import type { StoreConfig } from '../config/config.ts';
import { messageOf, TombstonedError } from '../domain/errors.ts';
import { refreshHolds } from '../run/batch.ts';
import type { Report } from '../run/place.ts';
import { openStore } from './open-store.ts';

/** A store of the config, as the catalog knows it: enough for commands that only look. */
export interface KnownStore {
  readonly config: StoreConfig;
  readonly row: StoreRow;
}

/** The stores that the catalog knows. Throws when one of them was never initialised. */
export function knownStores(catalog: Catalog, stores: readonly StoreConfig[]): KnownStore[] {
  return stores.map((config) => {
    const row = catalog.storeByName(config.name);
    if (row !== undefined) return { config, row };
    throw new TombstonedError('config', `the catalog does not know the store ${config.name}`, {
      key: config.name,
      hint: `run \`tombstonectl init --store ${config.name}\``,
    });
  });
}

/**
 * Brings the catalog's holds up to date before they are shown. A store that
 * can't be opened is told, and the holds are shown as they were last seen.
 */
export async function refreshHoldsOf(
  catalog: Catalog,
  known: readonly KnownStore[],
  report: Report,
): Promise<void> {
  for (const { config, row } of known) {
    try {
      const store = await openStore(config, 'read');
      try {
        await refreshHolds({ store, catalog, row, report });
      } finally {
        store.close();
      }
    } catch (error) {
      report('warn', `${config.name}: holds may be out of date: ${messageOf(error)}`);
    }
  }
}
