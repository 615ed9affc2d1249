import { existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import type { Config, StoreConfig } from '../config/config.ts';
import { CONFIG_DEFAULTS } from '../config/defaults.ts';
import { configPath, loadConfig, selectStores } from '../config/load.ts';
import { sampleConfig } from '../config/sample.ts';
import { NAME, storeConfigFromUrl } from '../config/store-url.ts';
import { errnoOf, messageOf, TombstonedError } from '../domain/errors.ts';
import { quote } from '../domain/key.ts';
import type { StoreFormat } from '../domain/store-format.ts';
import { usageError } from './fail.ts';

/** What `init` is asked for. */
export interface InitRequest {
  readonly config: string | undefined;
  readonly url: string | undefined;
  /** A store's name. */
  readonly store: string | undefined;
  /** Where a new config puts the catalog. */
  readonly catalog: string | undefined;
}

/** A config with the store that is to be made known. */
export interface Chosen {
  readonly config: Config;
  readonly store: StoreConfig;
  /** Whether the config's file was made just now, or would be. */
  readonly configIs: 'created' | 'exists';
  /** Takes back a config that was made just now. */
  undo(): void;
  /** Says in a config that was made just now what the store holds; null where it is not ours to write. */
  readonly declare: ((format: StoreFormat) => void) | null;
}

/**
 * Finds the store of `init` in the config, or makes a config with it where there
 * is none. An existing config is never changed. In a dry run nothing is written.
 */
export function chooseForInit(request: InitRequest, { dryRun }: { dryRun: boolean }): Chosen {
  const file = configPath(request.config);
  if (request.url !== undefined && !existsSync(file)) return make(file, request.url, request, dryRun);
  if (request.catalog !== undefined) {
    throw usageError(
      `--catalog is for a new config, and ${file} exists`,
      'change `catalog` there, before the first init',
    );
  }
  const config = loadConfig(file);
  const store =
    request.url === undefined ? byName(config, request.store) : byUrl(config, request.url, request.store);
  return { config, store, configIs: 'exists', undo: () => undefined, declare: null };
}

function byName(config: Config, name: string | undefined): StoreConfig {
  const [store, other] = selectStores(config, name);
  if (store !== undefined && other === undefined) return store;
  const names = config.stores.map((one) => one.name).join(', ');
  throw usageError('init makes one store known', `add --store NAME: ${names}`);
}

function byUrl(config: Config, url: string, name: string | undefined): StoreConfig {
  const wanted = storeConfigFromUrl(url);
  const place = JSON.stringify(wanted.location);
  const store = config.stores.find(({ location }) => JSON.stringify(location) === place);
  if (store === undefined) {
    throw new TombstonedError('config', `${config.file} has no store at ${url}, and is not changed`, {
      key: config.file,
      hint: `add to its stores: - { name: ${name ?? wanted.name}, url: ${JSON.stringify(url)} }`,
    });
  }
  if (name === undefined || name === store.name) return store;
  throw usageError(
    `the store at ${url} is called ${store.name} in ${config.file}`,
    'leave --store out, or say that name',
    name,
  );
}

function make(file: string, url: string, request: InitRequest, dryRun: boolean): Chosen {
  const asked = storeConfigFromUrl(url);
  const name = request.store ?? asked.name;
  if (!NAME.test(name)) {
    throw usageError(
      `--store ${quote(name)} can't name a store`,
      'small letters, digits, ".", "_" and "-", such as mainnet',
      name,
    );
  }
  const catalog = path.resolve(request.catalog ?? CONFIG_DEFAULTS.catalog);
  if (dryRun) {
    const store = { ...asked, name };
    const config = { ...CONFIG_DEFAULTS, file, catalog, stores: [store] };
    return { config, store, configIs: 'created', undo: () => undefined, declare: () => undefined };
  }
  write(file, sampleConfig({ url, name, catalog }), 'wx');
  const undo = (): void => rmSync(file, { force: true });
  try {
    const config = loadConfig(file);
    const declare = (format: StoreFormat): void =>
      write(file, sampleConfig({ url, name, catalog, format }), 'r+');
    return { config, store: byName(config, name), configIs: 'created', undo, declare };
  } catch (error) {
    undo();
    throw error;
  }
}

/** `r+`: over a text of ours that is as long, so that no crash leaves half of one. */
function write(file: string, text: string, flag: 'wx' | 'r+'): void {
  try {
    mkdirSync(path.dirname(file), { recursive: true });
    writeFileSync(file, text, { flag, mode: 0o644 });
  } catch (error) {
    const mayNot = ['EACCES', 'EPERM', 'EROFS'].includes(errnoOf(error) ?? '');
    throw new TombstonedError('failed', `the config ${file} can't be written: ${messageOf(error)}`, {
      key: file,
      hint: mayNot ? 'run as root, or say where with --config FILE' : 'say where with --config FILE',
      cause: error,
    });
  }
}
