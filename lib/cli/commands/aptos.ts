import { quote } from '../../domain/key.ts';
import type { Call, OptionTable, Page } from '../command.ts';
import { usageError } from '../fail.ts';
import { compactOptions, runCompact } from './aptos-compact.ts';

export const manual = {
  synopsis: [
    'aptos compact [--epoch-ending-file-compact-factor N]',
    '    [--state-snapshot-file-compact-factor N] [--transaction-file-compact-factor N]',
    '    [--remove-compacted-file-after TIME] [--dry-run]',
  ],
  description: [
    'For stores with format: aptos, the backups of Aptos-family nodes.',
    '',
    'compact does what db-tool backup-maintenance compact does: it writes the lines of many',
    'metadata files into few, under the names that the tools know, and what was replaced for',
    'long enough is tombstoned: it can still be read and restored. Each compacted file is whole',
    'before it has its name, and one that was cut short is written again. A gap, or a metadata',
    'file that cannot be read, is an error, and nothing is changed.',
  ],
  examples: [
    ['aptos compact --dry-run', 'what would be written, and what would go'],
    ['aptos compact --store mainnet', 'by 100, as the original does'],
  ],
} as const satisfies Page;

export const options = compactOptions satisfies OptionTable;

export async function run(call: Call<typeof options>): Promise<number> {
  const [action, operand] = call.operands;
  const see = 'see tombstonectl aptos --help';
  if (action !== 'compact') {
    const what = action === undefined ? 'aptos needs compact' : `there is no aptos ${quote(action)}`;
    throw usageError(what, see, action);
  }
  if (operand !== undefined) throw usageError(`aptos compact takes no ${quote(operand)}`, see, operand);
  return runCompact(call);
}
