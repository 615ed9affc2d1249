import { quote } from '../../domain/key.ts';
import type { Call, OptionTable, Page } from '../command.ts';
import { usageError } from '../fail.ts';
import { compactOptions, runCompact } from './aptos-compact.ts';

export const manual = {
  synopsis: [
    'aptos status',
    'aptos plan [--target-version V]',
    'aptos fetch [--target-version V] --to DIR [--no-lease]',
    '--url URL aptos status|plan|fetch ...',
    'aptos compact [--dry-run] [--remove-compacted-file-after TIME] [--...-factor N]',
  ],
  description: [
    'For stores with the backups of Aptos-family nodes (format: aptos).',
    '',
    'status says what could be restored now, from live metadata files and with pending copies;',
    'gaps, with their exact ranges; files that are malformed; what each policy would remove; and',
    'whether the original compactor still moves files to metadata_backup/. The exit code is 7',
    'when there is a gap or a malformed file among the live ones.',
    '',
    'plan lists the manifests that a restore to version V needs, in the order in which the',
    'original tools read them. Each is looked for, live and pending. The exit code is 6 when',
    'one is missing, or when there is a gap on the way to V: each is told on stderr.',
    '',
    'fetch brings all that such a restore needs into a directory, from which the original tools',
    'restore as from local files: metadata, manifests, and the chunks that they name. It is a',
    'session, as fetch is; run it again when it was stopped. Nothing is brought where there is',
    'a gap; otherwise all that is there, and the exit code is 6 when a file is missing.',
    '',
    'Without --target-version it is the newest version that can be restored to.',
    '',
    'compact does what db-tool backup-maintenance compact does: it writes the lines of many',
    'metadata files into few, under the names that the tools know, and what was replaced for',
    'long enough is tombstoned: it can still be read and restored. Each compacted file is whole',
    'before it has its name, and one that was cut short is written again. A gap, or a metadata',
    'file that cannot be read, is an error, and nothing is changed.',
  ],
  examples: [
    ['aptos status', 'what could be restored now'],
    ['aptos plan --target-version 66100000', 'what a restore needs'],
    ['aptos fetch --target-version 66100000 --to /restore', 'bring it here'],
    ['--url file:///srv/backups/mainnet aptos status', 'by the store alone, without its policies'],
    ['aptos compact --dry-run', 'what would be written, and what would go'],
    ['aptos compact --store mainnet', 'by 100, as the original does'],
  ],
} as const satisfies Page;

export const options = {
  'target-version': { takes: 'V', says: 'With plan and fetch: the version to restore to.' },
  to: { takes: 'DIR', says: 'With fetch: where to; made where it is missing.' },
  concurrency: { takes: 'N', says: 'With fetch: how many objects are in flight; 16.' },
  'fence-timeout': { takes: 'T', says: 'With fetch: how long to wait for sweeps and purges under way; 60s.' },
  ttl: { takes: 'T', says: 'With fetch: how long the lease outlives this process, at the most; 1h.' },
  'no-lease': { says: 'With fetch: without a lease, for a read-only mount.' },
  ...compactOptions,
} as const satisfies OptionTable;

export type AptosCall = Call<typeof options>;

interface Subcommand {
  /** Which options it takes. */
  readonly takes: readonly (keyof typeof options)[];
  readonly load: () => Promise<(call: AptosCall) => Promise<number>>;
}

const COMPACT_OPTIONS = [
  'epoch-ending-file-compact-factor',
  'state-snapshot-file-compact-factor',
  'transaction-file-compact-factor',
  'remove-compacted-file-after',
  'dry-run',
] as const satisfies readonly (keyof typeof compactOptions)[];

const SUBCOMMANDS = new Map<string, Subcommand>([
  ['status', { takes: [], load: async () => (await import('./aptos-status.ts')).status }],
  ['plan', { takes: ['target-version'], load: async () => (await import('./aptos-plan.ts')).plan }],
  [
    'fetch',
    {
      takes: ['target-version', 'to', 'concurrency', 'fence-timeout', 'ttl', 'no-lease'],
      load: async () => (await import('./aptos-fetch.ts')).fetch,
    },
  ],
  ['compact', { takes: COMPACT_OPTIONS, load: async () => runCompact }],
]);

const SEE = 'see tombstonectl aptos --help';

export async function run(call: AptosCall): Promise<number> {
  const [action, more] = call.operands;
  const names = [...SUBCOMMANDS.keys()].join(', ');
  if (action === undefined) throw usageError(`aptos needs one of ${names}`, SEE);
  const subcommand = SUBCOMMANDS.get(action);
  if (subcommand === undefined)
    throw usageError(`there is no aptos ${quote(action)}; there are ${names}`, SEE, action);
  if (more !== undefined) throw usageError(`aptos ${action} takes no ${quote(more)}`, SEE, more);
  for (const [name, value] of Object.entries(call.options)) {
    const isOwn = name in options && !subcommand.takes.some((taken) => taken === name);
    if (isOwn && value !== undefined && value !== false)
      throw usageError(`aptos ${action} takes no --${name}`, SEE);
  }
  const act = await subcommand.load();
  return act(call);
}
