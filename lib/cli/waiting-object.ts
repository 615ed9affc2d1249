import type { WaitingPlan } from '../catalog/waiting.ts';
import { isoTime } from '../domain/clock.ts';

/** A plan that waits for approval, or waited, as `--json` has it. */
export function waitingObject(plan: WaitingPlan) {
  const { sweep, policy, over, objects, bytes, filedAt, expiresAt } = plan;
  return {
    sweep,
    policy,
    over,
    objects,
    bytes,
    filedAt: isoTime(filedAt),
    expiresAt: isoTime(expiresAt),
  } as const;
}
