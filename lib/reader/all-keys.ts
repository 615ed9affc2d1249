import { ScratchKeys } from '../catalog/scratch.ts';
import type { ListedKey, Reader } from './reader.ts';

/**
 * Keys below a prefix, in key order: a key that is not live shows its newest
 * pending copy. Live keys are listed before pending copies (R6). Complete, or it
 * throws; memory does not grow with their number.
 */
export async function* allKeys(
  reader: Reader,
  prefix: string,
  signal?: AbortSignal,
): AsyncGenerator<ListedKey[]> {
  const scratch = new ScratchKeys();
  try {
    for await (const page of reader.liveKeys(prefix, signal)) scratch.add(page);
    for await (const page of reader.pendingKeys(prefix, signal)) scratch.add(page);
    for (const page of scratch.pages()) {
      yield page.map(
        (row) => ({ ...row, location: row.id === null ? 'live' : 'pending' }) satisfies ListedKey,
      );
    }
  } finally {
    await scratch.close();
  }
}
