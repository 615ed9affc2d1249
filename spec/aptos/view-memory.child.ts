// Says how many bytes a line of a large view takes, in a process that does nothing else.
import { setTimeout as passed } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import type { KnownMetadata } from '../../lib/index.ts';
import { transactions, viewOf } from './lines.ts';

const COUNT = 200_000;

setFlagsFromString('--expose-gc');

function memory(): number {
  runInNewContext('gc()');
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
}

function* lines(): Generator<KnownMetadata> {
  for (let n = 0; n < COUNT; n++) {
    const manifest = `transaction_${n}00001-.6754/transaction.manifest`;
    yield transactions(n * 100_000 + 1, (n + 1) * 100_000, manifest);
  }
}

const before = memory();
const view = viewOf(lines());
await passed(500); // what the lines were collected in is given back by a thread
const taken = memory() - before;
process.stdout.write(JSON.stringify({ lines: view.transactions.length, bytesPerLine: taken / COUNT }));
