import { setImmediate } from 'node:timers/promises';
import type { Clock } from '../../lib/domain/clock.ts';

interface Sleeper {
  readonly until: number;
  readonly wake: () => void;
}

/** What is shorter than this is slept at once: only who sleeps longer has nothing to do. ms. */
const MOMENT = 1000;
/** How long somebody may be at work before something is wrong, by a real clock. ms. */
const PATIENCE = 30_000;

/**
 * Time that goes on to the next who sleeps as soon as nobody is at work, for several
 * who live by it. `wall` may be set wrong; `true` time is what passes.
 */
export class WorldTime {
  /** ms since the world began. */
  passed = 0;
  /** By how much the wall clock is wrong, ms. */
  wrongBy = 0;
  readonly #began = Math.floor(Date.now() / 1000) * 1000;
  readonly #sleepers = new Set<Sleeper>();
  readonly #atWork = new Set<string>();
  #changed: () => void = () => undefined;

  /** The time that it really is, ms since 1970. */
  get true(): number {
    return this.#began + this.passed;
  }

  /** The clock of somebody who is at work until they sleep. */
  clockOf(name: string): Clock {
    this.#atWork.add(name);
    return {
      now: () => this.true + this.wrongBy,
      monotonic: () => this.passed,
      uptime: () => this.passed,
      sinceBoot: () => ({ boot: 'spec-boot', ms: this.passed }),
      isSynced: async () => false,
      sleep: async (ms, signal) => this.#sleep(name, ms, signal),
    };
  }

  /** Somebody is not waited for any more. */
  leave(name: string): void {
    this.#atWork.delete(name);
    this.#changed();
  }

  async #sleep(name: string, ms: number, signal: AbortSignal | undefined): Promise<void> {
    if (signal?.aborted === true) return;
    if (ms <= MOMENT) {
      this.passed += ms;
      return setImmediate();
    }
    await new Promise<void>((resolve) => {
      const sleeper: Sleeper = {
        until: this.passed + ms,
        wake: () => {
          if (!this.#sleepers.delete(sleeper)) return;
          signal?.removeEventListener('abort', sleeper.wake);
          this.#atWork.add(name);
          resolve();
        },
      };
      this.#sleepers.add(sleeper);
      signal?.addEventListener('abort', sleeper.wake);
      this.leave(name);
    });
  }

  /** Waits until nobody is at work. */
  async idle(): Promise<void> {
    while (this.#atWork.size > 0) {
      const changed = new Promise<void>((resolve) => {
        this.#changed = resolve;
      });
      const timer = setTimeout(() => this.#changed(), PATIENCE);
      const began = Date.now();
      await changed;
      clearTimeout(timer);
      if (Date.now() - began >= PATIENCE) throw new Error(`at work for long: ${[...this.#atWork].join()}`);
    }
  }

  /** Time goes on to a moment, and each who sleeps has their turn when it has come. */
  async until(moment: number): Promise<void> {
    for (;;) {
      await this.idle();
      const next = [...this.#sleepers].toSorted((a, b) => a.until - b.until)[0];
      if (next === undefined || next.until > moment) break;
      this.passed = Math.max(this.passed, next.until);
      next.wake();
    }
    this.passed = Math.max(this.passed, moment);
  }
}
