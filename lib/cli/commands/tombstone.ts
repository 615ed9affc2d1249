import { guardsOf } from '../../app/open.ts';
import { recover } from '../../app/recover.ts';
import type { ErrorCode } from '../../domain/errors.ts';
import { tombstoneByHand } from '../../sweep/by-hand.ts';
import type { HandOutcome } from '../../sweep/hand-outcome.ts';
import type { Call, OptionTable, Page } from '../command.ts';
import { configOf } from '../config-of.ts';
import { inEachPlace, withCatalog } from '../opened.ts';
import { Outcomes } from '../outcomes.ts';
import { untilSignalled } from '../signals.ts';
import { oneStore } from '../store-choice.ts';
import { keyOnly, keysOf, needTargets, targetsOf } from '../targets.ts';

export const manual = {
  synopsis: ['tombstone KEY... [--from-file F] [--reason TEXT] [--dry-run]'],
  description: [
    'Moves live objects to their pending places, as a sweep does. They can be read and',
    'restored until the safety window has passed. minimumAge, protect, holds and the limits',
    'of the store count here too; exemptions do not.',
    '',
    'A file has a key a line. # begins a comment; a line that begins with { is JSON with a',
    '"key". A key that begins with - goes after --.',
  ],
  examples: [
    ['tombstone logs/2026-01.log --reason "asked by legal"', 'one object'],
    ['tombstone --from-file expired.txt --dry-run', 'many'],
  ],
} as const satisfies Page;

export const options = {
  reason: { takes: 'TEXT', says: 'Why, for the record.' },
  'from-file': { takes: 'F', says: 'More keys, one a line; - is stdin.' },
  'dry-run': { says: 'Shows what would be moved, and moves nothing.' },
} as const satisfies OptionTable;

const CODES = {
  tombstoned: null,
  already: null,
  gone: 'not-found',
  changed: 'conflict',
  blocked: 'blocked',
  failed: 'failed',
} as const satisfies Record<HandOutcome['outcome'], ErrorCode | null>;

const HINTS = {
  gone: 'see what there is: tombstonectl explain KEY',
  changed: 'somebody wrote it meanwhile; name it again if it should still go',
  blocked: 'see what keeps it: tombstonectl explain KEY',
} as const;

export async function run(call: Call<typeof options>): Promise<number> {
  const { out, options: given } = call;
  const targets = await targetsOf(call, given['from-file']);
  needTargets(targets, 'tombstone', 'a key');
  for (const target of targets.named) keyOnly(target, 'tombstone');
  const config = configOf(call);
  const store = oneStore(config, given);
  const outcomes = new Outcomes(out);
  const onOutcome = ({ key, id, outcome, detail, reason }: HandOutcome): void =>
    outcomes.add({ type: 'tombstoned', key, id, outcome, detail, reason }, CODES[outcome]);
  return withCatalog(config, async (catalog) =>
    untilSignalled(out, async (signal) =>
      inEachPlace({ catalog, stores: [store], out, signal }, async (place) => {
        if (!given['dry-run']) await recover(place);
        const errors = await outcomes.of(
          async () =>
            tombstoneByHand(place, {
              keys: keysOf(targets, 'tombstone', signal),
              reason: given.reason ?? null,
              guards: guardsOf(store),
              limits: store.limits,
              dryRun: given['dry-run'],
              onOutcome,
              signal,
            }),
          HINTS,
        );
        if (outcomes.total === 0 && !signal.aborted) out.talk('no keys were named: nothing to do');
        return errors;
      }),
    ),
  );
}
