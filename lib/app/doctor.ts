import { messageOf, TombstonedError } from '../domain/errors.ts';
import { LocalStore } from '../store/local/local-store.ts';
import { checkOwner } from '../store/owner.ts';
import type { Store } from '../store/store.ts';
import type { OpenPlace } from './open.ts';

/** What was examined, and how it stands. */
export interface Finding {
  readonly check: string;
  readonly level: 'ok' | 'warn' | 'fail';
  readonly text: string;
  /** What to do about it, or null. */
  readonly remedy: string | null;
}

/** Examines an open store, whose identity is known to be right: changes nothing but scratch names of its own. */
export async function* examine({ store, catalog }: OpenPlace): AsyncGenerator<Finding> {
  yield ok('identity', `${store.url} is the store that the catalog knows`);
  yield await examined('owner', async () => {
    await checkOwner(store, catalog.uuid);
    return 'this catalog owns it';
  });
  yield await examined('writable', async () => {
    await store.checkWritable();
    if (store instanceof LocalStore) await store.checkLinks();
    return store instanceof LocalStore
      ? 'objects can be moved here, and linked back'
      : 'objects can be written here';
  });
  try {
    for (const { text, isOpen } of (await store.guards?.()) ?? []) {
      yield {
        check: 'guards',
        level: isOpen ? 'warn' : 'ok',
        text,
        remedy: isOpen ? 'see docs/s3.md' : null,
      };
    }
  } catch (error) {
    yield failed('guards', error);
  }
  yield* examinedSpace(store);
}

/** Whether a purge frees space; nothing is said of a store where it always does. */
async function* examinedSpace(store: Store): AsyncGenerator<Finding> {
  if (store.hidesRemoved === undefined) return;
  try {
    yield (await store.hidesRemoved())
      ? {
          check: 'space',
          level: 'warn',
          text: 'purges free no space: the bucket keeps old versions, and s3.versions is keep',
          remedy: 'give the bucket a lifecycle rule for noncurrent versions, or set s3.versions: purge',
        }
      : ok('space', 'purges free space');
  } catch (error) {
    yield failed('space', error);
  }
}

async function examined(check: string, work: () => Promise<string>): Promise<Finding> {
  try {
    return ok(check, await work());
  } catch (error) {
    return failed(check, error);
  }
}

function ok(check: string, text: string): Finding {
  return { check, level: 'ok', text, remedy: null };
}

function failed(check: string, error: unknown): Finding {
  if (!(error instanceof TombstonedError)) throw error;
  return { check, level: 'fail', text: messageOf(error), remedy: error.hint ?? null };
}
