import { parseTombstoneId, splitPendingName } from '../../domain/ids.ts';
import type { Key } from '../../domain/key.ts';
import type { S3Api } from './api.ts';

/** Names of a first look: no slower than for one. */
const FEWEST = 16;
/** And of one after many that were of use: a page. */
const MOST = 1000;
/** How many keys are remembered. */
const REMEMBERED = 4 * MOST;

/**
 * The pending copies of a key, by listing, and those of the keys behind it: whoever
 * reads a directory that was swept asks once for many. It looks the further ahead the
 * more of it is asked for. What is remembered may be out of date by then.
 */
export class Neighbours {
  readonly #api: S3Api;
  readonly #pendingPrefix: string;
  readonly #remembered = new Map<string, string[]>();
  readonly #running = new Set<{
    readonly directory: string;
    readonly key: Key;
    readonly end: Promise<unknown>;
  }>();
  #ahead = FEWEST;
  /** Of the keys that were remembered since it was last looked: how many, and how many were asked for. */
  #seen = 0;
  #used = 0;

  constructor(api: S3Api, pendingPrefix: string) {
    this.#api = api;
    this.#pendingPrefix = pendingPrefix;
  }

  /** Ids that were seen beside others; waits for a look under way that may come by. */
  async remembered(key: Key): Promise<string[]> {
    const directory = directoryOf(key);
    const before = [...this.#running].find((look) => look.directory === directory && look.key <= key);
    if (!this.#remembered.has(key)) await before?.end;
    const ids = this.#remembered.get(key);
    if (ids === undefined) return [];
    this.#remembered.delete(key);
    this.#used += 1;
    return ids;
  }

  /** All ids of a key, as they are now, in the listing's order. */
  async list(key: Key): Promise<string[]> {
    const looking = this.#look(key);
    const look = { directory: directoryOf(key), key, end: looking.catch(() => undefined) };
    this.#running.add(look);
    try {
      return await looking;
    } finally {
      this.#running.delete(look);
    }
  }

  async #look(key: Key): Promise<string[]> {
    const own = `${this.#pendingPrefix}${key}~`;
    this.#ahead = this.#used * 2 >= this.#seen && this.#seen > 0 ? Math.min(MOST, this.#ahead * 2) : FEWEST;
    this.#seen = 0;
    this.#used = 0;
    const ids: string[] = [];
    const below = this.#pendingPrefix + directoryOf(key);
    for await (const page of this.#api.list(below, { after: own, pageSize: this.#ahead })) {
      for (const { name } of page) {
        const id = name.startsWith(own) ? name.slice(own.length) : '';
        if (parseTombstoneId(id) !== undefined) ids.push(id);
        else this.#remember(name);
      }
      // Names that begin so are together.
      if (page.at(-1)?.name.startsWith(own) !== true) break;
    }
    return ids;
  }

  #remember(name: string): void {
    const split = splitPendingName(name.slice(this.#pendingPrefix.length));
    if (split === undefined) return;
    const { key, id } = split;
    const ids = this.#remembered.get(key) ?? [];
    if (ids.includes(id)) return;
    if (ids.length === 0) this.#seen += 1;
    this.#remembered.set(key, [...ids, id]);
    const [oldest] = this.#remembered.keys();
    if (this.#remembered.size > REMEMBERED && oldest !== undefined) this.#remembered.delete(oldest);
  }
}

function directoryOf(key: Key): string {
  return key.slice(0, key.lastIndexOf('/') + 1);
}
