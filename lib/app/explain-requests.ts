import type { OpenLine, RequestRow } from '../catalog/requests.ts';
import type { WaitingPlan } from '../catalog/waiting.ts';
import { isoTime } from '../domain/clock.ts';
import { type Key, printable } from '../domain/key.ts';
import { isWanted, type Revision, revisionText, sameRevision } from '../domain/revision.ts';
import type { Limits, Policy } from '../policy/policy.ts';
import { overLimit } from '../policy/policy.ts';
import type { LiveObject } from '../store/store.ts';
import { ctlOf } from './claim-place.ts';
import type { Because, ExplainedRequest } from './explanation.ts';
import type { OpenPlace } from './open.ts';

type Line = OpenLine & { readonly request: RequestRow };

/** The requests of drop-in directories that name a key, and that are not done with. */
export function requestsNaming({ catalog, row }: OpenPlace, key: Key): Line[] {
  return catalog.requests.naming(row.n, key);
}

export function explainedRequest({ request, reason }: Line): ExplainedRequest {
  const { name, policy, state, sweepId, plan } = request;
  return { name, policy, isWaiting: state === 'waiting', sweep: plan === 'waiting' ? sweepId : null, reason };
}

/** Why a request does not move a live object now; undefined where the next sweep does. */
export function requestSays(
  place: OpenPlace,
  line: Line,
  live: LiveObject,
  now: number,
  byHand: string,
): Because | undefined {
  const { request, wanted } = line;
  const who = `request ${printable(request.name)} of policy ${request.policy}`;
  if (wanted !== null && !isWanted(live.revision, wanted)) {
    return {
      reason: 'changed',
      until: null,
      detail: `${who} asks for it as ${printable(wanted)}, and it is ${revisionText(live.revision)} now`,
      change: `another request that names that revision, or ${byHand}`,
    };
  }
  if (request.state !== 'waiting') return undefined;
  const plan = planOf(place, request.policy, now);
  if (plan !== undefined) return planSays(place, plan, live, who);
  return {
    reason: 'limit',
    until: null,
    detail: `${who} is over a limit, and waits: the next sweep looks at it again`,
    change: `limits of policy ${request.policy} in ${place.config.name}'s config`,
  };
}

/** That a policy is over a limit, and that its plan waits: with this object, or before anything new of it goes. */
export function limitSays(
  place: OpenPlace,
  policy: Pick<Policy, 'name' | 'limits'>,
  live: LiveObject,
  now: number,
): Because | undefined {
  const plan = planOf(place, policy.name, now);
  if (plan === undefined) return undefined;
  const isInIt = revisionIn(place, plan, live.key) !== undefined;
  if (!isInIt && !isStillOver(policy.limits, plan)) return undefined;
  return planSays(place, plan, live, `policy ${policy.name}`);
}

function planOf({ catalog, row }: OpenPlace, policy: string, now: number): WaitingPlan | undefined {
  return catalog.waiting.ofStore(row.n, now).find((one) => one.policy === policy);
}

function revisionIn({ catalog }: OpenPlace, plan: WaitingPlan, key: Key): Revision | undefined {
  return catalog.waiting.revisions(plan.n, [key]).get(key);
}

/** Whether a plan like this would be over a limit today, as far as the plan tells: of a fraction, that it was. */
function isStillOver(limits: Limits, { objects, bytes, over }: WaitingPlan): boolean {
  const maxFraction = over.includes('maxFraction') ? limits.maxFraction : null;
  return overLimit({ ...limits, maxFraction }, { objects, bytes, selected: 0 }) !== null;
}

function planSays(place: OpenPlace, plan: WaitingPlan, live: LiveObject, who: string): Because {
  const { sweep, over, expiresAt } = plan;
  const ctl = ctlOf(place.config.name);
  const approve = `${ctl} approve ${sweep}`;
  const then = revisionIn(place, plan, live.key);
  const waits = `plan ${sweep} waits for approval until ${isoTime(expiresAt)}`;
  if (then === undefined) {
    return {
      reason: 'limit',
      until: null,
      detail: `${who} is over a limit (${over}), and its ${waits}; this object is not in it, and goes with a later one`,
      change: `${approve}, or ${ctl} reject ${sweep}`,
    };
  }
  if (!sameRevision(then, live.revision)) {
    return {
      reason: 'changed',
      until: null,
      detail: `${waits} and names it as ${revisionText(then)}; it is ${revisionText(live.revision)} now, so an approval leaves it`,
      change: `${approve}, or ${ctl} reject ${sweep}: the sweep after that plans it as it is`,
    };
  }
  return {
    reason: 'limit',
    until: null,
    detail: `${who} is over a limit (${over}), and its ${waits}`,
    change: approve,
  };
}
