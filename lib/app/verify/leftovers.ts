import { lockedRuns } from '../../catalog/left-locks.ts';
import { type FileLock, runLockFile, takeDeadLock } from '../../catalog/run-lock.ts';
import { isoTime } from '../../domain/clock.ts';
import { messageOf } from '../../domain/errors.ts';
import { idOfFile, plainIdTime } from '../../domain/ids.ts';
import { formatDuration } from '../../domain/quantities.ts';
import { whyNotTrusted } from '../../run/clock.ts';
import type { Place } from '../../run/place.ts';
import { type ClaimPlace, ctlOf } from '../claim-place.ts';
import { shellWord } from '../explanation.ts';
import { holdsIn, releaseHold } from '../release-holds.ts';
import { fencesIn, fenceText, leaseDetail, leasesIn } from '../standing-claims.ts';
import { openRuns } from '../status.ts';
import type { Difference, Remedies } from './difference.ts';

const HOUR = 3_600_000;
/** How long something must have been left before it is told: a run makes and removes it within moments. ms. */
const FRESH_MS = HOUR;
/** How old it must be before it is cleared: nothing is written for so long. ms. */
const OLD_MS = 24 * HOUR;
const PAGE = 1000;

/** A difference, and what mends it where that is safe: false when it was left after all. */
export interface Leftover {
  readonly difference: Difference;
  readonly mend: (() => Promise<boolean>) | null;
  /** As it should be: told only where it is mended. */
  readonly isWell?: boolean;
}

/**
 * What crashes, broken-off restores and forgotten claims have left of a store, in the
 * store and in its catalog. Each is looked at so that what is under way does not count.
 * `isFirst`: locks of runs that the catalog does not know are told of one store only.
 */
export async function* leftovers(
  place: Place,
  remedies: Remedies,
  { isFirst }: { isFirst: boolean },
): AsyncGenerator<Leftover> {
  yield* deadRuns(place, remedies);
  yield* stuckRows(place, remedies);
  yield* fences(place, remedies);
  yield* leases(place, remedies);
  // How old these are is told by the clock: where that is wrong they are told, and left.
  const isTrusted = whyNotTrusted(place.catalog, place.row, place.clock) === null;
  for (const left of leftLocks(place, remedies, isFirst)) yield isTrusted ? left : told(left.difference);
  for await (const left of temporaries(place, remedies)) yield isTrusted ? left : told(left.difference);
  for await (const left of holds(place, remedies)) yield isTrusted ? left : told(left.difference);
}

function* deadRuns({ catalog, row }: Place, remedies: Remedies): Generator<Leftover> {
  for (const { id, n, kind, life, by, startedAt } of openRuns(catalog, row.n)) {
    if (life === 'running') continue;
    const { tombstones } = catalog;
    const some = (state: 'purging' | 'restoring'): number => tombstones.taken(n, state, '', PAGE).length;
    const parts = [
      [tombstones.openBatch(n)?.moves.length ?? 0, 'moving'],
      [some('purging'), 'purging'],
      [some('restoring'), 'restoring'],
    ] as const;
    const left = parts.flatMap(([count, state]) =>
      count === 0 ? [] : `${count}${count === PAGE ? ' or more' : ''} ${state}`,
    );
    const since = `a ${kind} of ${by}, begun ${isoTime(startedAt)}`;
    const of = left.length === 0 ? 'nothing half-done' : left.join(', ');
    yield told({
      problem: 'dead-run',
      key: null,
      id,
      detail:
        life === 'died'
          ? `${since}, died and left ${of}`
          : `${since}, is open without its lock file, which proves nothing; it has ${of}`,
      remedy:
        life === 'died'
          ? `any sweep, purge or restore finishes it: ${remedies.ctl('purge')}`
          : `if no process uses a copy of this catalog elsewhere: ${remedies.ctl('rebuild')}`,
    });
  }
}

function* stuckRows({ catalog, row }: Place, remedies: Remedies): Generator<Leftover> {
  const remedy = `bring the catalog back from a backup, or ${remedies.ctl('rebuild')}`;
  for (let after = ''; ; ) {
    const page = catalog.tombstones.stuckPage(row.n, after, PAGE);
    const last = page.at(-1);
    if (last === undefined) break;
    after = last.id;
    for (const { key, id, state } of page) {
      const detail = `it is ${state}, and the run that took it has ended: nobody goes on with it`;
      yield told({ problem: 'stuck-row', key, id, detail, remedy });
    }
  }
  for (const { id, key, isTwice } of catalog.tombstones.oddIntents(row.n)) {
    yield isTwice
      ? told({
          problem: 'duplicate-row',
          key,
          id,
          detail: 'the catalog has its pending name twice: as begun and as done, or begun twice',
          remedy,
        })
      : told({
          problem: 'stuck-row',
          key,
          id,
          detail: 'it is moving, and the run that moves it has ended: nobody goes on with it',
          remedy,
        });
  }
}

function* leftLocks(
  { catalog, row, clock }: Place,
  remedies: Remedies,
  isFirst: boolean,
): Generator<Leftover> {
  for (const id of lockedRuns(catalog.file)) {
    const began = plainIdTime(id) ?? clock.now();
    const run = catalog.runs.byId(id);
    if (run === undefined ? !isFirst : run.store !== row.n || run.endedAt === null) continue;
    if (Math.abs(clock.now() - began) < FRESH_MS) continue;
    const lock = lockOfEnded(catalog, id);
    if (lock === undefined) continue;
    lock.release();
    const why = run === undefined ? 'the catalog knows no such run' : 'its run has ended';
    yield {
      difference: {
        problem: 'left-lock',
        key: null,
        id,
        detail: `${runLockFile(catalog.file, id)} is left: ${why}, and no process holds it`,
        remedy: remedies.ctl('verify --repair'),
      },
      mend: async () => {
        const held = lockOfEnded(catalog, id);
        held?.remove();
        return held !== undefined;
      },
    };
  }
}

/** The lock of a run that has ended or was never begun, taken; undefined where that can't be said. */
function lockOfEnded(catalog: Place['catalog'], id: string): FileLock | undefined {
  const lock = takeDeadLock(runLockFile(catalog.file, id), null);
  if (typeof lock === 'string') return undefined;
  // Under the lock: whoever has it is the only one who may write or close the row.
  const run = catalog.runs.byId(id);
  if (run === undefined || run.endedAt !== null) return lock;
  lock.release();
  return undefined;
}

async function* temporaries(place: Place, remedies: Remedies): AsyncGenerator<Leftover> {
  const { store, catalog, clock, report } = place;
  for (const { name, changedAt, isOurs } of await store.control.temporaries()) {
    // By a clock that is ahead, what is being written would seem left.
    const age = catalog.clock.sureTime(clock) - changedAt;
    if (age < FRESH_MS) continue;
    const mend = async (): Promise<boolean> => {
      try {
        await store.control.removeTemporary(name);
        return true;
      } catch (error) {
        report('warn', messageOf(error));
        return false;
      }
    };
    const path = `.tombstoned/tmp/${name}`;
    const ago = formatDuration(age);
    const repair = remedies.ctl('verify --repair');
    const difference = {
      problem: 'left-temporary',
      key: path,
      id: null,
      detail: isOurs
        ? `it was last changed ${ago} ago: a process died, or stands still, while it wrote`
        : `it was last changed ${ago} ago, and its name is none that tombstoned gives`,
      remedy: !isOurs ? remedies.away(path) : age < OLD_MS ? `${repair} once it is a day old` : repair,
    } as const;
    yield { difference, mend: isOurs && age >= OLD_MS ? mend : null };
  }
}

async function* fences(place: Place, remedies: Remedies): AsyncGenerator<Leftover> {
  const at = { ...place, known: { catalog: place.catalog, row: place.row } };
  const first = new Map((await fencesIn(at)).map(({ fence, life }) => [fence.name, life]));
  if (first.size === 0) return;
  for (const standing of await fencesIn(at)) {
    const { fence, life, run, age } = standing;
    if (life === 'running' || first.get(fence.name) !== life) continue;
    // One of a catalog that is not at hand may be at work: nobody here can say.
    if (life === 'elsewhere' && age !== null && age < FRESH_MS) continue;
    const id = idOfFile(fence.name);
    const force = life === 'died' ? '' : ' --force';
    yield told({
      problem: fence.problem === null ? 'left-fence' : 'unclear-fence',
      key: `.tombstoned/fences/${fence.name}`,
      id: run ?? id,
      detail: fenceText(standing),
      remedy:
        life === 'died'
          ? `any sweep, purge or restore takes it down: ${remedies.ctl('purge')}`
          : `if its process is gone for good: ${remedies.ctl('fence break', shellWord(id), `--reason TEXT${force}`)}`,
    });
  }
}

async function* leases(place: Place, remedies: Remedies): AsyncGenerator<Leftover> {
  const at = { ...place, known: { catalog: place.catalog, row: place.row } };
  for (const standing of await leasesIn(at)) {
    const { lease, isDead } = standing;
    if (lease.problem === null && isDead !== true) continue;
    const command = remedies.ctl('lease break', shellWord(lease.id), '--reason TEXT');
    yield told({
      problem: lease.problem === null ? 'dead-lease' : 'unclear-lease',
      key: `.tombstoned/leases/${lease.name}`,
      id: lease.id,
      detail: leaseDetail(standing),
      remedy:
        lease.problem === null
          ? `the next sweep or purge takes it away, or ${command}`
          : `if no restore uses it: ${command}`,
    });
  }
}

async function* holds(place: Place, remedies: Remedies): AsyncGenerator<Leftover> {
  // By a clock that is ahead, one that is in force would seem over, and be taken away.
  const now = place.catalog.clock.sureTime(place.clock);
  for (const { name, hold } of await holdsIn(place)) {
    const { id, kind, until, problem, reason } = hold;
    const key = `.tombstoned/holds/${name}`;
    const release = remedies.ctl('release', shellWord(problem === null ? id : name));
    if (problem !== null) {
      const detail = `it ${problem}: it counts as a hold on everything`;
      yield told({ problem: 'unclear-hold', key, id, detail, remedy: `if nobody needs it: ${release}` });
    } else if (until !== null && until <= now) {
      const detail = `it ended ${formatDuration(now - until)} ago: ${reason}`;
      const isExemption = kind === 'exempt';
      const isOld = now - until > OLD_MS;
      if (isExemption && !isOld) continue; // every restore leaves one, and it ends so
      yield {
        difference: {
          problem: isExemption ? 'expired-exemption' : 'expired-hold',
          key,
          id,
          detail,
          remedy: isExemption ? remedies.ctl('verify --repair') : release,
        },
        isWell: isExemption,
        // A clock that is ahead makes a hold look expired. Of an exemption nothing is lost by that.
        mend: isExemption
          ? async () => {
              await releaseHold(asClaimPlace(place), id, false);
              return true;
            }
          : null,
      };
    }
  }
}

function asClaimPlace(place: Place): ClaimPlace {
  const { catalog, row } = place;
  return { ...place, name: row.name, ctl: ctlOf(row.name), known: { catalog, row } };
}

function told(difference: Difference): Leftover {
  return { difference, mend: null };
}
