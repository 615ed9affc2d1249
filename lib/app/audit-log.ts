import type { Catalog, StoreRow } from '../catalog/catalog.ts';
import type { Event } from '../catalog/events.ts';
import type { Tombstone } from '../catalog/tombstones.ts';
import { TombstonedError } from '../domain/errors.ts';
import type { Key } from '../domain/key.ts';

/** How many entries are read at once. */
const PAGE = 500;
/** How many tombstones of one key, or entries about them, are looked at. */
const MOST = 1000;

/** Which entries are asked for. */
export interface AuditFilter {
  /** The only store they may be about; undefined: any, or none. */
  readonly store: StoreRow | undefined;
  /** ms since 1970: from `since` on, before `until`. */
  readonly since: number | undefined;
  readonly until: number | undefined;
  /** What they are about: a tombstone by its id, or all of a key's. */
  readonly about: { readonly id: string } | { readonly key: Key } | undefined;
}

/** The log of a catalog, through a filter. */
export class AuditLog {
  readonly #catalog: Catalog;
  readonly #filter: AuditFilter;
  readonly #stores: readonly StoreRow[];

  /** `stores`: where a key is looked for. */
  constructor(catalog: Catalog, filter: AuditFilter, stores: readonly StoreRow[]) {
    this.#catalog = catalog;
    this.#filter = filter;
    this.#stores = stores;
  }

  /** The number of the newest entry there is. */
  head(): number {
    return this.#catalog.events.ends().head.n;
  }

  /** The newest entries up to a head, at most `limit` (0: all), in the order of their times; `onMore`: there are older ones. */
  *newest(head: number, limit: number, onMore: () => void): Generator<Event> {
    const { events } = this.#catalog;
    if (this.#filter.about !== undefined) {
      const found = this.#about(0, Infinity).filter(({ n }) => n <= head);
      if (limit > 0 && found.length > limit) onMore();
      yield* limit > 0 ? found.slice(-limit) : found;
      return;
    }
    const { since, until, store } = this.#filter;
    const filter = { since, until, store: store?.n, head };
    let after = limit === 0 ? undefined : events.placeBefore(filter, limit);
    if (after !== undefined) onMore();
    for (;;) {
      const page = events.page({ ...filter, after, limit: PAGE });
      yield* page;
      const last = page.at(-1);
      if (last === undefined || page.length < PAGE) return;
      after = last;
    }
  }

  /** What was written after an entry, in that order: a page, and where to go on. */
  following(after: number): { entries: Event[]; after: number } {
    const head = this.head();
    if (head < after) {
      throw new TombstonedError('failed', `the log ends at entry ${head}, and had entry ${after}`, {
        key: this.#catalog.file,
        hint: 'the catalog was replaced by an older one; see log --check',
      });
    }
    if (head === after) return { entries: [], after };
    if (this.#filter.about !== undefined) {
      const entries = this.#about(after, PAGE);
      const last = entries.length < PAGE ? undefined : entries.at(-1)?.n;
      return { entries: entries.filter(({ n }) => n <= head), after: Math.min(last ?? head, head) };
    }
    const found = this.#catalog.events.following(after, PAGE);
    const { store } = this.#filter;
    const entries = found.filter((entry) => store === undefined || entry.store === store.name);
    return { entries: this.#inTime(entries), after: found.at(-1)?.n ?? after };
  }

  #about(after: number, most: number): Event[] {
    const { about } = this.#filter;
    if (about === undefined) return [];
    const { tombstones, events } = this.#catalog;
    const found: Event[] = [];
    for (const store of this.#stores) {
      const own: Tombstone[] = [];
      if ('key' in about) own.push(...tombstones.ofKey(store.n, about.key, MOST));
      else {
        const one = tombstones.get(about.id);
        if (one?.store === store.name) own.push(one);
      }
      const key = 'key' in about ? about.key : null;
      for (let from = after; found.length < most; ) {
        const limit = Math.min(MOST, most);
        const page = events.about({ store: store.n, tombstones: own, key, after: from, limit });
        found.push(...page);
        const last = page.at(-1);
        if (last === undefined || page.length < limit) break;
        from = last.n;
      }
    }
    return this.#inTime(found.toSorted((a, b) => a.n - b.n)).slice(0, most);
  }

  #inTime(entries: Event[]): Event[] {
    const { since = -Infinity, until = Infinity } = this.#filter;
    return entries.filter(({ at }) => at >= since && at < until);
  }
}
