import type { RequestRow } from '../catalog/requests.ts';
import type { WaitingPlan } from '../catalog/waiting.ts';
import { waitingStateAt } from '../catalog/waiting.ts';
import { Coverage } from '../cover/coverage.ts';
import { isoTime } from '../domain/clock.ts';
import { TombstonedError } from '../domain/errors.ts';
import { makePlainId } from '../domain/ids.ts';
import type { KeptReason } from '../domain/kept-reason.ts';
import { commonPrefix } from '../domain/key.ts';
import { NO_LIMITS, type Policy } from '../policy/policy.ts';
import { refreshHolds } from '../run/batch.ts';
import type { Place } from '../run/place.ts';
import { checkPlace, inRun, type Run } from '../run/run.ts';
import type { SweepLedger } from './ledger-thread.ts';
import { BATCH } from './move.ts';
import { type PolicyPlan, planPolicy } from './plan.ts';
import { addToPlan, isForNow, lookAtLines, noteMoved } from './requested-lines.ts';
import { copiesOf, finishRequests } from './requests.ts';
import {
  inLedger,
  movePlan,
  planItems,
  type SweepOptions,
  settleError,
  tellWhatIsOpen,
  tryTo,
} from './sweep.ts';
import { dropKeys } from './waiting.ts';

/** `policies` and `dropIns` are the store's, as the config has them today. */
export type ApproveOptions = SweepOptions;

export interface ApproveResult {
  readonly plan: WaitingPlan;
  /** `moved`: done with; `waits`: something is left, and the plan waits on; `already`: it was approved and moved before. */
  readonly outcome: 'moved' | 'waits' | 'already' | 'dry-run';
  /** How many objects passed today's guards, and their bytes. */
  readonly planned: number;
  readonly plannedBytes: number;
  readonly moved: number;
  /** Changed or gone, since the plan was made or before they were moved. */
  readonly abandoned: number;
  readonly failed: number;
  /** Bytes. */
  readonly bytes: number;
  readonly kept: ReadonlyMap<KeptReason, number>;
  /** How many of the plan are kept by a claim, or failed: what it waits on for. */
  readonly left: number;
  /** Whether the signal ended it before all was moved. */
  readonly isCut: boolean;
  /** What is wrong with the directory of requests: their results come with a later sweep. */
  readonly problems: readonly TombstonedError[];
}

/**
 * Moves a plan that waits, under its own sweep id: what it names, is still the
 * same revision, and passes everything that a sweep would ask of it today, but
 * for the limits. It is planned from a new listing, so that keepLast and whole
 * directories count what is there now; requests are looked at key by key. A plan that is cut short, or has something
 * left that a claim keeps or that failed, waits on. Throws `not-found`, `conflict`
 * or `blocked` where there is nothing to approve.
 */
export async function approve(place: Place, id: string, options: ApproveOptions): Promise<ApproveResult> {
  const plan = planOf(place, id);
  if (plan.state === 'approved') return { plan, outcome: 'already', ...NOTHING };
  const refusal = refusalOf(place, plan);
  if (refusal !== undefined) throw refusal;
  const source = sourceOf(place, plan, options);
  if (source === undefined) {
    throw new TombstonedError(
      'blocked',
      `the plan ${id} is of policy ${plan.policy}, which the config has no more`,
      {
        reason: 'no-policy',
        key: id,
        hint: `it moves nothing: tombstonectl --store ${place.row.name} reject ${id} --reason TEXT`,
      },
    );
  }
  await checkPlace(place, options.dryRun);
  return inLedger(place, async (run, ledger) => approveIn(place, run, ledger, { plan, source, options }));
}

const NOTHING = {
  planned: 0,
  plannedBytes: 0,
  moved: 0,
  abandoned: 0,
  failed: 0,
  bytes: 0,
  kept: new Map<KeptReason, number>(),
  left: 0,
  isCut: false,
  problems: [],
} as const;

/** Who names what a plan is of, as the config has it today. */
type Source =
  | { readonly as: 'policy'; readonly policy: Policy }
  | { readonly as: 'requests'; readonly policy: string; readonly rows: readonly RequestRow[] };

interface Approval {
  readonly plan: WaitingPlan;
  readonly source: Source;
  readonly options: ApproveOptions;
}

/** Undefined where the config has no such policy any more. */
function sourceOf({ catalog }: Place, plan: WaitingPlan, options: ApproveOptions): Source | undefined {
  const isPlans = ({ name }: { name: string }): boolean => name === plan.policy;
  const rows = catalog.requests.ofPlan(plan.n);
  if (rows.length > 0) {
    const isThere = options.dropIns?.some(isPlans) === true;
    return isThere ? { as: 'requests', policy: plan.policy, rows } : undefined;
  }
  const policy = options.policies.find(isPlans);
  return policy === undefined ? undefined : { as: 'policy', policy };
}

async function approveIn(
  place: Place,
  run: Run,
  ledger: SweepLedger,
  approval: Approval,
): Promise<ApproveResult> {
  const { plan, source, options } = approval;
  const { catalog } = place;
  const n = options.dryRun ? beginDry(place, run) : take(place, run, plan);
  const counts = { planned: 0, moved: 0, abandoned: 0, failed: 0, bytes: 0 };
  const kept = new Map<KeptReason, number>();
  const problems: TombstonedError[] = [];
  let isCut = false;
  let plannedBytes = 0;
  let lostBefore = 0;
  const coverage = Coverage.of(place);
  try {
    const found =
      source.as === 'policy'
        ? await planAgain(place, ledger, n, { plan, policy: source.policy, coverage, options })
        : await planRequestsAgain(place, run, n, {
            rows: source.rows,
            policy: source.policy,
            coverage,
            options,
          });
    counts.planned = found.planned;
    plannedBytes = found.bytes;
    for (const [reason, times] of found.kept) kept.set(reason, times);
    lostBefore = found.lost;
    counts.abandoned = lostBefore;
    if (options.dryRun) {
      for (const item of planItems(place, n)) options.onPlanned?.(item);
    } else {
      catalog.sweeps.progress(n, 'moving', plan.objects, null);
      if (found.planned > 0) await tellWhatIsOpen(place);
      const { prefixes } = found;
      const dropIns = source.as === 'requests' ? (options.dropIns ?? []) : [];
      const move = { ...options, coverage, dropIns, prefixes, isPatient: true };
      if (prefixes.length > 0) isCut = await movePlan(place, run, ledger, n, move, counts, kept);
      else isCut = options.signal?.aborted === true;
    }
  } catch (error) {
    const isStopped = await settleError(place, ledger, error, options.signal);
    await tryTo(place, async () => end(place, run, ledger, { n, isDry: options.dryRun }));
    if (!isStopped) throw error;
    isCut = true;
  }
  const left = keptForNow(kept) + counts.failed;
  const result = { plan, ...counts, plannedBytes, kept, left, isCut, problems };
  if (options.dryRun) {
    await end(place, run, ledger, { n, isDry: true });
    return { ...result, outcome: 'dry-run' };
  }
  if (isCut || left > 0) {
    await end(place, run, ledger, { n, isDry: false });
    return { ...result, outcome: 'waits' };
  }
  catalog.transaction(() => {
    if (!catalog.waiting.approved(n, run.n, place.clock.now()))
      throw new TypeError(`run ${run.id} has not the plan ${plan.sweep} that it moves`);
    catalog.sweeps.count(n, { moved: 0, abandoned: lostBefore, failed: 0, bytes: 0 });
  });
  await ledger.dropPlan(n);
  await dropKeys(place, n);
  if (source.as === 'requests')
    await tellDecided(place, run, source.rows, (problem) => void problems.push(problem));
  return { ...result, outcome: 'moved' };
}

/** What of a plan may go today. */
interface PlannedAgain {
  readonly planned: number;
  readonly bytes: number;
  readonly kept: ReadonlyMap<KeptReason, number>;
  /** How many have changed or gone since. */
  readonly lost: number;
  /** What all keys are below; none where there is nothing to move. */
  readonly prefixes: readonly string[];
}

/** Plans a policy again from a new listing: of that what its plan names. */
async function planAgain(
  place: Place,
  ledger: SweepLedger,
  n: number,
  {
    plan,
    policy,
    coverage,
    options,
  }: { plan: WaitingPlan; policy: Policy; coverage: Coverage | undefined; options: ApproveOptions },
): Promise<PlannedAgain> {
  const movedBefore = place.catalog.sweeps.get(plan.sweep)?.moved ?? 0;
  const { guards, signal, onListed, onRefusal = () => undefined } = options;
  const asked = {
    sweep: n,
    policy: { ...policy, limits: NO_LIMITS },
    guards,
    coverage,
    approved: plan.n,
    onRefusal,
    onListed,
    signal,
  };
  const found = await planPolicy(place, ledger, asked);
  if (found.problem !== null) throw found.problem; // it waits on
  const lost = lostOf(place, { plan, policy }, found, movedBefore);
  const kept = new Map(found.kept);
  if (lost.unselected > 0) kept.set('no-policy', lost.unselected);
  const { planned, bytes } = found;
  return { planned, bytes, kept, lost: found.changed + lost.gone, prefixes: [policy.prefix] };
}

/** Looks again at each key of requests that a plan is of. */
async function planRequestsAgain(
  place: Place,
  run: Run,
  n: number,
  {
    rows,
    policy,
    coverage,
    options,
  }: {
    rows: readonly RequestRow[];
    policy: string;
    coverage: Coverage | undefined;
    options: ApproveOptions;
  },
): Promise<PlannedAgain> {
  const { requests } = place.catalog;
  const { guards, signal, onListed, onRefusal = () => undefined } = options;
  await refreshHolds(place);
  const open = options.dryRun ? copiesOf(place, run, rows) : rows;
  for (const row of open) noteMoved(place, row);
  const look = { policy, guards, coverage, isPatient: true, onRefusal, onListed, signal };
  const { kept, lost } = await lookAtLines(place, open, look);
  kept.delete('changed'); // those are lost
  if (signal?.aborted === true) return { planned: 0, bytes: 0, kept, lost, prefixes: [] };
  const all = open.map((row) => row.n);
  addToPlan(place, n, all);
  const { objects, bytes } = requests.planned(all);
  const span = requests.span(all);
  const prefixes = span === undefined ? [] : [commonPrefix(span.first, span.last)];
  return { planned: objects, bytes, kept, lost, prefixes };
}

/** Puts the results of requests in place whose plan somebody has decided about. */
async function tellDecided(
  place: Place,
  run: Run,
  rows: readonly RequestRow[],
  onProblem: (problem: TombstonedError) => void,
): Promise<void> {
  for (const directory of new Set(rows.map((row) => row.directory))) {
    const name = rows[0]?.policy ?? '';
    await finishRequests(place, run, { name, directory }, onProblem);
  }
}

/** How many are kept by what may be over when the plan is approved again. */
function keptForNow(kept: ReadonlyMap<KeptReason, number>): number {
  return [...kept].reduce((sum, [reason, count]) => (isForNow(reason) ? sum + count : sum), 0);
}

function beginDry({ catalog, row, clock, random }: Place, run: Run): number {
  const now = clock.now();
  const id = makePlainId('s', now, random);
  return catalog.sweeps.begin({ id, store: row.n, run: run.n, reason: null, isDry: true, now });
}

/** Takes the plan for this run (R7). */
function take(place: Place, run: Run, plan: WaitingPlan): number {
  const { catalog, row, clock } = place;
  const now = clock.now();
  const isTaken = catalog.transaction(() => {
    const sure = catalog.clock.sureTime(clock);
    if (!catalog.waiting.take({ plan: plan.n, run: run.n, now: sure })) return false;
    catalog.requests.handOver(plan.n, run.n);
    const detail = `${plan.sweep}, policy ${plan.policy}: ${plan.over}`;
    const { objects: count, bytes } = plan;
    catalog.events.add({ store: row.n, run: run.n, what: 'plan-approved', now, count, bytes, detail });
    return true;
  });
  if (isTaken) return plan.n;
  throw (
    refusalOf(place, planOf(place, plan.sweep)) ??
    conflict(plan.sweep, 'was approved by somebody else just now')
  );
}

/** Ends a turn at a plan that is not done with: it waits on. */
async function end(
  { catalog, clock }: Place,
  run: Run,
  ledger: SweepLedger,
  { n, isDry }: { n: number; isDry: boolean },
): Promise<void> {
  if (isDry) catalog.sweeps.progress(n, 'done', 0, clock.now());
  else catalog.waiting.giveBack(n, run.n);
  await ledger.dropPlan(n);
}

/** Of what a listing has not found: how many are gone, and how many the policy selects no more. */
function lostOf(
  { catalog }: Place,
  { plan, policy }: { plan: WaitingPlan; policy: Policy },
  found: PolicyPlan,
  movedBefore: number,
): { gone: number; unselected: number } {
  const lost = Math.max(0, plan.objects - found.found - movedBefore);
  if (lost === 0) return { gone: 0, unselected: 0 };
  let unselected = 0;
  for (let after = ''; ; ) {
    const page = catalog.waiting.page(plan.n, after, BATCH);
    const last = page.at(-1);
    if (last === undefined) break;
    unselected += page.filter(({ key }) => !policy.selects(key)).length;
    after = last.key;
  }
  unselected = Math.min(lost, unselected);
  return { gone: lost - unselected, unselected };
}

export interface Rejected {
  readonly plan: WaitingPlan;
  /** `already`: nothing waits there any more, and nothing was moved. */
  readonly outcome: 'rejected' | 'already' | 'dry-run';
  /** What is wrong with the directory of requests: their results come with a later sweep. */
  readonly problems: readonly TombstonedError[];
}

/** Drops a plan that waits. Throws `not-found`, or `conflict` or `blocked` where it is moved, or was. */
export async function reject(
  place: Place,
  id: string,
  { reason, dryRun }: { reason: string; dryRun: boolean },
): Promise<Rejected> {
  const { catalog, row, clock } = place;
  const plan = planOf(place, id);
  switch (waitingStateAt(plan, catalog.clock.sureTime(clock))) {
    case 'rejected':
    case 'expired':
      return { plan, outcome: 'already', problems: [] };
    case 'approved':
      throw conflict(id, 'was approved and has moved', `to undo that: restore --sweep ${id}`);
    case 'waiting':
  }
  if (plan.movedBy !== null) throw beingMoved(plan);
  if (dryRun) return { plan, outcome: 'dry-run', problems: [] };
  const problems: TombstonedError[] = [];
  await inRun(place, 'sweep', async (run) => {
    const isRejected = catalog.transaction(() => {
      const now = clock.now();
      if (!catalog.waiting.reject(plan.n, reason, catalog.clock.sureTime(clock))) return false;
      const detail = `${plan.sweep}, policy ${plan.policy}: ${reason}`;
      const { objects: count, bytes } = plan;
      catalog.events.add({ store: row.n, run: run.n, what: 'plan-rejected', now, count, bytes, detail });
      return true;
    });
    if (!isRejected) {
      const now = planOf(place, id);
      throw now.movedBy === null ? conflict(id, 'was decided by somebody else just now') : beingMoved(now);
    }
    await dropKeys(place, plan.n);
    await tellDecided(place, run, catalog.requests.ofPlan(plan.n), (problem) => void problems.push(problem));
  });
  return { plan: planOf(place, id), outcome: 'rejected', problems };
}

/** The plan of a sweep's id in this store. Throws `not-found`, or `conflict` of a sweep that never waited. */
function planOf({ catalog, row }: Place, id: string): WaitingPlan {
  const sweep = catalog.sweeps.get(id);
  if (sweep?.store !== row.name) {
    throw new TombstonedError('not-found', `store ${row.name} has no sweep ${id}`, {
      key: id,
      hint: 'see tombstonectl sweeps',
    });
  }
  const plan = catalog.waiting.get(id);
  if (plan !== undefined) return plan;
  throw conflict(id, `waits for nothing: it is ${sweep.state}`);
}

/** Why a plan can't be approved, or undefined. */
function refusalOf({ catalog, clock }: Place, plan: WaitingPlan): TombstonedError | undefined {
  const again = 'the next sweep plans anew; see tombstonectl sweeps';
  switch (waitingStateAt(plan, catalog.clock.sureTime(clock))) {
    case 'waiting':
      return plan.movedBy === null ? undefined : beingMoved(plan);
    case 'approved':
      return undefined;
    case 'rejected':
      return conflict(plan.sweep, `was rejected: ${plan.reason ?? ''}`, again);
    case 'expired':
      return conflict(plan.sweep, `was not approved by ${isoTime(plan.expiresAt)}`, again);
  }
}

function conflict(id: string, what: string, hint = 'see tombstonectl sweeps'): TombstonedError {
  return new TombstonedError('conflict', `the plan ${id} ${what}`, { key: id, hint });
}

function beingMoved({ sweep, movedBy }: WaitingPlan): TombstonedError {
  return new TombstonedError('blocked', `run ${movedBy ?? ''} is moving the plan ${sweep} already`, {
    reason: 'fence',
    key: sweep,
    hint: 'see tombstonectl status; if its process died, any sweep or approve sees to it',
  });
}
