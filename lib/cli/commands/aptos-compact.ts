import { guardsOf, type OpenPlace } from '../../app/open.ts';
import { recover } from '../../app/recover.ts';
import { type CompactedOutcome, type CompactResult, compact } from '../../compact/compact.ts';
import { selectStores } from '../../config/load.ts';
import { TombstonedError } from '../../domain/errors.ts';
import { printable, quote } from '../../domain/key.ts';
import { parseDuration } from '../../domain/quantities.ts';
import type { HandOutcome } from '../../sweep/hand-outcome.ts';
import type { Call, OptionTable } from '../command.ts';
import { configOf } from '../config-of.ts';
import { usageError } from '../fail.ts';
import type { Problem } from '../failures.ts';
import { inEachPlace, withCatalog } from '../opened.ts';
import type { Output } from '../output.ts';
import { withProgress } from '../progress.ts';
import { untilSignalled } from '../signals.ts';
import { aptosStores } from '../store-choice.ts';
import { byReason, counted } from '../wording.ts';

/** Of `aptos compact`: the original's, and ours. */
export const compactOptions = {
  'epoch-ending-file-compact-factor': {
    takes: 'N',
    says: 'With compact: lines of a compacted file of epoch endings; otherwise as the config\nhas it, which is 100 unless set.',
  },
  'state-snapshot-file-compact-factor': {
    takes: 'N',
    says: 'With compact: lines of a compacted file of state snapshots; otherwise as the config\nhas it, which is 100 unless set.',
  },
  'transaction-file-compact-factor': {
    takes: 'N',
    says: 'With compact: lines of a compacted file of transactions; otherwise as the config\nhas it, which is 100 unless set.',
  },
  'remove-compacted-file-after': {
    takes: 'TIME',
    says: 'With compact: how long a file stays after it was replaced, such as 1d, or a number of\nseconds as the original takes it. Otherwise as the config has it, 1d unless set.',
  },
  'dry-run': { says: 'With compact: shows what would be done, and changes nothing.' },
} as const satisfies OptionTable;

interface Settings {
  readonly factors: { epochEndings: number; stateSnapshots: number; transactions: number };
  readonly removeAfter: number;
  readonly dryRun: boolean;
}

/** What was given, over what the config has for the daemon. */
export async function runCompact(call: Call<typeof compactOptions>): Promise<number> {
  const { out, options: given } = call;
  const asked = {
    epochEndings: factorOf(given, 'epoch-ending-file-compact-factor'),
    stateSnapshots: factorOf(given, 'state-snapshot-file-compact-factor'),
    transactions: factorOf(given, 'transaction-file-compact-factor'),
    removeAfter: removeAfterOf(given['remove-compacted-file-after']),
  };
  const config = configOf(call);
  const stores = aptosStores(selectStores(config, given.store), given.store);
  return withCatalog(config, async (catalog) =>
    untilSignalled(out, async (signal) =>
      inEachPlace({ catalog, stores, out, signal }, async (place) => {
        const { factors, removeAfter } = place.config.aptos;
        const settings = {
          factors: {
            epochEndings: asked.epochEndings ?? factors.epochEndings,
            stateSnapshots: asked.stateSnapshots ?? factors.stateSnapshots,
            transactions: asked.transactions ?? factors.transactions,
          },
          removeAfter: asked.removeAfter ?? removeAfter,
          dryRun: given['dry-run'],
        };
        return compactOne(place, settings, signal, out);
      }),
    ),
  );
}

function factorOf(
  given: Call<typeof compactOptions>['options'],
  option: Extract<keyof typeof compactOptions, `${string}factor`>,
): number | undefined {
  const text = given[option];
  if (text === undefined) return undefined;
  if (/^[1-9]\d{0,8}$/.test(text)) return Number(text);
  throw usageError(`--${option} is ${quote(text)}`, 'give a whole number from 1 up, such as 100', text);
}

function removeAfterOf(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const ms = /^\d{1,10}$/.test(text) ? Number(text) * 1000 : parseDuration(text);
  if (ms !== undefined) return ms;
  const hint = 'give a duration such as 1d or 36h, or seconds';
  throw usageError(`--remove-compacted-file-after is ${quote(text)}`, hint, text);
}

async function compactOne(
  place: OpenPlace,
  settings: Settings,
  signal: AbortSignal,
  out: Output,
): Promise<Problem[]> {
  const { dryRun } = settings;
  const { name: store, limits, throttle } = place.config;
  // A dry run takes what a dead run has left as it is.
  if (!dryRun) await recover(place);
  const result = await withProgress(out, store, async (progress) =>
    compact(place, {
      ...settings,
      guards: guardsOf(place.config),
      limits,
      concurrency: throttle.concurrency,
      signal,
      onCompacted: ({ key, lines, outcome }) => {
        if (outcome === 'there' && !out.isJson) return;
        out.result(
          { type: 'compacted', key, store, lines, outcome, dryRun },
          () => `${printable(key)}  ${counted(lines, 'line')}, ${compactedText(outcome, dryRun)}`,
        );
      },
      onReplaced: (outcome) => tellReplaced(outcome, store, dryRun, out),
      onRead: (files) => progress.update(files),
      onProgress: (done, total) => progress.update(done, total),
    }),
  );
  summarize(result, store, dryRun, out);
  return problemsOf(result, store);
}

function compactedText(outcome: CompactedOutcome, dryRun: boolean): string {
  const would = dryRun ? 'would be ' : '';
  if (outcome === 'there') return 'there, whole';
  return outcome === 'written'
    ? `${would}written`
    : `${would}written again: it did not hold all of its lines`;
}

function tellReplaced(
  { key, id, outcome, detail, reason }: HandOutcome,
  store: string,
  dryRun: boolean,
  out: Output,
): void {
  if (out.isJson) {
    out.line(JSON.stringify({ type: 'tombstoned', key, store, id, outcome, detail, reason, dryRun }));
    return;
  }
  // All of them are over a limit together, which is told once.
  if (outcome === 'already' || reason === 'limit') return;
  const shown = printable(key);
  if (outcome === 'tombstoned') {
    if (dryRun) out.line(`${shown}  would be tombstoned`);
    return;
  }
  out.talk(`${shown} stays: ${detail ?? outcome}`);
}

function summarize(result: CompactResult, store: string, dryRun: boolean, out: Output): void {
  const { files, lines, written, there, redone, waiting, expired, tombstoned, failed, kept } = result;
  if (out.isJson) {
    const { sweep, timestamps } = result;
    out.line(
      JSON.stringify({
        type: 'compact',
        store,
        files,
        lines,
        written,
        there,
        redone,
        waiting,
        expired,
        tombstoned,
        failed,
        kept: Object.fromEntries(kept),
        timestamps,
        sweep,
        dryRun,
      }),
    );
    return;
  }
  const would = dryRun ? 'would have ' : '';
  const parts = [`${would}written ${counted(written, 'compacted file')}`];
  if (redone > 0) parts.push(`${redone} again`);
  if (there > 0) parts.push(`${there} were there`);
  out.line(`${store}: ${counted(lines, 'line')} in ${counted(files, 'metadata file')}: ${parts.join(', ')}`);
  const rest = [`${would}tombstoned ${tombstoned} of ${expired} replaced for long enough`];
  if (failed > 0) rest.push(out.styled('red', `${failed} failed`));
  if (kept.size > 0) rest.push(`kept ${byReason(kept)}`);
  rest.push(`${waiting} wait`);
  out.line(`${store}: ${rest.join(', ')}${result.sweep === null ? '' : ` (sweep ${result.sweep})`}`);
}

function problemsOf({ failed, over }: CompactResult, store: string): Problem[] {
  const problems: TombstonedError[] = [];
  if (failed > 0) {
    problems.push(
      new TombstonedError('failed', `${store}: ${counted(failed, 'replaced file')} could not be moved`, {
        reason: 'error',
        key: store,
        hint: 'the lines above say which, and why',
      }),
    );
  }
  if (over !== null) {
    problems.push(
      new TombstonedError('blocked', `${store}: what was replaced stays: ${over}`, {
        reason: 'limit',
        key: store,
        hint: 'it is in compacted files: raise the limits of the store in the config for this',
      }),
    );
  }
  return problems.map((error) => ({ error, isTold: false }));
}
