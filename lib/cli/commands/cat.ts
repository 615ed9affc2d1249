import type { Call, OptionTable, Page } from '../command.ts';
import { usageError } from '../fail.ts';
import { openedReader } from '../reading.ts';
import { keyOnly, targetsOf } from '../targets.ts';

export const manual = {
  synopsis: ['cat KEY', '--url URL cat KEY'],
  description: [
    'Writes the live object; if there is none, its newest pending copy. Needs only to read',
    'the store. Nothing is written, and the exit code is 3, when the object is in neither',
    'place. Inside with-lease, nothing is believed once its lease is lost: exit code 5. A key',
    'that begins with - goes after --.',
  ],
  examples: [
    ['cat metadata/a.meta > a.meta', 'by the config'],
    ['--url file:///srv/backups/mainnet cat metadata/a.meta', 'by the store alone'],
  ],
} as const satisfies Page;

export const options = {} as const satisfies OptionTable;

export async function run(call: Call<typeof options>): Promise<number> {
  const { named } = await targetsOf(call);
  const [target] = named;
  if (target === undefined || named.length > 1) {
    throw usageError('cat needs one key', 'see tombstonectl cat --help');
  }
  const key = keyOnly(target, 'cat');
  const reader = await openedReader(call);
  try {
    const object = await reader.open(key);
    await call.out.bytes(object.read());
    await reader.confirm();
  } finally {
    reader.close();
  }
  return 0;
}
