import { workerData } from 'node:worker_threads';
import { Catalog, checkCatalogFile } from '../catalog/catalog.ts';
import { systemClock } from '../domain/clock.ts';
import { systemRandom } from '../domain/ids.ts';
import type { Place } from './place.ts';
import { serve, Thread } from './thread.ts';

/** What whoever writes into the catalog for a run needs of its place. */
export type Book = Pick<Place, 'catalog' | 'row' | 'clock' | 'random' | 'safetyWindow'>;

/** Enough for a few batches as text. Left to itself the thread's heap would grow to twice that before it is swept. */
const HEAP = { maxYoungGenerationSizeMb: 4, maxOldGenerationSizeMb: 96 };

/** What the catalog's thread is told at its start. */
interface Settings {
  readonly catalogFile: string;
  readonly identity: string | undefined;
  readonly mayUseReserve: boolean;
  readonly clockTolerance: number;
  readonly store: Place['row'];
  readonly safetyWindow: number;
  readonly run: number;
}

/** Starts a thread with a connection of its own to a place's catalog. Its file calls `serveBook`. */
export function bookThread<Request, Answer>(
  file: URL,
  { catalog, row, safetyWindow }: Book,
  run: number,
): Thread<Request, Answer> {
  const { file: catalogFile, identity, mayUseReserve, clock } = catalog;
  const of = { catalogFile, identity, mayUseReserve, clockTolerance: clock.tolerance };
  const settings: Settings = { ...of, store: row, safetyWindow, run };
  return new Thread({ file, name: "the catalog's thread", settings, limits: HEAP });
}

type Answering<Request, Answer> = (request: Request) => Answer | Promise<Answer>;

/**
 * The thread's side: what answers is made once, for the book of a run. That is opened with the
 * first request, whose answer tells what is wrong with it.
 */
export function serveBook<Request, Answer>(
  answering: (book: Book, run: number) => Answering<Request, Answer>,
): void {
  const settings: Settings = workerData;
  let catalog: Catalog | undefined;
  let answer: Answering<Request, Answer> | undefined;
  const opened = (): Answering<Request, Answer> => {
    const { catalogFile, identity, mayUseReserve, clockTolerance, store, safetyWindow, run } = settings;
    catalog ??= Catalog.open(catalogFile, { mayUseReserve, clockTolerance });
    checkCatalogFile(catalogFile, identity); // a backup may have come to its place: it knows nothing of this run
    return answering({ catalog, row: store, clock: systemClock, random: systemRandom, safetyWindow }, run);
  };
  serve<Request, Answer>({
    answerTo: async (request) => (answer ??= opened())(request),
    onEnd: () => catalog?.close(),
  });
}
