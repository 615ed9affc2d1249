import type { Store } from '../store/store.ts';

/** What each process has said of a store's unclear control objects: once is enough. */
const told = new WeakMap<Store, Set<string>>();

/** Whether this was not said of this store before. */
export function isNews(store: Store, text: string): boolean {
  const said = told.get(store) ?? new Set();
  told.set(store, said);
  if (said.has(text)) return false;
  said.add(text);
  return true;
}
