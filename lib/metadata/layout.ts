import type { Store } from '../store/store.ts';
import { METADATA_PREFIX } from './names.ts';

/** How many objects below `metadata/` are looked at for names that the tools give. */
const SAMPLE = 2000;
const TOOL_NAME = /^metadata\/(?:epoch_ending|state_snapshot|transaction)_[\w-]+\.meta$/;

/** Whether a key is one that the backup tools of Aptos-family nodes give to a metadata file. */
export function isToolName(key: string): boolean {
  return TOOL_NAME.test(key);
}

/** A key by which a store looks like a backup of an Aptos-family node, of the first below `metadata/`; or undefined. */
export async function aptosKeyIn(store: Store, signal?: AbortSignal): Promise<string | undefined> {
  let seen = 0;
  for await (const page of store.list(METADATA_PREFIX, signal)) {
    for (const item of page) if (item.type === 'object' && isToolName(item.key)) return item.key;
    seen += page.length;
    if (seen >= SAMPLE) return undefined;
  }
  return undefined;
}

/** What is to be said of a store that is configured as plain, and has such a key. */
export const PLAIN_LAYOUT = {
  text: 'it looks like a backup of an Aptos-family node, and its format is plain: nothing looks whether what a policy takes is needed to restore',
  remedy: 'set format: aptos in the config (docs/aptos.md)',
} as const;
