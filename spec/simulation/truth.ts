import { isBelowPrefix } from '../../lib/domain/key.ts';
import { type Scheduler, Violation } from './scheduler.ts';

/** Somebody who has a claim in force. */
export interface Watch {
  readonly name: string;
  readonly prefixes: readonly string[];
  /** `sweep`: nothing it covers may be moved or purged; `purge`: nothing purged. */
  readonly blocks: 'sweep' | 'purge';
  /** What it covers was moved or purged. If the claim is in force at that moment, or found to be so later, that was too early. */
  onBroken(what: string): void;
}

/** One content that a key has had. */
interface Stay {
  readonly generation: number;
  readonly from: number;
  to: number;
}

/**
 * What is true of a store, seen by nobody of those who act on it: which contents
 * there were, what became of each, and what somebody was promised. A broken
 * promise stops the simulation.
 */
export class Truth {
  readonly watches = new Set<Watch>();
  /** Keys of which copies may go before their window. */
  readonly erased = new Set<string>();
  /** Whether a tombstone may be settled by another catalog than the one that asks. */
  isShared = false;
  /** The catalog whose ownership is in force, once one has taken over. */
  owner: string | undefined;
  readonly #scheduler: Scheduler;
  readonly #window: number;
  readonly #live = new Map<string, Stay[]>();
  readonly #copies = new Map<string, { key: string; generation: number; at: number }>();
  readonly #newest = new Map<string, number>();
  /** When a key was last in neither place, and when a copy of it was last purged. */
  readonly #absences = new Map<string, number>();
  readonly #purges = new Map<string, number>();
  /** `key#generation` that need not be anywhere: overwritten by its writer, or purged as what it was. */
  readonly #excused = new Set<string>();
  readonly #overwritten = new Set<string>();
  /** What a restore has reported: it stays live, or its writer overwrites it. */
  readonly #restored = new Map<string, number>();

  constructor(scheduler: Scheduler, window: number) {
    this.#scheduler = scheduler;
    this.#window = window;
  }

  break(promise: string, message: string): void {
    this.#scheduler.note({ name: 'TRUTH' }, `${promise} is broken: ${message}`);
    this.#scheduler.fail(new Violation(promise, message));
  }

  /** Somebody moves or purges, with a catalog. */
  acts(catalog: string, what: string): void {
    if (this.owner !== undefined && this.owner !== catalog)
      this.break('only the owner acts', `${what} with ${catalog}, and ${this.owner} has taken over`);
  }

  /** The next content of a key. */
  nextGeneration(key: string): number {
    const next = (this.#newest.get(key) ?? 0) + 1;
    this.#newest.set(key, next);
    return next;
  }

  liveNow(key: string): number | undefined {
    const last = this.#live.get(key)?.at(-1);
    return last !== undefined && last.to === Infinity ? last.generation : undefined;
  }

  /** Whether its writer has replaced this content. */
  isOverwritten(key: string, generation: number): boolean {
    return this.#overwritten.has(`${key}#${generation}`);
  }

  /** Whether a key had this content at some moment since a time. */
  wasLive(key: string, generation: number, since: number): boolean {
    return (this.#live.get(key) ?? []).some((stay) => stay.generation === generation && stay.to >= since);
  }

  /** The live key has this content from now on, or none. `by` its writer, or somebody of ours. */
  setLive(key: string, generation: number | undefined, by: 'writer' | 'mover' | 'restore'): void {
    const before = this.liveNow(key);
    if (before === generation) return;
    const stays = this.#live.get(key) ?? [];
    this.#live.set(key, stays);
    const last = stays.at(-1);
    if (before !== undefined && last !== undefined) last.to = this.#scheduler.now;
    if (generation !== undefined) stays.push({ generation, from: this.#scheduler.now, to: Infinity });
    if (by === 'mover' && before !== undefined) {
      for (const watch of this.watches)
        if (watch.blocks === 'sweep' && covers(watch, key))
          watch.onBroken(`${key}#${before} was moved under the claim of ${watch.name}`);
    }
    this.#present(key);
    if (by === 'writer' && before !== undefined) {
      this.#excused.add(`${key}#${before}`);
      this.#overwritten.add(`${key}#${before}`);
      this.#restored.delete(key);
    }
    if (this.#restored.has(key) && this.#restored.get(key) !== generation) {
      this.break(
        'a restore is true',
        `${key}#${before ?? 0} was restored and reported, and is no longer live`,
      );
    }
    this.#nothingLost(key);
  }

  setCopy(name: string, key: string, generation: number): void {
    const before = this.#copies.get(name);
    this.#copies.set(name, { key, generation, at: this.#scheduler.now });
    if (before !== undefined) this.#nothingLost(before.key);
  }

  /** What was a copy's time, of when the live object had gone. */
  goneNow(name: string): void {
    const copy = this.#copies.get(name);
    if (copy !== undefined) copy.at = this.#scheduler.now;
  }

  /** A pending copy goes. `as` what its remover took it for. */
  removeCopy(
    name: string,
    as: { key: string; generation: number | undefined; from: 'pending' | 'restored' },
  ): void {
    const copy = this.#copies.get(name);
    if (copy === undefined) return;
    this.#copies.delete(name);
    if (as.from === 'pending' && as.generation === copy.generation) {
      this.#excused.add(`${copy.key}#${copy.generation}`);
      const age = this.#scheduler.now - copy.at;
      if (age < this.#window && !this.erased.has(copy.key))
        this.break('nothing early', `${name} was purged ${age} ms after it was moved`);
    }
    for (const watch of this.watches)
      if (covers(watch, copy.key)) watch.onBroken(`${name} was purged under the claim of ${watch.name}`);
    this.#purges.set(copy.key, this.#scheduler.now);
    this.#present(copy.key);
    this.#nothingLost(copy.key);
  }

  /** Each content is live, or pending, or was purged as what it is, or overwritten by its own writer. */
  #nothingLost(key: string): void {
    const live = this.liveNow(key);
    const kept = new Set(
      [...this.#copies.values()].filter((copy) => copy.key === key).map((c) => c.generation),
    );
    for (let generation = 1; generation <= (this.#newest.get(key) ?? 0); generation++) {
      if (generation === live || kept.has(generation) || this.#excused.has(`${key}#${generation}`)) continue;
      if (!this.wasLive(key, generation, 0)) continue; // it is being written
      this.break('nothing lost', `${key}#${generation} is nowhere, and was not purged as what it was`);
    }
  }

  /** A restore has said how it ended. */
  reported(key: string, generation: number, outcome: string, since: number): void {
    if (outcome !== 'restored' && outcome !== 'unchanged') return;
    if (!this.wasLive(key, generation, since))
      this.break('a restore is true', `${key}#${generation} was reported as ${outcome}, and was not live`);
    if (outcome === 'unchanged' || this.isOverwritten(key, generation)) return;
    this.#restored.set(key, generation);
    if (this.liveNow(key) !== generation)
      this.break('a restore is true', `${key}#${generation} was reported as restored, and is not live`);
  }

  /** A restore has taken a tombstone, and its copy is not there. */
  undone(name: string): void {
    if (!this.isShared) this.break('what is taken is there', `${name} was taken by a restore, and is gone`);
  }

  /** Notes when a key is neither live nor pending. */
  #present(key: string): void {
    const isThere = this.liveNow(key) !== undefined || [...this.#copies.values()].some((c) => c.key === key);
    if (!isThere) this.#absences.set(key, Infinity);
    else if (this.#absences.get(key) === Infinity) this.#absences.set(key, this.#scheduler.now);
  }

  /** Whether a key was neither live nor pending at some moment since a time. */
  wasAbsent(key: string, since: number): boolean {
    return (this.#absences.get(key) ?? -1) >= since;
  }

  /** Whether a key has been live or pending at each moment since a time, and no copy of it was purged. */
  wasThere(key: string, since: number): boolean {
    if (!this.#live.has(key)) return false;
    return (this.#absences.get(key) ?? -1) < since && (this.#purges.get(key) ?? -1) < since;
  }

  /** The keys that are live now, and have been since a time. */
  liveKeys(since: number): string[] {
    return [...this.#live].flatMap(([key, stays]) => {
      let from = Infinity;
      for (const stay of stays.toReversed()) if (stay.to === from) from = stay.from;
      return from <= since ? [key] : [];
    });
  }

  keys(): Iterable<string> {
    return this.#newest.keys();
  }

  copies(): ReadonlyMap<string, { key: string; generation: number }> {
    return this.#copies;
  }
}

function covers({ prefixes }: Watch, key: string): boolean {
  return prefixes.some((prefix) => isBelowPrefix(key, prefix));
}
