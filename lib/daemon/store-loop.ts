import type { Clock } from '../domain/clock.ts';
import { Turns } from './turns.ts';

/** Something that is done again and again. It reports its own failures: what it throws ends the loop. */
export interface Task {
  /** Tells it from the others of its store. */
  readonly name: string;
  /** From one turn's due time to the next, ms; `Infinity` is only when it is nudged. */
  readonly every: number;
  run(): Promise<void>;
}

/**
 * Runs a store's tasks, each at its interval by the monotonic clock and first at
 * once, one at a time, until the signal aborts. Turns that were missed while
 * another task ran are one turn. Resolves when the task that is under way has ended.
 */
export async function storeLoop(
  tasks: readonly Task[],
  clock: Clock,
  signal: AbortSignal,
  turns: Turns = new Turns(),
): Promise<void> {
  const start = clock.monotonic();
  for (;;) {
    const nudged = turns.untilNudged();
    const next = turns.next(tasks, start);
    if (next === undefined) return;
    const wait = next.due - clock.monotonic();
    if (wait > 0) await clock.sleep(wait, AbortSignal.any([signal, nudged]));
    if (signal.aborted) return;
    if (wait > 0 && nudged.aborted) continue; // something else may be due by now
    const { task, due } = next;
    turns.begin(task);
    await task.run();
    turns.end(task, { due, now: clock.monotonic(), isCut: signal.aborted });
  }
}
