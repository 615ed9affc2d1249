import { pendingName } from '../../lib/domain/ids.ts';
import type { Key } from '../../lib/domain/key.ts';
import type { Revision } from '../../lib/domain/revision.ts';
import type { Store } from '../../lib/store/store.ts';
import { type Content, contentOf, generationOf, PENDING } from './contents.ts';
import { type Manner, MemoryStore } from './memory-store.ts';
import type { Host, Process, Scheduler } from './scheduler.ts';
import type { Truth } from './truth.ts';

/** What holds the objects, beside what the processes see of it. */
export interface Backend {
  /** A writer's next content; it replaces what is there. */
  write(key: Key, host: Host): void;
  setControl(name: string, body: string, host: Host): void;
  removeControl(name: string, host: Host): void;
  /** Fences whose own run has not yet looked for them, and so does not act yet. */
  uncheckedFences(): string[];
  /** The store as one process has it. */
  store(process: Process): Store;
  close(): void;
}

interface Snapshot<T> {
  readonly at: number;
  readonly entries: ReadonlyMap<string, T>;
}

/** What everybody looks at: objects and control objects in memory, each change at once visible, or as caches have it. */
export class Disk implements Backend {
  readonly truth: Truth;
  readonly scheduler: Scheduler;
  /** How old listings may be, ms. */
  readonly staleness: number;
  readonly live = new Map<string, Content>();
  /** By the whole pending name. */
  readonly pending = new Map<string, Content>();
  readonly control = new Map<string, string>();
  /** Fences whose own run has looked for them: from then on it acts. */
  readonly checked = new Set<string>();
  readonly #isOldest: boolean;
  readonly #settings: { readonly manner: Manner; readonly settle: number; readonly staleness: number };
  readonly #network: Process;
  readonly #history = new Map<string, Snapshot<unknown>[]>();
  readonly #seen = new Map<string, number>();

  constructor(
    scheduler: Scheduler,
    truth: Truth,
    network: Process,
    settings: { manner: Manner; settle: number; staleness: number; isOldest?: boolean },
  ) {
    this.scheduler = scheduler;
    this.truth = truth;
    this.staleness = settings.staleness;
    this.#isOldest = settings.isOldest ?? false;
    this.#network = network;
    this.#settings = settings;
  }

  store(process: Process): Store {
    return new MemoryStore(this, process, this.#network, this.#settings);
  }

  uncheckedFences(): string[] {
    return [...this.control.keys()].filter((name) => name.startsWith('fences/') && !this.checked.has(name));
  }

  close(): void {
    return undefined;
  }

  /** A writer's next content; it replaces what is there. */
  write(key: Key, host: Host): void {
    const generation = this.truth.nextGeneration(key);
    this.#setLive(contentOf(key, generation), host, 'writer');
  }

  #setLive(content: Content, host: Host, by: 'writer' | 'mover' | 'restore'): void {
    this.live.set(content.key, content);
    this.truth.setLive(content.key, content.generation, by);
    this.#changed(directoryOf(content.key), this.live, host);
  }

  /** Whatever is at a live key, to a pending name; replaces what is there, as a rename does. */
  rename(key: Key, id: string, by: Process): Content | undefined {
    const content = this.live.get(key);
    if (content === undefined) return undefined;
    this.copy(key, id, by);
    this.removeLive(key, id, by);
    return content;
  }

  /** A copy of a live object under a pending name. */
  copy(key: Key, id: string, { host }: Process): void {
    const content = this.live.get(key);
    if (content === undefined) return;
    const name = pendingName(PENDING, key, id);
    this.pending.set(name, content);
    this.truth.setCopy(name, key, content.generation);
    this.#changed(directoryOf(name), this.pending, host);
  }

  removeLive(key: Key, id: string, by: Process): void {
    this.truth.acts(by.catalog, `${by.name} moves ${key}`);
    this.live.delete(key);
    this.truth.goneNow(pendingName(PENDING, key, id));
    this.truth.setLive(key, undefined, 'mover');
    this.#changed(directoryOf(key), this.live, by.host);
  }

  /** A pending copy, to a live key. */
  bringBack(key: Key, id: string, { host }: Process, by: 'mover' | 'restore'): void {
    const content = this.pending.get(pendingName(PENDING, key, id));
    if (content !== undefined) this.#setLive(content, host, by);
  }

  removePending(
    key: Key,
    id: string,
    revision: Revision,
    from: 'pending' | 'restored',
    by: Process,
  ): boolean {
    const name = pendingName(PENDING, key, id);
    if (!this.pending.delete(name)) return false;
    this.truth.acts(by.catalog, `${by.name} purges ${name}`);
    this.truth.removeCopy(name, { key, generation: generationOf(revision), from });
    this.#changed(directoryOf(name), this.pending, by.host);
    return true;
  }

  setControl(name: string, body: string, host: Host): void {
    this.control.set(name, body);
    this.#changed(directoryOf(name), this.control, host, 'control:');
  }

  removeControl(name: string, host: Host): void {
    if (this.control.delete(name)) this.#changed(directoryOf(name), this.control, host, 'control:');
  }

  /** One directory as a host lists it. */
  listed(of: 'live' | 'pending' | 'control', directory: string, host: Host): Map<string, Content | string> {
    const now: ReadonlyMap<string, Content | string> = this[of];
    const name = of === 'control' ? `control:${directory}` : directory;
    if (this.staleness === 0) return within(now, directory);
    const { scheduler } = this;
    const place = `${host.name} ${name}`;
    const oldest = Math.max(this.#seen.get(place) ?? 0, scheduler.now - this.staleness);
    const at = this.#isOldest ? oldest : this.#someTime(oldest);
    this.#seen.set(place, at);
    const shown = this.#history.get(name)?.findLast((snapshot) => snapshot.at <= at);
    return new Map(shown?.entries as ReadonlyMap<string, Content | string> | undefined);
  }

  /** As old as a cache happens to be. */
  #someTime(oldest: number): number {
    const { scheduler } = this;
    return scheduler.random(2) === 0 ? scheduler.now : oldest + scheduler.random(scheduler.now - oldest + 1);
  }

  #changed(directory: string, all: ReadonlyMap<string, unknown>, host: Host, prefix = ''): void {
    if (this.staleness === 0) return;
    const { now } = this.scheduler;
    const history = this.#history.get(prefix + directory) ?? [];
    history.push({ at: now, entries: within(all, directory) });
    this.#history.set(prefix + directory, history);
    this.#seen.set(`${host.name} ${prefix}${directory}`, now); // its own changes a host sees at once
  }

  /** The directories that have live objects, or had. */
  directories(): string[] {
    return [...new Set([...this.truth.keys()].map(directoryOf))].toSorted();
  }
}

function within<T>(all: ReadonlyMap<string, T>, directory: string): Map<string, T> {
  return new Map([...all].filter(([name]) => directoryOf(name) === directory));
}

function directoryOf(name: string): string {
  return name.slice(0, Math.max(0, name.lastIndexOf('/')));
}
