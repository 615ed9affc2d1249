import type { KeyOutcome, LineOf, OpenLine, RequestRow, SeenLine } from '../catalog/requests.ts';
import { TombstonedError } from '../domain/errors.ts';
import { makePlainId } from '../domain/ids.ts';
import type { KeptReason } from '../domain/kept-reason.ts';
import { commonPrefix, printable } from '../domain/key.ts';
import { parseRevision, revisionText, sameRevision } from '../domain/revision.ts';
import { type DropIn, type Guards, guard, overLimit } from '../policy/policy.ts';
import { Inbox } from '../request/inbox.ts';
import { isWanted } from '../request/line.ts';
import { takeRequests } from '../request/take.ts';
import { tellRequests } from '../request/tell.ts';
import { refreshHolds } from '../run/batch.ts';
import { keepersOf, keeperText, reasonOf } from '../run/claims.ts';
import type { Place } from '../run/place.ts';
import type { Run } from '../run/run.ts';
import { checkIdentity } from '../store/identity.ts';
import type { LiveObject } from '../store/store.ts';
import { GUARD_TEXT, outcomeOf } from './hand-outcome.ts';
import type { MoveEnd } from './move.ts';
import type { PlanSummary, Refusal } from './plan.ts';
import { countLive, overOfStore } from './store-limits.ts';

/** How many lines are looked at, and noted by one commit; how many of them at once. */
const LINES = 2000;
const AT_ONCE = 32;
/** How many planned objects one commit writes. */
const ROWS = 5000;

export interface RequestPlan extends PlanSummary {
  /** Which limit those that wait are over, or null: none waits. */
  readonly over: string | null;
  /** What all its keys begin with; undefined when there are none. */
  readonly prefix: string | undefined;
}

export interface PlanRequests {
  readonly dropIn: DropIn;
  readonly sweep: number;
  readonly guards: Guards;
  /** Looks at what lies in the directory, and takes nothing. */
  readonly isDry: boolean;
  /** Leaves alone what waits because it is over a limit. */
  readonly isOnlyNew: boolean;
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
 * that is over a limit by itself waits; so do the others, if together they are.
 */
export async function planRequests(place: Place, run: Run, plan: PlanRequests): Promise<RequestPlan> {
  const { dropIn, isDry, onProblem, onListed, signal } = plan;
  forgetDryRuns(place);
  const inbox = openInbox(dropIn, onProblem);
  if (inbox === undefined) return { ...EMPTY, policy: dropIn.name, kept: new Map(), prefix: undefined };
  try {
    const taking = { place, run, inbox, policy: dropIn.name, isDry, signal, onProblem, onRead: onListed };
    const looked = await takeRequests(taking).catch((error: unknown) => {
      // Without its directory a policy takes nothing new; what it has taken goes on, and so do the others.
      if (!(error instanceof TombstonedError) || error.key !== dropIn.directory) throw error;
      onProblem(error);
      return [];
    });
    await refreshHolds(place);
    const rows = isDry ? copies(place, run, plan, looked) : ownRequests(place, run, plan);
    const tally: Tally = { kept: new Map(), selected: 0 };
    for (const row of rows) noteMoved(place, row);
    await lookAtLines(place, rows, plan, tally);
    return await planWithinLimits(place, rows, plan, tally);
  } finally {
    inbox.close();
  }
}

/** Notes what became of the keys of a batch. */
export function noteEnds(place: Place, sweep: number, ends: readonly MoveEnd[]): void {
  const { catalog } = place;
  const outcomes = new Map(ends.map((end) => [end.key, outcomeOf(end)]));
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
  dropIn: DropIn,
  onProblem: (problem: TombstonedError) => void,
): Promise<void> {
  const { requests } = place.catalog;
  const { name: policy, directory } = dropIn;
  const inbox = openInbox(dropIn, () => undefined); // planning has told
  if (inbox === undefined) return;
  try {
    const rows = requests.claim({ store: place.row.n, run: run.n, policy, directory });
    const open = rows.filter(({ state }) => state === 'taken' || state === 'waiting').map(({ n }) => n);
    const resolved = new Set(requests.resolved(open));
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

/** Whether there is something for a sweep to do in a drop-in directory, beside what waits. */
export function hasNewRequests({ catalog, row }: Place, { name: policy, directory }: DropIn): boolean {
  const inbox = Inbox.open(directory);
  try {
    if (inbox.names(() => undefined).some((name) => inbox.inTheWay(name) === undefined)) return true;
    const rows = catalog.requests.all({ store: row.n, policy, directory });
    return rows.some(({ state }) => state !== 'waiting');
  } finally {
    inbox.close();
  }
}

const EMPTY = { selected: 0, planned: 0, bytes: 0, over: null } as const;

function openInbox(
  { name, directory }: DropIn,
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
    .filter(({ state }) => state === 'taken' || (state === 'waiting' && !isOnlyNew));
}

/** A dry run looks at copies of what was taken before: nobody else's row changes. */
function copies(place: Place, run: Run, { dropIn }: PlanRequests, looked: readonly number[]): RequestRow[] {
  const { catalog, clock, random, row } = place;
  const { name: policy, directory } = dropIn;
  const store = row.n;
  const copied = catalog.requests
    .all({ store, policy, directory })
    .filter(({ state }) => state === 'taken' || state === 'waiting')
    .flatMap((from) => {
      const now = clock.now();
      const file = { id: makePlainId('q', now, random), name: from.name };
      const of = { store, run: run.n, policy, directory, isDry: true, now };
      return catalog.transaction(() =>
        catalog.requests.begin(of, [file]).map((to) => {
          catalog.requests.copyOpen(from.n, to.n);
          return { ...to, sweep: from.sweep };
        }),
      );
    });
  return [...copied, ...catalog.requests.rows(looked)];
}

function forgetDryRuns({ catalog, row }: Place): void {
  const left = catalog.requests.leftByDryRuns(row.n);
  while (left.length > 0 && catalog.requests.drop(left, ROWS)) continue;
}

/** What the sweep before has moved, before it was cut or its process died, is not moved again. */
function noteMoved({ catalog, row }: Place, { n: request, sweep }: RequestRow): void {
  if (sweep === null) return;
  for (let after = 0; ; ) {
    const page = catalog.requests.movedBy({ store: row.n, sweep, request }, after, LINES);
    const last = page.at(-1);
    if (last === undefined) return;
    catalog.requests.resolve(
      page.map(({ line, id, isOther }) => ({
        request,
        line,
        ...(isOther ? as('changed', CHANGED, 'changed', id) : as('tombstoned', null, null, id)),
      })),
    );
    after = last.line;
  }
}

const CHANGED = 'it was changed before it was moved';

/** An open line, and whose it is. */
interface RequestedLine extends OpenLine {
  readonly request: RequestRow;
}

/** What becomes of the lines of all requests: by itself each of them may be small. */
async function lookAtLines(
  place: Place,
  rows: readonly RequestRow[],
  plan: PlanRequests,
  tally: Tally,
): Promise<void> {
  let page: RequestedLine[] = [];
  for (const request of rows) {
    for (let after = 0; plan.signal?.aborted !== true; ) {
      const lines = place.catalog.requests.openLines(request.n, after, LINES - page.length);
      page.push(...lines.map((line) => ({ ...line, request })));
      const last = lines.at(-1);
      if (last === undefined) break;
      after = last.line;
      if (page.length < LINES) break; // that was all of it
      await lookAtPage(place, page, plan, tally);
      page = [];
    }
  }
  if (page.length > 0 && plan.signal?.aborted !== true) await lookAtPage(place, page, plan, tally);
}

interface Tally {
  readonly kept: Map<KeptReason, number>;
  selected: number;
}

async function lookAtPage(
  place: Place,
  page: readonly RequestedLine[],
  { guards, dropIn, onRefusal, onListed }: PlanRequests,
  tally: Tally,
): Promise<void> {
  const { requests, sweeps } = place.catalog;
  tally.selected += page.length;
  const found = await verdicts(place, page, guards);
  const seen: SeenLine[] = [];
  const ended: (KeyOutcome & LineOf)[] = [];
  for (const [i, { request, line, key, reason }] of page.entries()) {
    const verdict = found[i];
    if (verdict === undefined) throw new TypeError('a verdict is missing');
    const of = { request: request.n, line };
    if ('outcome' in verdict) {
      ended.push({ ...of, ...verdict });
      if (verdict.outcome === 'already') continue;
      const why = verdict.reason;
      if (why !== null) tally.kept.set(why, (tally.kept.get(why) ?? 0) + 1);
      onRefusal({ key, why: verdict.detail ?? verdict.outcome });
      continue;
    }
    const { size, revision, modifiedAt } = verdict;
    const cause = sweeps.cause(dropIn.name, reason ?? `request ${request.name}`);
    seen.push({ ...of, revision: revisionText(revision), size, modifiedAt, cause });
  }
  place.catalog.transaction(() => {
    requests.see(seen);
    requests.resolve(ended);
  });
  onListed?.(tally.selected);
}

/** What each line comes to: a live object to be moved, or an outcome. */
async function verdicts(
  place: Place,
  lines: readonly OpenLine[],
  guards: Guards,
): Promise<(LiveObject | KeyOutcome)[]> {
  const now = place.catalog.clock.sureTime(place.clock);
  const looks: (LiveObject | KeyOutcome)[] = [];
  for (let from = 0; from < lines.length; from += AT_ONCE) {
    const some = lines.slice(from, from + AT_ONCE);
    looks.push(...(await Promise.all(some.map(async (line) => lookAt(place, line)))));
  }
  // Before "gone" is believed, the store must be ours (R10).
  if (looks.some((look) => 'outcome' in look)) await checkIdentity(place.store, place.row.uuid);
  const keepers = keepersOf(place, [], lines, 'policy');
  return looks.map((look, i) => {
    if ('outcome' in look) return look;
    const keeper = keepers.get(i);
    if (keeper !== undefined) return as('blocked', keeperText(keeper), reasonOf(keeper));
    const kept = guard(guards, look, now);
    if (kept === null) return look;
    const outcome = kept.reason === 'error' ? 'failed' : 'blocked';
    return as(outcome, kept.detail ?? GUARD_TEXT[kept.reason], kept.reason);
  });
}

async function lookAt(place: Place, { key, wanted, seen }: OpenLine): Promise<LiveObject | KeyOutcome> {
  const { store, catalog, row } = place;
  if (`${key}/`.startsWith(store.pendingPrefix))
    return as('failed', `it is below ${store.pendingPrefix}`, 'error');
  let live: LiveObject | undefined;
  try {
    live = await store.head(key);
  } catch (error) {
    if (!(error instanceof TombstonedError)) throw error;
    return as('failed', error.message, 'error'); // it does not stop the others
  }
  if (live === undefined) {
    const [newest] = catalog.tombstones
      .ofKey(row.n, key, 10)
      .filter(({ state }) => state !== 'abandoned' && state !== 'purged');
    if (newest === undefined) return as('gone', 'there is no such object', null);
    return as('already', 'it is pending already', null, newest.id);
  }
  if (wanted !== null && !isWanted(live.revision, wanted)) {
    return as('changed', 'it is not the revision that the request names', 'changed');
  }
  const before = seen === null ? undefined : parseRevision(seen);
  if (before !== undefined && !sameRevision(live.revision, before)) return as('changed', CHANGED, 'changed');
  return live;
}

function as(
  outcome: string,
  detail: string | null,
  reason: KeptReason | null,
  id: string | null = null,
): KeyOutcome {
  return { outcome, id, detail, reason };
}

async function planWithinLimits(
  place: Place,
  rows: readonly RequestRow[],
  plan: PlanRequests,
  { kept, selected }: Tally,
): Promise<RequestPlan> {
  const { requests } = place.catalog;
  const { dropIn, sweep, isDry, signal } = plan;
  const { limits } = dropIn;
  const all = rows.map(({ n }) => n);
  let over =
    signal?.aborted === true ? null : await overOfStore(place, { limits, signal }, requests.planned(all));
  let going = all;
  if (over !== null) {
    const live = limits.maxFraction === null ? 0 : await countLive(place, signal);
    const isWithin = (some: readonly number[]): boolean =>
      overLimit(limits, { ...requests.planned(some), selected: live }) === null;
    const within = all.filter((n) => isWithin([n]));
    going = isWithin(within) ? within : [];
    over = waitingText(rows, going, over);
  }
  const goes = new Set(going);
  const waiting = all.filter((n) => !goes.has(n));
  const held = requests.planned(waiting).objects;
  if (held > 0) kept.set('limit', (kept.get('limit') ?? 0) + held);
  const { objects, bytes } = requests.planned(going);
  const span = requests.span(going);
  const result: RequestPlan = {
    policy: dropIn.name,
    selected,
    planned: objects,
    bytes,
    kept,
    over,
    prefix: span === undefined ? undefined : commonPrefix(span.first, span.last),
  };
  if (signal?.aborted === true) return { ...result, planned: 0, bytes: 0 };
  if (!isDry) {
    requests.setState(waiting, 'waiting');
    requests.bind(going, sweep);
  }
  addToPlan(place, sweep, isDry ? all : going);
  return result;
}

function waitingText(rows: readonly RequestRow[], going: readonly number[], over: string): string {
  const goes = new Set(going);
  const waiting = rows.filter(({ n }) => !goes.has(n)).map(({ name }) => printable(`${name}.keys`));
  const names = waiting.length > 3 ? [...waiting.slice(0, 3), `${waiting.length - 3} more`] : waiting;
  return `${over} (${names.join(', ')})`;
}

/** How many small requests are planned by one commit. */
const REQUESTS = 200;

function addToPlan({ catalog }: Place, sweep: number, all: readonly number[]): void {
  for (let from = 0; from < all.length; from += REQUESTS) {
    const some = all.slice(from, from + REQUESTS);
    let unfinished: [number, number | undefined][] = [];
    catalog.transaction(() => {
      unfinished = some.map((n) => [n, catalog.requests.plan(n, sweep, 0, ROWS / REQUESTS)]);
    });
    for (const [n, first] of unfinished) {
      for (let last = first; last !== undefined; ) last = catalog.requests.plan(n, sweep, last, ROWS);
    }
  }
}
