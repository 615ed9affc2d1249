import { dropInsOf, guardsOf, type OpenPlace, policiesOf } from '../../app/open.ts';
import { recover } from '../../app/recover.ts';
import type { StoreConfig } from '../../config/config.ts';
import { selectStores } from '../../config/load.ts';
import { TombstonedError } from '../../domain/errors.ts';
import { printable } from '../../domain/key.ts';
import { formatSize } from '../../domain/quantities.ts';
import { failIfBlocked, type SweepResult, sweep } from '../../sweep/sweep.ts';
import { type Call, type OptionTable, type Page, refuseOperands } from '../command.ts';
import { configOf } from '../config-of.ts';
import { usageError } from '../fail.ts';
import type { Problem } from '../failures.ts';
import { inEachPlace, withCatalog } from '../opened.ts';
import type { Output } from '../output.ts';
import { withProgress } from '../progress.ts';
import { untilSignalled } from '../signals.ts';
import { waitingObject } from '../waiting-object.ts';
import { byReason, counted } from '../wording.ts';

export const manual = {
  synopsis: ['sweep [--store NAME] [--policy NAME] [--dry-run]'],
  description: [
    'Asks each policy what has expired, leaves what a guard, a hold or an exemption keeps,',
    'and moves the rest. What was moved can still be read (cat) and restored until its',
    'safety window has passed. What a run that died has left is finished first. A policy',
    'that is over one of its limits moves nothing; its plan waits for approve or reject, for',
    '7 days, and the exit code is 5. While it waits, later sweeps leave it as it is.',
  ],
  examples: [
    ['sweep --dry-run', 'what would go, and why'],
    ['sweep --store mainnet --policy old-logs', 'one policy of one store'],
  ],
} as const satisfies Page;

export const options = {
  policy: { takes: 'NAME', says: 'Only this policy.' },
  'dry-run': { says: 'Shows what would be moved, and moves nothing.' },
} as const satisfies OptionTable;

export async function run(call: Call<typeof options>): Promise<number> {
  refuseOperands(call, 'sweep');
  const config = configOf(call);
  const { out, options: given } = call;
  const stores = withPolicy(selectStores(config, given.store), given.policy);
  return withCatalog(config, async (catalog) =>
    untilSignalled(out, async (signal) =>
      inEachPlace({ catalog, stores, out, signal }, async (place) =>
        sweepOne(place, { policy: given.policy, dryRun: given['dry-run'], signal, out }),
      ),
    ),
  );
}

/** The stores that have the policy. */
function withPolicy(stores: readonly StoreConfig[], policy: string | undefined): readonly StoreConfig[] {
  if (policy === undefined) return stores;
  const having = stores.filter((store) => store.policies.some(({ name }) => name === policy));
  if (having.length > 0) return having;
  const known = [...new Set(stores.flatMap((store) => store.policies.map(({ name }) => name)))];
  throw usageError(`there is no policy ${policy}`, `there are: ${known.join(', ') || 'none'}`, policy);
}

async function sweepOne(
  place: OpenPlace,
  asked: { policy: string | undefined; dryRun: boolean; signal: AbortSignal; out: Output },
): Promise<Problem[]> {
  const { dryRun, signal, out } = asked;
  // A dry run takes what a dead run has left as it is.
  if (!dryRun) await recover(place);
  const result = await withProgress(out, place.config.name, async (progress) =>
    sweep(place, {
      policies: policiesOf(place.config, asked.policy),
      dropIns: dropInsOf(place.config, asked.policy),
      ...(asked.policy === undefined ? { knownDropIns: dropInsOf(place.config) } : {}),
      guards: guardsOf(place.config),
      dryRun,
      signal,
      onPlanned: ({ key, size, policy, reason }) =>
        out.result(
          { type: 'planned', key, size, policy, reason },
          () => `${printable(key)}  ${formatSize(size)}, ${policy ?? 'by hand'}: ${reason ?? ''}`,
        ),
      onRefusal: ({ key, why }) => out.talk(stays(key, why)),
      onProgress: (done, planned) => progress.update(done, planned),
    }),
  );
  summarize(out, place.config.name, result, dryRun);
  return problemsOf(place.config.name, result);
}

/** `KEY stays: WHY`; errors about a key begin with it already. */
function stays(key: string, why: string): string {
  const name = printable(key);
  return `${name} stays: ${why.startsWith(`${name}: `) ? why.slice(name.length + 2) : why}`;
}

function summarize(out: Output, store: string, result: SweepResult, dryRun: boolean): void {
  const { sweep: id, planned, moved, abandoned, failed, kept, blocked, plans } = result;
  const bytes = dryRun ? plans.reduce((sum, plan) => sum + plan.bytes, 0) : result.bytes;
  if (out.isJson) {
    out.line(
      JSON.stringify({
        type: 'sweep',
        sweep: id,
        store,
        planned,
        moved,
        abandoned,
        failed,
        bytes,
        dryRun,
        waiting: blocked.map(({ policy }) => policy),
        kept: Object.fromEntries(kept),
        plans: blocked.flatMap(({ waiting }) => (waiting === undefined ? [] : [waitingObject(waiting)])),
      }),
    );
    return;
  }
  if (plans.length === 0 && !result.isCut) out.line(`${store}: no policy, so nothing expires`);
  for (const plan of plans) {
    const takes = `${plan.policy} takes ${plan.planned} of ${counted(plan.selected, 'object')}`;
    out.line(`${store}: ${takes}${plan.kept.size === 0 ? '' : `, keeps ${byReason(plan.kept)}`}`);
  }
  const size = formatSize(bytes);
  if (dryRun) {
    out.line(`${store}: would move ${counted(planned, 'object')}, ${size}; nothing was moved`);
    return;
  }
  const parts = [`moved ${counted(moved, 'object')}, ${size}`];
  if (abandoned > 0) parts.push(`${abandoned} changed or gone meanwhile`);
  if (failed > 0) parts.push(out.styled('red', `${failed} failed`));
  if (result.isCut) parts.push('stopped before the end');
  out.line(`${store}: ${parts.join(', ')}${id === null ? '' : ` (sweep ${id})`}`);
}

/** What went wrong without stopping the sweep: objects that can't be moved, policies over a limit. */
function problemsOf(store: string, result: SweepResult): Problem[] {
  const problems: Problem[] = result.problems.map((error) => ({ error, isTold: false }));
  const stuck = result.failed + (result.kept.get('error') ?? 0);
  if (stuck > 0) {
    const error = new TombstonedError(
      'failed',
      `${store}: ${counted(stuck, 'expired object')} could not be moved`,
      { reason: 'error', key: store, hint: 'the lines above say which, and why' },
    );
    problems.push({ error, isTold: false });
  }
  try {
    failIfBlocked(store, result);
  } catch (error) {
    // The sweep has warned of it while it planned.
    problems.push({ error: error instanceof Error ? error : new Error(String(error)), isTold: true });
  }
  return problems;
}
