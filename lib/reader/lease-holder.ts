import { type Clock, isoTime } from '../domain/clock.ts';
import { errnoOf, messageOf, TombstonedError } from '../domain/errors.ts';
import { makePlainId, type RandomSource } from '../domain/ids.ts';
import { Turns } from '../domain/turns.ts';
import {
  isBroken,
  type LeaseBlocks,
  type LeaseBody,
  leaseName,
  leasePath,
  leaseText,
  removeLease,
} from '../store/leases.ts';
import type { Store } from '../store/store.ts';
import type { HeldLease } from './held-lease.ts';
import { type Instant, instantOf, LeaseLost, LeaseTerm } from './lease-term.ts';

/** The TTL of a lease, unless it is told otherwise. ms. */
const LEASE_TTL_MS = 3_600_000;

/** Where a holder's time, ids and name come from. */
export interface HolderSurroundings {
  readonly clock: Clock;
  readonly random: RandomSource;
  readonly actor: { readonly pid: number; readonly host: string; readonly by: string };
}

export interface LeaseOptions {
  /** Byte prefixes; `['']` is everything. */
  readonly prefixes: readonly string[];
  readonly blocks: LeaseBlocks;
  /** ms, whole seconds; an hour unless set. */
  readonly ttl?: number | undefined;
  /** A name for people. */
  readonly holder?: string | undefined;
}

/** How long a renewal that somebody waits for is tried again. ms. */
const PATIENCE_MS = 30_000;
const MAX_TTL_MS = 366 * 86_400_000;
/** Errors that say that this user, or mount, may not write here. */
const READ_ONLY = new Set(['EROFS', 'EACCES', 'EPERM']);

/**
 * A lease and its renewals (R5; design, "Leases without clocks"). It is in force
 * once `waitForFences` has been waited for. Renewals go on in the background
 * until `release`.
 */
export class LeaseHolder implements HeldLease {
  readonly id: string;
  readonly signal: AbortSignal;
  readonly #store: Store;
  readonly #clock: Clock;
  readonly #term: LeaseTerm;
  readonly #stop = new AbortController();
  readonly #tending: Promise<void>;
  readonly #turns = new Turns();
  /** What was written without an answer that says so: it may be there. */
  readonly #unsure = new Set<string>();
  #body: LeaseBody;
  /** What the object was when it was last known. */
  #text: string;
  /** The last renewal begun, done or not: no two have one number. */
  #renewal = 0;
  /** When one that failed is tried again, by the monotonic clock. */
  #retryAt = Number.NEGATIVE_INFINITY;
  #isRenewing = false;
  #released: Promise<void> | undefined;

  private constructor(store: Store, clock: Clock, body: LeaseBody, began: Instant) {
    this.id = body.id;
    this.#store = store;
    this.#clock = clock;
    this.#body = body;
    this.#text = leaseText(body);
    this.#term = new LeaseTerm(clock, body.id, body.ttlSeconds * 1000, began);
    this.signal = this.#term.signal;
    this.#tending = this.#tend();
  }

  /** Writes a lease under an id of its own. Throws, with no lease left behind, when that can't be done. */
  static async acquire(
    store: Store,
    { clock, random, actor }: HolderSurroundings,
    { prefixes, blocks, ttl = LEASE_TTL_MS, holder = actor.by }: LeaseOptions,
  ): Promise<LeaseHolder> {
    checkTtl(ttl);
    for (;;) {
      const began = instantOf(clock);
      const body: LeaseBody = {
        id: makePlainId('l', began.wall, random),
        holder,
        host: actor.host,
        pid: actor.pid,
        prefixes,
        blocks,
        ttlSeconds: ttl / 1000,
        acquiredAt: isoTime(began.wall) ?? '',
        renewal: 0,
      };
      if ((await create(store, body)) === 'exists') continue;
      const lease = new LeaseHolder(store, clock, body, began);
      try {
        lease.check(); // the answer may have come late
      } catch (error) {
        await releaseAfter(lease, error);
      }
      return lease;
    }
  }

  check(): void {
    this.#term.check();
  }

  async confirm(): Promise<void> {
    await this.#turns.take(async () => {
      this.check();
      const object = await this.#store.control.read(leasePath(this.id));
      if (object === undefined) throw this.#term.lose('its object is gone');
      const text = object.toString();
      if (text !== this.#text && !this.#unsure.has(text)) throw this.#term.lose('its object was changed');
      await this.#checkUnbroken();
      this.check();
    });
  }

  /** Renews it now; resolves when a renewal that was begun after this call counts. Throws `LeaseLost`, or what keeps it from that for long. */
  async renew(): Promise<void> {
    const began = this.#clock.monotonic();
    for (;;) {
      try {
        await this.#turns.take(async () => this.#renew());
        return;
      } catch (error) {
        this.check();
        if (this.#clock.monotonic() - began >= PATIENCE_MS || this.#stop.signal.aborted) throw error;
      }
      await this.#clock.sleep(this.#retryPause, this.signal);
    }
  }

  /** Renews it as one that keeps only purges away: what it covers may be swept from now on. */
  async weaken(): Promise<void> {
    this.#body = { ...this.#body, blocks: 'purge' };
    await this.renew();
  }

  async listed(): Promise<void> {
    await this.renew();
    await this.weaken();
  }

  /** Stops renewing and removes the lease, lost or not. May be called again, also after it failed. */
  async release(): Promise<void> {
    this.#released ??= this.#release().catch((error: unknown) => {
      this.#released = undefined;
      throw error;
    });
    await this.#released;
  }

  async #release(): Promise<void> {
    this.#stop.abort();
    await this.#tending;
    // After a renewal that is under way.
    await this.#turns.take(async () => removeLease(this.#store.control, leaseName(this.id)));
  }

  /** Renews in time, and finds out when it is too late, until it is stopped or lost. Never rejects. */
  async #tend(): Promise<void> {
    const { signal } = this.#stop;
    try {
      for (;;) {
        await this.#clock.sleep(this.#pause(), signal);
        if (signal.aborted) return;
        this.check();
        if (!this.#isRenewing && this.#dueIn <= 0) void this.#renewBehind();
      }
    } catch (error) {
      this.#term.lose(messageOf(error), error);
    }
  }

  /** Not so long that a machine that was suspended goes on for long before it finds out. ms. */
  #pause(): number {
    const { left, interval } = this.#term;
    const due = this.#isRenewing ? left : this.#dueIn;
    return Math.max(1, Math.min(due, left, interval / 4));
  }

  get #dueIn(): number {
    const { interval, passed } = this.#term;
    return Math.max(interval - passed, this.#retryAt - this.#clock.monotonic());
  }

  get #retryPause(): number {
    return Math.min(1000, this.#term.interval / 4);
  }

  /** What goes wrong is tried again while there is time: until then it is no error. */
  async #renewBehind(): Promise<void> {
    try {
      await this.#turns.take(async () => this.#renew());
    } catch (error) {
      this.#term.troubled(error);
    }
  }

  /** One renewal, by the next number. Throws `LeaseLost`, or an error after which it may be tried again. */
  async #renew(): Promise<void> {
    this.#isRenewing = true;
    try {
      while (!(await this.#rewrite()));
      await this.#checkUnbroken();
      this.check();
    } catch (error) {
      this.#retryAt = this.#clock.monotonic() + this.#retryPause;
      throw error;
    } finally {
      this.#isRenewing = false;
    }
  }

  /** Whether a renewal was written and counts; false where an earlier one turned out to be there. */
  async #rewrite(): Promise<boolean> {
    if (this.#stop.signal.aborted) throw new Error(`lease ${this.id} was released`);
    this.check();
    const { control } = this.#store;
    const began = instantOf(this.#clock);
    this.#renewal += 1;
    const body = { ...this.#body, renewal: this.#renewal };
    const text = leaseText(body);
    this.#unsure.add(text);
    const outcome = await control.rewrite(leasePath(this.id), this.#text, text);
    if (outcome === 'changed') {
      const object = await control.read(leasePath(this.id));
      const found = object?.toString();
      if (found !== undefined && found !== text && this.#unsure.delete(found)) {
        this.#text = found;
        return false;
      }
      // Its number is new: whoever wrote this did so after this renewal was begun.
      if (found !== text)
        throw this.#term.lose(found === undefined ? 'its object is gone' : 'its object was changed');
    }
    if (outcome === 'gone') throw this.#term.lose('its object is gone');
    this.#term.counts(began);
    this.#text = text;
    this.#unsure.clear();
    return true;
  }

  async #checkUnbroken(): Promise<void> {
    if (await isBroken(this.#store.control, this.id)) throw this.#term.lose('somebody took it as dead');
  }
}

function checkTtl(ttl: number): void {
  if (Number.isInteger(ttl / 1000) && ttl >= 1000 && ttl <= MAX_TTL_MS) return;
  throw new TombstonedError('usage', `a lease can't have a TTL of ${ttl} ms`, {
    hint: 'give whole seconds, from 1 s to 366 days',
  });
}

async function create(store: Store, body: LeaseBody): Promise<'created' | 'exists'> {
  const { control } = store;
  try {
    return await control.create(leasePath(body.id), leaseText(body));
  } catch (error) {
    const cause = error instanceof TombstonedError ? error.cause : error;
    if (READ_ONLY.has(errnoOf(cause) ?? '')) throw notWritable(store, error);
    await control.remove(leasePath(body.id)).catch((second: unknown) => {
      throw leftBehind(body.id, error, second);
    });
    throw error;
  }
}

/** Releases a lease that something went wrong under, and throws what did. */
export async function releaseAfter(lease: HeldLease, error: unknown): Promise<never> {
  await lease.release().catch((second: unknown) => {
    throw second instanceof LeaseLost ? error : leftBehind(lease.id, error, second);
  });
  throw error;
}

function leftBehind(id: string, error: unknown, second: unknown): TombstonedError {
  return new TombstonedError(
    'failed',
    `${messageOf(error)}; and lease ${id} could not be removed: ${messageOf(second)}`,
    {
      key: id,
      hint: 'it ends by itself a TTL after its last renewal, or by tombstonectl lease break',
      cause: error,
    },
  );
}

function notWritable({ url }: Store, cause: unknown): TombstonedError {
  return new TombstonedError('failed', `no lease can be written: ${messageOf(cause)}`, {
    key: url,
    hint: 'a lease is a file below .tombstoned/leases; --no-lease does without, and keeps no sweep or purge away',
    cause,
  });
}
