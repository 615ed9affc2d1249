import type { Sweep } from '../catalog/sweeps.ts';
import { type WaitingPlan, waitingStateAt } from '../catalog/waiting.ts';
import { isoTime } from '../domain/clock.ts';
import { waitingObject } from './waiting-object.ts';

/** A sweep, and its plan where that waits for approval, or waited. */
export interface ShownSweep {
  readonly sweep: Sweep;
  readonly plan: WaitingPlan | undefined;
}

/** How a sweep stands at a time: one whose plan waits, or waited in vain, is told by that. */
export function sweepState({ sweep, plan }: ShownSweep, now: number): string {
  return plan === undefined || sweep.state !== 'blocked' ? sweep.state : waitingStateAt(plan, now);
}

/** A past or waiting sweep as `--json` has it: what `sweep` itself says, with when and how it ended. */
export function sweepObject(shown: ShownSweep, now: number) {
  const { sweep, plan } = shown;
  const { id, store, reason, planned, moved, abandoned, failed, bytes } = sweep;
  const isWaiting = plan !== undefined && waitingStateAt(plan, now) === 'waiting';
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
    waiting: isWaiting ? [plan.policy] : [],
    state: sweepState(shown, now),
    reason: plan?.reason ?? reason,
    startedAt: isoTime(sweep.startedAt),
    endedAt: isoTime(sweep.endedAt),
    plan: plan === undefined ? null : waitingObject(plan),
  } as const;
}
