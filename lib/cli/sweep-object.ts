import type { Sweep } from '../catalog/sweeps.ts';
import { isoTime } from '../domain/clock.ts';

/** A past sweep as `--json` has it: what `sweep` itself says, with when and how it ended. */
export function sweepObject(sweep: Sweep) {
  const { id, store, state, reason, planned, moved, abandoned, failed, bytes } = sweep;
  return {
    type: 'sweep',
    sweep: id,
    store,
    planned,
    moved,
    abandoned,
    failed,
    bytes,
    dryRun: false,
    waiting: [] as string[],
    state,
    reason,
    startedAt: isoTime(sweep.startedAt),
    endedAt: isoTime(sweep.endedAt),
  } as const;
}
