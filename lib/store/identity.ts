import { TombstonedError } from '../domain/errors.ts';
import { CONTROL_SEGMENT, keyProblem } from '../domain/key.ts';
import { isInteger, line, parseObject } from './control-json.ts';
import type { ControlSpace, Store } from './store.ts';

/** The layout this program writes, and reads (design, section 3). */
const LAYOUT = 1;

export const IDENTITY_NAME = 'store.json';

export interface StoreIdentity {
  readonly uuid: string;
  readonly pendingPrefix: string;
  readonly createdAt: string;
}

/** Reads `store.json`; undefined where there is none. Throws when it can't be relied on. */
export async function readIdentity(
  control: ControlSpace,
  access: 'read' | 'write',
): Promise<StoreIdentity | undefined> {
  const body = await control.read(IDENTITY_NAME);
  if (body === undefined) return undefined;
  const json = parseObject(body);
  const where = `${CONTROL_SEGMENT}/${IDENTITY_NAME}`;
  const { uuid, layout, minReader, pendingPrefix, createdAt } = json ?? {};
  if (
    typeof uuid !== 'string' ||
    !isInteger(layout) ||
    !isInteger(minReader) ||
    typeof pendingPrefix !== 'string' ||
    !pendingPrefix.endsWith('/') ||
    keyProblem(`${pendingPrefix}x`) !== undefined ||
    typeof createdAt !== 'string'
  ) {
    throw new TombstonedError('failed', `${where} is not readable as a store's identity`, {
      key: where,
      hint: 'bring the file back from a backup; nothing is touched until then',
    });
  }
  const needed = access === 'read' ? minReader : layout;
  if (needed > LAYOUT) {
    throw new TombstonedError(
      'failed',
      `the store has layout ${needed}, and this program ${access === 'read' ? 'reads' : 'writes'} up to ${LAYOUT}`,
      { key: where, hint: 'use the newer tombstoned that made the store' },
    );
  }
  return { uuid, pendingPrefix, createdAt };
}

/** Makes `store.json`; `exists` when another was first. */
export async function createIdentity(
  control: ControlSpace,
  identity: StoreIdentity,
): Promise<'created' | 'exists'> {
  const { uuid, pendingPrefix, createdAt } = identity;
  return control.create(
    IDENTITY_NAME,
    line({ uuid, layout: LAYOUT, minReader: LAYOUT, pendingPrefix, createdAt }),
  );
}

/**
 * R10: reads `store.json` and throws unless it is the store expected. Called
 * before each batch, and before "gone" is believed of anything.
 */
export async function checkIdentity(store: Store, uuid: string): Promise<void> {
  const identity = await readIdentity(store.control, 'write');
  if (identity === undefined) {
    throw new TombstonedError(
      'failed',
      `${store.url} has no ${CONTROL_SEGMENT}/${IDENTITY_NAME}: not our store`,
      {
        key: store.url,
        hint: 'is the disk mounted? A new store is made known by `tombstonectl init`',
      },
    );
  }
  if (identity.uuid !== uuid) {
    throw new TombstonedError(
      'failed',
      `${store.url} is store ${identity.uuid}, and the catalog knows it as ${uuid}`,
      {
        key: store.url,
        hint: 'mount the right disk, or give the store its own name and `tombstonectl init`',
      },
    );
  }
  checkPendingPrefix(store, identity);
}

/** Throws when the config's pending prefix is not the store's. */
export function checkPendingPrefix(store: Store, identity: StoreIdentity): void {
  if (identity.pendingPrefix === store.pendingPrefix) return;
  throw new TombstonedError(
    'config',
    `${store.url} keeps pending copies below ${JSON.stringify(identity.pendingPrefix)}, and the config says ${JSON.stringify(store.pendingPrefix)}`,
    { key: store.url, hint: `set pendingPrefix: ${identity.pendingPrefix}` },
  );
}
