import type { WaitingPlan } from '../catalog/waiting.ts';
import { waitingStateAt } from '../catalog/waiting.ts';
import { isoTime } from '../domain/clock.ts';
import { TombstonedError } from '../domain/errors.ts';
import { makePlainId } from '../domain/ids.ts';
import type { KeptReason } from '../domain/kept-reason.ts';
import type { Policy } from '../policy/policy.ts';
import type { Place } from '../run/place.ts';
import { checkPlace, inRun, type Run } from '../run/run.ts';
import type { SweepLedger } from './ledger-thread.ts';
import { BATCH } from './move.ts';
import { type PolicyPlan, planPolicy } from './plan.ts';
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

/** `policies` are the store's, as the config has them today. */
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
}

/**
 * Moves a plan that waits, under its own sweep id: what it names, is still the
 * same revision, and passes everything that a sweep would ask of it today, but
 * for the limits. It is planned from a new listing, so that keepLast and whole
 * directories count what is there now. A plan that is cut short, or has something
 * left that a claim keeps or that failed, waits on. Throws `not-found`, `conflict`
 * or `blocked` where there is nothing to approve.
 */
export async function approve(place: Place, id: string, options: ApproveOptions): Promise<ApproveResult> {
  const plan = planOf(place, id);
  if (plan.state === 'approved') return { plan, outcome: 'already', ...NOTHING };
  const refusal = refusalOf(place, plan);
  if (refusal !== undefined) throw refusal;
  const policy = options.policies.find(({ name }) => name === plan.policy);
  if (policy === undefined) {
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
  return inLedger(place, async (run, ledger) => approveIn(place, run, ledger, { plan, policy, options }));
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
} as const;

interface Approval {
  readonly plan: WaitingPlan;
  readonly policy: Policy;
  readonly options: ApproveOptions;
}

async function approveIn(
  place: Place,
  run: Run,
  ledger: SweepLedger,
  approval: Approval,
): Promise<ApproveResult> {
  const { plan, policy, options } = approval;
  const { catalog } = place;
  const n = options.dryRun ? beginDry(place, run) : take(place, run, plan);
  const movedBefore = catalog.sweeps.get(plan.sweep)?.moved ?? 0;
  const counts = { planned: 0, moved: 0, abandoned: 0, failed: 0, bytes: 0 };
  const kept = new Map<KeptReason, number>();
  let isCut = false;
  let plannedBytes = 0;
  let lostBefore = 0;
  try {
    const limits = { maxObjects: null, maxFraction: null, maxBytes: null };
    const { guards, signal, onListed, onRefusal = () => undefined } = options;
    const asked = {
      sweep: n,
      policy: { ...policy, limits },
      guards,
      approved: plan.n,
      onRefusal,
      onListed,
      signal,
    };
    const found = await planPolicy(place, ledger, asked);
    counts.planned = found.planned;
    plannedBytes = found.bytes;
    for (const [reason, times] of found.kept) kept.set(reason, times);
    const lost = lostOf(place, approval, found, movedBefore);
    lostBefore = found.changed + lost.gone;
    counts.abandoned = lostBefore;
    if (lost.unselected > 0) kept.set('no-policy', lost.unselected);
    if (options.dryRun) {
      for (const item of planItems(place, n)) options.onPlanned?.(item);
    } else {
      catalog.sweeps.progress(n, 'moving', plan.objects, null);
      if (found.planned > 0) await tellWhatIsOpen(place);
      isCut = await movePlan(place, run, ledger, n, { ...options, prefixes: [policy.prefix] }, counts, kept);
    }
  } catch (error) {
    const isStopped = await settleError(place, ledger, error, options.signal);
    tryTo(place, () => end(place, run, n, options.dryRun));
    if (!isStopped) throw error;
    isCut = true;
  }
  const left = sum(kept, LEFT) + counts.failed;
  const result = { plan, ...counts, plannedBytes, kept, left, isCut };
  if (options.dryRun) {
    end(place, run, n, true);
    return { ...result, outcome: 'dry-run' };
  }
  if (isCut || left > 0) {
    end(place, run, n, false);
    return { ...result, outcome: 'waits' };
  }
  catalog.transaction(() => {
    if (!catalog.waiting.approved(n, run.n, place.clock.now()))
      throw new TypeError(`run ${run.id} has not the plan ${plan.sweep} that it moves`);
    catalog.sweeps.count(n, { moved: 0, abandoned: lostBefore, failed: 0, bytes: 0 });
  });
  while (catalog.sweeps.dropPlan(n, BATCH * 10)) continue;
  await dropKeys(place, n);
  return { ...result, outcome: 'moved' };
}

/** What a claim keeps for a while, or could not be moved: it may go when the plan is approved again. */
const LEFT = ['hold', 'lease', 'fence', 'error'] as const satisfies KeptReason[];

function sum(kept: ReadonlyMap<KeptReason, number>, reasons: readonly KeptReason[]): number {
  return reasons.reduce((count, reason) => count + (kept.get(reason) ?? 0), 0);
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
function end({ catalog, clock }: Place, run: Run, n: number, isDry: boolean): void {
  if (isDry) catalog.sweeps.progress(n, 'done', 0, clock.now());
  else catalog.waiting.giveBack(n, run.n);
  while (catalog.sweeps.dropPlan(n, BATCH * 10)) continue;
}

/** Of what a listing has not found: how many are gone, and how many the policy selects no more. */
function lostOf(
  { catalog }: Place,
  { plan, policy }: Approval,
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
      return { plan, outcome: 'already' };
    case 'approved':
      throw conflict(id, 'was approved and has moved', `to undo that: restore --sweep ${id}`);
    case 'waiting':
  }
  if (plan.movedBy !== null) throw beingMoved(plan);
  if (dryRun) return { plan, outcome: 'dry-run' };
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
  });
  return { plan: planOf(place, id), outcome: 'rejected' };
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
