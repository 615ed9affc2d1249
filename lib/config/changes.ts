import { isDeepStrictEqual } from 'node:util';
import { formatDuration } from '../domain/quantities.ts';
import type { Config } from './config.ts';

/** Members whose values nobody needs in a log: a command may carry a token. */
const SECRET = new Set(['notify']);

const DURATIONS = new Set([
  'historyFor',
  'clockTolerance',
  'safetyWindow',
  'sweepEvery',
  'purgeEvery',
  'exemptAfterRestore',
  'minimumAge',
  'settle',
  'compactEvery',
  'removeAfter',
  'olderThan',
  'removeAfter',
]);

/** What differs between two configs, a line each: `stores.main.safetyWindow: 7d -> 3d`. Stores and policies go by name. */
export function changesOf(from: Config, to: Config): string[] {
  return differences('', listed(from), listed(to));
}

type Tree = Readonly<Record<string, unknown>>;

/** A config with its lists as mappings by name. */
function listed(config: Config): Tree {
  const stores = config.stores.map((store) => [
    store.name,
    {
      ...store,
      location: undefined,
      policies: Object.fromEntries(store.policies.map((policy) => [policy.name, policy])),
    },
  ]);
  return { ...config, stores: Object.fromEntries(stores) };
}

function differences(path: string, from: Tree, to: Tree): string[] {
  return [...new Set([...Object.keys(from), ...Object.keys(to)])].flatMap((name) => {
    const [a, b] = [from[name], to[name]];
    if (isDeepStrictEqual(a, b)) return [];
    const here = `${path}${name}`;
    if (isTree(a) && isTree(b)) return differences(`${here}.`, a, b);
    if (SECRET.has(name)) return [`${here}: changed`];
    if (a === undefined) return [`${here}: added`];
    if (b === undefined) return [`${here}: removed`];
    return [`${here}: ${shown(name, a)} -> ${shown(name, b)}`];
  });
}

function isTree(value: unknown): value is Tree {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function shown(name: string, value: unknown): string {
  if (typeof value === 'number' && DURATIONS.has(name)) return formatDuration(value);
  return typeof value === 'string' ? value : JSON.stringify(value);
}
