import { serveBook } from '../run/book.ts';
import { CatalogLedger } from './ledger.ts';
import { type Answer, crossing, type Request } from './ledger-thread.ts';

// The catalog's thread of a large purge.

serveBook<Request, Answer>((book, run) => {
  const ledger = new CatalogLedger(book, run, null);
  return (request) => {
    switch (request.ask) {
      case 'find': {
        const found = ledger.find(request.find);
        return found === undefined ? null : { found };
      }
      case 'take':
        return crossing(ledger.takeRows(request.take));
      case 'record':
        ledger.record(request.record);
        return null;
      case 'recordAndTake':
        return crossing(ledger.recordAndTakeRows(request.record, request.take));
    }
  };
});
