import { runLockFile, takeDeadLock } from '../catalog/run-lock.ts';
import { recoverPurges } from '../purge/recover.ts';
import { recoverRestores } from '../restore/recover.ts';
import type { Place } from '../run/place.ts';
import { recoverMoves } from '../sweep/recover.ts';

/**
 * Finishes what runs that died have left (design, section 5); at every start,
 * and before every sweep and purge. Runs whose process lives are left alone, and
 * so are those whose lock file is missing, or but a copy: that proves nothing.
 */
export async function recover(place: Place): Promise<void> {
  const { catalog, row, clock, report } = place;
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
          hint: 'if no tombstoned uses a copy of this catalog elsewhere, see docs/architecture.md, recovery',
        },
      );
      continue;
    }
    try {
      if (catalog.runs.get(run.n)?.endedAt === null) {
        const moves = await recoverMoves(place, run.n);
        const purges = await recoverPurges(place, run.n);
        const restores = await recoverRestores(place, run.n);
        catalog.runs.end(run.n, 'recovered', clock.now());
        const total = moves.moved + moves.abandoned + purges.purged + purges.back + restores;
        if (total > 0) {
          report('warn', `recovered run ${run.id}, whose process ${run.pid} died`, {
            ...moves,
            ...purges,
            restores,
          });
        }
      }
      lock.remove();
    } catch (error) {
      lock.release();
      throw error;
    }
  }
}
