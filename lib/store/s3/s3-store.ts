import type { Clock } from '../../domain/clock.ts';
import { TombstonedError } from '../../domain/errors.ts';
import { isCopyOf, parseTombstoneId, pendingName, splitPendingName } from '../../domain/ids.ts';
import { inFlight } from '../../domain/in-flight.ts';
import { asKey, CONTROL_SEGMENT, isBelowPrefix, type Key, printable } from '../../domain/key.ts';
import { revisionHash, type S3Revision } from '../../domain/revision.ts';
import { IDENTITY_NAME } from '../identity.ts';
import type {
  ControlSpace,
  GuardLine,
  Hidden,
  HiddenOutcome,
  Listed,
  ListedPending,
  LiveObject,
  MoveItem,
  MoveOutcome,
  NewObject,
  OpenObject,
  PendingCopy,
  Pulse,
  PutBackItem,
  PutBackOutcome,
  RemoveItem,
  RemoveOutcome,
  Store,
  Stray,
} from '../store.ts';
import type { Capabilities, Got, Head, ListedVersion, S3Api } from './api.ts';
import { LateRequests } from './late.ts';
import { Mover } from './mover.ts';
import { isControlName, isNestedStore, nameProblem, refusalOf } from './names.ts';
import { Neighbours } from './neighbours.ts';
import { oneAhead } from './one-ahead.ts';
import { describe, statusOf } from './probe.ts';
import { PutterBack } from './putter-back.ts';
import { REMOVED_AT_ONCE, Remover } from './remover.ts';
import { ResumingBody } from './resuming-body.ts';
import { revisionOf, wholeSeconds } from './revisions.ts';
import { isCopyRemoved, removalOfHidden } from './version-removal.ts';
import { versionsOf } from './versions.ts';

/** After every name below a prefix. */
const LAST = '\u{10FFFF}';

/**
 * How long a request of a process that died may still take effect: it was signed
 * up to 15 min ahead of the store's time, and is taken for 15 min after that. ms.
 */
const DEAD_MS = 31 * 60_000;
const NOT_IMPLEMENTED = 501;
/** How many objects of a batch each request in flight has: some seconds' worth, where bytes are not bounded. */
const REQUESTS = 16;

/** A bucket and prefix as a store: a move is a copy and a delete (R2, R3). */
export class S3Store implements Store {
  readonly url: string;
  readonly pendingPrefix: string;
  readonly settle: number;
  readonly control: ControlSpace;
  readonly batch: number;
  readonly removalBatch = REMOVED_AT_ONCE;
  readonly late: NonNullable<Store['late']>;
  readonly #api: S3Api;
  readonly #clock: Clock;
  readonly #capabilities: (versioning?: Capabilities['versioning']) => Promise<Capabilities>;
  readonly #write: () => Promise<unknown>;
  readonly #concurrency: number;
  readonly #neighbours: Neighbours;
  readonly #versions: 'keep' | 'purge';

  constructor(options: {
    api: S3Api;
    control: ControlSpace;
    /** Probed when it is first asked for, and again where the bucket's versioning has changed since. */
    capabilities: (versioning?: Capabilities['versioning']) => Promise<Capabilities>;
    /** Writes something and removes it, where that was not done before; unless given, all is probed. */
    write?: () => Promise<unknown>;
    pendingPrefix: string;
    clock: Clock;
    /** How many requests are in flight. */
    concurrency: number;
    /** Whether this host serves it. */
    isHere?: boolean;
    /** Whether bytes are bounded: then others wait for a batch as long as that takes. */
    isPaced?: boolean;
    settle?: number;
    /** What a purge does with old versions; unless set it keeps them. */
    versions?: 'keep' | 'purge';
  }) {
    this.#api = options.api;
    this.control = options.control;
    this.#capabilities = options.capabilities;
    this.#write = options.write ?? (async () => options.capabilities());
    this.url = options.api.url;
    this.pendingPrefix = options.pendingPrefix;
    this.#clock = options.clock;
    this.#concurrency = options.concurrency;
    this.#neighbours = new Neighbours(options.api, options.pendingPrefix);
    this.batch = options.concurrency * (options.isPaced === true ? 1 : REQUESTS);
    this.settle = options.settle ?? 0;
    this.#versions = options.versions ?? 'keep';
    const { isHere = false } = options;
    this.late = { for: DEAD_MS, time: async () => this.#time(), isQuiet: () => this.#isQuiet(), isHere };
  }

  close(): void {
    this.#api.close();
  }

  async *list(prefix: string, signal?: AbortSignal): AsyncGenerator<Listed[]> {
    if (isBelowPrefix(prefix, this.pendingPrefix)) return;
    for await (const page of oneAhead(this.#liveNames(prefix, signal))) {
      const listed: Listed[] = [];
      for (const item of page) {
        const { name } = item;
        if (isNestedStore(name)) throw nestedStore(this.url, name);
        if (isControlName(name)) continue;
        const key = asKey(name);
        if (key === undefined) {
          listed.push({ type: 'refused', path: name, why: nameProblem(name) ?? 'it can be no key' });
        } else listed.push(this.#liveObject(key, item));
      }
      yield listed;
    }
  }

  /** Names below a prefix, without those below the pending one, which are stepped over. */
  async *#liveNames(prefix: string, signal: AbortSignal | undefined) {
    const { pendingPrefix } = this;
    const stop = signal === undefined ? {} : { signal };
    let isCut = false;
    for await (const page of this.#api.list(prefix, stop)) {
      const cut = page.findIndex(({ name }) => isBelowPrefix(name, pendingPrefix));
      yield cut < 0 ? page : page.slice(0, cut);
      if (cut < 0) continue;
      isCut = true;
      break;
    }
    if (!isCut) return;
    for await (const page of this.#api.list(prefix, { ...stop, after: pendingPrefix + LAST }))
      yield page.filter(({ name }) => !isBelowPrefix(name, pendingPrefix));
  }

  #liveObject(key: Key, seen: Omit<Head, 'versionId' | 'isArchived' | 'md5'>): LiveObject {
    const { size, storageClass } = seen;
    return {
      type: 'object',
      key,
      revision: revisionOf(seen),
      size,
      modifiedAt: wholeSeconds(seen.modifiedAt),
      refusal: refusalOf(this.#api.prefix + this.pendingPrefix, key, storageClass),
    };
  }

  async *listPending(prefix: string, signal?: AbortSignal): AsyncGenerator<ListedPending[]> {
    const { pendingPrefix } = this;
    const stop = signal === undefined ? {} : { signal };
    for await (const page of oneAhead(this.#api.list(pendingPrefix + prefix, stop))) {
      const listed: ListedPending[] = [];
      for (const item of page) {
        if (isControlName(item.name)) continue;
        const split = splitPendingName(item.name.slice(pendingPrefix.length));
        listed.push(
          split === undefined
            ? { type: 'refused', path: item.name, why: 'its name has no id' }
            : {
                type: 'pending',
                ...split,
                copy: { revision: revisionOf(item), size: item.size },
                since: item.modifiedAt,
              },
        );
      }
      yield listed;
    }
  }

  async head(key: Key): Promise<LiveObject | undefined> {
    if (this.#isPendingName(key)) return undefined;
    const head = await this.#api.head(key);
    return head === undefined ? undefined : this.#liveObject(key, head);
  }

  async openLive(key: Key): Promise<OpenObject | undefined> {
    if (this.#isPendingName(key)) return undefined;
    const got = await this.#api.get(key);
    return got === undefined ? undefined : this.#opened(key, key, got);
  }

  async openPending(key: Key, id: string): Promise<OpenObject | undefined> {
    const name = pendingName(this.pendingPrefix, key, id);
    const got = await this.#api.get(name);
    return got === undefined ? undefined : this.#opened(key, name, got);
  }

  #opened(key: Key, name: string, got: Got): OpenObject {
    const { etag, size, md5 } = got;
    const revision = revisionOf(got);
    let isTaken = false;
    return {
      revision,
      size,
      ...(md5 === undefined ? {} : { md5 }),
      read: () => {
        isTaken = true;
        return new ResumingBody({
          first: got.body,
          size,
          clock: this.#clock,
          rest: async (from) => {
            const same = await this.#api.get(name, { from, ifMatch: etag });
            return same?.body ?? (name === key ? this.#restOfCopy(key, revision, from) : undefined);
          },
          changed: () => changed(name),
        });
      },
      close: () => {
        if (isTaken) return;
        isTaken = true;
        got.body.on('error', () => undefined); // nobody wants it
        got.body.destroy();
      },
    };
  }

  /** The rest of a live object that was moved while it was read. */
  async #restOfCopy(key: Key, revision: S3Revision, from: number) {
    const hash = revisionHash(revision);
    for (const id of await this.pendingIds(key)) {
      if (parseTombstoneId(id)?.revisionHash !== hash) continue;
      const name = pendingName(this.pendingPrefix, key, id);
      const head = await this.#api.head(name);
      if (head === undefined || !isCopyOf(id, revisionOf(head), revision)) continue;
      const copy = await this.#api.get(name, { from, ifMatch: head.etag });
      if (copy !== undefined) return copy.body;
    }
    return undefined;
  }

  async headPending(key: Key, id: string): Promise<PendingCopy | undefined> {
    const head = await this.#api.head(pendingName(this.pendingPrefix, key, id));
    if (head === undefined) return undefined;
    return { revision: revisionOf(head), size: head.size, md5: head.md5 ?? null };
  }

  async pendingIds(key: Key): Promise<string[]> {
    return (await this.#neighbours.list(key)).toSorted().toReversed();
  }

  async rememberedIds(key: Key): Promise<string[]> {
    return this.#neighbours.remembered(key);
  }

  /** Whether a key is below the pending prefix: nothing there is ever live. */
  #isPendingName(key: Key): boolean {
    return isBelowPrefix(key, this.pendingPrefix);
  }

  async move(
    batch: readonly MoveItem[],
    { resume, pulse }: { resume: boolean; pulse?: Pulse },
  ): Promise<MoveOutcome[]> {
    const mover = new Mover({ ...(await this.#workings()), resume, pulse: pulse ?? undefined });
    return this.#each(batch, pulse, mover, async (item) =>
      this.#isPendingName(item.key) ? refused(item.key, this.pendingPrefix) : mover.move(item),
    );
  }

  async strayFiles(): Promise<Stray[]> {
    return []; // a bucket has no directories
  }

  async adoptStray(): Promise<MoveOutcome> {
    throw new TypeError('a bucket has no stray files');
  }

  async create(batch: readonly NewObject[]): Promise<('created' | 'exists')[]> {
    const { putIfAbsent } = await this.#capabilities();
    return inFlight(this.#concurrency, batch, async ({ key, body }) => {
      if (this.#isPendingName(key)) throw refused(key, this.pendingPrefix).error;
      if (putIfAbsent) return this.#createOne(key, Buffer.from(body));
      const why = 'this store can replace what comes to the key meanwhile, without a word';
      throw new TombstonedError('failed', `${printable(key)} is not written: ${why}`, {
        key,
        hint: 'see tombstonectl doctor: it honours no If-None-Match',
      });
    });
  }

  async #createOne(key: Key, body: Buffer): Promise<'created' | 'exists'> {
    // Nothing waits for one that is late: where something is by then it does nothing.
    return new LateRequests({ api: this.#api, clock: this.#clock }, undefined).known<'created' | 'exists'>(
      async () => {
        const put = await this.#api.put(key, body, { ifAbsent: true });
        return typeof put === 'object' ? 'created' : 'exists';
      },
      async () => {
        const found = await this.openLive(key);
        if (found === undefined) return 'not-yet';
        const isOurs = found.size === body.length && (await bytesOf(found)).equals(body);
        if (!isOurs) found.close();
        return { result: isOurs ? 'created' : 'exists', isProof: true };
      },
    );
  }

  async putBack(batch: readonly PutBackItem[]): Promise<PutBackOutcome[]> {
    const putter = new PutterBack(await this.#workings());
    const outcomes: PutBackOutcome[] = [];
    // One after the other for one key: the first that is named has it.
    const keys = new Set(batch.map(({ to }) => to));
    const isOnce = keys.size === batch.length;
    const one = async (item: PutBackItem): Promise<PutBackOutcome> =>
      this.#isPendingName(item.to) ? refused(item.to, this.pendingPrefix) : putter.putBack(item);
    if (isOnce) return this.#each(batch, undefined, putter, one);
    for (const item of batch) outcomes.push(...(await this.#each([item], undefined, putter, one)));
    return outcomes;
  }

  async isRemoved(key: Key, id: string): Promise<boolean> {
    const name = pendingName(this.pendingPrefix, key, id);
    return (await this.#removesVersions())
      ? isCopyRemoved(await versionsOf(this.#api, name))
      : (await this.#api.head(name)) === undefined;
  }

  /** Whether a purge removes versions: where there can be any. */
  async #removesVersions(allVersions = false): Promise<boolean> {
    return (allVersions || this.#versions === 'purge') && (await this.#versioning()) !== 'off';
  }

  async hidden(key: Key): Promise<Hidden[]> {
    if ((await this.#versioning()) === 'off') return [];
    const found: Hidden[] = [];
    const add = (id: string | null, versions: readonly ListedVersion[]): void => {
      if (versions[0]?.isMarker !== true) return;
      const { ids, count, bytes, left } = removalOfHidden(versions);
      if (ids.length > 0 || left !== null) found.push({ key, id, versionIds: ids, count, bytes, left });
    };
    add(null, await versionsOf(this.#api, key));
    const copies = new Map<string, ListedVersion[]>();
    for await (const page of this.#api.listVersions(`${this.pendingPrefix}${key}~`)) {
      for (const version of page) {
        const split = splitPendingName(version.name.slice(this.pendingPrefix.length));
        if (split?.key !== key) continue;
        const ofCopy = copies.get(split.id);
        if (ofCopy === undefined) copies.set(split.id, [version]);
        else ofCopy.push(version);
      }
    }
    for (const [id, versions] of copies) add(id, versions);
    return found;
  }

  async removeHidden(
    batch: readonly Hidden[],
    { pulse }: { pulse?: Pulse | undefined } = {},
  ): Promise<HiddenOutcome[]> {
    return this.#remover(pulse, true).removeHidden(batch);
  }

  async hidesRemoved(): Promise<boolean> {
    return this.#versions === 'keep' && (await this.#versioning()) !== 'off';
  }

  async remove(
    batch: readonly RemoveItem[],
    { pulse, allVersions }: { pulse?: Pulse | undefined; allVersions?: boolean | undefined } = {},
  ): Promise<RemoveOutcome[]> {
    return this.#remover(pulse, await this.#removesVersions(allVersions)).remove(batch);
  }

  #remover(pulse: Pulse | undefined, byVersions: boolean): Remover {
    return new Remover({
      api: this.#api,
      clock: this.#clock,
      pendingPrefix: this.pendingPrefix,
      concurrency: this.#concurrency,
      pulse,
      byVersions,
    });
  }

  async guards(): Promise<GuardLine[]> {
    const lines = describe(await this.#capabilities(), this.#versions);
    return lines.map((text) => ({ text: text.replace('WARNING: ', ''), isOpen: text.includes('WARNING: ') }));
  }

  #isQuiet(): boolean {
    const { unansweredUntil, lastDate } = this.#api;
    return unansweredUntil === undefined || (lastDate !== undefined && lastDate.date > unansweredUntil);
  }

  async #time(): Promise<number> {
    await this.#api.head(`${CONTROL_SEGMENT}/${IDENTITY_NAME}`);
    const date = this.#api.lastDate?.date;
    if (date !== undefined) return date;
    throw new TombstonedError('failed', `${this.url} does not say what time it is (no Date in its answer)`, {
      key: this.url,
      hint: 'nothing can be recovered or purged here without it',
    });
  }

  async checkWritable(): Promise<void> {
    await this.#write();
  }

  async #workings() {
    const capabilities = await this.#capabilities(await this.#versioning());
    return {
      api: this.#api,
      clock: this.#clock,
      pendingPrefix: this.pendingPrefix,
      capabilities,
    };
  }

  /** It may have been switched on or off since: read before each batch (R3). */
  async #versioning(): Promise<Capabilities['versioning']> {
    return this.#api.versioning().catch((error: unknown) => {
      if (statusOf(error) === NOT_IMPLEMENTED) return 'off' as const; // this store knows no versions
      throw error;
    });
  }

  /**
   * Does something to each of a batch, some at a time; their outcomes in its order.
   * What is thrown for one is thrown when none is under way any more, and, where a
   * request may still take effect, when none can (R5).
   */
  async #each<Item, Outcome>(
    batch: readonly Item[],
    pulse: Pulse | undefined,
    worker: { outlast(): Promise<void> },
    act: (item: Item) => Promise<Outcome>,
  ): Promise<Outcome[]> {
    try {
      return await inFlight(this.#concurrency, batch, async (item) => {
        await pulse?.();
        return act(item);
      });
    } finally {
      await worker.outlast();
    }
  }
}

function refused(key: Key, pendingPrefix: string): { outcome: 'failed'; error: Error } {
  const error = new TombstonedError('failed', `${printable(key)} is below ${pendingPrefix}`, {
    key,
    hint: 'only pending copies are there; name a live key',
  });
  return { outcome: 'failed', error };
}

function changed(name: string): TombstonedError {
  return new TombstonedError('failed', `${printable(name)} was changed while it was read`, {
    key: name,
    hint: 'read it again',
  });
}

async function bytesOf(object: OpenObject): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of object.read()) chunks.push(Buffer.from(chunk));
  return Buffer.concat(chunks);
}

function nestedStore(url: string, name: string): TombstonedError {
  return new TombstonedError('config', `${url} has another store in it: ${printable(name)}`, {
    key: name,
    hint: 'give the stores prefixes that do not overlap, or remove that file if it is no store',
  });
}
