import type { RefusedName } from '../../reader/reader.ts';
import type { Call, OptionTable, Page } from '../command.ts';
import { usageError } from '../fail.ts';
import { Failures } from '../failures.ts';
import { bring, broughtText, fetchChoicesOf, intoTarget, noObject } from '../fetching.ts';
import { openedSession } from '../reading.ts';

export const manual = {
  synopsis: ['fetch PREFIX... --to DIR', '--url URL fetch PREFIX... --to DIR [--no-lease]'],
  description: [
    'Brings all live objects below the prefixes into a directory, as they are when it',
    'begins. A lease keeps them from being purged meanwhile; inside with-lease, its lease is',
    'used. A file has its name in DIR only when it is whole and durable. When it was stopped,',
    'run it again: what is there already is not fetched again, and what an earlier fetch',
    'brought that the store no longer lists is told, and stays. Files of others are left as',
    'they are, and the exit code is 4 when they are in the way. The exit code is 6 when an',
    'object is not there as it was listed, or something below the prefixes is no object (a',
    'link, a name that is no key): each is told on stderr. The prefix "" is everything.',
  ],
  examples: [
    ['fetch metadata/ --to /restore', 'by the config'],
    ['--url file:///srv/backups/mainnet fetch metadata/ blocks/ --to /restore', 'by the store alone'],
  ],
} as const satisfies Page;

export const options = {
  to: { takes: 'DIR', says: 'Where to; made where it is missing.' },
  concurrency: { takes: 'N', says: 'How many objects are in flight.', default: '16' },
  'fence-timeout': { takes: 'T', says: 'How long to wait for sweeps and purges under way; 60s.' },
  ttl: { takes: 'T', says: 'How long the lease outlives this process, at the most; 1h.' },
  'no-lease': { says: 'Without a lease: nothing keeps sweeps and purges away. For a read-only mount.' },
} as const satisfies OptionTable;

export async function run(call: Call<typeof options>): Promise<number> {
  const { out, options: given, operands: prefixes } = call;
  if (prefixes.length === 0) throw usageError('fetch needs a prefix', '"" is everything; see fetch --help');
  const { to, concurrency, ...leased } = fetchChoicesOf(out, 'fetch', given);
  return intoTarget(out, to, async (target, signal) => {
    const failures = new Failures(out);
    const onRefusal = (refused: RefusedName): void => failures.add(noObject(refused));
    const session = await openedSession(call, { prefixes, ...leased, signal, onRefusal });
    try {
      const left = 'the store has it no more';
      const how = { prefixes, concurrency, signal, left };
      const result = await bring(out, { source: session, target, failures }, how);
      const { objects, bytes, fromPending, missing, already, isStopped } = result;
      out.result({ type: 'fetch', objects, bytes, fromPending, missing, already, isStopped }, () =>
        broughtText(target.name, result),
      );
    } finally {
      await session.close();
    }
    return failures.end();
  });
}
