import type { Clock } from '../../domain/clock.ts';
import { TombstonedError } from '../../domain/errors.ts';
import { CONTROL_SEGMENT } from '../../domain/key.ts';
import { IDENTITY_NAME } from '../identity.ts';
import type { Pulse } from '../store.ts';
import { type S3Api, Unanswered } from './api.ts';

/** How long after its signed date a request may still take effect, by the store's `Date` (R5). ms. */
const LATE_MS = 16 * 60_000;
/** How often a write is tried that gets no answer. */
const ATTEMPTS = 3;
const PAUSE_MS = 1000;
const LOOK_MS = 10_000;

/** What a look at the store says of a write that got no answer: its result, or that it has had none so far. */
export type Seen<T> = { readonly result: T } | 'not-yet';

/**
 * Writes whose outcome must be known (R5): each is one attempt, and one that gets
 * no answer is looked up, and tried again. What may still take effect then is
 * waited for.
 */
export class LateRequests {
  readonly #api: S3Api;
  readonly #clock: Clock;
  #until: number | undefined;

  constructor({ api, clock }: { api: S3Api; clock: Clock }) {
    this.#api = api;
    this.#clock = clock;
  }

  /** The result of a write, or what a look says it was. Throws `failed` when that can't be found out. */
  async known<T>(write: () => Promise<T>, look: () => Promise<Seen<T>>): Promise<T> {
    let lost: Unanswered | undefined;
    for (let attempt = 1; attempt <= ATTEMPTS; attempt++) {
      try {
        return await write();
      } catch (error) {
        if (!(error instanceof Unanswered)) throw error;
        // Of several one may have been seen to take effect, and another still will.
        if (lost !== undefined) this.#note(lost);
        lost = error;
      }
      const seen = await look().catch((error: unknown) => {
        if (lost !== undefined) this.#note(lost);
        throw error;
      });
      if (seen !== 'not-yet') return seen.result;
      this.#note(lost);
      await this.#clock.sleep(PAUSE_MS * attempt);
    }
    throw new TombstonedError('failed', `${this.#api.url} does not answer: ${lost?.message ?? ''}`, {
      hint: 'what it may still do is waited for; try again when the store answers',
      cause: lost,
    });
  }

  #note({ signedAt }: Unanswered): void {
    this.#until = Math.max(this.#until ?? 0, signedAt + LATE_MS);
  }

  /** Waits until no request that got no answer can take effect any more, by the store's own time. */
  async outlast(pulse: Pulse | undefined): Promise<void> {
    while (this.#until !== undefined) {
      await this.#api.head(`${CONTROL_SEGMENT}/${IDENTITY_NAME}`);
      const date = this.#api.lastDate?.date;
      if (date !== undefined && date > this.#until) this.#until = undefined;
      else {
        await pulse?.();
        await this.#clock.sleep(LOOK_MS);
      }
    }
  }
}
