import { type Adopted, adopt } from '../../app/adopt.ts';
import { becomeOwnerOf } from '../../app/become-owner.ts';
import { ctlOf } from '../../app/claim-place.ts';
import { realSurroundings } from '../../app/surroundings.ts';
import { ownerText } from '../../app/take-over.ts';
import type { StoreConfig } from '../../config/config.ts';
import { type Call, type OptionTable, type Page, refuseOperands } from '../command.ts';
import { configOf } from '../config-of.ts';
import { fenceTimeoutOf, HOLD_OPTIONS } from '../hold-lines.ts';
import type { Output } from '../output.ts';
import { withProgress } from '../progress.ts';
import { untilSignalled } from '../signals.ts';
import { oneStore } from '../store-choice.ts';
import { counted } from '../wording.ts';

export const manual = {
  synopsis: ['adopt [--store NAME] [--fence-timeout T] [--dry-run]'],
  description: [
    "Makes this config's catalog the owner of a store that another catalog owns: after the catalog",
    'was moved to this host, or brought back from a backup. From then on whatever still runs with',
    'the other one moves and purges nothing more. While a batch of it is announced, it may be at',
    'work: then nothing is changed, and the exit code is 5. Everything is held meanwhile, and the',
    "store's listing is compared with the catalog: where the store has more, the hold stays, and",
    'rebuild brings the catalog up to date, and resume ends the hold. Where there is no catalog, it',
    'makes none, and changes nothing. See docs/recovery.md.',
  ],
  examples: [
    ['--store mainnet adopt', 'the catalog is here now'],
    ['adopt --dry-run', 'whose the store is'],
  ],
} as const satisfies Page;

export const options = {
  'fence-timeout': HOLD_OPTIONS['fence-timeout'],
  'dry-run': { says: 'Shows whose the store is, and changes nothing.' },
} as const satisfies OptionTable;

export async function run(call: Call<typeof options>): Promise<number> {
  refuseOperands(call, 'adopt');
  const { out, options: given } = call;
  const fenceTimeout = fenceTimeoutOf(given['fence-timeout']);
  const config = configOf(call);
  const store = oneStore(config, given);
  becomeOwnerOf(config.catalog);
  return untilSignalled(out, async (signal) => {
    const adopted = await withProgress(out, store.name, async (progress) =>
      adopt(config, store, realSurroundings(out.report), {
        fenceTimeout,
        dryRun: given['dry-run'],
        signal,
        onWait: (text) => out.talk(text),
        onProgress: (done, total) => progress.update(done, total),
      }),
    );
    tell(out, store, adopted);
    return 0;
  });
}

function tell(out: Output, { name }: StoreConfig, { outcome, from, compared, hold }: Adopted): void {
  const known =
    compared === null
      ? null
      : {
          copies: compared.copies,
          unknown: compared.added,
          delayed: compared.delayed,
          restored: compared.restored,
        };
  const object = { type: 'adopted', store: name, outcome, from, ...known, hold };
  out.result(object, () => {
    switch (outcome) {
      case 'already':
        return `${name} belongs to this catalog already`;
      case 'would be':
        return `${name} would be adopted: it belongs to ${ownerText(from ?? 'nobody')}`;
      case 'adopted':
        return `${name} belongs to this catalog now${from === null ? '' : `; it belonged to ${ownerText(from)}`}`;
    }
  });
  if (hold === null || compared === null) return;
  const { isCut, added, delayed, restored } = compared;
  const why = isCut
    ? 'the catalog was not compared with the store to the end: adopt again'
    : `the catalog is older than the store (${counted(added, 'copy')} that it does not know, ${delayed + restored} that were restored since): ${ctlOf(name)} rebuild, then resume`;
  out.talk(`nothing is swept or purged (hold ${hold}): ${why}`);
}
