import type { OpenPlace } from '../../app/open.ts';
import { recover } from '../../app/recover.ts';
import { newestOfKey, pagesBelow, pagesOfSweep, withoutRepeats } from '../../app/restorable.ts';
import type { Tombstone } from '../../catalog/tombstones.ts';
import { type ErrorCode, TombstonedError } from '../../domain/errors.ts';
import { parseKey, quote } from '../../domain/key.ts';
import { type RestoreOutcome, restore } from '../../restore/restore.ts';
import type { Call, OptionTable, Page } from '../command.ts';
import { configOf } from '../config-of.ts';
import { usageError } from '../fail.ts';
import { prefixOf, timeOf } from '../filters.ts';
import { inEachPlace, withCatalog } from '../opened.ts';
import { Outcomes } from '../outcomes.ts';
import { untilSignalled } from '../signals.ts';
import { oneStore } from '../store-choice.ts';
import { sweepIdOf } from '../sweep-choice.ts';
import { needTargets, type Target, type Targets, targetsOf } from '../targets.ts';

const PAGE = 500;

export const manual = {
  synopsis: [
    'restore ID|KEY... [--from-file F] [--force] [--dry-run]',
    'restore --sweep ID|last [--force] [--dry-run]',
    'restore --prefix P [--since T] [--force] [--dry-run]',
    'restore ID|KEY --to KEY [--force] [--dry-run]',
  ],
  description: [
    'Puts objects back where they were; of a key, its newest tombstone. A live object in the',
    'way is a conflict and nothing changes, unless --force is given: then that one is',
    'tombstoned first, so that both survive. Policies leave restored objects alone for a',
    'while (exemptAfterRestore). The pending copy stays until it is purged.',
    '',
    'A file has an id or a key a line. # begins a comment; a line that begins with { is JSON',
    'with a "key" or an "id", as ls --json writes it. A key that begins with - goes after --.',
  ],
  examples: [
    ['restore metadata/a.meta', 'one object'],
    ['restore --sweep last --dry-run', 'what undoing the last sweep would do'],
    ['restore --prefix metadata/ --since 24h', 'what went within a day'],
  ],
} as const satisfies Page;

export const options = {
  sweep: { takes: 'ID', says: 'All that this sweep moved; last is the newest that moved something.' },
  prefix: { takes: 'P', says: 'All whose keys begin so.' },
  since: {
    takes: 'T',
    says: 'With --prefix: only what was tombstoned since then. ISO 8601, or 36h for 36 hours ago.',
  },
  to: { takes: 'KEY', says: 'Makes this live key instead; the tombstone stays pending.' },
  force: { says: 'Tombstones a live object that is in the way.' },
  'from-file': { takes: 'F', says: 'More ids and keys, one a line; - is stdin.' },
  'dry-run': { says: 'Shows what would come back, and changes nothing.' },
} as const satisfies OptionTable;

type Options = typeof options;

const CODES = {
  restored: null,
  unchanged: null,
  conflict: 'conflict',
  gone: 'not-found',
  blocked: 'blocked',
  failed: 'failed',
} as const satisfies Record<RestoreOutcome['outcome'], ErrorCode | null>;

const HINTS = {
  conflict: '--to KEY restores beside it',
  gone: 'see what there is: tombstonectl explain KEY',
  blocked: 'see what keeps it: tombstonectl explain KEY',
} as const;

export async function run(call: Call<Options>): Promise<number> {
  const { out, options: given } = call;
  const targets = await targetsOf(call, given['from-file']);
  const choice = choiceOf(call, targets);
  const to = given.to === undefined ? null : parseKey(given.to);
  if (to !== null && (choice.by !== 'targets' || targets.hasFile || targets.named.length !== 1)) {
    throw usageError('--to takes one tombstone, by its id or key', 'see tombstonectl restore --help');
  }
  const config = configOf(call);
  const store = oneStore(config, given);
  const outcomes = new Outcomes(out);
  return withCatalog(config, async (catalog) =>
    untilSignalled(out, async (signal) =>
      inEachPlace({ catalog, stores: [store], out, signal }, async (place) => {
        if (!given['dry-run']) await recover(place);
        const errors = await outcomes.of(
          async () =>
            restore(place, {
              pages: pagesOf(place, choice, outcomes, signal),
              to,
              force: given.force,
              exemptFor: store.exemptAfterRestore,
              dryRun: given['dry-run'],
              onOutcome: (outcome) => outcomes.add({ type: 'restored', ...outcome }, CODES[outcome.outcome]),
              signal,
            }),
          HINTS,
        );
        if (outcomes.total === 0 && !signal.aborted) nothing(out.talk.bind(out), choice);
        return errors;
      }),
    ),
  );
}

type Choice =
  | { readonly by: 'targets'; readonly targets: Targets }
  | { readonly by: 'sweep'; readonly sweep: string }
  | { readonly by: 'prefix'; readonly prefix: string; readonly since: number | undefined };

/** What is to come back: exactly one of targets, `--sweep` and `--prefix`. */
function choiceOf({ options: given }: Call<Options>, targets: Targets): Choice {
  const hasTargets = targets.named.length > 0 || targets.hasFile;
  const ways = [hasTargets, given.sweep !== undefined, given.prefix !== undefined].filter(Boolean);
  if (ways.length > 1) {
    throw usageError(
      'restore takes ids and keys, or --sweep, or --prefix, not several of them',
      'see tombstonectl restore --help',
    );
  }
  if (given.since !== undefined && given.prefix === undefined) {
    throw usageError('--since goes with --prefix', '--prefix "" is every key');
  }
  if (given.sweep !== undefined) return { by: 'sweep', sweep: given.sweep };
  if (given.prefix !== undefined) {
    const since = given.since === undefined ? undefined : timeOf('--since', given.since, 'ago');
    return { by: 'prefix', prefix: prefixOf(given.prefix), since };
  }
  needTargets(targets, 'restore', 'an id, a key, --sweep or --prefix');
  return { by: 'targets', targets };
}

function pagesOf(
  place: OpenPlace,
  choice: Choice,
  outcomes: Outcomes,
  signal: AbortSignal,
): Iterable<Tombstone[]> | AsyncIterable<Tombstone[]> {
  const { catalog, row } = place;
  switch (choice.by) {
    case 'sweep':
      return pagesOfSweep(catalog, row, sweepIdOf(catalog, [row], choice.sweep));
    case 'prefix':
      return pagesBelow(catalog, row, choice);
    case 'targets':
      return pagesOfTargets(place, choice.targets, outcomes, signal);
  }
}

/** The tombstones that are named. One that nobody has heard of is an outcome too. */
async function* pagesOfTargets(
  place: OpenPlace,
  targets: Targets,
  outcomes: Outcomes,
  signal: AbortSignal,
): AsyncGenerator<Tombstone[]> {
  let page: Tombstone[] = [];
  for await (const target of targets.each(signal)) {
    const tombstone = find(place, target);
    if (tombstone === undefined) {
      const [key, id] = target.by === 'key' ? [target.key, null] : [null, target.id];
      const detail = `there is no tombstone of this ${target.by}`;
      outcomes.add({ type: 'restored', key, id, outcome: 'gone', detail, reason: null }, 'not-found');
      continue;
    }
    page.push(tombstone);
    if (page.length < PAGE) continue;
    yield* withoutRepeats(page);
    page = [];
  }
  yield* withoutRepeats(page);
}

function find({ catalog, row }: OpenPlace, target: Target): Tombstone | undefined {
  if (target.by === 'key') return newestOfKey(catalog, row, target.key);
  const tombstone = catalog.tombstones.get(target.id);
  if (tombstone === undefined || tombstone.store === row.name) return tombstone;
  throw usageError(
    `${target.id} is of the store ${tombstone.store}, not of ${row.name}`,
    `add --store ${tombstone.store}`,
    target.id,
  );
}

/** Nothing was chosen: an empty file is no failure, a prefix that nothing is below is. */
function nothing(talk: (text: string) => void, choice: Choice): void {
  if (choice.by !== 'prefix') {
    talk('nothing to restore');
    return;
  }
  throw new TombstonedError('not-found', `nothing below ${quote(choice.prefix)} can be brought back`, {
    key: choice.prefix,
    hint: 'see what there is: tombstonectl ls --prefix',
  });
}
