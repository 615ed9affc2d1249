import { isDeepStrictEqual } from 'node:util';
import type { Config, StoreConfig } from '../config/config.ts';
import { readEnvironment } from '../config/environment.ts';
import { configPath, loadConfig, selectStores } from '../config/load.ts';
import { storeConfigFromUrl } from '../config/store-url.ts';
import { printable } from '../domain/key.ts';
import type { Call } from './command.ts';
import { usageError } from './fail.ts';

/** The one store that a call is about, of the config that it names. */
export function storeOfConfig(options: Call['options']): StoreConfig {
  return oneStore(loadConfig(configPath(options.config)), options);
}

/**
 * The one store of a config that a call is about: that of `--store`; of `$TOMBSTONED_URL`
 * where neither `--store` nor `--config` says otherwise; the only one.
 */
export function oneStore(config: Config, { store, config: file }: Call['options']): StoreConfig {
  const url = store === undefined && file === undefined ? readEnvironment().url : undefined;
  if (url !== undefined) return storeOfUrl(config, url);
  const [first, second] = selectStores(config, store);
  if (first !== undefined && second === undefined) return first;
  throw usageError(
    'the config has several stores, and this is about one',
    `add --store NAME: ${names(config)}`,
  );
}

function storeOfUrl(config: Config, url: string): StoreConfig {
  const { location } = storeConfigFromUrl(url);
  const found = config.stores.find((one) => isDeepStrictEqual(one.location, location));
  if (found !== undefined) return found;
  throw usageError(
    `$TOMBSTONED_URL is ${printable(url)}, and ${printable(config.file)} has no such store`,
    `add it there, or say which one is meant with --store NAME: ${names(config)}`,
  );
}

function names({ stores }: Config): string {
  return stores.map(({ name }) => name).join(', ');
}

/** Only those of format aptos; one that was named must be. */
export function aptosStores(
  stores: readonly StoreConfig[],
  named: string | undefined,
): readonly StoreConfig[] {
  const having = stores.filter(({ format }) => format === 'aptos');
  if (having.length > 0) return having;
  throw usageError(
    named === undefined ? 'no store has format: aptos' : `store ${named} has not format: aptos`,
    'set it in the config, if it holds a backup of an Aptos-family node',
    named,
  );
}
