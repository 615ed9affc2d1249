import { Catalog } from '../catalog/catalog.ts';
import type { Config, PolicyConfig, StoreConfig } from '../config/config.ts';
import { compactionPolicy, payloadPolicy } from '../cover/policies.ts';
import { TombstonedError } from '../domain/errors.ts';
import { agePolicy } from '../policy/age.ts';
import { matcher } from '../policy/glob.ts';
import type { DropIn, Guards, Policy } from '../policy/policy.ts';
import { Pace } from '../run/pace.ts';
import type { Place } from '../run/place.ts';
import { checkIdentity, checkPendingPrefix, readIdentity } from '../store/identity.ts';
import { openStore } from './open-store.ts';
import type { Surroundings } from './surroundings.ts';

/** Opens the catalog that a config names; a purge may use the room that is kept for it. */
export function openCatalog(config: Config, options: { mayUseReserve?: boolean } = {}): Catalog {
  return Catalog.open(config.catalog, { ...options, clockTolerance: config.clockTolerance });
}

/** A place with its config. */
export interface OpenPlace extends Place {
  readonly config: StoreConfig;
}

/**
 * Opens a store that the catalog knows, and makes sure that it is the one (R10)
 * and that its pending prefix is the config's. Ownership is checked by those who act.
 */
export async function openPlace(
  catalog: Catalog,
  config: StoreConfig,
  surroundings: Surroundings,
): Promise<OpenPlace> {
  const row = catalog.storeByName(config.name);
  if (row === undefined) {
    throw new TombstonedError('config', `the catalog does not know the store ${config.name}`, {
      key: config.name,
      hint: `run \`tombstonectl init --store ${config.name}\``,
    });
  }
  const store = await openStore(config, 'write', surroundings.clock, surroundings.onRequest);
  try {
    const identity = await readIdentity(store.control, 'read');
    if (identity !== undefined) checkPendingPrefix(store, identity);
    await checkIdentity(store, row.uuid);
    // A bucket's own client bounds what it asks.
    const isLocal = config.location.kind === 'local';
    const pace = isLocal ? new Pace(config.throttle, surroundings.clock) : undefined;
    const { format, safetyWindow } = config;
    const { isProtected } = guardsOf(config);
    return { ...surroundings, store, catalog, row, format, isProtected, safetyWindow, config, pace };
  } catch (error) {
    store.close();
    throw error;
  }
}

/** The policies of a store's config that ask its listing; `only` names one. Throws `usage` when there is no such policy. */
export function policiesOf(config: StoreConfig, only?: string): Policy[] {
  return chosenOf(config, only).flatMap((settings) => {
    switch (settings.type) {
      case 'age':
        return [agePolicy(settings)];
      case 'aptos-compaction':
        return [compactionPolicy(settings)];
      case 'aptos-payload':
        return [payloadPolicy(settings)];
      case 'drop-in':
        return [];
    }
  });
}

/** Those that take requests from a directory. */
export function dropInsOf(config: StoreConfig, only?: string): DropIn[] {
  return chosenOf(config, only).filter((settings) => settings.type === 'drop-in');
}

function chosenOf(config: StoreConfig, only: string | undefined): readonly PolicyConfig[] {
  const chosen = only === undefined ? config.policies : config.policies.filter(({ name }) => name === only);
  if (only !== undefined && chosen.length === 0) {
    throw new TombstonedError('usage', `store ${config.name} has no policy ${JSON.stringify(only)}`, {
      key: only,
      hint: `it has: ${config.policies.map(({ name }) => name).join(', ') || 'none'}`,
    });
  }
  return chosen;
}

/** The guards of a store's config. */
export function guardsOf(config: StoreConfig): Guards {
  return { minimumAge: config.minimumAge, isProtected: matcher(config.protect) };
}
