import { Readable } from 'node:stream';
import { TombstonedError } from '../../lib/domain/errors.ts';
import { pendingName, splitPendingName } from '../../lib/domain/ids.ts';
import { isBelowPrefix, type Key } from '../../lib/domain/key.ts';
import { sameRevision } from '../../lib/domain/revision.ts';
import type {
  ControlSpace,
  Listed,
  ListedPending,
  LiveObject,
  MoveItem,
  MoveOutcome,
  OpenObject,
  PendingCopy,
  Pulse,
  PutBackItem,
  PutBackOutcome,
  RemoveItem,
  RemoveOutcome,
  Store,
  Stray,
} from '../../lib/store/store.ts';
import { bytesOf, type Content, PENDING } from './contents.ts';
import type { Disk } from './disk.ts';
import type { Process } from './scheduler.ts';

/** How long a request may be under way after its sender gave up, ms. */
const LIFE_MS = 20_000;
/** When a sender gives up, ms. */
const PATIENCE_MS = 5_000;

/** Whether a move is a rename, or a copy and a guarded delete as on S3. */
export type Manner = 'local' | 's3';

/** A store in memory, as one process has it: each request is one step. */
export class MemoryStore implements Store {
  readonly url = 'memory:///';
  readonly pendingPrefix = PENDING;
  readonly settle: number;
  readonly control: ControlSpace;
  readonly #disk: Disk;
  readonly #process: Process;
  readonly #requests: Requests;
  readonly #manner: Manner;

  constructor(disk: Disk, process: Process, network: Process, options: { manner: Manner; settle: number }) {
    this.#disk = disk;
    this.#process = process;
    this.#manner = options.manner;
    this.settle = options.settle;
    this.#requests = new Requests(process, network);
    this.control = new MemoryControl(disk, process, this.#requests);
  }

  async *list(prefix: string, signal?: AbortSignal): AsyncIterable<Listed[]> {
    for (const directory of this.#disk.directories()) {
      if (!isBelowPrefix(`${directory}/`, prefix) && !prefix.startsWith(`${directory}/`)) continue;
      signal?.throwIfAborted();
      yield await this.#process.request(`list ${directory}`, () =>
        [...this.#disk.listed('live', directory, this.#process.host).values()]
          .filter((content) => typeof content !== 'string')
          .filter(({ key }) => isBelowPrefix(key, prefix))
          .toSorted((a, b) => (a.key < b.key ? -1 : 1))
          .map(liveObject),
      );
    }
  }

  async *listPending(prefix: string, signal?: AbortSignal): AsyncIterable<ListedPending[]> {
    for (const directory of this.#disk.directories()) {
      if (!isBelowPrefix(`${directory}/`, prefix) && !prefix.startsWith(`${directory}/`)) continue;
      signal?.throwIfAborted();
      yield await this.#process.request(`list pending ${directory}`, () =>
        this.#pendingIn(directory).filter(({ key }) => isBelowPrefix(key, prefix)),
      );
    }
  }

  #pendingIn(directory: string): Extract<ListedPending, { type: 'pending' }>[] {
    const all = this.#disk.listed('pending', `${PENDING}${directory}`, this.#process.host);
    return [...all].flatMap(([name, content]) => {
      const named = splitPendingName(name.slice(PENDING.length));
      if (named === undefined || typeof content === 'string') return [];
      const copy = { revision: content.revision, size: content.revision.size };
      return [{ type: 'pending', key: named.key, id: named.id, copy, since: 0 } as const];
    });
  }

  async head(key: Key): Promise<LiveObject | undefined> {
    return this.#process.request(`head ${key}`, () => {
      const content = this.#disk.live.get(key);
      return content && liveObject(content);
    });
  }

  async openLive(key: Key): Promise<OpenObject | undefined> {
    return this.#process.request(`open ${key}`, () => opened(this.#disk.live.get(key)));
  }

  async pendingIds(key: Key): Promise<string[]> {
    return this.#process.request(`pending ids of ${key}`, () =>
      this.#pendingIn(key.slice(0, key.lastIndexOf('/')))
        .filter((item) => item.key === key)
        .map(({ id }) => id)
        .toSorted()
        .toReversed(),
    );
  }

  async openPending(key: Key, id: string): Promise<OpenObject | undefined> {
    return this.#process.request(`open ${key}~${id}`, () => opened(this.#copy(key, id)));
  }

  async headPending(key: Key, id: string): Promise<PendingCopy | undefined> {
    return this.#process.request(`head ${key}~${id}`, () => {
      const content = this.#copy(key, id);
      return content && { revision: content.revision, size: content.revision.size };
    });
  }

  #copy(key: Key, id: string): Content | undefined {
    return this.#disk.pending.get(pendingName(PENDING, key, id));
  }

  async move(
    batch: readonly MoveItem[],
    { resume, pulse }: { resume: boolean; pulse?: Pulse },
  ): Promise<MoveOutcome[]> {
    const outcomes: MoveOutcome[] = [];
    for (const item of batch) {
      if (this.#manner === 'local') outcomes.push(await this.#moveByRename(item, resume));
      else outcomes.push(await this.#moveByCopy(item, resume));
      await pulse?.();
    }
    await this.#requests.noneUnderWay();
    return outcomes;
  }

  async #moveByRename(item: MoveItem, resume: boolean): Promise<MoveOutcome> {
    const { key, id, revision } = item;
    if (!resume) {
      const seen = await this.#process.request(`look at ${key}`, () => this.#disk.live.get(key));
      if (seen === undefined) return { outcome: 'gone' };
      if (!sameRevision(seen.revision, revision)) return { outcome: 'changed' };
      const moved = await this.#process.request(`rename ${key} to ~${id}`, () =>
        this.#disk.rename(key, id, this.#process),
      );
      if (moved === undefined) return { outcome: 'gone' };
    }
    const copy = await this.#process.request(`look at ${key}~${id}`, () => this.#copy(key, id));
    if (copy === undefined) {
      if (resume) return { outcome: 'gone' };
      throw new TombstonedError('failed', `${key}: its pending copy vanished`, { key });
    }
    if (sameRevision(copy.revision, revision)) return { outcome: 'moved' };
    return this.#process.request(`link ${key}~${id} back`, () => {
      const live = this.#disk.live.get(key);
      if (live !== undefined && live !== copy) return { outcome: 'moved-other', revision: copy.revision };
      this.#disk.bringBack(key, id, this.#process, 'mover');
      return { outcome: 'put-back', revision: copy.revision };
    });
  }

  async #moveByCopy(item: MoveItem, resume: boolean): Promise<MoveOutcome> {
    const { key, id, revision } = item;
    if (!resume) {
      const copied = await this.#requests.known(`COPY ${key} to ~${id}`, () => {
        const live = this.#disk.live.get(key);
        if (live === undefined) return 'gone';
        if (!sameRevision(live.revision, revision)) return 'changed';
        this.#disk.copy(key, id, this.#process);
        return 'copied';
      });
      // One that was sent before may have landed, or land yet.
      if (copied !== 'copied') {
        await this.#requests.noneUnderWay();
        if ((await this.headPending(key, id)) === undefined) return { outcome: copied };
      }
    }
    const copy = await this.#process.request(`HEAD ${key}~${id}`, () => this.#copy(key, id));
    if (copy === undefined) return { outcome: 'gone' };
    await this.#requests.known(`DELETE ${key} if it is ~${id}`, () => {
      const live = this.#disk.live.get(key);
      if (live !== undefined && sameRevision(live.revision, copy.revision))
        this.#disk.removeLive(key, id, this.#process);
    });
    return { outcome: 'moved' };
  }

  async strayFiles(): Promise<Stray[]> {
    return [];
  }

  async adoptStray(): Promise<MoveOutcome> {
    throw new Error('there are no directories here');
  }

  async create(): Promise<never> {
    throw new Error('nothing is compacted here');
  }

  async putBack(batch: readonly PutBackItem[]): Promise<PutBackOutcome[]> {
    const outcomes: PutBackOutcome[] = [];
    for (const item of batch) outcomes.push(await this.#putBackOne(item));
    await this.#requests.noneUnderWay();
    return outcomes;
  }

  async #putBackOne({ key, id, revision, to }: PutBackItem): Promise<PutBackOutcome> {
    const copy = await this.#process.request(`look at ${key}~${id}`, () => this.#copy(key, id));
    const before = await this.#process.request(`look at ${to}`, () => this.#disk.live.get(to));
    if (before !== undefined && sameRevision(before.revision, revision)) return { outcome: 'unchanged' };
    if (before !== undefined) return { outcome: 'conflict' };
    if (copy === undefined) {
      this.#disk.truth.undone(`${key}~${id}`);
      return { outcome: 'gone' };
    }
    return this.#requests.known(`put ${key}~${id} back where there is none`, (): PutBackOutcome => {
      const live = this.#disk.live.get(to);
      if (live !== undefined && sameRevision(live.revision, revision)) return { outcome: 'restored' };
      if (live !== undefined) return { outcome: 'conflict' };
      if (this.#copy(key, id) === undefined) {
        this.#disk.truth.undone(`${key}~${id}`);
        return { outcome: 'gone' };
      }
      this.#disk.bringBack(key, id, this.#process, 'restore');
      return { outcome: 'restored' };
    });
  }

  async remove(batch: readonly RemoveItem[], { pulse }: { pulse?: Pulse } = {}): Promise<RemoveOutcome[]> {
    const outcomes: RemoveOutcome[] = [];
    for (const item of batch) {
      outcomes.push(await this.#removeOne(item));
      await pulse?.();
    }
    await this.#requests.noneUnderWay();
    return outcomes;
  }

  async #removeOne({ key, id, revision, from }: RemoveItem): Promise<RemoveOutcome> {
    const copy = await this.#process.request(`look at ${key}~${id}`, () => this.#copy(key, id));
    if (copy === undefined) return { outcome: 'gone' };
    const isWhole = sameRevision(copy.revision, revision);
    if (!isWhole && from === 'pending') return { outcome: 'changed', detail: 'another revision' };
    if (from === 'restored') {
      const live = await this.#process.request(`look at ${key}`, () => this.#disk.live.get(key));
      if (live === undefined || !sameRevision(live.revision, copy.revision)) {
        return isWhole ? { outcome: 'not-live' } : { outcome: 'changed', detail: 'another revision' };
      }
    }
    return this.#requests.known(`remove ${key}~${id}`, () => {
      const isThere = this.#disk.removePending(key, id, revision, from, this.#process);
      return { outcome: isThere || !this.#requests.isAllAnswered ? 'removed' : 'gone' };
    });
  }

  async checkWritable(): Promise<void> {
    return undefined;
  }

  close(): void {
    return undefined;
  }
}

/** Control objects in memory: whole, durable and named once. */
class MemoryControl implements ControlSpace {
  readonly #disk: Disk;
  readonly #process: Process;
  readonly #requests: Requests;
  readonly #created = new Set<string>();

  constructor(disk: Disk, process: Process, requests: Requests) {
    this.#disk = disk;
    this.#process = process;
    this.#requests = requests;
  }

  async prepare(): Promise<void> {
    return undefined;
  }

  async read(name: string): Promise<Buffer | undefined> {
    return this.#process.request(`read ${name}`, () => {
      if (name.startsWith('fences/') && this.#created.has(name)) this.#disk.checked.add(name);
      const body = this.#disk.control.get(name);
      return body === undefined ? undefined : Buffer.from(body);
    });
  }

  async list(directory: string): Promise<string[]> {
    return this.#process.request(`list ${directory}/`, () =>
      [...this.#disk.listed('control', directory, this.#process.host).keys()]
        .map((name) => name.slice(directory.length + 1))
        .toSorted(),
    );
  }

  async create(name: string, body: string): Promise<'created' | 'exists'> {
    this.#created.add(name);
    return this.#requests.orTimeOut(`create ${name}`, () => {
      if (this.#disk.control.has(name)) return 'exists';
      this.#disk.setControl(name, body, this.#process.host);
      return 'created';
    });
  }

  async rewrite(name: string, before: string, after: string): Promise<'rewritten' | 'gone' | 'changed'> {
    return this.#requests.orTimeOut(`rewrite ${name}: ${after.trim()}`, () => {
      const body = this.#disk.control.get(name);
      if (body === undefined) return 'gone';
      if (body !== before) return 'changed';
      this.#disk.control.set(name, after);
      return 'rewritten';
    });
  }

  async replace(name: string, body: string): Promise<void> {
    return this.#process.request(`replace ${name}`, () =>
      this.#disk.setControl(name, body, this.#process.host),
    );
  }

  async remove(name: string): Promise<void> {
    return this.#requests.orTimeOut(`remove ${name}`, () =>
      this.#disk.removeControl(name, this.#process.host),
    );
  }

  async temporaries(): Promise<never[]> {
    return []; // control objects are made whole here
  }

  async removeTemporary(): Promise<void> {
    return undefined;
  }
}

/** Requests whose sender may give up on them: they land later, or never. */
class Requests {
  readonly #process: Process;
  readonly #network: Process;
  #lastUnder = -1;

  constructor(process: Process, network: Process) {
    this.#process = process;
    this.#network = network;
  }

  /** Whether nothing that was sent may still land. */
  get isAllAnswered(): boolean {
    return this.#process.scheduler.now > this.#lastUnder;
  }

  async #sent<T>(name: string, effect: () => T): Promise<{ answer: T } | undefined> {
    const { scheduler } = this.#process;
    if (!scheduler.chance(scheduler.temper.late))
      return { answer: await this.#process.request(name, effect) };
    await this.#process.turn(`${name}: sent`);
    const until = scheduler.now + LIFE_MS;
    this.#lastUnder = until;
    void this.#land(name, effect, until);
    await this.#process.clock.sleep(PATIENCE_MS);
    return undefined;
  }

  /** Lets a request land late, if it still can. */
  async #land(name: string, effect: () => unknown, until: number): Promise<void> {
    const { scheduler } = this.#process;
    try {
      await this.#network.turn(`late: ${name}`, scheduler.random(LIFE_MS));
    } catch {
      return; // all is over
    }
    // What a process that died has sent is over: waiting for it is the S3 store's to do.
    if (scheduler.now <= until && !this.#process.isDead) effect();
  }

  /** Repeats until there is an answer (R5). */
  async known<T>(name: string, effect: () => T): Promise<T> {
    for (;;) {
      const sent = await this.#sent(name, effect);
      if (sent !== undefined) return sent.answer;
    }
  }

  /** Waits until nothing that was sent can land any more (R5). */
  async noneUnderWay(): Promise<void> {
    while (!this.isAllAnswered) {
      await this.#process.clock.sleep(this.#lastUnder - this.#process.scheduler.now + 1);
    }
  }

  async orTimeOut<T>(name: string, effect: () => T): Promise<T> {
    const sent = await this.#sent(name, effect);
    if (sent === undefined) throw new TombstonedError('failed', `${name}: timed out`, { key: name });
    return sent.answer;
  }
}

function liveObject({ key, revision, modifiedAt }: Content): LiveObject {
  return { type: 'object', key, revision, size: revision.size, modifiedAt, refusal: null };
}

function opened(content: Content | undefined): OpenObject | undefined {
  if (content === undefined) return undefined;
  return {
    revision: content.revision,
    size: content.revision.size,
    read: () => Readable.from([bytesOf(content)]),
    close: () => undefined,
  };
}
