import { becomeOwnerOf } from '../app/become-owner.ts';
import { type OpenPlace, openCatalog, openPlace } from '../app/open.ts';
import { realSurroundings } from '../app/surroundings.ts';
import type { Catalog } from '../catalog/catalog.ts';
import type { Config, StoreConfig } from '../config/config.ts';
import { Failures, type Problem } from './failures.ts';
import type { Output } from './output.ts';

/** Opens the config's catalog, as its owner, for as long as `work` takes. */
export async function withCatalog<T>(
  config: Config,
  work: (catalog: Catalog) => Promise<T>,
  options: { mayUseReserve?: boolean } = {},
): Promise<T> {
  becomeOwnerOf(config.catalog);
  const catalog = openCatalog(config, options);
  try {
    return await work(catalog);
  } finally {
    catalog.close();
  }
}

/** Opens one store for as long as `work` takes. */
export async function withPlace<T>(
  catalog: Catalog,
  store: StoreConfig,
  out: Output,
  work: (place: OpenPlace) => Promise<T>,
): Promise<T> {
  const place = await openPlace(catalog, store, realSurroundings(out.report));
  try {
    return await work(place);
  } finally {
    place.store.close();
  }
}

/**
 * Does something in each store, one after the other, past the failure of one.
 * `work` gives what went wrong without stopping it. Gives the worst exit code.
 */
export async function inEachPlace(
  opened: { catalog: Catalog; stores: readonly StoreConfig[]; out: Output; signal: AbortSignal },
  work: (place: OpenPlace) => Promise<readonly Problem[]>,
): Promise<number> {
  const { catalog, stores, out, signal } = opened;
  const failures = new Failures(out);
  for (const store of stores) {
    if (signal.aborted) break;
    try {
      const problems = await withPlace(catalog, store, out, work);
      for (const { error, isTold } of problems) failures.add(error, isTold);
    } catch (error) {
      if (error !== signal.reason || !signal.aborted) failures.add(error);
    }
  }
  return failures.end();
}
