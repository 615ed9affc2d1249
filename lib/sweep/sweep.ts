import type { SweepCounts, SweepState } from '../catalog/sweeps.ts';
import type { WaitingPlan } from '../catalog/waiting.ts';
import { Coverage } from '../cover/coverage.ts';
import { isoTime } from '../domain/clock.ts';
import { messageOf, TombstonedError } from '../domain/errors.ts';
import { makePlainId } from '../domain/ids.ts';
import type { KeptReason } from '../domain/kept-reason.ts';
import { printable } from '../domain/key.ts';
import { type DropIn, type Guards, NO_LIMITS, type Policy } from '../policy/policy.ts';
import { reasonOf } from '../run/claims.ts';
import { isNews } from '../run/news.ts';
import type { Place } from '../run/place.ts';
import { checkPlace, inRun, type Run } from '../run/run.ts';
import { SweepLedger } from './ledger-thread.ts';
import { BATCH, type MoveEnd, moveBatches } from './move.ts';
import { type PlanSummary, type PolicyPlan, planPolicy, type Refusal } from './plan.ts';
import { finishRequests, noteEnds, orphanedRequests, planRequests, type RequestPlan } from './requests.ts';
import { fileWaiting, takeOut, tidyWaiting, waitingHint, waitingOf } from './waiting.ts';

/** How many objects that were gone or changed are named: two sweeps at once meet thousands. */
const MOST_TOLD = 20;

interface PlannedObject {
  readonly key: string;
  readonly size: number;
  readonly policy: string | null;
  readonly reason: string | null;
}

export interface SweepOptions {
  readonly policies: readonly Policy[];
  readonly guards: Guards;
  /** Plans, and stops before anything is moved. */
  readonly dryRun: boolean;
  /** Policies that take requests from a directory. */
  readonly dropIns?: readonly DropIn[];
  /** All such policies of the store: what was taken for another waits for somebody to decide. Not given: it is left. */
  readonly knownDropIns?: readonly DropIn[];
  /** Leaves alone the requests that wait because they are over a limit. */
  readonly isOnlyNew?: boolean;
  /** Stops after the batch that is under way. */
  readonly signal?: AbortSignal | undefined;
  /** Each planned object, in key order; only in a dry run. */
  readonly onPlanned?: (object: PlannedObject) => void;
  /** Each object that can't be moved, and why. */
  readonly onRefusal?: (refusal: Refusal) => void;
  /** After each page of a listing: how many objects its policy has selected so far. */
  readonly onListed?: (selected: number) => void;
  readonly onProgress?: (done: number, planned: number) => void;
  /** How many objects a batch moves; only specs ask for fewer. */
  readonly batchSize?: number;
}

/** A policy over a limit. */
export interface BlockedPolicy {
  readonly policy: string;
  /** Whether it takes requests, of which only some may wait. */
  readonly isOfRequests?: boolean;
  /** Which limit it is over, in words. */
  readonly over: string;
  /** Its plan that waits for approval; undefined of a dry run, and where one was decided about meanwhile. */
  readonly waiting: WaitingPlan | undefined;
  /** Whether that plan was filed by this sweep, and did not wait already. */
  readonly isNew: boolean;
}

export interface SweepResult extends SweepCounts {
  /** Its id, or null of a dry run. */
  readonly sweep: string | null;
  readonly plans: readonly PlanSummary[];
  /** Old enough, and kept, by reason. */
  readonly kept: ReadonlyMap<KeptReason, number>;
  /** Policies over a limit: nothing of them is moved. */
  readonly blocked: readonly BlockedPolicy[];
  /** What is wrong with requests, or with their directory; all else went on. */
  readonly problems: readonly TombstonedError[];
  /** Whether the signal ended it before all was moved. */
  readonly isCut: boolean;
}

/** Phase one: plan (streamed into the catalog), guards, move in batches. */
export async function sweep(place: Place, options: SweepOptions): Promise<SweepResult> {
  await checkPlace(place, options.dryRun);
  return inLedger(place, async (run, ledger) => sweepIn(place, run, ledger, options));
}

/** Does `work` as a run of phase one, with a ledger of its own. */
export async function inLedger<T>(
  place: Place,
  work: (run: Run, ledger: SweepLedger) => Promise<T>,
): Promise<T> {
  return inRun(place, 'sweep', async (run) => {
    const ledger = new SweepLedger(place, run.n);
    try {
      return await work(run, ledger);
    } finally {
      await ledger.close();
    }
  });
}

async function sweepIn(
  place: Place,
  run: Run,
  ledger: SweepLedger,
  options: SweepOptions,
): Promise<SweepResult> {
  const { catalog, row, clock, random } = place;
  const id = makePlainId('s', clock.now(), random);
  const isDry = options.dryRun;
  const n = catalog.sweeps.begin({ id, store: row.n, run: run.n, reason: null, isDry, now: clock.now() });
  const counts = { planned: 0, moved: 0, abandoned: 0, failed: 0, bytes: 0 };
  const kept = new Map<KeptReason, number>();
  const end = async (state: SweepState): Promise<void> => {
    catalog.sweeps.progress(n, state, counts.planned, clock.now());
    await ledger.dropPlan(n);
  };
  let isCut = false;
  const plans: PlanSummary[] = [];
  const blocked: BlockedPolicy[] = [];
  const problems: TombstonedError[] = [];
  const onProblem = (problem: TombstonedError): void => void problems.push(problem);
  const prefixes = new Set(options.policies.map(({ prefix }) => prefix));
  const orphans = isDry ? [] : orphansOf(place, options);
  const coverage = Coverage.of(place);
  try {
    if (!isDry) await tidyWaiting(place);
    for (const policy of options.policies) {
      const { plan, over } = await planOne(place, { run, ledger, n, coverage }, policy, options);
      plans.push(plan);
      if (plan.problem !== null) problems.push(plan.problem);
      if (over !== undefined) blocked.push(over);
    }
    for (const dropIn of [...(options.dropIns ?? []), ...orphans]) {
      const asked = { ...options, coverage, isOrphaned: orphans.includes(dropIn) };
      const plan = await planDropIn(place, run, n, dropIn, asked, onProblem);
      plans.push(plan);
      const over = blockedRequests(plan);
      if (over !== undefined) blocked.push(over);
      if (plan.prefix !== undefined) prefixes.add(plan.prefix);
    }
    for (const plan of plans) {
      counts.planned += plan.planned;
      for (const [reason, times] of plan.kept) kept.set(reason, (kept.get(reason) ?? 0) + times);
    }
    if (isDry) {
      for (const item of planItems(place, n)) options.onPlanned?.(item);
    } else {
      catalog.sweeps.progress(n, 'moving', counts.planned, null);
      if (counts.planned > 0) await tellWhatIsOpen(place);
      // No prefix would be every key, in a fence.
      if (prefixes.size > 0) {
        const within = { ...options, coverage, prefixes: [...prefixes] };
        isCut = await movePlan(place, run, ledger, n, within, counts, kept);
      } else isCut = options.signal?.aborted === true;
    }
  } catch (error) {
    const isStopped = await settleError(place, ledger, error, options.signal);
    await tryTo(place, async () => end(isStopped ? 'interrupted' : 'failed'));
    if (!isStopped) throw error;
    return { sweep: isDry ? null : id, ...counts, plans, kept, blocked, problems, isCut: true };
  }
  await end(isCut ? 'interrupted' : blocked.length > 0 && counts.planned === 0 ? 'blocked' : 'done');
  if (!isDry) {
    for (const dropIn of [...(options.dropIns ?? []), ...orphans])
      await finishRequests(place, run, dropIn, onProblem);
  }
  return { sweep: isDry ? null : id, ...counts, plans, kept, blocked, problems, isCut };
}

/**
 * Whether an error is but the signal's. What is on its way to a plan is there when
 * it resolves, so that the plan can be dropped.
 */
export async function settleError(
  place: Place,
  ledger: SweepLedger,
  error: unknown,
  signal: AbortSignal | undefined,
): Promise<boolean> {
  await ledger.planned().catch((second: unknown) => {
    if (second !== error) place.report('warn', messageOf(second)); // it is not the first error
  });
  return signal?.aborted === true && error === signal.reason;
}

/** Warns of what this store's guards leave open, before anything is moved. */
export async function tellWhatIsOpen({ store, report }: Place): Promise<void> {
  for (const { text, isOpen } of (await store.guards?.()) ?? []) {
    if (isOpen && isNews(store, text)) report('warn', text, { hint: 'see tombstonectl doctor' });
  }
}

async function planOne(
  place: Place,
  { run, ledger, n, coverage }: { run: Run; ledger: SweepLedger; n: number; coverage: Coverage | undefined },
  policy: Policy,
  options: SweepOptions,
): Promise<{ plan: PolicyPlan; over: BlockedPolicy | undefined }> {
  const { guards, dryRun, signal, onListed, onRefusal = () => undefined } = options;
  const before = waitingOf(place, policy.name);
  const plan = await planPolicy(place, ledger, {
    sweep: n,
    policy,
    guards,
    coverage,
    onRefusal,
    onListed,
    signal,
  });
  const { over } = plan;
  if (over === null) return { plan, over: undefined };
  // A dry run shows all of it.
  const filed = dryRun
    ? { plan: undefined, isNew: false }
    : await fileWaiting(place, run, {
        policy: policy.name,
        cause: plan.cause,
        over,
        before,
        fill: async (to) => takeOut(place, { sweep: n, plan, onListed, signal }, to),
      });
  const blocked = { policy: policy.name, over: over.limit, waiting: filed.plan, isNew: filed.isNew };
  const { message, hint } = blockedText(place.row.name, blocked);
  place.report('warn', message, { hint, policy: policy.name, sweep: filed.plan?.sweep });
  return { plan, over: blocked };
}

/** What a policy over a limit means, and what to do. */
export function blockedText(
  store: string,
  { policy, over, waiting, isNew, isOfRequests = false }: BlockedPolicy,
): { message: string; hint: string } {
  const message = `policy ${policy} ${isOfRequests ? 'has requests that wait' : 'moves nothing'}: ${over}`;
  if (waiting === undefined) {
    return {
      message,
      hint: 'see what it names with sweep --dry-run --policy; a sweep lets its plan wait for approval',
    };
  }
  const waits = isNew ? 'its plan waits' : 'an earlier plan of it waits';
  return {
    message: `${message}; ${waits} for approval until ${isoTime(waiting.expiresAt)}: ${waiting.sweep}`,
    hint: waitingHint(store, waiting.sweep),
  };
}

/** The policies, with a directory, that requests were taken for and the config has no more. */
function orphansOf(place: Place, { knownDropIns }: SweepOptions): DropIn[] {
  if (knownDropIns === undefined) return [];
  return orphanedRequests(place, knownDropIns).map(({ policy: name, directory }) => ({
    name,
    directory,
    limits: NO_LIMITS,
  }));
}

async function planDropIn(
  place: Place,
  run: Run,
  n: number,
  dropIn: DropIn,
  options: SweepOptions & { readonly isOrphaned: boolean; readonly coverage: Coverage | undefined },
  onProblem: (problem: TombstonedError) => void,
): Promise<RequestPlan> {
  const { dryRun: isDry, isOnlyNew = false, onRefusal = () => undefined } = options;
  const asked = { ...options, dropIn, sweep: n, isDry, isOnlyNew, onRefusal, onProblem };
  const plan = await planRequests(place, run, asked);
  const over = blockedRequests(plan);
  if (over !== undefined) {
    const { message, hint } = blockedText(place.row.name, over);
    place.report('warn', message, { hint, policy: plan.policy, sweep: over.waiting?.sweep });
  }
  return plan;
}

function blockedRequests({ policy, over, filed }: RequestPlan): BlockedPolicy | undefined {
  if (over === null) return undefined;
  return { policy, over, waiting: filed.plan, isNew: filed.isNew, isOfRequests: true };
}

/** What a sweep has planned, in key order. */
export function* planItems(place: Place, n: number): Generator<PlannedObject> {
  const { sweeps } = place.catalog;
  for (let after = ''; ; ) {
    const page = sweeps.planPage(n, after, BATCH);
    const last = page.at(-1);
    if (last === undefined) return;
    for (const { key, size, cause } of page) yield { key, size, ...sweeps.causeOf(cause) };
    after = last.key;
  }
}

/** Moves what a sweep has planned, and counts what becomes of it; true when the signal ended it. */
export async function movePlan(
  place: Place,
  run: Run,
  ledger: SweepLedger,
  n: number,
  options: Pick<SweepOptions, 'dropIns' | 'signal' | 'batchSize' | 'onRefusal' | 'onProgress'> & {
    readonly prefixes: readonly string[];
    readonly coverage: Coverage | undefined;
    /** What of requests failed, or a claim keeps, stays open. */
    readonly isPatient?: boolean;
  },
  counts: { planned: number; moved: number; abandoned: number; failed: number; bytes: number },
  kept: Map<KeptReason, number>,
): Promise<boolean> {
  const { signal, batchSize, prefixes, coverage, dropIns = [], isPatient = false } = options;
  const plan = { sweep: n, asker: 'policy', prefixes, coverage, signal, batchSize } as const;
  let done = 0;
  for await (const batch of moveBatches(place, run, ledger, plan)) {
    if (dropIns.length > 0) noteEnds(place, { sweep: n, isPatient }, batch.ends);
    for (const end of batch.ends) count(place, end, counts, kept, options.onRefusal);
    done += batch.count;
    options.onProgress?.(done, counts.planned);
  }
  const untold = counts.abandoned - MOST_TOLD;
  if (untold > 0) place.report('info', `${untold} more were gone or changed before they were moved`);
  return signal?.aborted === true;
}

function count(
  place: Place,
  end: MoveEnd,
  counts: { moved: number; abandoned: number; failed: number; bytes: number },
  kept: Map<KeptReason, number>,
  onRefusal: ((refusal: Refusal) => void) | undefined,
): void {
  switch (end.end.as) {
    case 'moved':
      counts.moved++;
      counts.bytes += end.size;
      return;
    case 'failed':
      counts.failed++;
      onRefusal?.({ key: end.key, why: messageOf(end.end.error) });
      return;
    case 'held': {
      const reason = reasonOf(end.end.by);
      kept.set(reason, (kept.get(reason) ?? 0) + 1);
      return;
    }
    case 'gone':
    case 'changed':
      counts.abandoned++;
      if (counts.abandoned > MOST_TOLD) return;
      place.report(
        'info',
        `${printable(end.key)} was ${end.end.as === 'gone' ? 'gone' : 'changed'} before it was moved`,
      );
  }
}

/** Does what an error path can still do; what fails then is reported, and does not hide the first error. */
export async function tryTo(place: Place, work: () => Promise<void> | void): Promise<void> {
  try {
    await work();
  } catch (error) {
    place.report('warn', messageOf(error));
  }
}

/** Throws `blocked` when a sweep of a store was kept from moving something by a limit. */
export function failIfBlocked(store: string, result: Pick<SweepResult, 'blocked'>): void {
  const [first] = result.blocked;
  if (first === undefined) return;
  const { message, hint } = blockedText(store, first);
  throw new TombstonedError('blocked', message, { reason: 'limit', key: first.policy, hint });
}
