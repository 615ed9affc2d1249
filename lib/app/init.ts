import { randomUUID } from 'node:crypto';
import { realpathSync, statSync } from 'node:fs';
import path from 'node:path';
import { Catalog } from '../catalog/catalog.ts';
import type { Config, StoreConfig } from '../config/config.ts';
import { TombstonedError } from '../domain/errors.ts';
import type { StoreFormat } from '../domain/store-format.ts';
import { isToolName } from '../metadata/layout.ts';
import { checkPendingPrefix, createIdentity, readIdentity } from '../store/identity.ts';
import { LocalStore } from '../store/local/local-store.ts';
import { checkOwner, createOwner, readOwner } from '../store/owner.ts';
import { openStore, refuseParentInBucket } from './open-store.ts';
import type { Surroundings } from './surroundings.ts';

/** What `init` found, and what it made. */
export interface InitResult {
  readonly uuid: string;
  readonly identity: 'created' | 'exists';
  readonly owner: 'created' | 'exists';
  readonly catalog: 'created' | 'exists';
  /** What its files look like. */
  readonly looksLike: StoreFormat;
}

/**
 * Makes a store known: its identity, a catalog that owns it. What is there stays
 * as it is. Throws when the store is inside another or holds one, or belongs to
 * another catalog.
 */
export async function initStore(
  config: Pick<Config, 'catalog'>,
  storeConfig: StoreConfig,
  surroundings: Surroundings,
): Promise<InitResult> {
  const { clock, actor } = surroundings;
  const store = await openStore(storeConfig, 'write', clock);
  try {
    if (storeConfig.location.kind === 'local') refuseParents(realpathSync(storeConfig.location.directory));
    await refuseParentInBucket(storeConfig, clock);
    // A listing goes through every directory, and throws at a store inside this one.
    let looksLike: StoreFormat = 'plain';
    for await (const page of store.list(''))
      for (const item of page) if (item.type === 'object' && isToolName(item.key)) looksLike = 'aptos';
    const now = new Date(clock.now()).toISOString();
    const known = await readIdentity(store.control, 'write');
    if (known !== undefined) checkPendingPrefix(store, known);
    const isNew = !Catalog.exists(config.catalog);
    const newUuid = randomUUID();
    const isOwned = (await readOwner(store.control)) !== 'nobody';
    if (isOwned && isNew) await checkOwner(store, newUuid); // no catalog is made for a store that is another's
    const catalog = Catalog.create(config.catalog, newUuid, clock.now());
    try {
      const row = catalog.storeByName(storeConfig.name);
      if (row !== undefined && row.uuid !== known?.uuid) {
        throw new TombstonedError(
          'failed',
          `the catalog knows ${storeConfig.name} as store ${row.uuid}, and ${store.url} is ${known === undefined ? 'none yet' : known.uuid}`,
          { key: store.url, hint: 'is the disk mounted? A different store needs a name of its own' },
        );
      }
      if (isOwned) await checkOwner(store, catalog.uuid);
      if (store instanceof LocalStore) await store.checkLinks();
      await store.control.prepare();
      const { pendingPrefix } = store;
      const identity =
        known === undefined
          ? await createIdentity(store.control, { uuid: randomUUID(), pendingPrefix, createdAt: now })
          : 'exists';
      const uuid = (await readIdentity(store.control, 'write'))?.uuid ?? '';
      const owner = await createOwner(store.control, { catalog: catalog.uuid, host: actor.host, since: now });
      await checkOwner(store, catalog.uuid);
      catalog.transaction(() => {
        const { name, url } = storeConfig;
        const added = catalog.addStore({ name, uuid, url, pendingPrefix });
        if (row !== undefined) return;
        const detail = `${name}: store ${uuid} at ${url}`;
        const event = { store: added.n, run: null, who: actor, now: clock.now(), detail };
        catalog.events.add({ ...event, what: 'store-added' });
      });
      return { uuid, identity, owner, catalog: isNew ? 'created' : 'exists', looksLike };
    } finally {
      catalog.close();
    }
  } finally {
    store.close();
  }
}

function refuseParents(directory: string): void {
  for (let above = path.dirname(directory); ; above = path.dirname(above)) {
    if (statSync(path.join(above, '.tombstoned/store.json'), { throwIfNoEntry: false }) !== undefined) {
      throw new TombstonedError('config', `${directory} is inside the store ${above}`, {
        key: directory,
        hint: 'use that store with a policy on the prefix, or move one out of the other',
      });
    }
    if (above === path.dirname(above)) return;
  }
}
