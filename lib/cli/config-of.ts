import type { Config } from '../config/config.ts';
import { configPath, loadConfig } from '../config/load.ts';
import { warnings } from '../config/warnings.ts';
import type { Call } from './command.ts';
import { usageError } from './fail.ts';

/** The config that a call names; what may surprise in it is told. */
export function configOf(call: Call): Config {
  const config = quietConfigOf(call);
  const { out } = call;
  if (!out.isJson) for (const line of warnings(config)) out.talk(`warning: ${config.file}: ${line}`);
  return config;
}

/** The same for who tells those warnings otherwise. */
export function quietConfigOf({ options }: Call): Config {
  if (options.url === undefined) return loadConfig(configPath(options.config));
  throw usageError('this command needs a config and takes no --url', 'name the store with --store NAME');
}
