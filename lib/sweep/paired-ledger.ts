import type { OpenBatch, Settled } from '../catalog/tombstones.ts';
import type { Ledger, Take, Taken } from './ledger.ts';

const NOTHING: Taken = { last: null, count: 0, held: [], open: undefined };

type Asked = Pick<Ledger, 'intend' | 'take' | 'record' | 'recordAndTake'>;

/** The next of a plan, asked for before it is needed. */
interface Waiting {
  readonly take: Take;
  readonly resolve: (taken: Taken) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * A ledger that writes how one batch ended and the intents of a later one in one
 * commit. What is taken waits for a batch that ends before it is needed; what ended
 * waits for nothing.
 */
export class PairedLedger implements Pick<Ledger, 'intend' | 'take' | 'record'> {
  readonly #ledger: Asked;
  readonly #enough: number;
  /** Batches that were taken here, and are not recorded. */
  readonly #open = new Set<OpenBatch>();
  #waiting: Waiting | undefined;
  #isStopped = false;

  /** `enough`: with so many batches not recorded, the next one is not needed before one of them is. */
  constructor(ledger: Asked, enough: number) {
    this.#ledger = ledger;
    this.#enough = enough;
  }

  /** Takes the next of a plan, one call at a time; the oldest of those before is under way, or soon will be. */
  async take(take: Take): Promise<Taken> {
    if (this.#isStopped) return NOTHING;
    const taken =
      this.#open.size < this.#enough
        ? await this.#ledger.take(take)
        : await new Promise<Taken>((resolve, reject) => {
            this.#waiting = { take, resolve, reject };
          });
    if (taken.open !== undefined) this.#open.add(taken.open);
    return taken;
  }

  async record(open: OpenBatch, exceptions: ReadonlyMap<string, Settled>): Promise<void> {
    // What a move has swept along is no batch of the plan: nothing waits for its end.
    const waiting = this.#open.delete(open) ? this.#waiting : undefined;
    if (waiting === undefined) return this.#ledger.record(open, exceptions);
    this.#waiting = undefined;
    try {
      waiting.resolve(await this.#ledger.recordAndTake(open, exceptions, waiting.take));
    } catch (error) {
      waiting.reject(error);
      await this.#ledger.record(open, exceptions); // neither was done, and this one may be what can
    }
  }

  async intend(...[sweep, items]: Parameters<Ledger['intend']>): Promise<OpenBatch> {
    return this.#ledger.intend(sweep, items);
  }

  /** Takes nothing more: what is asked for gets nothing, as at the end of a plan. */
  stop(): void {
    this.#isStopped = true;
    this.#waiting?.resolve(NOTHING);
    this.#waiting = undefined;
  }
}
