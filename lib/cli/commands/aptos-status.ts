import { type AptosStatus, aptosStatus, type PolicyOutlook, policyOutlooks } from '../../app/aptos-status.ts';
import { openForReading } from '../../app/open-store.ts';
import { allGaps, type Gap } from '../../aptos/restore-plan.ts';
import type { MetadataView } from '../../aptos/view.ts';
import { selectStores } from '../../config/load.ts';
import { storeConfigFromUrl } from '../../config/store-url.ts';
import { isoTime, systemClock } from '../../domain/clock.ts';
import { TombstonedError } from '../../domain/errors.ts';
import { printable } from '../../domain/key.ts';
import { formatDuration, formatSize } from '../../domain/quantities.ts';
import type { Unread } from '../../metadata/survey.ts';
import { gapText, versionText } from '../aptos-wording.ts';
import { configOf } from '../config-of.ts';
import { Failures, type Problem } from '../failures.ts';
import { inEachPlace, withCatalog } from '../opened.ts';
import { urlOf } from '../reading.ts';
import { untilSignalled } from '../signals.ts';
import { aptosStores } from '../store-choice.ts';
import { byReason, counted } from '../wording.ts';
import type { AptosCall } from './aptos.ts';

/** `aptos status`: of a store by its URL, or of each store of the config that has the format. */
export async function status(call: AptosCall): Promise<number> {
  const { out } = call;
  const url = urlOf(call);
  if (url !== undefined) return untilSignalled(out, async (signal) => byUrl(call, url, signal));
  const config = configOf(call);
  const stores = aptosStores(selectStores(config, call.options.store), call.options.store);
  return withCatalog(config, async (catalog) =>
    untilSignalled(out, async (signal) =>
      inEachPlace({ catalog, stores, out, signal }, async (place) => {
        const { concurrency } = place.config.throttle;
        const found = await aptosStatus(place.store, { concurrency, signal });
        const outlooks = await policyOutlooks(place, signal, (key, why) =>
          out.talk(`${printable(key)} stays: ${why}`),
        );
        return tell(call, place.config.name, place.store.url, found, outlooks);
      }),
    ),
  );
}

async function byUrl(call: AptosCall, url: string, signal: AbortSignal): Promise<number> {
  const config = storeConfigFromUrl(url);
  const store = await openForReading(config);
  const failures = new Failures(call.out);
  try {
    const found = await aptosStatus(store, { concurrency: config.throttle.concurrency, signal });
    for (const { error } of tell(call, url, url, found, null)) failures.add(error);
  } catch (error) {
    if (error !== signal.reason || !signal.aborted) failures.add(error);
  } finally {
    store.close();
  }
  return failures.end();
}

/** Tells it, and gives what is not well. */
function tell(
  { out }: AptosCall,
  name: string,
  url: string,
  found: AptosStatus,
  outlooks: readonly PolicyOutlook[] | null,
): Problem[] {
  out.result(objectOf(name, url, found, outlooks), () => textOf(name, url, found, outlooks).join('\n'));
  const { unread, live, files } = found.survey;
  const undecided = (outlooks ?? []).flatMap((one) =>
    'error' in one ? [{ error: one.error, isTold: false }] : [],
  );
  const gaps = allGaps(live);
  if (unread.length === 0 && gaps.length === 0 && files > 0) return undecided;
  const parts = [
    ...(unread.length > 0 ? [`${counted(unread.length, 'metadata file')} can't be relied on`] : []),
    ...(gaps.length > 0 ? [`there ${gaps.length === 1 ? 'is 1 gap' : `are ${gaps.length} gaps`}`] : []),
    ...(files === 0 ? ['it has no metadata file that is whole'] : []),
  ];
  const error = new TombstonedError('unwell', `${name}: ${parts.join(', and ')}`, {
    key: unread[0]?.key ?? name,
    hint:
      unread[0] === undefined
        ? 'see what is gone and can be brought back: tombstonectl ls --prefix metadata/'
        : 'put back whole copies, or move them out of metadata/ where nothing can',
  });
  return [...undecided, { error, isTold: false }];
}

/** Numbers of 64 bits are texts. */
function objectOf(
  name: string,
  url: string,
  { survey, metadataBackup }: AptosStatus,
  outlooks: readonly PolicyOutlook[] | null,
) {
  const { live, withPending, files, pendingFiles, unread, pendingUnread, compacted, timestamps } = survey;
  return {
    type: 'aptos-status',
    store: name,
    url,
    live: { files, ...sideOf(live, unread.length === 0) },
    withPending: { files: files + pendingFiles, ...sideOf(withPending, unread.length === 0) },
    malformed: [...unread, ...pendingUnread].map(({ key, id, error }) => ({
      key,
      id,
      message: error.message,
    })),
    compacted,
    compactedAt: timestamps === null ? null : isoTime(secondsAsMs(timestamps.fileCompactedAt)),
    replaced: replacedIn(timestamps),
    others: survey.others,
    policies:
      outlooks?.map((one) =>
        'error' in one
          ? {
              policy: one.policy,
              planned: null,
              bytes: null,
              kept: null,
              over: null,
              error: one.error.message,
            }
          : { ...one, kept: Object.fromEntries(one.kept), error: null },
      ) ?? null,
    metadataBackup: { ...metadataBackup, lastMovedAt: isoTime(metadataBackup.lastMovedAt) },
  };
}

function sideOf(view: MetadataView, isRead: boolean) {
  const { version, lastEpoch, lastTransaction, snapshot } = view.restorable();
  return {
    restorableTo: isRead ? digits(version) : null,
    reaches: digits(version),
    snapshot: digits(snapshot?.version ?? null),
    epochs: epochsIn(view).toString(),
    lastEpoch: digits(lastEpoch),
    transactions: view.transactions.length,
    lastVersion: digits(lastTransaction),
    snapshots: view.snapshots.length,
    usableSnapshots: view.usableSnapshots(),
    gaps: allGaps(view).map(gapObject),
  };
}

function digits(value: bigint | null): string | null {
  return value?.toString() ?? null;
}

export function gapObject({ of, kind, first, last }: Gap) {
  return { of, kind, first: first.toString(), last: last.toString() };
}

function replacedIn(timestamps: AptosStatus['survey']['timestamps']): number {
  let count = 0;
  for (const at of timestamps?.timestamps.values() ?? []) if (at !== null) count += 1;
  return count;
}

/** A time that a metadata file gives; null of one that no date can be. */
function secondsAsMs(seconds: bigint): number | null {
  return seconds <= LAST_SECOND ? Number(seconds) * 1000 : null;
}

/** The last that a Date can hold. */
const LAST_SECOND = 8_640_000_000_000n;

/** How many epochs' ends there are, each once. */
function epochsIn(view: MetadataView): bigint {
  let [count, next] = [0n, 0n];
  for (const { firstEpoch, lastEpoch } of view.epochEndings) {
    const first = firstEpoch > next ? firstEpoch : next;
    if (lastEpoch < first) continue;
    count += lastEpoch - first + 1n;
    next = lastEpoch + 1n;
  }
  return count;
}

/** How many files of a kind are named in the text; `--json` has all. */
const MOST_NAMED = 40;

function textOf(
  name: string,
  url: string,
  { survey, metadataBackup }: AptosStatus,
  outlooks: readonly PolicyOutlook[] | null,
): string[] {
  const { live, withPending, files, pendingFiles, unread, pendingUnread, compacted, timestamps } = survey;
  const now = summaryOf(live, unread.length);
  const after = summaryOf(withPending, unread.length);
  const isSame = now.join() === after.join();
  const lines = [name === url ? url : `${name}  ${url}`, ...labelled('live', now)];
  if (pendingFiles > 0 || !isSame) lines.push(...labelled('+ pending', isSame ? ['the same'] : after));
  lines.push(...labelled('files', [`${counted(files, 'metadata file')} live, ${pendingFiles} pending`]));
  lines.push(...malformedLines(unread, 'malformed'), ...malformedLines(pendingUnread, 'pending'));
  if (compacted.length > 0) lines.push(...labelled('compacted', bounded(compacted.map(printable))));
  if (timestamps !== null) {
    const { fileCompactedAt } = timestamps;
    const at = isoTime(secondsAsMs(fileCompactedAt)) ?? `second ${fileCompactedAt}`;
    lines.push(
      ...labelled('replaced', [`${counted(replacedIn(timestamps), 'file')}, as of the compaction at ${at}`]),
    );
  }
  if (survey.others.length > 0)
    lines.push(
      ...labelled('others', [
        'no metadata files, but the tools may read them so:',
        ...survey.others.map(printable),
      ]),
    );
  if (outlooks !== null) lines.push(...labelled('policies', policyLines(outlooks)));
  return [...lines, ...metadataBackupLines(metadataBackup)];
}

/** How long after the last file came it is said that the original compactor still moves some. ms. */
const STILL_MS = 3 * 86_400_000;

function metadataBackupLines({ files, bytes, lastMovedAt }: AptosStatus['metadataBackup']): string[] {
  if (files === 0 || lastMovedAt === null) return [];
  const what = `${counted(files, 'file')}, ${formatSize(bytes)}, the last at ${isoTime(lastMovedAt)}`;
  if (systemClock.now() - lastMovedAt > STILL_MS)
    return labelled('moved away', [`to metadata_backup/: ${what}; none for ${formatDuration(STILL_MS)}`]);
  return labelled('warning', [
    `the original compactor still moves files to metadata_backup/: ${what}.`,
    'A restore that has listed one fails, or has a hole: compact with tombstonectl aptos compact instead (docs/aptos.md)',
  ]);
}

function summaryOf(view: MetadataView, unread: number): string[] {
  const { version, snapshot, lastEpoch, lastTransaction } = view.restorable();
  const gaps = allGaps(view);
  const epochs = epochsIn(view);
  const range = lastEpoch === null || gaps.some(({ of }) => of === 'epochs') ? '' : ` (0-${lastEpoch})`;
  const to = gaps.some(({ of }) => of === 'versions') ? '' : ` to version ${versionText(lastTransaction)}`;
  const usable = view.usableSnapshots();
  const all = view.snapshots.length;
  const parts = [
    `${epochs} epoch${epochs === 1n ? '' : 's'}${range}`,
    `${counted(view.transactions.length, 'transaction file')}${lastTransaction === null ? '' : to}`,
    `${counted(all, 'snapshot')}${usable === all ? '' : ` (${usable} usable)`}`,
    gaps.length === 0 ? 'no gap' : counted(gaps.length, 'gap'),
  ];
  const from =
    snapshot === null
      ? 'from the first transaction'
      : `from the snapshot at ${versionText(snapshot.version)} (epoch ${snapshot.epoch})`;
  const reach =
    version === null ? 'nothing can be restored' : `restorable to version ${versionText(version)}, ${from}`;
  return [
    parts.join(', '),
    unread === 0
      ? reach
      : `the original tools refuse it while ${counted(unread, 'file')} can't be relied on; without: ${reach}`,
    ...bounded(gaps.map(gapText)),
  ];
}

function malformedLines(unread: readonly Unread[], label: string): string[] {
  return labelled(
    label,
    bounded(unread.map(({ id, error }) => printable(`${error.message}${id === null ? '' : ` [${id}]`}`))),
  );
}

function policyLines(outlooks: readonly PolicyOutlook[]): string[] {
  if (outlooks.length === 0) return ['none, so nothing expires'];
  return outlooks.map((one) => {
    if ('error' in one) return `${one.policy}: not known, as it can't decide: ${one.error.message}`;
    const { policy, planned, bytes, kept, over } = one;
    const keeps = kept.size === 0 ? '' : `, keeps ${byReason(kept)}`;
    const limit = over === null ? '' : `; over a limit, so it would wait for approve: ${over}`;
    return `${policy} would remove ${counted(planned, 'object')}, ${formatSize(bytes)}${keeps}${limit}`;
  });
}

function labelled(label: string, lines: readonly string[]): string[] {
  return lines.map((line, i) => `  ${(i === 0 ? label : '').padEnd(10)}  ${line}`);
}

function bounded(lines: readonly string[]): string[] {
  if (lines.length <= MOST_NAMED) return [...lines];
  return [...lines.slice(0, MOST_NAMED), `and ${lines.length - MOST_NAMED} more; --json has all`];
}
