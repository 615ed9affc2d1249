import type { Config } from '../config/config.ts';
import { configPath, loadConfig } from '../config/load.ts';
import { warnings } from '../config/warnings.ts';
import type { Call } from './command.ts';
import { usageError } from './fail.ts';

/** The config that a call names; what may surprise in it is told. */
export function configOf({ options, out }: Call): Config {
  if (options.url !== undefined) {
    throw usageError('this command needs a config and takes no --url', 'name the store with --store NAME');
  }
  const config = loadConfig(configPath(options.config));
  if (!out.isJson) for (const line of warnings(config)) out.talk(`warning: ${config.file}: ${line}`);
  return config;
}
