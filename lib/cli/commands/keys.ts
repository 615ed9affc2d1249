import { setImmediate } from 'node:timers/promises';
import { printable } from '../../domain/key.ts';
import { allKeys } from '../../reader/all-keys.ts';
import type { ListedKey } from '../../reader/reader.ts';
import { type Call, type OptionTable, type Page, refuseOperands } from '../command.ts';
import { durationOf, prefixOf } from '../filters.ts';
import { openedReader, openedSession } from '../reading.ts';
import { untilSignalled } from '../signals.ts';

export const manual = {
  synopsis: [
    'keys [--prefix P] [--fence-timeout T] [--no-lease]',
    '--url URL keys [--prefix P] [--no-lease]',
  ],
  description: [
    'Lists live keys, in their order. A lease keeps sweeps away meanwhile, and those under',
    'way are waited for. The list is complete if the exit code is 0. Inside with-lease, its',
    'lease is used. With --no-lease nothing is kept away and nothing written, and keys that',
    'are only pending are listed too, by their newest pending copy, which may have expired',
    'long before. What is no object (a link, a name that is no key) is told on stderr. A key',
    'with odd characters is shown as a JSON string; programs take --json.',
  ],
  examples: [
    ['keys --prefix metadata/', 'what is live below metadata/'],
    ['--json --url file:///srv/backups/mainnet keys --no-lease', 'all that can be read'],
  ],
} as const satisfies Page;

export const options = {
  prefix: { takes: 'P', says: 'Only keys that begin so.', default: '' },
  'fence-timeout': { takes: 'T', says: 'How long to wait for sweeps and purges under way; 60s.' },
  'no-lease': { says: 'Without a lease; also what is only pending.' },
} as const satisfies OptionTable;

export async function run(call: Call<typeof options>): Promise<number> {
  refuseOperands(call, 'keys', (first) => `for what begins with it: --prefix ${JSON.stringify(first)}`);
  const { options: given } = call;
  const prefix = prefixOf(given.prefix);
  const fenceTimeout = durationOf('--fence-timeout', given['fence-timeout']);
  if (given['no-lease']) return withoutLease(call, prefix);
  return untilSignalled(call.out, async (signal) => {
    try {
      return await underLease(call, prefix, fenceTimeout, signal);
    } catch (error) {
      if (error === signal.reason) return 0; // the signal has an exit code of its own
      throw error;
    }
  });
}

async function underLease(
  call: Call,
  prefix: string,
  fenceTimeout: number | undefined,
  signal: AbortSignal,
): Promise<number> {
  const session = await openedSession(call, { prefixes: [prefix], fenceTimeout, signal });
  try {
    for (const page of session.view()) {
      for (const { key, size } of page) print(call, { key, size, location: 'live', id: null });
      await setImmediate(); // signals and renewals get their turn
      if (call.out.isClosed || signal.aborted) break;
    }
  } finally {
    await session.close();
  }
  return 0;
}

async function withoutLease(call: Call, prefix: string): Promise<number> {
  const reader = await openedReader(call, { isUnleased: true });
  try {
    for await (const page of allKeys(reader, prefix)) {
      for (const listed of page) print(call, listed);
      if (call.out.isClosed) break;
    }
  } finally {
    reader.close();
  }
  return 0;
}

function print({ out }: Call, { key, size, location, id }: ListedKey): void {
  out.result({ type: 'key', key, size, location, id }, () => printable(key));
}
