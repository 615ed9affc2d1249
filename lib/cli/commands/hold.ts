import type { ClaimPlace } from '../../app/claim-place.ts';
import { refusePendingName } from '../../app/explanation.ts';
import { Holding, type PutHold } from '../../app/put-hold.ts';
import { pagesOfSweep } from '../../app/restorable.ts';
import type { Tombstone } from '../../catalog/tombstones.ts';
import { TombstonedError } from '../../domain/errors.ts';
import { inClaimPlace } from '../claim-places.ts';
import type { Call, OptionTable, Page } from '../command.ts';
import { usageError } from '../fail.ts';
import type { Problem } from '../failures.ts';
import { prefixOf } from '../filters.ts';
import { fenceTimeoutOf, HOLD_OPTIONS, reasonOf, tellHold, untilIn, untilOf } from '../hold-lines.ts';
import { sweepIdOf } from '../sweep-choice.ts';
import { needTargets, type Target, type Targets, targetsOf } from '../targets.ts';
import { counted } from '../wording.ts';

export const manual = {
  synopsis: [
    'hold KEY...|ID... [--from-file F] [--until T] --reason TEXT [--dry-run]',
    'hold --prefix P [--until T] --reason TEXT [--dry-run]',
    'hold --sweep ID|last [--until T] --reason TEXT [--dry-run]',
    '--url URL hold KEY...|ID...|--prefix P ...',
  ],
  description: [
    'Keeps objects until the hold is released, or ends. A hold on keys or on a prefix keeps',
    'live objects from sweeps and pending copies from purges; one on ids, or on what a sweep',
    'has moved, keeps those pending copies from purges. It is in force, and reported, when',
    'every batch that was under way before it is over; if one does not end in time, the exit',
    'code is 5, and the hold stays. The same hold is not made twice.',
    '',
    'A hold is a file in the store: it stays when the catalog is lost or replaced.',
  ],
  examples: [
    ['hold metadata/a.meta --reason "audit 17"', 'one object, live or pending'],
    ['hold --sweep last --until 30d --reason "was it wrong?"', 'what the last sweep moved'],
    ['--url file:///srv/backups/mainnet hold --prefix epochs/ --reason "restore on h2"', ''],
  ],
} as const satisfies Page;

export const options = {
  prefix: { takes: 'P', says: 'All whose keys begin so.' },
  sweep: { takes: 'ID', says: 'All that this sweep moved; last is the newest that moved something.' },
  'from-file': { takes: 'F', says: 'More keys and ids, one a line; - is stdin.' },
  ...HOLD_OPTIONS,
} as const satisfies OptionTable;

type Options = typeof options;

export async function run(call: Call<Options>): Promise<number> {
  const { out, options: given } = call;
  const targets = await targetsOf(call, given['from-file']);
  const choice = choiceOf(call, targets);
  const asked = untilOf(given.until);
  const reason = reasonOf(given.reason, 'hold');
  const fenceTimeout = fenceTimeoutOf(given['fence-timeout']);
  return inClaimPlace(call, async (place, signal) => {
    const until = untilIn(place, given.until, asked);
    const holding = new Holding(place, { until, reason, fenceTimeout, dryRun: given['dry-run'], signal });
    const problems = await gather(place, choice, holding, signal);
    const put = await holding.end((text) => out.talk(text));
    for (const one of put) tellHold(out, place.name, one);
    if (put.length === 0 && problems.length === 0) out.talk('nothing was named: nothing to hold');
    return [...problems, ...goneMeanwhile(place, put)];
  });
}

type Choice =
  | { readonly by: 'targets'; readonly targets: Targets }
  | { readonly by: 'sweep'; readonly sweep: string }
  | { readonly by: 'prefix'; readonly prefix: string };

function choiceOf({ options: given }: Call<Options>, targets: Targets): Choice {
  const hasTargets = targets.named.length > 0 || targets.hasFile;
  const ways = [hasTargets, given.sweep !== undefined, given.prefix !== undefined].filter(Boolean);
  if (ways.length > 1) {
    throw usageError(
      'hold takes keys and ids, or --sweep, or --prefix, not several of them',
      'see tombstonectl hold --help',
    );
  }
  if (given.sweep !== undefined) return { by: 'sweep', sweep: given.sweep };
  if (given.prefix !== undefined) return { by: 'prefix', prefix: prefixOf(given.prefix) };
  needTargets(targets, 'hold', 'a key, an id, --sweep or --prefix');
  return { by: 'targets', targets };
}

/** Gives the holding all that was chosen; and says of what nothing is left to hold. */
async function gather(
  place: ClaimPlace,
  choice: Choice,
  holding: Holding,
  signal: AbortSignal,
): Promise<Problem[]> {
  switch (choice.by) {
    case 'prefix':
      await holding.prefix(choice.prefix);
      return [];
    case 'sweep':
      return gatherSweep(place, choice.sweep, holding);
    case 'targets':
      return gatherTargets(place, choice.targets, holding, signal);
  }
}

async function gatherSweep(place: ClaimPlace, text: string, holding: Holding): Promise<Problem[]> {
  const { known, report } = place;
  if (known === null) {
    throw usageError('--sweep needs the catalog, and --url has none', 'name the ids, or use --config');
  }
  const { catalog, row } = known;
  const id = sweepIdOf(catalog, [row], text);
  const state = catalog.sweeps.get(id)?.state;
  if (state === 'planning' || state === 'moving')
    report('warn', `sweep ${id} is under way: what it moves from now on is not held`);
  let held = 0;
  let purged = 0;
  for (const page of pagesOfSweep(catalog, row, id)) {
    for (const tombstone of page) {
      if (tombstone.state === 'purged') purged++;
      else {
        await holding.id(tombstone.id, tombstone.key);
        held++;
      }
    }
  }
  if (purged > 0) report('info', `${counted(purged, 'object')} of sweep ${id} are purged already`);
  if (held > 0) return [];
  const error = new TombstonedError('not-found', `nothing of sweep ${id} is left to hold`, { key: id });
  return [{ error, isTold: false }];
}

async function gatherTargets(
  place: ClaimPlace,
  targets: Targets,
  holding: Holding,
  signal: AbortSignal,
): Promise<Problem[]> {
  const problems: Problem[] = [];
  for await (const target of targets.each(signal)) {
    if (target.by === 'key') {
      refusePendingName(place.store, target.key);
      await holding.key(target.key);
      continue;
    }
    const tombstone = tombstoneOf(place, target);
    if (tombstone?.state === 'purged' || tombstone?.state === 'abandoned')
      problems.push({ error: goneError(tombstone), isTold: false });
    else await holding.id(target.id, tombstone?.key);
  }
  return problems;
}

/** What the catalog knows of an id; undefined where it knows nothing, or is not at hand: the id is held all the same. */
function tombstoneOf(
  { known, report }: ClaimPlace,
  { id }: Extract<Target, { by: 'id' }>,
): Tombstone | undefined {
  if (known === null) return undefined;
  const tombstone = known.catalog.tombstones.get(id);
  if (tombstone === undefined) {
    report('warn', `the catalog knows no tombstone ${id}: it is held by its id all the same`);
  } else if (tombstone.store !== known.row.name) {
    const hint = `add --store ${tombstone.store}`;
    throw usageError(`${id} is of the store ${tombstone.store}, not of ${known.row.name}`, hint, id);
  }
  return tombstone;
}

const PAGE = 1000;

/** What a batch that was under way has purged before the hold was in force. */
function goneMeanwhile({ known }: ClaimPlace, put: readonly PutHold[]): Problem[] {
  const problems: Problem[] = [];
  for (const { hold, outcome } of put) {
    if (known === null || outcome === 'would be' || hold.scope.by !== 'ids') continue;
    const { ids } = hold.scope;
    for (let from = 0; from < ids.length; from += PAGE) {
      for (const tombstone of known.catalog.tombstones.getAll(ids.slice(from, from + PAGE)))
        if (tombstone.state === 'purged') problems.push({ error: goneError(tombstone), isTold: false });
    }
  }
  return problems;
}

function goneError({ id, key, state }: Tombstone): TombstonedError {
  const why = state === 'purged' ? 'was purged before it could be held' : 'was never moved';
  return new TombstonedError('not-found', `${id} ${why}`, {
    key: id,
    hint: `see what there is of its key: tombstonectl explain ${key}`,
  });
}
