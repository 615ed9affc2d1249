import type { Readable } from 'node:stream';
import { ScratchView, type ViewedKey } from '../catalog/scratch.ts';
import type { Clock } from '../domain/clock.ts';
import { TombstonedError } from '../domain/errors.ts';
import { isCopyOf, parseTombstoneId } from '../domain/ids.ts';
import { isBelowPrefix, type Key, keyProblem, printable, quote } from '../domain/key.ts';
import { type Revision, revisionHash, sameRevision } from '../domain/revision.ts';
import { waitForFences } from '../run/wait-for-fences.ts';
import type { Fence } from '../store/fences.ts';
import { leaseCovers } from '../store/leases.ts';
import type { OpenObject, Store } from '../store/store.ts';
import { BorrowedLease } from './borrowed-lease.ts';
import { checkStore } from './check-store.ts';
import type { HeldLease } from './held-lease.ts';
import { type HolderSurroundings, LeaseHolder, releaseAfter } from './lease-holder.ts';
import { LeasedBytes } from './leased-bytes.ts';
import { NoLease } from './no-lease.ts';
import { type Found, foundAs, type RefusedName, ROUNDS } from './reader.ts';

export type { ViewedKey } from '../catalog/scratch.ts';

export interface SessionOptions {
  /** Byte prefixes of the keys to list and read; `['']` is everything. */
  readonly prefixes: readonly string[];
  /** Of its lease: ms, whole seconds; an hour unless set. */
  readonly ttl?: number | undefined;
  /** Who holds the lease, for people; otherwise user and host. */
  readonly holder?: string | undefined;
  /** How long to wait for sweeps and purges under way, beyond `settle`. ms, a minute unless set. */
  readonly fenceTimeout?: number | undefined;
  /** Ends the opening. */
  readonly signal?: AbortSignal | undefined;
  /** Told once, when there are batches under way to wait for. */
  readonly onWait?: ((fences: readonly Fence[]) => void) | undefined;
  /** Told what the view leaves out because it is no object. */
  readonly onRefusal?: ((refused: RefusedName) => void) | undefined;
  /** The id of a lease of `with-lease` around this process, used if it covers the prefixes and keeps sweeps away. */
  readonly borrowed?: string | undefined;
  /** Takes no lease, for a store that is mounted read-only: nothing keeps sweeps and purges away, and a miss is an error all the same. */
  readonly isUnleased?: boolean | undefined;
}

export interface SessionSurroundings extends HolderSurroundings {
  /** Called when the session is closed, or could not be opened. */
  readonly onClose?: (() => void) | undefined;
}

/**
 * Opens a session (R5, R6): a lease that keeps sweeps away, a wait for the batches
 * under way, a complete listing, and then a lease that keeps purges away. Throws,
 * with no lease left behind, `blocked` when a batch is not over in time or the
 * lease is lost, and `failed` where the listing is not complete.
 */
export async function openSession(
  store: Store,
  surroundings: SessionSurroundings,
  options: SessionOptions,
): Promise<Session> {
  try {
    const prefixes = widest(options.prefixes);
    await checkStore(store, options.borrowed === undefined ? 'write' : 'read');
    const lease = await leaseFor(store, surroundings, options, prefixes);
    try {
      return await list(store, surroundings, options, prefixes, lease);
    } catch (error) {
      return await releaseAfter(lease, error);
    }
  } catch (error) {
    surroundings.onClose?.();
    throw error;
  }
}

/** What keys begin with, without those that another covers. Throws `usage` for what can't begin a key. */
function widest(prefixes: readonly string[]): string[] {
  for (const prefix of prefixes) {
    const problem = keyProblem(`${prefix}x`);
    if (problem === undefined) continue;
    throw new TombstonedError('usage', `${quote(prefix)} can't begin a key: it ${problem}`, { key: prefix });
  }
  if (prefixes.length === 0) return [''];
  const each = [...new Set(prefixes)].toSorted();
  return each.filter((one) => !each.some((other) => other !== one && isBelowPrefix(one, other)));
}

/** The lease around this process where that will do, else one of its own, in force. */
async function leaseFor(
  store: Store,
  surroundings: SessionSurroundings,
  { borrowed, isUnleased, ttl, holder, fenceTimeout, signal, onWait }: SessionOptions,
  prefixes: readonly string[],
): Promise<HeldLease> {
  const { clock } = surroundings;
  if (isUnleased === true) return new NoLease();
  if (borrowed !== undefined) {
    const around = await BorrowedLease.take(store, clock, borrowed);
    const { lease } = around;
    if (lease.blocks === 'sweep' && prefixes.every((prefix) => leaseCovers(lease, prefix))) return around;
    await around.release();
    await checkStore(store, 'write');
  }
  const lease = await LeaseHolder.acquire(store, surroundings, { prefixes, blocks: 'sweep', ttl, holder });
  try {
    const ended = signal === undefined ? lease.signal : AbortSignal.any([signal, lease.signal]);
    await waitForFences(store, prefixes, { clock, timeout: fenceTimeout, signal: ended, onWait });
    return lease;
  } catch (error) {
    return releaseAfter(lease, error);
  }
}

/** Lists under a lease that is in force. */
async function list(
  store: Store,
  surroundings: SessionSurroundings,
  { signal, onRefusal }: SessionOptions,
  prefixes: readonly string[],
  lease: HeldLease,
): Promise<Session> {
  const view = new ScratchView();
  try {
    for (const prefix of prefixes) {
      for await (const page of store.list(prefix, signal)) {
        signal?.throwIfAborted();
        lease.check();
        const keys: ViewedKey[] = [];
        for (const item of page) {
          if (item.type === 'object') keys.push(item);
          else onRefusal?.({ path: item.path, why: item.why });
        }
        view.add(keys);
      }
    }
    signal?.throwIfAborted();
    await checkStore(store);
    const size = await view.finish();
    await lease.listed();
    return new Session(store, surroundings, lease, view, size);
  } catch (error) {
    await view.close();
    throw error;
  }
}

/** One consistent view of what was live below some prefixes, readable for as long as its lease stands. */
export class Session {
  /** The lease's id. */
  readonly id: string;
  /** Aborted, with a `LeaseLost`, when the lease is lost: from then on nothing can be relied on. */
  readonly signal: AbortSignal;
  /** How many objects are in the view. */
  readonly count: number;
  /** How many bytes they are together. */
  readonly bytes: number;
  readonly #store: Store;
  readonly #clock: Clock;
  readonly #onClose: (() => void) | undefined;
  readonly #lease: HeldLease;
  readonly #view: ScratchView;
  readonly #streams = new Set<Readable>();
  #isClosed = false;
  #closing: Promise<void> | undefined;

  /** By `openSession` only. */
  constructor(
    store: Store,
    { clock, onClose }: SessionSurroundings,
    lease: HeldLease,
    view: ScratchView,
    { count, bytes }: { count: number; bytes: number },
  ) {
    this.#store = store;
    this.#clock = clock;
    this.#onClose = onClose;
    this.#lease = lease;
    this.#view = view;
    this.id = lease.id;
    this.signal = lease.signal;
    this.count = count;
    this.bytes = bytes;
    this.signal.addEventListener('abort', () => this.#endStreams(this.signal.reason), { once: true });
  }

  /** Where its objects are read by other threads: see `Store`. */
  get directory(): { readonly path: string; readonly pendingPrefix: string } | undefined {
    const { directory, pendingPrefix } = this.#store;
    return directory === undefined ? undefined : { path: directory, pendingPrefix };
  }

  /** Throws `LeaseLost` when the lease does not stand any more. */
  check(): void {
    this.#checkOpen();
    this.#lease.check();
  }

  /** Everything in the view, in pages, in key order. */
  *view(): Generator<ViewedKey[]> {
    this.#checkOpen();
    for (const page of this.#view.pages()) {
      yield page;
      this.#checkOpen();
    }
  }

  /** What the view has of a key; undefined where it was not live when it was listed. */
  find(key: Key): ViewedKey | undefined {
    this.#checkOpen();
    return this.#view.get(key);
  }

  /**
   * The newest pending copy of a key that the view does not have, for `openListed`; undefined where there is
   * none. The lease keeps it from being purged.
   */
  async findPending(key: Key): Promise<ViewedKey | undefined> {
    this.#checkOpen();
    this.#lease.check();
    for (const id of await this.#store.pendingIds(key)) {
      const copy = await this.#store.headPending(key, id);
      if (copy !== undefined) return { key, size: copy.size, revision: copy.revision };
    }
    await checkStore(this.#store);
    await this.#lease.confirm();
    return undefined;
  }

  /**
   * Opens an object of the view, live or pending, by the revision that was listed
   * (R6). Throws `incomplete`, with the key, when that is in neither place (R9),
   * `LeaseLost` when the lease is lost, and `not-found` for a key not in the view.
   */
  async open(key: Key): Promise<Found> {
    this.#checkOpen();
    const listed = this.#view.get(key);
    if (listed === undefined) {
      throw new TombstonedError('not-found', `${printable(key)} is not in the view of this session`, { key });
    }
    return this.openListed(listed);
  }

  /** Opens what a page of the view has; throws as `open` does. */
  async openListed({ key, revision }: Pick<ViewedKey, 'key' | 'revision'>): Promise<Found> {
    this.#checkOpen();
    this.#lease.check();
    const object = await this.#find(key, revision);
    try {
      this.#checkOpen();
      this.#lease.check();
    } catch (error) {
      object.close();
      throw error;
    }
    const { readAll } = object;
    return {
      ...object,
      read: () => this.#leased(object),
      readAll: readAll && (() => this.#allOf(readAll)),
    };
  }

  /** The bytes of an object of the view. Throws as `open` does; ends in an error when the lease is lost meanwhile. */
  async read(key: Key): Promise<Readable> {
    const object = await this.open(key);
    return object.read();
  }

  /** Removes the lease, and ends what is still being read. May be called again. */
  async close(): Promise<void> {
    this.#closing ??= this.#close();
    await this.#closing;
  }

  async #close(): Promise<void> {
    this.#isClosed = true;
    this.#endStreams(closed());
    try {
      await this.#lease.release();
    } finally {
      await this.#view.close();
      this.#onClose?.();
    }
  }

  async #find(key: Key, revision: Revision): Promise<Found> {
    const rounds = this.#store.settle > 0 ? ROUNDS + 1 : ROUNDS;
    let trouble: Error | undefined;
    for (let round = 1; round <= rounds; round++) {
      // What this host's caches show may be older than what others have done.
      if (round > ROUNDS) await this.#clock.sleep(this.#store.settle, this.signal);
      this.#lease.check();
      trouble = undefined;
      // Something else in its place says nothing about a pending copy.
      const live = await this.#store.openLive(key).catch((error: unknown) => {
        trouble = error instanceof Error ? error : new Error(String(error));
      });
      if (isRevision(live, revision)) return foundAs(key, live, null);
      const near = round === 1 ? await this.#findRemembered(key, revision) : undefined;
      if (near !== undefined) return near;
      for (const id of likeliestFirst(await this.#store.pendingIds(key), revision)) {
        const copy = await this.#store.openPending(key, id);
        if (isRevision(copy, revision, id)) return foundAs(key, copy, id);
      }
    }
    await checkStore(this.#store);
    await this.#lease.confirm();
    if (trouble !== undefined) throw trouble;
    throw new TombstonedError(
      'incomplete',
      `${printable(key)} can't be read as it was listed: it is neither live nor pending`,
      { key, hint: 'its writer has overwritten or removed it since; begin again for what is there now' },
    );
  }

  /** Its pending copy, if one was seen when others were looked for; that there is none says nothing. */
  async #findRemembered(key: Key, revision: Revision): Promise<Found | undefined> {
    const hash = revisionHash(revision);
    for (const id of (await this.#store.rememberedIds?.(key)) ?? []) {
      if (parseTombstoneId(id)?.revisionHash !== hash) continue;
      const copy = await this.#store.openPending(key, id);
      if (isRevision(copy, revision, id)) return foundAs(key, copy, id);
    }
    return undefined;
  }

  /** All bytes of a small object, handed out only while the lease stands. */
  #allOf(readAll: () => Buffer): Buffer {
    this.#checkOpen();
    const bytes = readAll();
    this.#lease.check();
    return bytes;
  }

  #leased(object: Found): Readable {
    this.#checkOpen();
    const stream = new LeasedBytes(object.read(), () => this.#lease.check());
    this.#streams.add(stream);
    stream.once('close', () => this.#streams.delete(stream));
    return stream;
  }

  #endStreams(error: unknown): void {
    for (const stream of this.#streams) {
      // Nobody reads it yet, or listens: whoever does later is told then.
      if (stream.readableFlowing === null) stream.on('error', () => undefined);
      stream.destroy(error instanceof Error ? error : closed());
    }
  }

  #checkOpen(): void {
    if (this.#isClosed) throw closed();
  }
}

function closed(): TombstonedError {
  return new TombstonedError('failed', 'the session was closed', { hint: 'open another' });
}

/** Whether an open object, live or a pending copy, is a revision; one that is not is closed. */
function isRevision(
  object: OpenObject | undefined | void,
  revision: Revision,
  copy?: string,
): object is OpenObject {
  if (object === undefined) return false;
  const isIt =
    copy === undefined ? sameRevision(object.revision, revision) : isCopyOf(copy, object.revision, revision);
  if (isIt) return true;
  object.close();
  return false;
}

/** Ids that say they are of this revision, then the others: a mover may have moved another than it meant. */
function likeliestFirst(ids: readonly string[], revision: Revision): string[] {
  const hash = revisionHash(revision);
  const isOf = (id: string): boolean => parseTombstoneId(id)?.revisionHash === hash;
  return [...ids.filter((id) => isOf(id)), ...ids.filter((id) => !isOf(id))];
}
