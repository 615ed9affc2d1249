import { intentsText, type OpenRows } from '../catalog/tombstones.ts';
import { type Book, serveBook } from '../run/book.ts';
import { CatalogLedger, type TakenRows } from './ledger.ts';
import type { Answer, Request } from './ledger-thread.ts';

// The thread of a `ThreadLedger`: a connection of its own, and one request after the other.

const open = new Map<number, OpenRows>();

serveBook<Request, Answer>((book, run) => {
  const ledger = new CatalogLedger(book, run);
  return async (request) => answerTo(request, book, ledger);
});

async function answerTo(request: Request, { catalog }: Book, ledger: CatalogLedger): Promise<Answer> {
  switch (request.ask) {
    case 'plan':
      catalog.sweeps.planFromText(request.sweep, request.items);
      return null;
    case 'plannedOf':
      return { planned: await ledger.plannedOf(request.sweep, request.cause) };
    case 'dropPlan':
      await ledger.dropPlan(request.sweep);
      return null;
    case 'take':
      return answerOf(ledger.takeRows(request.take));
    case 'record': {
      const batch = open.get(request.batchAt);
      if (batch === undefined) throw new Error(`there is no open batch of ${request.batchAt}`);
      const { exceptions, take } = request;
      const taken = take === undefined ? undefined : ledger.recordAndTakeRows(batch, exceptions, take);
      if (taken === undefined) ledger.recordRows(batch, exceptions);
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
