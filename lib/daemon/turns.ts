import type { Task } from './store-loop.ts';

/** The least time between the end of a task and its next turn, however short its interval. ms. */
const LEAST_PAUSE_MS = 1000;

/**
 * When a store's tasks are due, by the monotonic clock, ms. Outlives their loop: a
 * changed config begins a new one, and that goes on where the one before was.
 */
export class Turns {
  readonly #turns = new Map<string, { due: number; ended: number }>();
  readonly #nudged = new Set<string>();
  #wake = new AbortController();

  /** Makes a task due at once. */
  nudge(task: string): void {
    this.#nudged.add(task);
    this.#wake.abort();
  }

  /** The task that is due first, and when; one that had no turn yet is due at `start`, or when it is nudged. */
  next(tasks: readonly Task[], start: number): { task: Task; due: number } | undefined {
    let first: { task: Task; due: number } | undefined;
    for (const task of tasks) {
      const due = this.#dueOf(task, start);
      if (first === undefined || due < first.due) first = { task, due };
    }
    return first;
  }

  #dueOf({ name, every }: Task, start: number): number {
    if (this.#nudged.has(name)) return -Infinity;
    const last = this.#turns.get(name);
    if (last !== undefined) return Math.max(last.due + every, last.ended + LEAST_PAUSE_MS);
    return every === Infinity ? Infinity : start;
  }

  /** Aborts when something is nudged from now on. */
  untilNudged(): AbortSignal {
    this.#wake = new AbortController();
    return this.#wake.signal;
  }

  begin({ name }: Task): void {
    this.#nudged.delete(name);
  }

  /** A turn that was due at `due` has ended now; one that was cut is due again at once. */
  end({ name }: Task, turn: { due: number; now: number; isCut: boolean }): void {
    const { due, now, isCut } = turn;
    if (isCut) this.#nudged.add(name);
    // One that was nudged is between two that are due.
    else
      this.#turns.set(name, {
        due: due === -Infinity ? (this.#turns.get(name)?.due ?? now) : due,
        ended: now,
      });
  }
}
