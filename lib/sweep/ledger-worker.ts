import { workerData } from 'node:worker_threads';
import { Catalog } from '../catalog/catalog.ts';
import { intentsText, type OpenRows } from '../catalog/tombstones.ts';
import { systemClock } from '../domain/clock.ts';
import { systemRandom } from '../domain/ids.ts';
import { serve } from '../run/thread.ts';
import { CatalogLedger, type TakenRows } from './ledger.ts';
import type { Answer, Request, ThreadSettings } from './ledger-thread.ts';

// The thread of a `ThreadLedger`: a connection of its own, and one request after the other.

const settings: ThreadSettings = workerData;

let catalog: Catalog | undefined;
let ledger: CatalogLedger | undefined;
const open = new Map<number, OpenRows>();

/** Opened with the first request, whose answer tells what is wrong with it. */
function opened(): { catalog: Catalog; ledger: CatalogLedger } {
  if (catalog !== undefined && ledger !== undefined) return { catalog, ledger };
  catalog ??= Catalog.open(settings.catalogFile);
  const row = catalog.storeByName(settings.store);
  if (row === undefined) throw new Error(`the catalog does not know ${settings.store}`);
  const { safetyWindow, run } = settings;
  ledger = new CatalogLedger({ catalog, row, clock: systemClock, random: systemRandom, safetyWindow }, run);
  return { catalog, ledger };
}

async function answerTo(request: Request): Promise<Answer> {
  const { catalog: own, ledger: book } = opened();
  switch (request.ask) {
    case 'plan':
      own.sweeps.planFromText(request.sweep, request.items);
      return null;
    case 'plannedOf':
      return { planned: await book.plannedOf(request.sweep, request.cause) };
    case 'dropPlan':
      await book.dropPlan(request.sweep);
      return null;
    case 'take':
      return answerOf(book.takeRows(request.take));
    case 'record': {
      const batch = open.get(request.batchAt);
      if (batch === undefined) throw new Error(`there is no open batch of ${request.batchAt}`);
      const { exceptions, take } = request;
      const taken = take === undefined ? undefined : book.recordAndTakeRows(batch, exceptions, take);
      if (taken === undefined) book.recordRows(batch, exceptions);
      open.delete(request.batchAt);
      return taken === undefined ? null : answerOf(taken);
    }
  }
}

/** What was taken, as it crosses threads; it is remembered here until it is recorded. */
function answerOf({ open: batch, ...rest }: TakenRows): Answer {
  if (batch === undefined) return { taken: { ...rest, open: null } };
  open.set(batch.batchAt, batch);
  const { rows, ...about } = batch;
  return { taken: { ...rest, open: { ...about, intents: intentsText(rows) } } };
}

serve({ answerTo, onEnd: () => catalog?.close() });
