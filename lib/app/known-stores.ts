import type { Catalog, StoreRow } from '../catalog/catalog.ts';
import type { StoreConfig } from '../config/config.ts';
import { messageOf, TombstonedError } from '../domain/errors.ts';
import { refreshHolds } from '../run/batch.ts';
import type { Store } from '../store/store.ts';
import { openStore } from './open-store.ts';
import { claimsIn, type StoreClaims } from './standing-claims.ts';
import type { Surroundings } from './surroundings.ts';

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
 * Looks at what is claimed in the stores, before it is shown, by their names:
 * brings the catalog's holds up to date, and gives leases and fences. A store that
 * can't be opened is told, its holds are shown as they were last seen, and its
 * leases and fences are not known. `also` looks at what else somebody wants to know.
 */
export async function lookAtClaims(
  catalog: Catalog,
  known: readonly KnownStore[],
  surroundings: Pick<Surroundings, 'clock' | 'actor' | 'report'>,
  also?: (store: Store, config: StoreConfig) => Promise<void>,
): Promise<ReadonlyMap<string, StoreClaims>> {
  const { clock, actor, report } = surroundings;
  const claims = new Map<string, StoreClaims>();
  for (const { config, row } of known) {
    try {
      const store = await openStore(config, 'read');
      try {
        await refreshHolds({ store, catalog, row, report });
        claims.set(config.name, await claimsIn({ store, clock, actor, known: { catalog, row } }));
        await also?.(store, config);
      } finally {
        store.close();
      }
    } catch (error) {
      report(
        'warn',
        `${config.name}: holds may be out of date, and leases are not known: ${messageOf(error)}`,
      );
    }
  }
  return claims;
}
