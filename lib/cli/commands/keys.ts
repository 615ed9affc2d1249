import { printable } from '../../domain/key.ts';
import { allKeys } from '../../reader/all-keys.ts';
import { type Call, type OptionTable, type Page, refuseOperands } from '../command.ts';
import { prefixOf } from '../filters.ts';
import { openedReader } from '../reading.ts';

export const manual = {
  synopsis: ['keys [--prefix P] [--no-lease]', '--url URL keys [--prefix P] [--no-lease]'],
  description: [
    'Lists live keys, in the order of the store. With --no-lease also keys that are only',
    'pending, by their newest pending copy, which may have expired long before. The list is',
    'complete if the exit code is 0. What is no object (a link, a name that is no key) is',
    'told on stderr. A key with odd characters is shown as a JSON string; programs take',
    '--json.',
  ],
  examples: [
    ['keys --prefix metadata/', 'what is live below metadata/'],
    ['--json --url file:///srv/backups/mainnet keys --no-lease', 'all that can be read'],
  ],
} as const satisfies Page;

export const options = {
  prefix: { takes: 'P', says: 'Only keys that begin so.', default: '' },
  'no-lease': { says: 'Also what is only pending; in the order of the keys.' },
} as const satisfies OptionTable;

export async function run(call: Call<typeof options>): Promise<number> {
  refuseOperands(call, 'keys');
  const { out, options: given } = call;
  const prefix = prefixOf(given.prefix);
  const reader = await openedReader(call);
  try {
    for await (const page of given['no-lease'] ? allKeys(reader, prefix) : reader.liveKeys(prefix)) {
      for (const { key, size, location, id } of page) {
        out.result({ type: 'key', key, size, location, id }, () => printable(key));
      }
      if (out.isClosed) return 0;
    }
  } finally {
    reader.close();
  }
  return 0;
}
