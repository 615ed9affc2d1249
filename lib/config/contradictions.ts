import path from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { prefixesOverlap, quote } from '../domain/key.ts';
import type { Config, StoreConfig } from './config.ts';
import { APTOS_DEFAULTS } from './defaults.ts';

/** The first thing in a config that contradicts another, as `path: what`; undefined when there is none. */
export function contradictionIn({ catalog, log, stores }: Omit<Config, 'file'>): string | undefined {
  for (const [i, store] of stores.entries()) {
    const twin = stores.findIndex((other) => other.name === store.name);
    if (twin < i) return `stores[${i}].name: stores[${twin}] is called ${quote(store.name)} already`;
    const problem =
      repeatedPolicyIn(store) ??
      aptosProblem(store) ??
      plainAptosPolicyIn(store) ??
      stores
        .slice(0, i)
        .map((other) => overlapOf(store, other))
        .find((overlap) => overlap !== undefined);
    if (problem !== undefined) return `stores[${i}].${problem}`;
  }
  return (
    fileInStore('catalog', catalog, stores) ??
    fileInStore('log.file', log.file, stores) ??
    dropInProblem(stores)
  );
}

/** A file in a drop-in directory is one policy's, and no store's. */
function dropInProblem(stores: readonly StoreConfig[]): string | undefined {
  const taken = new Map<string, string>();
  for (const [i, { policies }] of stores.entries()) {
    for (const [j, policy] of policies.entries()) {
      if (policy.type !== 'drop-in') continue;
      const member = `stores[${i}].policies[${j}].directory`;
      const directory = path.resolve(policy.directory);
      const other = taken.get(directory);
      if (other !== undefined) return `${member}: is the directory of ${other} already`;
      taken.set(directory, member);
      const problem = fileInStore(member, directory, stores);
      if (problem !== undefined) return problem;
    }
  }
  return undefined;
}

/** What is said of a format holds only where the store has it. */
function aptosProblem({ format, aptos }: StoreConfig): string | undefined {
  if (format === 'aptos' || isDeepStrictEqual(aptos, APTOS_DEFAULTS)) return undefined;
  return `aptos: the store has format ${format}; this is for format aptos`;
}

function repeatedPolicyIn({ policies }: StoreConfig): string | undefined {
  for (const [i, { name }] of policies.entries()) {
    const twin = policies.findIndex((other) => other.name === name);
    if (twin < i) return `policies[${i}].name: policies[${twin}] is called ${quote(name)} already`;
  }
  return undefined;
}

/** What asks metadata needs a store that has some. */
function plainAptosPolicyIn({ format, policies }: StoreConfig): string | undefined {
  const i = policies.findIndex(({ type }) => type === 'aptos-compaction' || type === 'aptos-payload');
  const type = policies[i]?.type;
  if (type === undefined || format === 'aptos') return undefined;
  return `policies[${i}].type: ${type} is for stores with format: aptos, and this one is ${format}`;
}

/** Two stores that share an object would tombstone each other's. Compared by name: links are not followed here. */
function overlapOf(store: StoreConfig, other: StoreConfig): string | undefined {
  const [a, b] = [store.location, other.location];
  const where = `the store ${quote(other.name)} (${quote(other.url)})`;
  if (a.kind === 'local' && b.kind === 'local') {
    if (a.directory === b.directory) return `url: is the same directory as ${where}`;
    if (isWithin(a.directory, b.directory)) return `url: lies inside ${where}; stores may not overlap`;
    if (isWithin(b.directory, a.directory)) return `url: contains ${where}; stores may not overlap`;
  }
  const isSameBucket =
    a.kind === 's3' && b.kind === 's3' && a.bucket === b.bucket && store.s3.endpoint === other.s3.endpoint;
  if (!isSameBucket || !prefixesOverlap(a.prefix, b.prefix)) return undefined;
  return `url: overlaps ${where}: one prefix begins with the other`;
}

/** A sweep would take it for a backup, and purge it. */
function fileInStore(
  member: string,
  file: string | null,
  stores: readonly StoreConfig[],
): string | undefined {
  const store = file === null ? undefined : storeAround(file, stores);
  if (file === null || store === undefined) return undefined;
  return `${member}: ${quote(file)} lies inside the store ${quote(store.name)}, where a sweep could take it`;
}

/** The local store that a path lies in. */
export function storeAround(file: string, stores: readonly StoreConfig[]): StoreConfig | undefined {
  return stores.find(({ location }) => location.kind === 'local' && isWithin(file, location.directory));
}

function isWithin(file: string, directory: string): boolean {
  const relative = path.relative(directory, file);
  return relative !== '..' && !relative.startsWith('../');
}
