import { refusePendingName } from '../app/explanation.ts';
import type { OpenPlace } from '../app/open.ts';
import { recover } from '../app/recover.ts';
import { isoTime } from '../domain/clock.ts';
import type { KeptReason } from '../domain/kept-reason.ts';
import { printable } from '../domain/key.ts';
import { formatSize } from '../domain/quantities.ts';
import { revisionText } from '../domain/revision.ts';
import { type NowOutcome, type NowTarget, purgeNow } from '../purge/purge-now.ts';
import type { Call, OptionTable } from './command.ts';
import { configOf } from './config-of.ts';
import { usageError } from './fail.ts';
import { reasonOf } from './hold-lines.ts';
import { inEachPlace, withCatalog } from './opened.ts';
import { type Outcome, Outcomes } from './outcomes.ts';
import type { Output } from './output.ts';
import { untilSignalled } from './signals.ts';
import { oneStore } from './store-choice.ts';
import { needTargets, type Targets, targetsOf } from './targets.ts';

/** What `purge` takes for what is named. */
export const NOW_OPTIONS = {
  now: { says: 'Purges the ids and keys that are named, before their window has passed.' },
  reason: { takes: 'TEXT', says: 'With --now: why, for the record.' },
  'all-versions': {
    says: 'With --now: also all other generations of the keys that are pending, and in a bucket\nthat keeps versions the old ones.',
  },
  'from-file': { takes: 'F', says: 'With --now: more ids and keys, one a line; - is stdin.' },
} as const satisfies OptionTable;

type Options = typeof NOW_OPTIONS & { readonly 'dry-run': { readonly says: string } };

/** Refuses what only `--now` takes. */
export function refuseNowOptions({ options: given }: Call<Options>): void {
  const [name] = (['reason', 'from-file', 'all-versions'] as const).filter(
    (one) => given[one] !== undefined && given[one] !== false,
  );
  if (name !== undefined) throw usageError(`--${name} goes with --now`, 'see tombstonectl purge --help');
}

const HINTS = {
  hidden: 'old versions go with --all-versions; other names of a file are yours to remove',
  live: 'a live object is tombstoned first: tombstonectl tombstone KEY, and then named again',
  blocked: 'see what keeps it: tombstonectl explain KEY',
  gone: 'see what there is: tombstonectl explain KEY',
} as const satisfies Partial<Record<NowOutcome['outcome'], string>>;

/** `purge --now`: a line for each as its proof, and a summary. */
export async function purgeNamed(call: Call<Options>): Promise<number> {
  const { out, options: given } = call;
  const targets = await targetsOf(call, given['from-file']);
  const reason = reasonOf(given.reason, 'purge --now');
  needTargets(targets, 'purge --now', 'an id or a key', 'purge');
  const config = configOf(call);
  const store = oneStore(config, given);
  const dryRun = given['dry-run'];
  return withCatalog(
    config,
    async (catalog) =>
      untilSignalled(out, async (signal) =>
        inEachPlace({ catalog, stores: [store], out, signal }, async (place) => {
          if (!dryRun) await recover(place);
          const outcomes = new Outcomes(out);
          const sum = new Sum();
          const problems = await outcomes.of(
            async () =>
              purgeNow(place, {
                targets: nowTargets(place, targets, signal),
                reason,
                allVersions: given['all-versions'],
                dryRun,
                signal,
                onOutcome: (outcome) => {
                  sum.add(outcome);
                  outcomes.add(toldOf(outcome, place, { reason, dryRun, isJson: out.isJson }), outcome.code);
                },
              }),
            HINTS,
          );
          sum.tell(out, store.name, dryRun);
          return problems;
        }),
      ),
    { mayUseReserve: !dryRun },
  );
}

async function* nowTargets(
  { catalog, row, store }: OpenPlace,
  targets: Targets,
  signal: AbortSignal,
): AsyncGenerator<NowTarget> {
  for await (const target of targets.each(signal)) {
    if (target.by === 'key') {
      refusePendingName(store, target.key);
      yield target;
      continue;
    }
    const tombstone = catalog.tombstones.get(target.id);
    if (tombstone !== undefined && tombstone.store !== row.name) {
      throw usageError(
        `${target.id} is of the store ${tombstone.store}, not of ${row.name}`,
        `add --store ${tombstone.store}`,
        target.id,
      );
    }
    yield { ...target, tombstone };
  }
}

/** An outcome as it is told: its object, and what people see of it. */
function toldOf(
  outcome: NowOutcome,
  { row, actor }: OpenPlace,
  { reason, dryRun, isJson }: { reason: string; dryRun: boolean; isJson: boolean },
): Outcome {
  const { key, id, bytes, revision, size, at, checkedAbsentAt, detail, stays } = outcome;
  const more = {
    bytes,
    checkedAbsentAt: isoTime(checkedAbsentAt),
    store: row.name,
    revision: revision === null ? null : revisionText(revision),
    size,
    at: isoTime(at),
    by: actor.by,
    reason,
    kept: outcome.reason,
    stays,
    dryRun,
  };
  const proof = bytes > 0 || outcome.code === null ? proofOf(outcome, actor.by) : undefined;
  const why = [detail, ...stays.map((one) => `${one} stays`)].filter((part) => part !== null).join('; ');
  return {
    type: 'purged',
    key,
    id,
    outcome: outcome.outcome,
    detail: isJson ? detail : why === '' ? null : why,
    reason: outcome.reason,
    more,
    proof,
  };
}

function proofOf(outcome: NowOutcome, by: string): string {
  const { key, id, bytes, revision, at, checkedAbsentAt, detail, stays } = outcome;
  const parts = [
    id,
    revision === null ? null : `revision ${revisionText(revision)}`,
    at === null || outcome.outcome === 'gone' ? null : `removed ${isoTime(at)} by ${by}`,
    checkedAbsentAt === null ? null : `not found ${isoTime(checkedAbsentAt)}`,
    detail,
    ...stays.map((one) => `${one} stays`),
  ].filter((part) => part !== null);
  const name = printable(key ?? id ?? '');
  return `${outcome.outcome.padEnd(8)}  ${name}  ${formatSize(bytes)}  (${parts.map(printable).join(', ')})`;
}

/** What became of all that was named. */
class Sum {
  #due = 0;
  #purged = 0;
  #failed = 0;
  #bytes = 0;
  readonly #kept = new Map<KeptReason, number>();

  add({ outcome, bytes, at, reason }: NowOutcome): void {
    this.#due++;
    this.#bytes += bytes;
    if (outcome === 'purged' || bytes > 0 || (at !== null && outcome !== 'gone')) this.#purged++;
    if (outcome === 'failed') this.#failed++;
    if (reason !== null) this.#kept.set(reason, (this.#kept.get(reason) ?? 0) + 1);
  }

  tell(out: Output, store: string, dryRun: boolean): void {
    const [due, purged, failed, bytes] = [this.#due, this.#purged, this.#failed, this.#bytes];
    if (out.isJson) {
      const kept = Object.fromEntries(this.#kept);
      out.line(JSON.stringify({ type: 'purge', store, due, purged, kept, failed, bytes, dryRun }));
    } else {
      const did = dryRun ? 'would purge' : 'purged';
      out.talk(
        `${store}: ${did} ${purged} of ${due} named, ${formatSize(bytes)}${dryRun ? '; nothing was removed' : ''}`,
      );
    }
  }
}
