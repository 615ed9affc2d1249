import type { Key } from '../domain/key.ts';
import type { Store } from '../store/store.ts';
import { fileLines } from './lines.ts';
import { type LiveFiles, readPendingRemains } from './live-files.ts';

/** Whether a pending copy was cut short, and live files have all that is left of it. */
export async function isLiveAgain(store: Store, live: LiveFiles, key: Key, id: string): Promise<boolean> {
  const remains = await readPendingRemains(store, key, id).catch(() => undefined); // why is told already
  if (remains === undefined) return false;
  const { lost } = live.index.standIns(fileLines(key, remains.lines), () => true);
  if (lost !== undefined) return false;
  if (remains.rest.length === 0) return true;
  for (const line of live.index.lines())
    if (Buffer.from(line).subarray(0, remains.rest.length).equals(remains.rest)) return true;
  return false;
}
