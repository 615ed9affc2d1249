import { readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import type { BaseIssue } from 'valibot';
import { errnoOf, messageOf, TombstonedError } from '../domain/errors.ts';
import { printable, quote } from '../domain/key.ts';
import type { Config, StoreConfig } from './config.ts';
import { contradictionIn } from './contradictions.ts';
import { readEnvironment } from './environment.ts';
import { checkConfig } from './schema.ts';
import { parseYaml } from './yaml.ts';

const DEFAULT_FILE = '/etc/tombstoned/tombstoned.yaml';

/** No config is near this; a log or an image given by mistake is. */
const MAX_BYTES = 1024 * 1024;

/**
 * Reads and checks a config file and applies the defaults. Throws `config` with
 * one line: the file, the member's path, what was expected and what is there.
 */
export function loadConfig(file: string): Config {
  const absolute = path.resolve(file);
  const checked = checkConfig(parse(absolute, readText(absolute)));
  if ('problem' in checked) throw refused(absolute, `${pathText(checked.path)}${checked.problem}`);
  const contradiction = contradictionIn(checked.config);
  if (contradiction !== undefined) throw refused(absolute, contradiction);
  return { file: absolute, ...checked.config };
}

/** The config's file, absolute: `--config`, else `$TOMBSTONED_CONFIG`, else the one in /etc. */
export function configPath(flag: string | undefined): string {
  if (flag === '') throw new TombstonedError('usage', '--config names no file');
  return path.resolve(flag ?? readEnvironment().configFile ?? DEFAULT_FILE);
}

/** The store of that name, or all; a `usage` error with the names there are when there is none. */
export function selectStores(config: Config, name: string | undefined): readonly StoreConfig[] {
  if (name === undefined) return config.stores;
  const store = config.stores.find((one) => one.name === name);
  if (store !== undefined) return [store];
  const names = config.stores.map((one) => one.name).join(', ');
  throw new TombstonedError('usage', `${printable(config.file)} has no store ${quote(name)}`, {
    key: name,
    hint: `its stores are: ${names}`,
  });
}

function readText(file: string): string {
  try {
    const stat = statSync(file);
    if (stat.isDirectory()) throw refused(file, 'is a directory, not a file', 'name the file in it');
    if (!stat.isFile()) throw refused(file, 'is no regular file');
    if (stat.size > MAX_BYTES) throw refused(file, `is no config: it has ${stat.size} bytes, over 1 MiB`);
    return new TextDecoder('utf-8', { fatal: true }).decode(readFileSync(file));
  } catch (error) {
    if (error instanceof TombstonedError) throw error;
    throw unreadable(file, error);
  }
}

function unreadable(file: string, cause: unknown): TombstonedError {
  switch (errnoOf(cause) ?? '') {
    case 'ENOENT':
    case 'ENOTDIR':
      return refused(file, 'there is no such file', 'make one with `tombstonectl init URL`', cause);
    case 'EACCES':
    case 'EPERM':
      return refused(file, 'may not be read by this user', "run as the catalog's owner, or as root", cause);
    case 'ERR_ENCODING_INVALID_ENCODED_DATA':
      return refused(file, 'is not valid UTF-8', undefined, cause);
    default:
      return refused(file, `cannot be read: ${printable(messageOf(cause))}`, undefined, cause);
  }
}

function parse(file: string, text: string): unknown {
  const parsed = parseYaml(text);
  if ('problem' in parsed) throw refused(file, parsed.problem);
  if (parsed.value !== null) return parsed.value;
  throw refused(file, 'holds no config: it is empty', 'make one with `tombstonectl init URL`');
}

function refused(file: string, problem: string, hint?: string, cause?: unknown): TombstonedError {
  return new TombstonedError('config', `${printable(file)}: ${problem}`, { key: file, hint, cause });
}

/** `stores[0].policies[1].olderThan: `, or nothing for the config as a whole. */
function pathText(items: BaseIssue<unknown>['path']): string {
  const text = (items ?? [])
    .map(({ key }) =>
      typeof key === 'number'
        ? `[${key}]`
        : /^[\w-]+$/.test(String(key))
          ? `.${String(key)}`
          : `[${quote(String(key))}]`,
    )
    .join('')
    .replace(/^\./, '');
  return text === '' ? '' : `${text}: `;
}
