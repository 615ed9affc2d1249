import { setImmediate as breathe } from 'node:timers/promises';
import { slackOf } from '../catalog/retention.ts';
import type { Place } from '../run/place.ts';
import type { Run } from '../run/run.ts';
import { removeHoldNamed } from '../store/holds.ts';

/** How many old records one purge forgets at the most. */
const FORGET = 10_000;
/** How many in one transaction. */
const PART = 1000;
/** How long an exemption has been over before it goes, at the least. ms. */
const ENDED_FOR_MS = 86_400_000;
/** How many of them one purge removes: in S3 each is a request. */
const EXEMPTIONS = 200;

/**
 * Forgets what is older than `historyFor`, by a clock that is sure: tombstones that have
 * ended, entries of the log, then runs and sweeps that nothing refers to any more. A signal
 * ends it between two parts; the next purge goes on.
 */
export async function forgetOld(
  place: Place,
  run: Run,
  { historyFor, signal }: { historyFor: number; signal?: AbortSignal | undefined },
): Promise<void> {
  const { catalog, row, clock } = place;
  const sure = catalog.clock.sureTime(clock);
  const before = sure - historyFor;
  const slack = slackOf(historyFor);
  inParts(() =>
    catalog.transaction(() => {
      const rows = catalog.tombstones.forget(before, PART);
      if (rows > 0) catalog.events.forgotTombstones(before);
      return rows;
    }),
  );
  const about = { store: row.n, run: run.n, now: clock.now(), slack };
  inParts(() => catalog.events.forget(before, PART, about));
  // Until a window is over, it says when its key was restored: to a rebuild of a lost catalog.
  await removeExemptions(place, run, sure - Math.max(ENDED_FOR_MS, place.safetyWindow));
  await forgetRuns(place, run, { before, slack, signal });
}

/** Takes exemptions out of the store that have ended before a time: each look at the holds reads their names. */
async function removeExemptions(
  { catalog, row, store, clock }: Place,
  run: Run,
  before: number,
): Promise<void> {
  const ended = catalog.holds.endedExemptions(row.n, before, EXEMPTIONS);
  if (ended.length === 0) return;
  for (const name of ended) await removeHoldNamed(store.control, name);
  const detail = 'exemptions that had ended a day and a window before';
  catalog.transaction(() => {
    for (const name of ended) catalog.holds.drop(row.n, name);
    const now = clock.now();
    catalog.events.add({ store: row.n, run: run.n, what: 'hold-released', now, count: ended.length, detail });
  });
}

async function forgetRuns(
  { catalog: { retention } }: Place,
  { n: run }: Run,
  { before, slack, signal }: { before: number; slack: number; signal: AbortSignal | undefined },
): Promise<void> {
  if (!retention.isTime(before, slack)) return;
  const isAlone = retention.isAlone(run);
  const end = Math.min(before, retention.oldestEntry());
  const found = { runs: new Set<number>(), sweeps: new Set<number>(), causes: new Set<number>() };
  for (let after: string | null = ''; after !== null; ) {
    after = retention.lookAtReferences(found, after);
    await breathe();
    if (signal?.aborted === true) return;
  }
  if (inParts(() => retention.remove(end, found, PART)) < FORGET) retention.note(before);
  if (isAlone) retention.removeCauses(run, found);
}

/** Does something again and again until it has done nothing, or enough; says how much that was. */
function inParts(part: () => number): number {
  let done = 0;
  for (let more = part(); more > 0; more = done < FORGET ? part() : 0) done += more;
  return done;
}
