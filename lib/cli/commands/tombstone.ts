import type { Argv } from 'yargs';
import { guardsOf } from '../../app/open.ts';
import { recover } from '../../app/recover.ts';
import type { ErrorCode } from '../../domain/errors.ts';
import { type HandOutcome, tombstoneByHand } from '../../sweep/by-hand.ts';
import { type Call, type Globals, manual, type OptionsOf } from '../command.ts';
import { configOf } from '../config-of.ts';
import { inEachPlace, withCatalog } from '../opened.ts';
import { Outcomes } from '../outcomes.ts';
import { untilSignalled } from '../signals.ts';
import { oneStore } from '../store-choice.ts';
import { keyOnly, keysOf, needTargets, targetsOf } from '../targets.ts';

export function options(yargs: Argv<Globals>) {
  return yargs
    .usage(
      manual({
        name: 'tombstone',
        summary: 'phase one for keys that you name (also: delete)',
        synopsis: ['tombstone KEY... [--from-file F] [--reason TEXT] [--dry-run]'],
        description: [
          'Moves live objects to their pending places, as a sweep does. They can be read',
          'and restored until the safety window has passed. minimumAge, protect, holds',
          'and the limits of the store count here too; exemptions do not.',
          'A file has a key a line; # begins a comment, and a line that begins with { is',
          'JSON with a "key". A key that begins with - goes after --.',
        ],
      }),
    )
    .options({
      reason: { type: 'string', requiresArg: true, describe: 'why, for the record' },
      'from-file': { type: 'string', requiresArg: true, describe: 'more keys, a line each; - is stdin' },
      'dry-run': { type: 'boolean', default: false, describe: 'show what would be moved, and move nothing' },
    })
    .example('$0 tombstone logs/2026-01.log --reason "asked by legal"', 'one object')
    .example(
      'find . -name "*.tmp" -printf "%P\\n" | $0 tombstone --from-file -',
      'many, from the store’s root',
    );
}

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

export async function run(call: Call<OptionsOf<typeof options>>): Promise<number> {
  const { out, options: given } = call;
  const targets = await targetsOf(call, given.fromFile);
  needTargets(targets, 'tombstone', 'a key');
  for (const target of targets.named) keyOnly(target, 'tombstone');
  const config = configOf(call);
  const store = oneStore(config, given.store);
  const outcomes = new Outcomes(out);
  const onOutcome = ({ key, id, outcome, detail, reason }: HandOutcome): void =>
    outcomes.add({ type: 'tombstoned', key, id, outcome, detail, reason }, CODES[outcome]);
  return withCatalog(config, async (catalog) =>
    untilSignalled(out, async (signal) =>
      inEachPlace({ catalog, stores: [store], out, signal }, async (place) => {
        if (!given.dryRun) await recover(place);
        const errors = await outcomes.of(
          async () =>
            tombstoneByHand(place, {
              keys: keysOf(targets, 'tombstone'),
              reason: given.reason ?? null,
              guards: guardsOf(store),
              limits: store.limits,
              dryRun: given.dryRun,
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
