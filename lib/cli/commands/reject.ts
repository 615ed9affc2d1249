import { recover } from '../../app/recover.ts';
import { reject } from '../../sweep/approve.ts';
import type { Call, OptionTable, Page } from '../command.ts';
import { configOf } from '../config-of.ts';
import { reasonOf } from '../hold-lines.ts';
import { inEachPlace, withCatalog } from '../opened.ts';
import { untilSignalled } from '../signals.ts';
import { waitingObject } from '../waiting-object.ts';
import { onlySweepId, storeOfSweep } from '../waiting-store.ts';
import { counted } from '../wording.ts';

export const manual = {
  synopsis: ['reject ID --reason TEXT [--dry-run]'],
  description: [
    "Drops a policy's plan that waits because it is over a limit: nothing of it moves. The next",
    'sweep plans anew, and a policy that still names too much waits again, under another id:',
    'change it in the config first. Requests of a drop-in policy are over by that: their',
    'results say that they were rejected, and why.',
  ],
  examples: [['reject s-20261122T101500123Z-k3v0q8 --reason "the prefix was a typo"', '']],
} as const satisfies Page;

export const options = {
  reason: { takes: 'TEXT', says: 'Why; `sweeps ID` and the log show it.' },
  'dry-run': { says: 'Says what would be dropped, and changes nothing.' },
} as const satisfies OptionTable;

export async function run(call: Call<typeof options>): Promise<number> {
  const { out, options: given } = call;
  const id = onlySweepId(call, 'reject');
  const reason = reasonOf(given.reason, 'reject');
  const dryRun = given['dry-run'];
  const config = configOf(call);
  return withCatalog(config, async (catalog) => {
    const stores = [storeOfSweep(catalog, config, given.store, id)];
    return untilSignalled(out, async (signal) =>
      inEachPlace({ catalog, stores, out, signal }, async (place) => {
        if (!dryRun) await recover(place); // one whose approval died waits again
        const { plan, outcome, problems } = await reject(place, id, { reason, dryRun });
        const object = {
          type: 'rejected',
          store: place.config.name,
          ...waitingObject(plan),
          outcome,
          dryRun,
        };
        out.result(object, () => {
          const what = `${id}, ${counted(plan.objects, 'object')} of policy ${plan.policy}`;
          const say = { rejected: 'rejected', already: 'waited no longer', 'dry-run': 'would be rejected' }[
            outcome
          ];
          return `${place.config.name}: ${what}: ${say}`;
        });
        return problems.map((error) => ({ error, isTold: false }));
      }),
    );
  });
}
