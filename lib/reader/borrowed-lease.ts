import type { Clock } from '../domain/clock.ts';
import { messageOf, TombstonedError } from '../domain/errors.ts';
import { isPlainId } from '../domain/ids.ts';
import { quote } from '../domain/key.ts';
import { Turns } from '../domain/turns.ts';
import { isBroken, type Lease, leaseName, readLease } from '../store/leases.ts';
import type { Store } from '../store/store.ts';
import type { HeldLease } from './held-lease.ts';
import { type Instant, instantOf, LeaseLost, LeaseTerm } from './lease-term.ts';

/**
 * Another process's lease: looked at, never renewed or removed. It may be relied
 * on for nine tenths of a TTL from the last look before its number was seen to change.
 */
export class BorrowedLease implements HeldLease {
  readonly id: string;
  readonly signal: AbortSignal;
  readonly #store: Store;
  readonly #clock: Clock;
  readonly #term: LeaseTerm;
  readonly #stop = new AbortController();
  readonly #tending: Promise<void>;
  readonly #turns = new Turns();
  #seen: Lease;
  #seenAt: Instant;

  private constructor(store: Store, clock: Clock, lease: Lease, seenAt: Instant) {
    this.id = lease.id;
    this.#store = store;
    this.#clock = clock;
    this.#seen = lease;
    this.#seenAt = seenAt;
    this.#term = new LeaseTerm(clock, lease.id, lease.ttlSeconds * 1000, seenAt);
    this.signal = this.#term.signal;
    this.#tending = this.#tend();
  }

  /** Takes a lease that is in force. Throws `LeaseLost` when it is not there any more. */
  static async take(store: Store, clock: Clock, id: string): Promise<BorrowedLease> {
    if (!isPlainId(id, 'l')) {
      throw new TombstonedError('usage', `${quote(id)} is no lease's id`, {
        key: id,
        hint: 'with-lease sets TOMBSTONED_LEASE; unset it to take a lease of its own',
      });
    }
    const seenAt = instantOf(clock);
    const found = await look(store, id);
    if (typeof found === 'string') {
      throw new LeaseLost(id, `in ${store.url} ${found}`);
    }
    return new BorrowedLease(store, clock, found, seenAt);
  }

  /** What it was at the last look. */
  get lease(): Lease {
    return this.#seen;
  }

  check(): void {
    this.#term.check();
  }

  async confirm(): Promise<void> {
    await this.#turns.take(async () => {
      this.check();
      const began = instantOf(this.#clock);
      const found = await look(this.#store, this.id);
      if (typeof found === 'string') throw this.#term.lose(found);
      // It was renewed after the look before this one had begun.
      if (found.renewal !== this.#seen.renewal) this.#term.counts(this.#seenAt);
      this.#seen = found;
      this.#seenAt = began;
      this.check();
    });
  }

  async listed(): Promise<void> {
    await this.confirm();
    if (this.#seen.blocks !== 'sweep') throw this.#term.lose('it no longer keeps sweeps away');
  }

  /** Stops looking. */
  stop(): void {
    this.#stop.abort();
  }

  /** Stops looking, after one more look: throws `LeaseLost` when it is no longer in force. */
  async release(): Promise<void> {
    if (this.#stop.signal.aborted) return;
    this.stop();
    await this.#tending;
    await this.confirm();
  }

  /** Never rejects. */
  async #tend(): Promise<void> {
    const { signal } = this.#stop;
    try {
      while (!this.#term.isLost) {
        // Twice as often as it is renewed: each change of its number is seen in time.
        await this.#clock.sleep(Math.max(1, Math.min(this.#term.left, this.#term.interval / 2)), signal);
        if (signal.aborted) return;
        await this.confirm().catch((error: unknown) => this.#term.troubled(error));
        this.check();
      }
    } catch (error) {
      this.#term.lose(messageOf(error), error);
    }
  }
}

/** The lease, or why it is not in force. */
async function look(store: Store, id: string): Promise<Lease | string> {
  const lease = await readLease(store.control, leaseName(id));
  if (lease === undefined) return 'its object is gone';
  if (lease.problem !== null) return `its object ${lease.problem}`;
  return (await isBroken(store.control, id)) ? 'somebody took it as dead' : lease;
}
