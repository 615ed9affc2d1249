import { setImmediate } from 'node:timers/promises';
import type { PlanItem } from '../catalog/sweeps.ts';
import { planText } from '../catalog/sweeps.ts';
import { type Intent, intentsOf, type OpenBatch, type Settled } from '../catalog/tombstones.ts';
import { bookThread } from '../run/book.ts';
import type { Place } from '../run/place.ts';
import { keepHeapSmall } from '../run/small-heap.ts';
import type { Thread } from '../run/thread.ts';
import { CatalogLedger, type Ledger, type Planned, type Take, type Taken } from './ledger.ts';

/** From how many planned objects on a thread of its own is worth its start. */
const MANY = 10_000;
/** How many pages of a plan may be on their way to the thread. */
const PAGES_AHEAD = 2;

/** What the thread is asked. Plans and intents cross as JSON text, which costs the least. */
export type Request =
  | { readonly ask: 'plan'; readonly sweep: number; readonly items: string }
  | { readonly ask: 'plannedOf'; readonly sweep: number; readonly cause: number }
  | { readonly ask: 'dropPlan'; readonly sweep: number }
  | { readonly ask: 'take'; readonly take: Take }
  | {
      readonly ask: 'record';
      readonly batchAt: number;
      readonly exceptions: ReadonlyMap<string, Settled>;
      /** What to take in the same transaction. */
      readonly take?: Take;
    };

/** What it answers; `null` where there is nothing to say. */
export type Answer =
  | {
      readonly taken: Omit<Taken, 'open'> & { open: (Omit<OpenBatch, 'moves'> & { intents: string }) | null };
    }
  | { readonly planned: Planned }
  | null;

/**
 * The ledger of a sweep: a large one's in a thread with a connection of its own,
 * so that SQLite writes while this thread moves. Order is kept: what was asked of
 * this thread is committed before the other is asked anything.
 */
export class SweepLedger implements Ledger {
  readonly #place: Place;
  readonly #run: number;
  readonly #here: CatalogLedger;
  #there: ThreadLedger | undefined;
  #planned = 0;

  constructor(place: Place, run: number) {
    this.#place = place;
    this.#run = run;
    this.#here = new CatalogLedger(place, run);
    if (place.isThreaded === true) keepHeapSmall();
  }

  /** The ledger for this many more objects. */
  #ledger(more: number): Omit<Ledger, 'intend' | 'record'> {
    this.#planned += more;
    if (this.#place.isThreaded === true && this.#planned > MANY) {
      this.#there ??= new ThreadLedger(this.#place, this.#run);
    }
    return this.#there ?? this.#here;
  }

  async plan(sweep: number, items: readonly PlanItem[]): Promise<void> {
    await this.#ledger(items.length).plan(sweep, items);
  }

  /** Waits until all of the plan is written. */
  async planned(): Promise<void> {
    await this.#there?.idle();
  }

  async plannedOf(sweep: number, cause: number): Promise<Planned> {
    return this.#ledger(0).plannedOf(sweep, cause);
  }

  async dropPlan(sweep: number): Promise<void> {
    const ledger = this.#there?.hasFailed === true ? this.#here : this.#ledger(0);
    await ledger.dropPlan(sweep);
  }

  async take(take: Take): Promise<Taken> {
    const ledger = this.#ledger(0);
    if (ledger === this.#here) await setImmediate(); // one transaction after the other would keep all else waiting
    return ledger.take(take);
  }

  async intend(sweep: number, items: readonly Intent[]): Promise<OpenBatch> {
    return this.#here.intend(sweep, items);
  }

  async record(open: OpenBatch, exceptions: ReadonlyMap<string, Settled>): Promise<void> {
    const ledger = await this.#ledgerOf(open);
    await ledger.record(open, exceptions);
  }

  async recordAndTake(open: OpenBatch, exceptions: ReadonlyMap<string, Settled>, take: Take): Promise<Taken> {
    const ledger = await this.#ledgerOf(open);
    return ledger.recordAndTake(open, exceptions, take);
  }

  /** The ledger that a batch was taken from; this thread's once others had their turns, as moves keep them waiting too. */
  async #ledgerOf(open: OpenBatch): Promise<Pick<Ledger, 'record' | 'recordAndTake'>> {
    if (this.#there?.knows(open) === true) return this.#there;
    await setImmediate();
    return this.#here;
  }

  async close(): Promise<void> {
    await this.#there?.close();
  }
}

/** A ledger in a thread: it answers in the order it is asked. */
class ThreadLedger implements Omit<Ledger, 'intend'> {
  readonly #thread: Thread<Request, Answer>;
  readonly #open = new Set<number>();
  #plans: Promise<Answer>[] = [];

  constructor(place: Place, run: number) {
    this.#thread = bookThread(new URL('./ledger-worker', import.meta.url), place, run);
  }

  async plan(sweep: number, items: readonly PlanItem[]): Promise<void> {
    keepHeapSmall(); // each time: the thread has set it back when it began
    const asked = this.#thread.ask({ ask: 'plan', sweep, items: planText(items) });
    asked.catch(() => undefined); // it is awaited below, or by `idle`
    this.#plans.push(asked);
    if (this.#plans.length > PAGES_AHEAD) await this.#plans.shift();
  }

  /** Waits until all that was planned is written. */
  async idle(): Promise<void> {
    const plans = this.#plans;
    this.#plans = [];
    await Promise.allSettled(plans); // each is over, also when one fails
    await Promise.all(plans);
  }

  get hasFailed(): boolean {
    return this.#thread.failure !== undefined;
  }

  async plannedOf(sweep: number, cause: number): Promise<Planned> {
    await this.idle();
    const answer = await this.#thread.ask({ ask: 'plannedOf', sweep, cause });
    if (answer === null || !('planned' in answer)) throw new TypeError('the catalog has counted nothing');
    return answer.planned;
  }

  async dropPlan(sweep: number): Promise<void> {
    await this.#thread.ask({ ask: 'dropPlan', sweep });
  }

  async take(take: Take): Promise<Taken> {
    await this.idle();
    return this.#taken(await this.#thread.ask({ ask: 'take', take }));
  }

  #taken(answer: Answer): Taken {
    if (answer === null || !('taken' in answer)) throw new TypeError('the catalog has given no batch');
    const { open, ...rest } = answer.taken;
    if (open === null) return { ...rest, open: undefined };
    this.#open.add(open.batchAt);
    const { intents, ...batch } = open;
    return { ...rest, open: { ...batch, moves: intentsOf(intents) } };
  }

  /** Whether a batch was taken there. */
  knows({ batchAt }: OpenBatch): boolean {
    return this.#open.has(batchAt);
  }

  async record({ batchAt }: OpenBatch, exceptions: ReadonlyMap<string, Settled>): Promise<void> {
    await this.#thread.ask({ ask: 'record', batchAt, exceptions });
    this.#open.delete(batchAt);
  }

  async recordAndTake(
    { batchAt }: OpenBatch,
    exceptions: ReadonlyMap<string, Settled>,
    take: Take,
  ): Promise<Taken> {
    const answer = await this.#thread.ask({ ask: 'record', batchAt, exceptions, take });
    this.#open.delete(batchAt);
    return this.#taken(answer);
  }

  async close(): Promise<void> {
    await this.#thread.close();
  }
}
