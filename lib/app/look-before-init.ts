import { randomUUID } from 'node:crypto';
import { Catalog } from '../catalog/catalog.ts';
import type { Config, StoreConfig } from '../config/config.ts';
import { aptosKeyIn } from '../metadata/layout.ts';
import { readIdentity } from '../store/identity.ts';
import { checkOwner, readOwner } from '../store/owner.ts';
import type { InitResult } from './init.ts';
import { openStore } from './open-store.ts';

/** What `initStore` would find and make; makes nothing. Throws `blocked` where a new catalog would be refused. */
export async function lookBeforeInit(
  config: Pick<Config, 'catalog'>,
  storeConfig: StoreConfig,
): Promise<Omit<InitResult, 'uuid'> & { readonly uuid: string | null }> {
  const store = await openStore(storeConfig, 'read');
  try {
    const identity = await readIdentity(store.control, 'write');
    const owner = await readOwner(store.control);
    const isMade = Catalog.exists(config.catalog);
    if (owner !== 'nobody' && !isMade) await checkOwner(store, randomUUID()); // as a new catalog would be refused
    return {
      uuid: identity?.uuid ?? null,
      identity: identity === undefined ? 'created' : 'exists',
      owner: owner === 'nobody' ? 'created' : 'exists',
      catalog: isMade ? 'exists' : 'created',
      looksLike: (await aptosKeyIn(store)) === undefined ? 'plain' : 'aptos',
    };
  } finally {
    store.close();
  }
}
