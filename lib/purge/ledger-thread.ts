import { type CopyRow, copiesOf, copiesText } from '../catalog/tombstones.ts';
import { messageOf } from '../domain/errors.ts';
import { bookThread } from '../run/book.ts';
import type { Place } from '../run/place.ts';
import { keepHeapSmall } from '../run/small-heap.ts';
import type { Thread } from '../run/thread.ts';
import {
  CatalogLedger,
  type Find,
  type Found,
  type Ledger,
  type Record,
  type Take,
  type Taken,
  type TakenRows,
} from './ledger.ts';

/** After how many that were found a thread of its own is worth its start. */
const MANY = 4000;
/** After how many it goes on there: by then the thread is up, and nobody waits for it. */
const MOST_HERE = 6000;

/** How many of them one batch removes; of a large purge more, as that keeps nobody here from their turns. */
const BATCH = 500;
const LARGE_BATCH = 1000;

/** What the thread is asked. */
export type Request =
  | { readonly ask: 'find'; readonly find: Find }
  | { readonly ask: 'take'; readonly take: Take }
  | { readonly ask: 'record'; readonly record: Record }
  | { readonly ask: 'recordAndTake'; readonly record: Record; readonly take: Take };

/** What it answers; `null` where there is nothing to say. Copies cross as text, which costs the least. */
export type Answer =
  | { readonly found: Found }
  | { readonly taken: Omit<TakenRows, 'rows'> & { readonly copies: string } }
  | null;

/** A page as it crosses threads. */
export function crossing({ rows, ...taken }: TakenRows): Answer {
  return { taken: { ...taken, copies: copiesText(rows) } };
}

/**
 * The ledger of a purge: that of a large one goes on in a thread with a connection of its own,
 * so that SQLite writes while this thread removes. What was found here is taken and recorded here.
 */
export class PurgeLedger {
  readonly #place: Place;
  readonly #run: number;
  readonly #here: CatalogLedger;
  #there: ThreadLedger | undefined;
  #firstThere = Number.POSITIVE_INFINITY;
  #isAlone = false;
  #pages = 0;
  #found = 0;

  /** `erasing`: why what is named goes before its window is over; null where what is due goes. */
  constructor(place: Place, run: number, erasing: string | null) {
    this.#place = place;
    this.#run = run;
    this.#here = new CatalogLedger(place, run, erasing);
    if (place.isThreaded === true) keepHeapSmall();
  }

  /** The next page of what is due, as much of it as one batch may have; `most` where that has a bound of its own. */
  async find(
    { now, after }: Pick<Find, 'now' | 'after'>,
    most: number | undefined,
  ): Promise<Found | undefined> {
    const { isThreaded, pace, format } = this.#place;
    const page = this.#newPage();
    if (isThreaded === true && this.#found > MANY) this.#start();
    if (this.#there !== undefined && this.#found > MOST_HERE)
      this.#firstThere = Math.min(this.#firstThere, page);
    const batch = most ?? (page < this.#firstThere ? BATCH : LARGE_BATCH);
    const found = await this.#ledgerOf(page).find({
      page,
      now,
      after,
      most: Math.min(batch, pace?.most ?? batch),
      mostBytes: pace?.mostBytes ?? null,
      isTold: format === 'aptos',
    });
    this.#found += found?.count ?? 0;
    return found;
  }

  /** Starts the thread; where it can't be, or has failed before it was asked for anything, all goes on here. */
  #start(): void {
    const isUsed = this.#firstThere < Number.POSITIVE_INFINITY;
    if (this.#isAlone || isUsed) return;
    try {
      if (this.#there?.failure !== undefined) throw this.#there.failure;
      this.#there ??= new ThreadLedger(this.#place, this.#run);
    } catch (error) {
      this.#isAlone = true;
      this.#there = undefined;
      this.#place.report('warn', `the purge goes on without a thread for its catalog: ${messageOf(error)}`);
    }
  }

  /** A page of what is named. */
  adopt(rows: readonly CopyRow[]): Omit<Found, 'last'> {
    return this.#here.adopt(this.#newPage(), rows);
  }

  #newPage(): number {
    this.#pages += 1;
    return this.#pages;
  }

  #ledgerOf(page: number): Ledger {
    return this.#there === undefined || page < this.#firstThere ? this.#here : this.#there;
  }

  async take(take: Take): Promise<Taken> {
    return this.#ledgerOf(take.page).take(take);
  }

  async record(record: Record): Promise<void> {
    await this.#ledgerOf(record.page).record(record);
  }

  /** Both in one transaction; undefined where that can't be or fails, and nothing of it is done: each goes alone then, and shows what is wrong with it. */
  async recordAndTake(record: Record, take: Take): Promise<Taken | undefined> {
    const ledger = this.#ledgerOf(record.page);
    if (ledger !== this.#ledgerOf(take.page)) return undefined;
    try {
      return await ledger.recordAndTake(record, take);
    } catch (error) {
      this.#place.report('warn', `a batch is recorded without the next one: ${messageOf(error)}`);
      return undefined;
    }
  }

  async close(): Promise<void> {
    await this.#there?.close();
  }
}

/** A ledger in a thread: it answers in the order it is asked. */
class ThreadLedger implements Ledger {
  readonly #thread: Thread<Request, Answer>;

  constructor(place: Place, run: number) {
    this.#thread = bookThread(new URL('./purge-worker', import.meta.url), place, run);
  }

  /** Why it can be asked no more, if so. */
  get failure(): Error | undefined {
    return this.#thread.failure;
  }

  async find(find: Find): Promise<Found | undefined> {
    keepHeapSmall(); // each time: the thread has set it back when it began
    const answer = await this.#thread.ask({ ask: 'find', find });
    if (answer === null) return undefined;
    if (!('found' in answer)) throw new TypeError('the catalog has found nothing');
    return answer.found;
  }

  async take(take: Take): Promise<Taken> {
    return takenOf(await this.#thread.ask({ ask: 'take', take }));
  }

  async record(record: Record): Promise<void> {
    await this.#thread.ask({ ask: 'record', record });
  }

  async recordAndTake(record: Record, take: Take): Promise<Taken> {
    return takenOf(await this.#thread.ask({ ask: 'recordAndTake', record, take }));
  }

  async close(): Promise<void> {
    await this.#thread.close();
  }
}

function takenOf(answer: Answer): Taken {
  if (answer === null || !('taken' in answer)) throw new TypeError('the catalog has given no page');
  return { ...answer.taken, copies: copiesOf(answer.taken.copies) };
}
