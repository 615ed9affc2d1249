import type { RequestGroup, RequestRow } from '../catalog/requests.ts';
import type { WaitingPlan } from '../catalog/waiting.ts';
import type { Coverage } from '../cover/coverage.ts';
import { TombstonedError } from '../domain/errors.ts';
import { makePlainId } from '../domain/ids.ts';
import { commonPrefix, printable } from '../domain/key.ts';
import { type DropIn, type Guards, overLimit } from '../policy/policy.ts';
import { Inbox } from '../request/inbox.ts';
import { takeAgain, takeRequests } from '../request/take.ts';
import { tellRequests, tellWaiting } from '../request/tell.ts';
import { refreshHolds } from '../run/batch.ts';
import type { Place } from '../run/place.ts';
import type { Run } from '../run/run.ts';
import { outcomeOf } from './hand-outcome.ts';
import type { MoveEnd } from './move.ts';
import type { OverLimit, PlanSummary, Refusal } from './plan.ts';
import { addToPlan, fileLines, isForNow, lookAtLines, noteMoved, type Tally } from './requested-lines.ts';
import { countLive, overOfStore } from './store-limits.ts';
import { type Filed, fileWaiting, waitingOf } from './waiting.ts';

/** How many lines of dry runs one commit drops. */
const ROWS = 5000;

export interface RequestPlan extends PlanSummary {
  /** Which limit those that wait are over, or null: none waits. */
  readonly over: string | null;
  /** Their plan that waits for approval, and whether it was filed just now. */
  readonly filed: Filed;
  /** What all its keys begin with; undefined when there are none. */
  readonly prefix: string | undefined;
}

export interface PlanRequests {
  readonly dropIn: DropIn;
  readonly sweep: number;
  readonly guards: Guards;
  readonly coverage: Coverage | undefined;
  /** Looks at what lies in the directory, and takes nothing. */
  readonly isDry: boolean;
  /** Leaves alone what waits because it is over a limit. */
  readonly isOnlyNew: boolean;
  /** The config has it no more: nothing new is taken, and what was waits for somebody to decide. */
  readonly isOrphaned?: boolean;
  readonly onRefusal: (refusal: Refusal) => void;
  /** What is wrong with a file, or with the directory; the others go on. */
  readonly onProblem: (problem: TombstonedError) => void;
  /** How many lines have been read, then looked at: signs of life. */
  readonly onListed?: ((lines: number) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Plans what drop-in requests ask for (design, section 8): takes the files, looks
 * at each key, and writes what passes the guards into the sweep's plan. A request
 * that is over a limit by itself waits; so do the others, if together they are:
 * as one plan, for approval, or behind an earlier one of the policy.
 */
export async function planRequests(place: Place, run: Run, plan: PlanRequests): Promise<RequestPlan> {
  const { dropIn, isDry, onProblem, onListed, signal } = plan;
  forgetDryRuns(place);
  const inbox = openInbox(dropIn, onProblem);
  if (inbox === undefined) return { ...EMPTY, policy: dropIn.name, kept: new Map(), prefix: undefined };
  try {
    const taking = { place, run, inbox, policy: dropIn.name, isDry, signal, onProblem, onRead: onListed };
    const take = async (): Promise<number[]> => {
      if (plan.isOrphaned !== true) return takeRequests(taking);
      await takeAgain(taking);
      return [];
    };
    const looked = await take().catch((error: unknown) => {
      // Without its directory a policy takes nothing new; what it has taken goes on, and so do the others.
      if (!(error instanceof TombstonedError) || error.key !== dropIn.directory) throw error;
      onProblem(error);
      return [];
    });
    await refreshHolds(place);
    const rows = isDry ? copies(place, run, plan, looked) : ownRequests(place, run, plan);
    for (const row of rows) noteMoved(place, row);
    const tally = await lookAtLines(place, rows, { ...plan, policy: dropIn.name });
    const result = await planWithinLimits(place, run, rows, plan, tally);
    if (!isDry) await tellOfPlan(place, inbox, result.filed.plan);
    return result;
  } finally {
    inbox.close();
  }
}

/** Notes what became of the keys of a batch; `isPatient`: what failed, or a claim keeps for a while, stays open. */
export function noteEnds(
  { catalog }: Place,
  { sweep, isPatient }: { sweep: number; isPatient: boolean },
  ends: readonly MoveEnd[],
): void {
  const found = ends.map((end) => outcomeOf(end));
  const final = isPatient ? found.filter(({ reason }) => !isForNow(reason)) : found;
  const outcomes = new Map(final.map((outcome) => [outcome.key, outcome]));
  catalog.transaction(() => {
    const lines = catalog.requests.linesOf(sweep, [...outcomes.keys()]);
    const ended = lines.flatMap(({ key, ...line }) => {
      const outcome = outcomes.get(key);
      return outcome === undefined ? [] : [{ ...line, ...outcome }];
    });
    catalog.requests.resolve(ended);
  });
}

/** Puts the results of those requests in place of which it is known what became of each key. */
export async function finishRequests(
  place: Place,
  run: Run,
  dropIn: Omit<DropIn, 'limits'>,
  onProblem: (problem: TombstonedError) => void,
): Promise<void> {
  const { requests } = place.catalog;
  const { name: policy, directory } = dropIn;
  const inbox = openInbox(dropIn, () => undefined); // planning has told
  if (inbox === undefined) return;
  try {
    const rows = requests.claim({ store: place.row.n, run: run.n, policy, directory });
    const open = rows.filter(({ state }) => state === 'taken' || state === 'waiting').map(({ n }) => n);
    const refused = rows.filter(({ plan }) => plan === 'rejected' || plan === 'expired');
    for (const row of refused) noteMoved(place, row); // before it was
    const resolved = new Set([...requests.resolved(open), ...refused.map(({ n }) => n)]);
    requests.setState([...resolved], 'done');
    const ended = rows.filter(({ n, state }) => state === 'done' || state === 'told' || resolved.has(n));
    await tellRequests(place, inbox, ended, onProblem);
  } catch (error) {
    if (!(error instanceof TombstonedError)) throw error;
    onProblem(error); // its keys are done with: the next sweep tries to say so again
  } finally {
    inbox.close();
  }
}

/** Requests that were taken for a policy, or from a directory, that the config has no more. */
export function orphanedRequests(
  { catalog, row }: Pick<Place, 'catalog' | 'row'>,
  known: readonly Pick<DropIn, 'name' | 'directory'>[],
): RequestGroup[] {
  return catalog.requests
    .groups(row.n)
    .filter((of) => !known.some((one) => one.name === of.policy && one.directory === of.directory));
}

/** What orphaned requests are, in words. */
export function orphanText({ policy, directory, count }: RequestGroup): string {
  const what = count === 1 ? 'a request' : `${count} requests`;
  return `${what} of policy ${policy} in ${printable(directory)}, which the config has no more`;
}

/** What an operator does about orphaned requests: a sweep files their plan. */
export function orphanHint(store: string): string {
  return `put the policy back into the config, or let them wait for approve or reject: tombstonectl --store ${store} sweep`;
}

/** Whether there is something for a sweep to do in a drop-in directory, beside what waits. */
export function hasNewRequests({ catalog, row }: Place, { name: policy, directory }: DropIn): boolean {
  const inbox = Inbox.open(directory);
  try {
    if (inbox.names(() => undefined).some((name) => inbox.inTheWay(name) === undefined)) return true;
    const rows = catalog.requests.all({ store: row.n, policy, directory });
    return rows.some(({ state, plan }) => state !== 'waiting' || (plan !== null && plan !== 'waiting'));
  } finally {
    inbox.close();
  }
}

const NONE_FILED = { plan: undefined, isNew: false } as const satisfies Filed;
const EMPTY = { selected: 0, planned: 0, bytes: 0, over: null, filed: NONE_FILED } as const;

/** Lets those who asked know that their requests wait. */
async function tellOfPlan({ catalog }: Place, inbox: Inbox, plan: WaitingPlan | undefined): Promise<void> {
  if (plan === undefined) return;
  const rows = catalog.requests.ofPlan(plan.n).filter(({ directory }) => directory === inbox.directory);
  await tellWaiting(inbox, plan, rows);
}

function openInbox(
  { name, directory }: Omit<DropIn, 'limits'>,
  onProblem: (problem: TombstonedError) => void,
): Inbox | undefined {
  try {
    return Inbox.open(directory);
  } catch (error) {
    if (!(error instanceof TombstonedError)) throw error;
    const { code, message, key, hint, cause } = error;
    onProblem(new TombstonedError(code, `policy ${name}: ${message}`, { key, hint, cause }));
    return undefined;
  }
}

function ownRequests(place: Place, run: Run, { dropIn, isOnlyNew }: PlanRequests): RequestRow[] {
  const { name: policy, directory } = dropIn;
  return place.catalog.requests
    .claim({ store: place.row.n, run: run.n, policy, directory })
    .filter((row) => isToPlan(row) && !(isOnlyNew && row.state === 'waiting'));
}

/** Whether a sweep plans it: what has a plan that waits is the plan's, and what it has decided stays so. */
function isToPlan({ state, plan }: RequestRow): boolean {
  return plan === null && (state === 'taken' || state === 'waiting');
}

/** A dry run looks at copies of what was taken before: nobody else's row changes. */
function copies(place: Place, run: Run, { dropIn }: PlanRequests, looked: readonly number[]): RequestRow[] {
  const { requests } = place.catalog;
  const { name: policy, directory } = dropIn;
  const taken = requests.all({ store: place.row.n, policy, directory }).filter(isToPlan);
  return [...copiesOf(place, run, taken), ...requests.rows(looked)];
}

/** Copies of requests, with the lines that are open, which go with this run. */
export function copiesOf(place: Place, run: Run, rows: readonly RequestRow[]): RequestRow[] {
  const { catalog, clock, random, row } = place;
  return rows.flatMap((from) => {
    const now = clock.now();
    const { name, policy, directory } = from;
    const file = { id: makePlainId('q', now, random), name };
    const of = { store: row.n, run: run.n, policy, directory, isDry: true, now };
    return catalog.transaction(() =>
      catalog.requests.begin(of, [file]).map((to) => {
        catalog.requests.copyOpen(from.n, to.n);
        return { ...to, sweep: from.sweep };
      }),
    );
  });
}

function forgetDryRuns({ catalog, row }: Place): void {
  const left = catalog.requests.leftByDryRuns(row.n);
  while (left.length > 0 && catalog.requests.drop(left, ROWS)) continue;
}

async function planWithinLimits(
  place: Place,
  run: Run,
  rows: readonly RequestRow[],
  plan: PlanRequests,
  { kept, selected }: Tally,
): Promise<RequestPlan> {
  const { requests } = place.catalog;
  const { dropIn, sweep, isDry, signal } = plan;
  const { going, waiting, over } = await dividedByLimits(place, rows, plan);
  const all = going.map(({ n }) => n);
  const { objects, bytes } = requests.planned(all);
  const span = requests.span(all);
  const prefix = span === undefined ? undefined : commonPrefix(span.first, span.last);
  const result = { policy: dropIn.name, selected, kept, over: over?.limit ?? null, prefix };
  if (signal?.aborted === true) return { ...result, planned: 0, bytes: 0, filed: NONE_FILED };
  if (!isDry) requests.bind(all, sweep, 'taken');
  addToPlan(place, sweep, isDry ? rows.map(({ n }) => n) : all);
  const filed = await fileOver(place, run, waiting, over, plan);
  const held = (over?.objects ?? 0) + (filed.isNew ? 0 : (filed.plan?.objects ?? 0));
  if (held > 0) kept.set('limit', (kept.get('limit') ?? 0) + held);
  return { ...result, planned: objects, bytes, over: result.over ?? filed.plan?.over ?? null, filed };
}

/** Which requests may go; the others are over a limit, each by itself or together with those that are not. */
async function dividedByLimits(
  place: Place,
  rows: readonly RequestRow[],
  { dropIn: { name, limits }, isOrphaned, signal }: PlanRequests,
): Promise<{ going: readonly RequestRow[]; waiting: readonly RequestRow[]; over: OverLimit | null }> {
  const { requests } = place.catalog;
  const planned = (some: readonly RequestRow[]): { objects: number; bytes: number } =>
    requests.planned(some.map(({ n }) => n));
  if (isOrphaned === true) {
    const waiting = rows.filter((row) => planned([row]).objects > 0);
    if (waiting.length === 0) return { going: [], waiting, over: null };
    const limit = `the config has policy ${name} with their directory no more (${namesOf(waiting)})`;
    return { going: [], waiting, over: { ...planned(waiting), limit } };
  }
  const isOver =
    signal?.aborted !== true && (await overOfStore(place, { limits, signal }, planned(rows))) !== null;
  if (!isOver) return { going: rows, waiting: [], over: null };
  const selected = limits.maxFraction === null ? 0 : await countLive(place, signal);
  const limitOf = (some: readonly RequestRow[]): OverLimit | null => {
    const amount = planned(some);
    const limit = overLimit(limits, { ...amount, selected });
    return limit === null ? null : { ...amount, limit: `${limit} (${namesOf(some)})` };
  };
  const within = rows.filter((row) => limitOf([row]) === null);
  // Of one that has nothing to move there is nothing to approve.
  const goes = new Set(
    limitOf(within) === null ? within : rows.filter((row) => planned([row]).objects === 0),
  );
  const waiting = rows.filter((row) => !goes.has(row));
  return { going: [...goes], waiting, over: limitOf(waiting) };
}

/** Files what is over a limit as a plan of the policy; gives the one that waits, this or an earlier. */
async function fileOver(
  place: Place,
  run: Run,
  rows: readonly RequestRow[],
  over: OverLimit | null,
  { dropIn, isDry, isOnlyNew, signal }: PlanRequests,
): Promise<Filed> {
  const { requests, sweeps } = place.catalog;
  const policy = dropIn.name;
  if (over === null && isOnlyNew) return NONE_FILED;
  if (over === null || isDry) return { plan: waitingOf(place, policy), isNew: false };
  const all = rows.map(({ n }) => n);
  requests.setState(all, 'waiting');
  return fileWaiting(place, run, {
    policy,
    cause: sweeps.cause(policy, `requests ${namesOf(rows)}`),
    over,
    before: undefined,
    fill: async (to) => {
      if (to !== null) await fileLines(place, to, all, signal);
    },
    onFiled: (to) => requests.bind(all, to, 'waiting'),
  });
}

function namesOf(rows: readonly RequestRow[]): string {
  const names = rows.slice(0, 3).map(({ name }) => printable(`${name}.keys`));
  return [...names, ...(rows.length > 3 ? [`${rows.length - 3} more`] : [])].join(', ');
}
