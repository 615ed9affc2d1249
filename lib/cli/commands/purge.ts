import type { OpenPlace } from '../../app/open.ts';
import { recover } from '../../app/recover.ts';
import { selectStores } from '../../config/load.ts';
import { TombstonedError } from '../../domain/errors.ts';
import { printable } from '../../domain/key.ts';
import { formatSize } from '../../domain/quantities.ts';
import { type PurgeResult, purge } from '../../purge/purge.ts';
import { type Call, type OptionTable, type Page, refuseOperands } from '../command.ts';
import { configOf } from '../config-of.ts';
import type { Problem } from '../failures.ts';
import { Keepers } from '../keepers.ts';
import { inEachPlace, withCatalog } from '../opened.ts';
import type { Output } from '../output.ts';
import { withProgress } from '../progress.ts';
import { NOW_OPTIONS, purgeNamed, refuseNowOptions } from '../purge-now.ts';
import { untilSignalled } from '../signals.ts';
import { byReason, counted } from '../wording.ts';

export const manual = {
  synopsis: [
    'purge [--store NAME] [--dry-run]',
    'purge --now ID...|KEY... [--from-file F] --reason TEXT [--all-versions] [--dry-run]',
  ],
  description: [
    'Removes the pending copies whose safety window has passed, and nothing else. What a',
    'hold or a lease covers stays, and is told; so does a copy that is not what was',
    'tombstoned. In a bucket that keeps versions, s3.versions says whether old ones go too; those',
    'under an object lock stay, and are tried again when it ends. What a run that died has left',
    'is finished first.',
    '',
    '--now removes what is named before its window has passed: for a request to erase it, or a',
    'full disk. It never goes past a hold, a lease, a batch under way or a clock that is not',
    'trusted. A KEY is what is pending of it; a live object is not touched: tombstone it first.',
    'Each line of the output is a proof: what was removed, when, by whom, and when it was looked',
    'for after that and not found. What stays is told with why: a live object, other generations,',
    'old versions in the bucket, other names (hard links) of the file; the exit code is then 4.',
    '--dry-run tells it before anything is removed.',
    '',
    'A file has an id or a key a line. # begins a comment; a line that begins with { is JSON',
    'with a "key" or an "id", as ls --json writes it. A key that begins with - goes after --.',
  ],
  examples: [
    ['purge --dry-run', 'what is due'],
    ['--json purge | jq .purged', 'for a program'],
    ['purge --now users/17.json --reason "erasure request 4711" --dry-run', 'what would go, and what stays'],
    ['--json purge --now --from-file ids.txt --reason "disk full" > proof.jsonl', 'many'],
  ],
} as const satisfies Page;

export const options = {
  'dry-run': { says: 'Shows what would be removed, and removes nothing.' },
  ...NOW_OPTIONS,
} as const satisfies OptionTable;

export async function run(call: Call<typeof options>): Promise<number> {
  if (call.options.now) return purgeNamed(call);
  refuseNowOptions(call);
  refuseOperands(call, 'purge', () => 'what is named goes before its window with --now --reason TEXT');
  const config = configOf(call);
  const { out, options: given } = call;
  const stores = selectStores(config, given.store);
  return withCatalog(
    config,
    async (catalog) =>
      untilSignalled(out, async (signal) =>
        inEachPlace({ catalog, stores, out, signal }, async (place) =>
          purgeOne(place, { dryRun: given['dry-run'], historyFor: config.historyFor, signal, out }),
        ),
      ),
    { mayUseReserve: !given['dry-run'] },
  );
}

async function purgeOne(
  place: OpenPlace,
  asked: { dryRun: boolean; historyFor: number; signal: AbortSignal; out: Output },
): Promise<Problem[]> {
  const { dryRun, historyFor, signal, out } = asked;
  const store = place.config.name;
  // A dry run takes what a dead run has left as it is.
  if (!dryRun) await recover(place);
  const keepers = new Keepers();
  const result = await withProgress(out, store, async (progress) =>
    purge(place, {
      dryRun,
      historyFor,
      signal,
      onPurged: ({ id, key, size }) => {
        if (dryRun && !out.isJson) out.line(`${id}  ${printable(key)}  ${formatSize(size)}`);
      },
      onKept: ({ key, id }, _, detail, keeper) => {
        // A claim is no failure: the summary says what each keeps.
        if (keeper !== null) keepers.add(keeper);
        else out.talk(`${printable(key)} is not purged: ${detail} (${id})`);
      },
      onProgress: (done) => progress.update(done, done),
    }),
  );
  const { due, purged, kept, failed, bytes, left } = result;
  const counts = { due, purged, kept: Object.fromEntries(kept), failed, bytes, left, dryRun };
  out.result({ type: 'purge', store, ...counts, keepers: keepers.objects() }, () =>
    summary(store, result, dryRun),
  );
  keepers.tell(out);
  if (failed === 0) return [];
  const error = new TombstonedError(
    'failed',
    `${store}: ${counted(failed, 'due object')} could not be purged`,
    {
      reason: 'error',
      key: store,
      hint: 'the lines above say which, and why',
    },
  );
  return [{ error, isTold: false }];
}

function summary(store: string, result: PurgeResult, dryRun: boolean): string {
  const { due, purged, kept, bytes, left, isCut } = result;
  const parts = [
    `${dryRun ? 'would purge' : 'purged'} ${purged} of ${counted(due, 'due object')}, ${formatSize(bytes)}`,
  ];
  if (kept.size > 0) parts.push(`kept ${byReason(kept)}`);
  if (left > 0) parts.push(`the store keeps old versions of ${left} of them`);
  if (isCut) parts.push('stopped before the end: more may be due');
  return `${store}: ${parts.join(', ')}${dryRun ? '; nothing was removed' : ''}`;
}
