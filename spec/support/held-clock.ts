import { setImmediate } from 'node:timers/promises';
import type { Clock } from '../../lib/domain/clock.ts';
import { START } from './place.ts';

interface Sleeper {
  readonly until: number;
  readonly wake: () => void;
}

/** A clock on which whoever sleeps waits until its time has come: for what goes on in the background. */
export class HeldClock implements Clock {
  wall = START;
  mono = 0;
  readonly #sleepers = new Set<Sleeper>();

  now(): number {
    return this.wall;
  }
  monotonic(): number {
    return this.mono;
  }
  uptime(): number {
    return this.mono;
  }

  sinceBoot(): { boot: string; ms: number } {
    return { boot: 'spec-boot', ms: this.mono };
  }
  async isSynced(): Promise<boolean> {
    return false;
  }

  async sleep(ms: number, signal?: AbortSignal): Promise<void> {
    if (signal?.aborted === true) return;
    await new Promise<void>((resolve) => {
      const sleeper: Sleeper = {
        until: this.mono + ms,
        wake: () => {
          this.#sleepers.delete(sleeper);
          signal?.removeEventListener('abort', sleeper.wake);
          resolve();
        },
      };
      this.#sleepers.add(sleeper);
      signal?.addEventListener('abort', sleeper.wake);
    });
  }

  /** How many sleep. */
  get sleepers(): number {
    return this.#sleepers.size;
  }

  /** Time passes, and each sleeper gets its turn when its time has come. */
  async pass(ms: number): Promise<void> {
    const end = this.mono + ms;
    for (;;) {
      await turns();
      const [next] = [...this.#sleepers].toSorted((a, b) => a.until - b.until);
      if (next === undefined || next.until > end) break;
      this.leap(Math.max(0, next.until - this.mono));
      next.wake();
    }
    this.leap(Math.max(0, end - this.mono));
    await turns();
  }

  /** Time has passed, by both clocks or by one, and nobody had a turn: the process was frozen, or a clock is wrong. */
  leap(mono: number, wall = mono): void {
    this.mono += mono;
    this.wall += wall;
  }
}

/** Lets everybody go as far as they can. */
async function turns(): Promise<void> {
  for (let i = 0; i < 3; i++) await setImmediate();
}
