import { Catalog } from '../catalog/catalog.ts';
import type { Config, StoreConfig } from '../config/config.ts';
import { readIdentity } from '../store/identity.ts';
import { readOwner } from '../store/owner.ts';
import type { InitResult } from './init.ts';
import { openStore } from './open-store.ts';

/** What `initStore` would find and make; makes nothing. */
export async function lookBeforeInit(
  config: Pick<Config, 'catalog'>,
  storeConfig: StoreConfig,
): Promise<Omit<InitResult, 'uuid'> & { readonly uuid: string | null }> {
  const store = await openStore(storeConfig, 'read');
  try {
    const identity = await readIdentity(store.control, 'write');
    const owner = await readOwner(store.control);
    return {
      uuid: identity?.uuid ?? null,
      identity: identity === undefined ? 'created' : 'exists',
      owner: owner === 'nobody' ? 'created' : 'exists',
      catalog: Catalog.exists(config.catalog) ? 'exists' : 'created',
    };
  } finally {
    store.close();
  }
}
