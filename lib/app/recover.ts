import { runLockFile, takeDeadLock } from '../catalog/run-lock.ts';
import type { RunRow } from '../catalog/runs.ts';
import { messageOf, TombstonedError } from '../domain/errors.ts';
import { recoverPurges } from '../purge/recover.ts';
import { recoverRestores } from '../restore/recover.ts';
import { BoundedReport } from '../run/bounded-report.ts';
import { DeadRun } from '../run/dead-run.ts';
import type { Place } from '../run/place.ts';
import { listFences, runOfFence, takeDownFence } from '../store/fences.ts';
import { recoverMoves } from '../sweep/recover.ts';

/**
 * Finishes what runs that died have left (design, section 5); at every start,
 * and before every sweep and purge. Runs whose process lives are left alone, and
 * so are those whose lock file is missing, or but a copy: that proves nothing. A run that can't be
 * finished is reported and stays open.
 */
export async function recover(place: Place): Promise<void> {
  // A bucket or disk that may only be read is so for each object that was left.
  const bounded = new BoundedReport(place.report, MOST_TOLD);
  try {
    await recoverAll({ ...place, report: bounded.report });
  } finally {
    bounded.finish();
  }
}

/** How many lines of a level one recovery may say. */
const MOST_TOLD = 20;

async function recoverAll(place: Place): Promise<void> {
  const { catalog, row, report } = place;
  for (const run of catalog.runs.open(row.n)) {
    const lock = catalog.withRoom(() => takeDeadLock(runLockFile(catalog.file, run.id), run.lock));
    if (lock === 'held') continue;
    if (lock === 'missing') {
      // Its owner may have closed it between the two looks.
      if (catalog.runs.get(run.n)?.endedAt !== null) continue;
      report(
        'warn',
        `run ${run.id} of ${run.by} is open and has not its lock file: what it left is not touched`,
        {
          hint: 'if no tombstoned uses a copy of this catalog elsewhere: tombstonectl rebuild (see docs/recovery.md)',
        },
      );
      continue;
    }
    try {
      const isLeft = catalog.runs.get(run.n)?.endedAt === null && !(await recoverRun(place, run));
      if (isLeft) lock.release();
      else lock.remove();
    } catch (error) {
      lock.release();
      // Others must not wait for what one has left: it stays open, for the next recovery.
      const hint = error instanceof TombstonedError ? error.hint : undefined;
      report('warn', `run ${run.id} can't be recovered now: ${messageOf(error)}`, { hint });
    }
  }
  try {
    await takeDownOfEnded(place);
  } catch (error) {
    report('warn', `can't take down what fences ended runs have left: ${messageOf(error)}`);
  }
}

/**
 * Takes down the fences of this catalog's runs that have ended: a run takes its own
 * down before it ends, and a power cut may bring one back.
 */
async function takeDownOfEnded({ store, catalog, row, report }: Place): Promise<void> {
  for (const name of await listFences(store.control)) {
    const id = runOfFence(name);
    const run = id === undefined ? undefined : catalog.runs.byId(id);
    if (run === undefined || run.store !== row.n || run.endedAt === null) continue;
    await takeDownFence(store.control, name);
    report('warn', `took down fence ${name}: its run had ended, and something brought it back`);
  }
}

/** Whether requests of a dead run may still take effect: its fences stay up for so long, and what it left as it is (R5). */
async function mayAct({ store: { late }, catalog, report }: Place, run: RunRow): Promise<boolean> {
  if (late === undefined) return false;
  const now = await late.time();
  const left = catalog.runs.deadSince(run.n, now) + late.for - now;
  if (left <= 0) return false;
  report(
    'warn',
    `the fence of run ${run.id} stays up for ${Math.ceil(left / 60_000)} min: its process died, and requests of it may still take effect`,
    { hint: 'any sweep, purge or restore after that finishes what it left' },
  );
  return true;
}

/** Finishes one run, and closes it unless something is left of it; says whether it is closed. */
async function recoverRun(place: Place, run: RunRow): Promise<boolean> {
  const { catalog, store } = place;
  const dead = await DeadRun.find(place, run);
  // What it looks at now, a request that is late could still change.
  if (dead.isUp && (await mayAct(place, run))) return false;
  if (store.late === undefined) return finishRun(place, run, dead);
  // It may die itself: then its own requests are to be waited for by the next.
  catalog.runs.actsAgain(run.n);
  const isClosed = await finishRun(place, run, dead);
  if (!isClosed && store.late.isQuiet()) catalog.runs.deadSince(run.n, 0);
  return isClosed;
}

async function finishRun(place: Place, run: RunRow, dead: DeadRun): Promise<boolean> {
  const { catalog, clock, report } = place;
  const moves = await recoverMoves(place, dead);
  const purges = await recoverPurges(place, dead);
  const restores = await recoverRestores(place, dead);
  const left = moves.left + purges.left + restores.left;
  if (left === 0) {
    await dead.takeDownFences(place);
    catalog.runs.end(run.n, 'recovered', clock.now());
  }
  const counts = { ...moves, ...purges, ...restores, left };
  if (moves.moved + moves.abandoned + purges.purged + purges.back + restores.restores > 0) {
    report('warn', `recovered run ${run.id}, whose process ${run.pid} died`, counts);
  }
  return left === 0;
}
