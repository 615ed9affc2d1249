import { dropInsOf, guardsOf, type OpenPlace, policiesOf } from '../../app/open.ts';
import { recover } from '../../app/recover.ts';
import { TombstonedError } from '../../domain/errors.ts';
import { printable } from '../../domain/key.ts';
import { formatSize } from '../../domain/quantities.ts';
import { type ApproveResult, approve } from '../../sweep/approve.ts';
import type { Call, OptionTable, Page } from '../command.ts';
import { configOf } from '../config-of.ts';
import type { Problem } from '../failures.ts';
import { inEachPlace, withCatalog } from '../opened.ts';
import type { Output } from '../output.ts';
import { withProgress } from '../progress.ts';
import { untilSignalled } from '../signals.ts';
import { onlySweepId, storeOfSweep } from '../waiting-store.ts';
import { byReason, counted } from '../wording.ts';

export const manual = {
  synopsis: ['approve ID [--dry-run]'],
  description: [
    "Moves a policy's plan that waits because it is over a limit, under its own sweep id. Each",
    'of its objects is checked again: one that has changed, or that the policy, a guard or an',
    'exemption keeps today, stays and is out; only the limits do not count. Where a hold or',
    'lease keeps some, or some fail, or the command is stopped, the plan waits on, the exit',
    'code is 5 or 1, and approve moves the rest later. Requests of a drop-in policy get their',
    'results when it is done with.',
  ],
  examples: [
    ['sweeps', 'what waits, and its id'],
    ['approve s-20261122T101500123Z-k3v0q8 --dry-run', 'what would go'],
    ['restore --sweep s-20261122T101500123Z-k3v0q8', 'to undo it'],
  ],
} as const satisfies Page;

export const options = {
  'dry-run': { says: 'Shows what would be moved, and moves nothing.' },
} as const satisfies OptionTable;

export async function run(call: Call<typeof options>): Promise<number> {
  const { out, options: given } = call;
  const id = onlySweepId(call, 'approve');
  const config = configOf(call);
  return withCatalog(config, async (catalog) => {
    const stores = [storeOfSweep(catalog, config, given.store, id)];
    return untilSignalled(out, async (signal) =>
      inEachPlace({ catalog, stores, out, signal }, async (place) =>
        approveOne(place, id, { dryRun: given['dry-run'], signal, out }),
      ),
    );
  });
}

async function approveOne(
  place: OpenPlace,
  id: string,
  { dryRun, signal, out }: { dryRun: boolean; signal: AbortSignal; out: Output },
): Promise<Problem[]> {
  if (!dryRun) await recover(place);
  const result = await withProgress(out, place.config.name, async (progress) =>
    approve(place, id, {
      policies: policiesOf(place.config),
      dropIns: dropInsOf(place.config),
      guards: guardsOf(place.config),
      dryRun,
      signal,
      onPlanned: ({ key, size, policy, reason }) =>
        out.result(
          { type: 'planned', key, size, policy, reason },
          () => `${printable(key)}  ${formatSize(size)}, ${policy ?? ''}: ${reason ?? ''}`,
        ),
      onRefusal: ({ key, why }) => out.talk(`${printable(key)} stays: ${why}`),
      onProgress: (done, planned) => progress.update(done, planned),
    }),
  );
  summarize(out, place.config.name, result);
  return problemsOf(place.config.name, result);
}

function summarize(out: Output, store: string, result: ApproveResult): void {
  const { plan, outcome, planned, plannedBytes, moved, abandoned, failed, bytes, kept, isCut } = result;
  const dryRun = outcome === 'dry-run';
  if (out.isJson) {
    out.line(
      JSON.stringify({
        type: 'sweep',
        sweep: plan.sweep,
        store,
        planned,
        moved,
        abandoned,
        failed,
        bytes: dryRun ? plannedBytes : bytes,
        dryRun,
        waiting: outcome === 'waits' || dryRun ? [plan.policy] : [],
        kept: Object.fromEntries(kept),
        outcome,
      }),
    );
    return;
  }
  if (outcome === 'already') {
    out.line(`${store}: ${plan.sweep} was approved and moved already`);
    return;
  }
  const others = [
    ...(abandoned > 0 ? [`${abandoned} changed or gone`] : []),
    ...(kept.size > 0 ? [`keeps ${byReason(kept)}`] : []),
    ...(failed > 0 ? [out.styled('red', `${failed} failed`)] : []),
    ...(isCut ? ['stopped before the end'] : []),
  ];
  const all = `of the ${counted(plan.objects, 'object')} that ${plan.policy} planned`;
  const text = dryRun
    ? [`would move ${planned} ${all}, ${formatSize(plannedBytes)}`, ...others, 'nothing was moved']
    : [`moved ${moved} ${all}, ${formatSize(bytes)}`, ...others];
  out.line(`${store}: ${text.join(', ')} (sweep ${plan.sweep})`);
}

/** What keeps the plan waiting, and results of requests away. */
function problemsOf(store: string, result: ApproveResult): Problem[] {
  const { plan, outcome, failed, kept, left, isCut } = result;
  const problems: Problem[] = result.problems.map((error) => ({ error, isTold: false }));
  if (outcome !== 'waits' || (isCut && left === 0)) return problems;
  const stuck = failed + (kept.get('error') ?? 0);
  const hint = `the plan waits on: tombstonectl --store ${store} approve ${plan.sweep}`;
  if (stuck > 0) {
    const message = `${store}: ${counted(stuck, 'object')} could not be moved`;
    problems.push({
      error: new TombstonedError('failed', message, { reason: 'error', key: plan.sweep, hint }),
      isTold: false,
    });
  }
  const claimed = (['hold', 'lease', 'fence'] as const).filter((reason) => kept.has(reason));
  const [reason] = claimed;
  if (reason !== undefined) {
    const count = claimed.reduce((total, one) => total + (kept.get(one) ?? 0), 0);
    const message = `${store}: ${counted(count, 'object')} stay: kept by ${claimed.join(', ')}`;
    problems.push({
      error: new TombstonedError('blocked', message, { reason, key: plan.sweep, hint }),
      isTold: false,
    });
  }
  return problems;
}
