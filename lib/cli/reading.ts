import { isDeepStrictEqual } from 'node:util';
import { readerOf } from '../app/reading.ts';
import type { StoreConfig } from '../config/config.ts';
import { readEnvironment } from '../config/environment.ts';
import { storeConfigFromUrl } from '../config/store-url.ts';
import { printable } from '../domain/key.ts';
import type { Reader, RefusedName } from '../reader/reader.ts';
import type { Session, SessionOptions } from '../reader/session.ts';
import type { Fence } from '../store/fences.ts';
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

/**
 * Opens the store that a call is about, for reading; under the lease of
 * `with-lease` around this process, if there is one. What listings leave out is told.
 */
export async function openedReader(
  call: Call,
  { isUnleased = false }: { isUnleased?: boolean } = {},
): Promise<Reader> {
  const store = await storeOf(call);
  return readerOf(store, refusalTold(call), isUnleased ? undefined : leaseAround(store));
}

/**
 * Opens a session at the store that a call is about, under the lease of
 * `with-lease` around this process if that is of this store and will do. What its
 * view leaves out is told, and that it waits.
 */
export async function openedSession(
  call: Call,
  options: Pick<SessionOptions, 'prefixes' | 'ttl' | 'fenceTimeout' | 'signal'> &
    Partial<Pick<SessionOptions, 'onRefusal' | 'isUnleased'>>,
): Promise<Session> {
  const { out } = call;
  const store = await storeOf(call);
  const { sessionOf } = await import('../app/sessions.ts'); // SQLite takes long to load: cat does without
  return sessionOf(store, {
    onRefusal: refusalTold(call),
    onWait: (fences) => out.talk(waitText(fences)),
    borrowed: leaseAround(store),
    ...options,
  });
}

/** The id of the lease of `with-lease` around this process, if that is of this store. */
function leaseAround({ location }: StoreConfig): string | undefined {
  const { lease, url } = readEnvironment();
  if (lease === undefined || url === undefined) return lease;
  return isDeepStrictEqual(storeConfigFromUrl(url).location, location) ? lease : undefined;
}

/** The store that a call is about. */
export async function storeOf(call: Call): Promise<StoreConfig> {
  const url = urlOf(call);
  if (url !== undefined) return storeConfigFromUrl(url);
  // A config takes YAML and its schema to load: only where one is needed.
  const { storeOfConfig } = await import('./store-choice.ts');
  return storeOfConfig(call.options);
}

function refusalTold({ out }: Call): (refused: RefusedName) => void {
  return ({ path, why }) => out.talk(`${printable(path)} is no object: ${why}`);
}

/** What is waited for, in words. */
export function waitText(fences: readonly Fence[]): string {
  const each = fences.map(({ name, kind, owner }) =>
    owner === null ? `fence ${name}` : `a ${kind} on ${owner.host}, pid ${owner.pid}`,
  );
  const [first, second, ...more] = new Set(each); // a process may have some
  const named = [first, second].filter((one) => one !== undefined).join(', ');
  return `waiting for what is under way: ${named}${more.length > 0 ? `, and ${more.length} more` : ''}`;
}
