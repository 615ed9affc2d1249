import { TombstonedError } from '../domain/errors.ts';
import { checkPendingPrefix, readIdentity } from '../store/identity.ts';
import type { Store } from '../store/store.ts';

/** R10: "gone" is believed only of a store that still says which it is. Throws when it does not. */
export async function checkStore(store: Store, access: 'read' | 'write' = 'read'): Promise<void> {
  const identity = await readIdentity(store.control, access);
  if (identity === undefined) {
    throw new TombstonedError('failed', `${store.url} has no .tombstoned/store.json: it is no store`, {
      key: store.url,
      hint: 'is the disk mounted?',
    });
  }
  checkPendingPrefix(store, identity);
}
