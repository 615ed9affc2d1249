import { becomeOwnerOf } from '../../app/become-owner.ts';
import { ctlOf } from '../../app/claim-place.ts';
import { type LeftCopy, type RebuildResult, rebuild } from '../../app/rebuild.ts';
import { rebuildDry } from '../../app/rebuild-dry.ts';
import { realSurroundings } from '../../app/surroundings.ts';
import { ownerText, takeOver } from '../../app/take-over.ts';
import { printable } from '../../domain/key.ts';
import { formatSize } from '../../domain/quantities.ts';
import { type Call, type OptionTable, type Page, refuseOperands } from '../command.ts';
import { configOf } from '../config-of.ts';
import { fenceTimeoutOf, HOLD_OPTIONS } from '../hold-lines.ts';
import type { Output } from '../output.ts';
import { withProgress } from '../progress.ts';
import { untilSignalled } from '../signals.ts';
import { oneStore } from '../store-choice.ts';
import { byReason, counted } from '../wording.ts';

export const manual = {
  synopsis: ['rebuild [--store NAME] [--take-over] [--fence-timeout T] [--dry-run]'],
  description: [
    "Adds to the catalog what the store's listing has and the catalog has not: after the catalog was",
    'lost, or brought back from a backup. Windows begin at the later of the time in the id and the',
    "store's own time of the pending copy; none that the catalog has ends sooner. No object is",
    'touched. A hold `rebuilt` on everything is put into the store first, and stays until resume:',
    'look at what was found before that. With --take-over the store may be that of another catalog,',
    'as with adopt, and a catalog is made where there is none. What the listing can not be sure of',
    'is told, and left. It may be stopped, and run again. See docs/recovery.md.',
  ],
  examples: [
    ['--store mainnet rebuild --take-over', 'the catalog is lost, or from a backup'],
    ['rebuild', 'verify has found pending copies that the catalog does not know'],
    ['rebuild --dry-run', 'what it would add'],
  ],
} as const satisfies Page;

export const options = {
  'take-over': { says: 'Makes the catalog the owner of the store, and makes it where there is none.' },
  'fence-timeout': HOLD_OPTIONS['fence-timeout'],
  'dry-run': { says: 'Shows what would be added, and changes nothing.' },
} as const satisfies OptionTable;

export async function run(call: Call<typeof options>): Promise<number> {
  refuseOperands(call, 'rebuild');
  const { out, options: given } = call;
  const fenceTimeout = fenceTimeoutOf(given['fence-timeout']);
  const config = configOf(call);
  const store = oneStore(config, given);
  becomeOwnerOf(config.catalog);
  const { name } = store;
  const surroundings = realSurroundings(out.report);
  const onLeft = (left: LeftCopy): void => tellLeft(out, name, left);
  return untilSignalled(out, async (signal) => {
    const asked = { mayTakeOver: given['take-over'], fenceTimeout, signal } as const;
    if (given['dry-run']) {
      const result = await withProgress(out, name, async (progress) =>
        rebuildDry(config, store, surroundings, {
          ...asked,
          onLeft,
          onProgress: (done, total) => progress.update(done, total),
        }),
      );
      tell(out, name, result, null);
      return 0;
    }
    const { place, from, hold } = await takeOver(config, store, surroundings, {
      ...asked,
      holdReason: 'rebuilt',
      onWait: (text) => out.talk(text),
    });
    try {
      if (from !== null) out.talk(`${name} belongs to this catalog now; it belonged to ${ownerText(from)}`);
      const result = await withProgress(out, name, async (progress) =>
        rebuild(place, {
          dryRun: false,
          signal,
          onLeft,
          onProgress: (done, total) => progress.update(done, total),
        }),
      );
      tell(out, name, result, hold.hold.id);
      return 0;
    } finally {
      place.store.close();
      place.catalog.close();
    }
  });
}

function tellLeft(out: Output, store: string, left: LeftCopy): void {
  out.result({ type: 'left', store, ...left }, () => {
    const about = [left.key, left.id].filter((part) => part !== null).map((part) => printable(part));
    return `${left.problem}  ${about.join('  ')}: ${printable(left.detail)}`;
  });
}

/** `hold` is null in a dry run. */
function tell(out: Output, store: string, result: RebuildResult, hold: string | null): void {
  const { copies, added, bytes, due, known, delayed, restored, left, clock, isCut } = result;
  const dryRun = hold === null;
  out.result(
    {
      type: 'rebuild',
      store,
      copies,
      added,
      bytes,
      due,
      known,
      delayed,
      restored,
      left: Object.fromEntries(left),
      clock,
      hold,
      interrupted: isCut,
      dryRun,
    },
    () => {
      const parts = [
        `${copies} pending ${copies === 1 ? 'copy' : 'copies'}`,
        `${added} ${dryRun ? 'would be added' : 'added'} (${formatSize(bytes)})`,
        ...(due > 0 ? [`${due} of them due already`] : []),
        `${known} known`,
        ...(delayed > 0
          ? [`${counted(delayed, 'window')} of them begin${delayed === 1 ? 's' : ''} later`]
          : []),
        ...(restored > 0 ? [`${restored} restored`] : []),
        ...(left.size > 0 ? [`left: ${byReason(left)}`] : []),
      ];
      return `${store}: ${parts.join(', ')}`;
    },
  );
  if (clock !== null) out.talk(`windows begin now, and not before: ${clock}`);
  if (isCut) out.talk('stopped before its end: the same command goes on');
  else if (left.size > 0)
    out.talk(
      `what was left is not in the catalog, and is never purged: ${ctlOf(store)} verify says what to do`,
    );
  if (hold !== null) out.talk(`nothing is swept or purged until: ${ctlOf(store)} resume (hold ${hold})`);
}
