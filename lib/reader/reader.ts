import type { Readable } from 'node:stream';
import { finished } from 'node:stream/promises';
import { type Clock, systemClock } from '../domain/clock.ts';
import { TombstonedError } from '../domain/errors.ts';
import { type Key, printable } from '../domain/key.ts';
import type { OpenObject, Store } from '../store/store.ts';
import type { BorrowedLease } from './borrowed-lease.ts';
import { checkStore } from './check-store.ts';
import { LeasedBytes } from './leased-bytes.ts';

/** Where an object was found, and its bytes. */
export interface Found {
  readonly key: Key;
  readonly location: 'live' | 'pending';
  /** Of the pending copy, or null. */
  readonly id: string | null;
  /** Bytes. */
  readonly size: number;
  /** Who may read, write and execute it, as `chmod` takes it; undefined where a store knows no such thing. */
  readonly mode?: number | undefined;
  /** The bytes: read them, or `close`. Ends in an error when the object is changed meanwhile. */
  read(): Readable;
  /** All bytes at once, instead of `read`: of a small object, where a store can do that faster. */
  readAll?: (() => Buffer) | undefined;
  close(): void;
}

/** A key of a listing. */
export interface ListedKey {
  readonly key: string;
  readonly size: number;
  readonly location: 'live' | 'pending';
  readonly id: string | null;
}

/** Something in the store that is no object: a link, an odd name. */
export interface RefusedName {
  readonly path: string;
  readonly why: string;
}

export interface ReaderOptions {
  /** Told what listings leave out because it is no object. */
  readonly onRefusal?: ((refused: RefusedName) => void) | undefined;
  readonly clock?: Clock | undefined;
  /** The lease of `with-lease` around this process: nothing is handed out, or said to be missing, once it is lost. */
  readonly lease?: BorrowedLease | undefined;
}

/** A restore and a purge may pass between two looks, so a reader looks this often before it says missing (R6). */
export const ROUNDS = 3;

/** Reads a store through both prefixes: live, then pending (R6). Needs no catalog. */
export class Reader {
  readonly #store: Store;
  readonly #onRefusal: (refused: RefusedName) => void;
  readonly #clock: Clock;
  readonly #lease: BorrowedLease | undefined;

  constructor(store: Store, { onRefusal, clock = systemClock, lease }: ReaderOptions = {}) {
    this.#store = store;
    this.#onRefusal = onRefusal ?? ((): void => undefined);
    this.#clock = clock;
    this.#lease = lease;
  }

  /**
   * Opens an object: the live one, else its newest pending copy. Throws
   * `not-found`, with the key, when it is in neither place, and `failed` when
   * that can't be said for sure (R9). Under a lease, `LeaseLost` when that is lost.
   */
  async open(key: Key): Promise<Found> {
    const lease = this.#lease;
    lease?.check();
    const object = await this.#open(key);
    if (lease === undefined) return object;
    return { ...object, read: () => new LeasedBytes(object.read(), () => lease.check()), readAll: undefined };
  }

  async #open(key: Key): Promise<Found> {
    const { settle } = this.#store;
    for (let round = 1; round <= (settle > 0 ? ROUNDS + 1 : ROUNDS); round++) {
      // What this host's caches show may be older than what others have done.
      if (round > ROUNDS) await this.#clock.sleep(settle);
      const found = await openNewest(this.#store, key);
      if (found !== undefined) return foundAs(key, found.object, found.id);
    }
    await checkStore(this.#store);
    await this.#lease?.confirm();
    throw new TombstonedError('not-found', `${printable(key)} is neither live nor pending`, {
      key,
      hint: `see what the store has: tombstonectl --url ${this.#store.url} keys --no-lease`,
    });
  }

  /** Reads a whole small object. Throws as `open` does. */
  async bytes(key: Key): Promise<Buffer> {
    const chunks: Buffer[] = [];
    const object = await this.open(key);
    const stream = object.read();
    stream.on('data', (chunk: Buffer) => chunks.push(chunk));
    await finished(stream);
    return Buffer.concat(chunks);
  }

  /** Live keys below a prefix, in pages, as the store lists them: complete, or it throws. */
  async *liveKeys(prefix: string, signal?: AbortSignal): AsyncGenerator<ListedKey[]> {
    await checkStore(this.#store);
    for await (const page of this.#store.list(prefix, signal)) {
      const keys: ListedKey[] = [];
      for (const item of page) {
        if (item.type === 'object') keys.push({ key: item.key, size: item.size, location: 'live', id: null });
        else this.#onRefusal(item);
      }
      yield keys;
    }
    await checkStore(this.#store);
  }

  /** Pending copies of keys below a prefix, in pages, in no order: complete, or it throws. */
  async *pendingKeys(prefix: string, signal?: AbortSignal): AsyncGenerator<ListedKey[]> {
    for await (const page of this.#store.listPending(prefix, signal)) {
      const keys: ListedKey[] = [];
      for (const item of page) {
        if (item.type === 'pending') {
          keys.push({ key: item.key, size: item.copy.size, location: 'pending', id: item.id });
        } else this.#onRefusal(item);
      }
      yield keys;
    }
    await checkStore(this.#store);
  }

  /** Looks once more at the lease around this process, if there is one: throws `LeaseLost` when it is not in force. */
  async confirm(): Promise<void> {
    await this.#lease?.confirm();
  }

  close(): void {
    this.#lease?.stop();
    this.#store.close();
  }
}

/** The live object, else the newest pending copy (R6): one look at both places. */
async function openNewest(
  store: Store,
  key: Key,
): Promise<{ object: OpenObject; id: string | null } | undefined> {
  if (store.openNewest !== undefined) return store.openNewest(key);
  const live = await store.openLive(key);
  if (live !== undefined) return { object: live, id: null };
  for (const id of await store.pendingIds(key)) {
    const object = await store.openPending(key, id);
    if (object !== undefined) return { object, id };
  }
  return undefined;
}

/** An open object with where it was found; `id` is that of a pending copy, or null. */
export function foundAs(key: Key, object: OpenObject, id: string | null): Found {
  return {
    key,
    location: id === null ? 'live' : 'pending',
    id,
    size: object.size,
    mode: object.mode,
    read: () => object.read(),
    readAll: object.readAll?.bind(object),
    close: () => object.close(),
  };
}
