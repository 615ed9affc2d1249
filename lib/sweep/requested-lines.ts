import { setImmediate } from 'node:timers/promises';
import type { KeptLine, KeyOutcome, LineOf, OpenLine, RequestRow, SeenLine } from '../catalog/requests.ts';
import type { Coverage } from '../cover/coverage.ts';
import { TombstonedError } from '../domain/errors.ts';
import type { KeptReason } from '../domain/kept-reason.ts';
import { isWanted, parseRevision, revisionText, sameRevision } from '../domain/revision.ts';
import { type Guards, guard } from '../policy/policy.ts';
import { keepersOf, keeperText, reasonOf } from '../run/claims.ts';
import type { Place } from '../run/place.ts';
import { checkIdentity } from '../store/identity.ts';
import type { LiveObject } from '../store/store.ts';
import { GUARD_TEXT } from './hand-outcome.ts';
import type { Refusal } from './plan.ts';

/** How many lines are looked at, and noted by one commit; how many of them at once. */
const LINES = 2000;
const AT_ONCE = 32;
/** How many planned objects one commit writes. */
const ROWS = 5000;

/** How the lines of requests are looked at. */
export interface LookOptions {
  /** The policy's name. */
  readonly policy: string;
  readonly guards: Guards;
  readonly coverage: Coverage | undefined;
  /** Leaves open what a claim keeps, or can't be looked at now: the requests' plan waits on for it. */
  readonly isPatient?: boolean;
  readonly onRefusal: (refusal: Refusal) => void;
  /** How many lines have been looked at. */
  readonly onListed?: ((lines: number) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** What lines came to. */
export interface Tally {
  readonly kept: Map<KeptReason, number>;
  selected: number;
  /** How many have changed, or gone, since they were asked for. */
  lost: number;
}

/** What the sweep before has moved, before it was cut or its process died, is not moved again. */
export function noteMoved({ catalog, row }: Place, { n: request, sweep }: RequestRow): void {
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

/** Looks at the open lines of requests, and notes what is to be moved, and what became of the others. */
export async function lookAtLines(
  place: Place,
  rows: readonly RequestRow[],
  look: LookOptions,
): Promise<Tally> {
  const tally = { kept: new Map<KeptReason, number>(), selected: 0, lost: 0 };
  let page: RequestedLine[] = [];
  for (const request of rows) {
    for (let after = 0; look.signal?.aborted !== true; ) {
      const lines = place.catalog.requests.openLines(request.n, after, LINES - page.length);
      page.push(...lines.map((line) => ({ ...line, request })));
      const last = lines.at(-1);
      if (last === undefined) break;
      after = last.line;
      if (page.length < LINES) break; // that was all of it
      await lookAtPage(place, page, look, tally);
      page = [];
    }
  }
  if (page.length > 0 && look.signal?.aborted !== true) await lookAtPage(place, page, look, tally);
  return tally;
}

async function lookAtPage(
  place: Place,
  page: readonly RequestedLine[],
  { policy, guards, coverage, isPatient = false, onRefusal, onListed }: LookOptions,
  tally: Tally,
): Promise<void> {
  const { requests, sweeps } = place.catalog;
  tally.selected += page.length;
  const found = await verdicts(place, page, guards, coverage);
  const seen: SeenLine[] = [];
  const ended: (KeyOutcome & LineOf)[] = [];
  const open: KeptLine[] = [];
  for (const [i, { request, line, key, reason }] of page.entries()) {
    const verdict = found[i];
    if (verdict === undefined) throw new TypeError('a verdict is missing');
    const of = { request: request.n, line };
    if ('outcome' in verdict) {
      const { outcome, detail, reason: why } = verdict;
      const isOpen = isPatient && isForNow(why);
      if (isOpen) open.push({ ...of, detail, reason: why });
      else ended.push({ ...of, ...verdict });
      if (outcome === 'gone' || outcome === 'changed' || outcome === 'already') tally.lost++;
      if (outcome === 'already') continue;
      if (why !== null) tally.kept.set(why, (tally.kept.get(why) ?? 0) + 1);
      onRefusal({ key, why: detail ?? outcome });
      continue;
    }
    const { size, revision, modifiedAt } = verdict;
    const cause = sweeps.cause(policy, reason ?? `request ${request.name}`);
    seen.push({ ...of, revision: revisionText(revision), size, modifiedAt, cause });
  }
  place.catalog.transaction(() => {
    requests.see(seen);
    requests.keep(open);
    requests.resolve(ended);
  });
  onListed?.(tally.selected);
}

/** Reasons that may be over when a plan is approved again. */
const FOR_NOW: readonly (KeptReason | null)[] = ['hold', 'lease', 'fence', 'error'];

/** Whether what is kept by this may go when a plan is approved again. */
export function isForNow(reason: KeptReason | null): boolean {
  return FOR_NOW.includes(reason);
}

/** What each line comes to: a live object to be moved, or an outcome. */
async function verdicts(
  place: Place,
  lines: readonly OpenLine[],
  guards: Guards,
  coverage: Coverage | undefined,
): Promise<(LiveObject | KeyOutcome)[]> {
  const now = place.catalog.clock.sureTime(place.clock);
  const looks: (LiveObject | KeyOutcome)[] = [];
  for (let from = 0; from < lines.length; from += AT_ONCE) {
    const some = lines.slice(from, from + AT_ONCE);
    looks.push(...(await Promise.all(some.map(async (line) => lookAt(place, line)))));
    await setImmediate(); // a local store's answers let nobody else have a turn
  }
  // Before "gone" is believed, the store must be ours (R10).
  if (looks.some((look) => 'outcome' in look)) await checkIdentity(place.store, place.row.uuid);
  const keepers = keepersOf(place, [], lines, 'policy');
  const found: (LiveObject | KeyOutcome)[] = [];
  for (const [i, look] of looks.entries()) {
    const keeper = keepers.get(i);
    const kept = 'outcome' in look ? null : guard(guards, look, now);
    if ('outcome' in look) found.push(look);
    else if (keeper !== undefined) found.push(as('blocked', keeperText(keeper), reasonOf(keeper)));
    else if (kept !== null) {
      const outcome = kept.reason === 'error' ? 'failed' : 'blocked';
      found.push(as(outcome, kept.detail ?? GUARD_TEXT[kept.reason], kept.reason));
    } else {
      const needed = (await coverage?.ofKey(look)) ?? null;
      found.push(needed === null ? look : as('blocked', needed, 'coverage'));
    }
  }
  return found;
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

/** How many small requests are planned by one commit. */
const REQUESTS = 200;

/** Adds what requests are to move to a sweep's plan. */
export function addToPlan({ catalog }: Place, sweep: number, all: readonly number[]): void {
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

/** Puts what requests are to move into a plan that is being filed. Throws the signal's reason. */
export async function fileLines(
  { catalog }: Place,
  sweep: number,
  all: readonly number[],
  signal: AbortSignal | undefined,
): Promise<void> {
  for (const n of all) {
    for (let last: number | undefined = 0; last !== undefined; ) {
      last = catalog.requests.file(n, sweep, last, ROWS);
      await setImmediate();
      signal?.throwIfAborted();
    }
  }
}
