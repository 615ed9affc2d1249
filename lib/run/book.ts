import { workerData } from 'node:worker_threads';
import { Catalog } from '../catalog/catalog.ts';
import { systemClock } from '../domain/clock.ts';
import { systemRandom } from '../domain/ids.ts';
import type { Place } from './place.ts';
import { serve, Thread } from './thread.ts';

/** What whoever writes into the catalog for a run needs of its place. */
export type Book = Pick<Place, 'catalog' | 'row' | 'clock' | 'random' | 'safetyWindow'>;

/** Enough for a few batches as text. Left to itself the thread's heap would grow to twice that before it is swept. */
const HEAP = { maxYoungGenerationSizeMb: 4, maxOldGenerationSizeMb: 96 };

/** What the catalog's thread is told at its start: what its book is of, and what else it needs. */
interface BookSettings<Own> {
  readonly catalogFile: string;
  readonly mayUseReserve: boolean;
  readonly store: string;
  readonly safetyWindow: number;
  readonly own: Own;
}

/** Starts a thread with a connection of its own to a place's catalog. Its file calls `serveBook`. */
export function bookThread<Own, Request, Answer>(
  file: URL,
  { catalog, row, safetyWindow }: Book,
  own: Own,
): Thread<Request, Answer> {
  const { file: catalogFile, mayUseReserve } = catalog;
  const settings: BookSettings<Own> = { catalogFile, mayUseReserve, store: row.name, safetyWindow, own };
  return new Thread({ file, name: "the catalog's thread", settings, limits: HEAP });
}

/** The thread's side: what it answers with is made once, from its book. It is opened with the first request, whose answer tells what is wrong with it. */
export function serveBook<Own, Request, Answer>(
  answering: (book: Book, own: Own) => (request: Request) => Answer | Promise<Answer>,
): void {
  const settings: BookSettings<Own> = workerData;
  let catalog: Catalog | undefined;
  let answer: ((request: Request) => Answer | Promise<Answer>) | undefined;
  const opened = (): ((request: Request) => Answer | Promise<Answer>) => {
    const { catalogFile, mayUseReserve, store, safetyWindow, own } = settings;
    catalog ??= Catalog.open(catalogFile, { mayUseReserve });
    const row = catalog.storeByName(store);
    if (row === undefined) throw new Error(`the catalog does not know ${store}`);
    return answering({ catalog, row, clock: systemClock, random: systemRandom, safetyWindow }, own);
  };
  serve({
    answerTo: async (request: Request): Promise<Answer> => (answer ??= opened())(request),
    onEnd: () => catalog?.close(),
  });
}
