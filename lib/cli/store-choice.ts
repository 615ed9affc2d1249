import type { Config, StoreConfig } from '../config/config.ts';
import { selectStores } from '../config/load.ts';
import { usageError } from './fail.ts';

/** The one store that a command is about: `--store`, or the only one. */
export function oneStore(config: Config, name: string | undefined): StoreConfig {
  const [first, second] = selectStores(config, name);
  if (first !== undefined && second === undefined) return first;
  const names = config.stores.map((store) => store.name).join(', ');
  throw usageError('the config has several stores, and this is about one', `add --store NAME: ${names}`);
}
