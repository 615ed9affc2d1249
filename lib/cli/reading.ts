import { openReader, readerOf } from '../app/reading.ts';
import { readEnvironment } from '../config/environment.ts';
import { printable } from '../domain/key.ts';
import type { Reader, RefusedName } from '../reader/reader.ts';
import type { Call } from './command.ts';
import { usageError } from './fail.ts';

/** The URL that a call names, by `--url` or, where nothing else names a store, `$TOMBSTONED_URL`. */
export function urlOf({ options }: Call): string | undefined {
  const { url, config, store } = options;
  const isNamed = config !== undefined || store !== undefined;
  if (url === undefined) return isNamed ? undefined : readEnvironment().url;
  if (isNamed) throw usageError('--url names a store without --config and --store', 'leave one of them out');
  return url;
}

/** Opens the store that a call is about, for reading. What listings leave out is told. */
export async function openedReader(call: Call): Promise<Reader> {
  const onRefusal = ({ path, why }: RefusedName): void =>
    call.out.talk(`${printable(path)} is no object: ${why}`);
  const url = urlOf(call);
  if (url !== undefined) return openReader({ url, onRefusal });
  // A config takes YAML and its schema to load: only where one is needed.
  const { configPath, loadConfig } = await import('../config/load.ts');
  const { oneStore } = await import('./store-choice.ts');
  const { config, store } = call.options;
  return readerOf(oneStore(loadConfig(configPath(config)), store), onRefusal);
}
