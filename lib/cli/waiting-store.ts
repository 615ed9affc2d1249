import type { Catalog } from '../catalog/catalog.ts';
import type { Config, StoreConfig } from '../config/config.ts';
import { selectStores } from '../config/load.ts';
import { TombstonedError } from '../domain/errors.ts';
import { isPlainId } from '../domain/ids.ts';
import type { Call } from './command.ts';
import { usageError } from './fail.ts';

/** The one sweep's id that a command takes. */
export function onlySweepId(call: Call, command: string): string {
  const [id, more] = call.operands;
  const hint = 'tombstonectl sweeps shows what waits';
  if (id === undefined) throw usageError(`${command} needs the id of a sweep that waits`, hint);
  if (more !== undefined) throw usageError(`${command} takes one id`, hint, more);
  if (!isPlainId(id, 's')) throw usageError(`${JSON.stringify(id)} is no sweep's id`, hint, id);
  return id;
}

/** The store that a sweep is of; with `--store`, that one must be it. */
export function storeOfSweep(
  catalog: Catalog,
  config: Config,
  name: string | undefined,
  id: string,
): StoreConfig {
  const sweep = catalog.sweeps.get(id);
  if (sweep === undefined) {
    throw new TombstonedError('not-found', `there is no sweep ${id}`, {
      key: id,
      hint: 'see tombstonectl sweeps',
    });
  }
  const store = selectStores(config, name).find((one) => one.name === sweep.store);
  if (store !== undefined) return store;
  throw usageError(`sweep ${id} is of the store ${sweep.store}`, `add --store ${sweep.store}`, id);
}
