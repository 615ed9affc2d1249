import type { Clock } from '../domain/clock.ts';

/** The least time between the end of a task and its next turn, however short its interval. ms. */
const LEAST_PAUSE_MS = 1000;

/** Something that is done again and again. It reports its own failures: what it throws ends the loop. */
export interface Task {
  /** From one turn's due time to the next, ms. */
  readonly every: number;
  run(): Promise<void>;
}

/**
 * Runs a store's tasks, each at its interval by the monotonic clock and first at
 * once, one at a time, until the signal aborts. Turns that were missed while
 * another task ran are one turn. Resolves when the task that is under way has ended.
 */
export async function storeLoop(tasks: readonly Task[], clock: Clock, signal: AbortSignal): Promise<void> {
  const start = clock.monotonic();
  const turns = tasks.map((task) => ({ task, due: start }));
  for (;;) {
    const next = earliest(turns);
    if (next === undefined) return;
    const wait = next.due - clock.monotonic();
    if (wait > 0) await clock.sleep(wait, signal);
    if (signal.aborted) return;
    await next.task.run();
    next.due = Math.max(next.due + next.task.every, clock.monotonic() + LEAST_PAUSE_MS);
  }
}

function earliest<T extends { due: number }>(turns: readonly T[]): T | undefined {
  return turns.reduce<T | undefined>((a, b) => (a === undefined || b.due < a.due ? b : a), undefined);
}
