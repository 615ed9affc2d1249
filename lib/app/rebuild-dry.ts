import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Catalog } from '../catalog/catalog.ts';
import type { Config, StoreConfig } from '../config/config.ts';
import { openPlace } from './open.ts';
import { type RebuildOptions, type RebuildResult, rebuild } from './rebuild.ts';
import type { Surroundings } from './surroundings.ts';
import { lookAtOwner, type TakeOverOptions } from './take-over.ts';

/**
 * What a rebuild would add. Where there is no catalog, or it does not know the store, it is
 * compared with an empty one, which goes again.
 */
export async function rebuildDry(
  config: Config,
  storeConfig: StoreConfig,
  surroundings: Surroundings,
  options: Omit<TakeOverOptions, 'holdReason'> & Omit<RebuildOptions, 'dryRun'>,
): Promise<RebuildResult> {
  const { identity } = await lookAtOwner(config, storeConfig, surroundings, {
    ...options,
    holdReason: 'rebuilt',
  });
  const compare = async (catalog: Catalog): Promise<RebuildResult> => {
    const place = await openPlace(catalog, storeConfig, surroundings);
    try {
      return await rebuild(place, { ...options, dryRun: true });
    } finally {
      place.store.close();
    }
  };
  if (Catalog.exists(config.catalog)) {
    const catalog = Catalog.open(config.catalog, { clockTolerance: config.clockTolerance });
    try {
      if (catalog.storeByName(storeConfig.name) !== undefined) return await compare(catalog);
    } finally {
      catalog.close();
    }
  }
  const directory = mkdtempSync(path.join(tmpdir(), 'tombstoned-'));
  try {
    const catalog = Catalog.create(path.join(directory, 'catalog.db'), 'none', surroundings.clock.now());
    try {
      const { name, url } = storeConfig;
      catalog.addStore({ name, url, uuid: identity.uuid, pendingPrefix: identity.pendingPrefix });
      return await compare(catalog);
    } finally {
      catalog.close();
    }
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}
