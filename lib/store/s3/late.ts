import type { Clock } from '../../domain/clock.ts';
import { TombstonedError } from '../../domain/errors.ts';
import { CONTROL_SEGMENT } from '../../domain/key.ts';
import { IDENTITY_NAME } from '../identity.ts';
import type { Pulse } from '../store.ts';
import { type S3Api, Unanswered } from './api.ts';

/** How long after its signed date a request may still take effect, by the store's `Date` (R5). ms. */
const LATE_MS = 16 * 60_000;
/** How often a write is tried that gets no answer. */
const ATTEMPTS = 5;
const PAUSE_MS = 1000;
const LOOK_MS = 10_000;

/**
 * What a look at the store says of a write that got no answer: its result, or that
 * it has had none so far. `isProof` where nobody else can have made it so.
 */
export type Seen<T> = { readonly result: T; readonly isProof: boolean } | 'not-yet';

/** It can't be found out what became of a write: what was begun stays for recovery. */
export class OutcomeUnknown extends TombstonedError {}

/**
 * Writes whose outcome must be known (R5): each is one attempt, and one that gets
 * no answer is looked up, and tried again. What may still take effect then is
 * waited for, and what that could have spoiled is looked at again.
 */
export class LateRequests {
  readonly #api: S3Api;
  readonly #clock: Clock;
  readonly #pulse: Pulse | undefined;
  #until: number | undefined;
  #looks: (() => Promise<void>)[] = [];

  constructor({ api, clock }: { api: S3Api; clock: Clock }, pulse: Pulse | undefined) {
    this.#api = api;
    this.#clock = clock;
    this.#pulse = pulse;
  }

  /** Whether something may still take effect. */
  get isAny(): boolean {
    return this.#until !== undefined;
  }

  /**
   * The result of a write, or what a look says it was. With `isOnce` it is not tried
   * again: undefined where nothing has been seen of it. Throws `OutcomeUnknown`
   * when it can't be found out.
   */
  async known<T>(write: () => Promise<T>, look: () => Promise<Seen<T>>): Promise<T>;
  async known<T>(
    write: () => Promise<T>,
    look: () => Promise<Seen<T>>,
    options: { isOnce: true },
  ): Promise<T | undefined>;
  async known<T>(
    write: () => Promise<T>,
    look: () => Promise<Seen<T>>,
    { isOnce = false }: { isOnce?: boolean } = {},
  ): Promise<T | undefined> {
    let lost: Unanswered | undefined;
    for (let attempt = 1; attempt <= ATTEMPTS; attempt++) {
      if (attempt > 1) await this.#pulse?.();
      try {
        return await write();
      } catch (error) {
        if (!(error instanceof Unanswered)) throw error;
        // Of several one may have been seen to take effect, and another still will.
        if (lost !== undefined) this.note(lost);
        lost = error;
      }
      let seen: Seen<T>;
      try {
        seen = await look();
      } catch (error) {
        this.note(lost);
        throw error;
      }
      if (seen === 'not-yet' || !seen.isProof) this.note(lost);
      if (seen !== 'not-yet') return seen.result;
      if (isOnce && lost.mayBeLate) return undefined;
      await this.#clock.sleep(PAUSE_MS * attempt);
    }
    throw new OutcomeUnknown('failed', `${this.#api.url} gives no good answer: ${lost?.message ?? ''}`, {
      hint: 'what it may still do is waited for; try again when the store answers',
      cause: lost,
    });
  }

  /** Notes a write that got no answer, if it may still take effect. */
  note({ signedAt, mayBeLate }: Unanswered): void {
    if (!mayBeLate) return;
    this.#until = Math.max(this.#until ?? 0, signedAt + LATE_MS);
  }

  /** Has something looked at when nothing noted can take effect any more. */
  lookAgain(look: () => Promise<void>): void {
    this.#looks.push(look);
  }

  /** Waits until no request that got no answer can take effect any more, by the store's own time. */
  async outlast(): Promise<void> {
    while (this.#until !== undefined) {
      await this.#api.head(`${CONTROL_SEGMENT}/${IDENTITY_NAME}`);
      const date = this.#api.lastDate?.date;
      if (date !== undefined && date > this.#until) {
        this.#until = undefined;
        const looks = this.#looks;
        this.#looks = [];
        for (const look of looks) await look(); // which may write, and get no answer
      } else {
        await this.#pulse?.();
        await this.#clock.sleep(LOOK_MS);
      }
    }
  }
}
