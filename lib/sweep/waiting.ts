import { setImmediate } from 'node:timers/promises';
import type { WaitingPlan } from '../catalog/waiting.ts';
import { makePlainId } from '../domain/ids.ts';
import type { Place } from '../run/place.ts';
import type { Run } from '../run/run.ts';
import type { OverLimit, PolicyPlan } from './plan.ts';

/** How long a plan waits for somebody to approve it. ms. */
const WAITS_MS = 7 * 24 * 3_600_000;
/** How many keys one commit files, or drops. */
const KEYS = 20_000;

/** What has been planned for a policy that is over a limit. */
interface ToFile {
  readonly policy: string;
  /** Row number of why it was planned. */
  readonly cause: number;
  readonly over: OverLimit;
  /** The plan of the policy that waited when this was planned. */
  readonly before: WaitingPlan | undefined;
  /** Puts its keys into the plan that is being filed as sweep `to`; null: drops them. */
  readonly fill: (to: number | null) => Promise<void>;
  /** Part of the transaction that files it as sweep `to`. */
  readonly onFiled?: (to: number) => void;
}

/** A plan that waits, and whether it has been filed just now. */
export interface Filed {
  /** Undefined where somebody has decided meanwhile about a plan of the policy. */
  readonly plan: WaitingPlan | undefined;
  readonly isNew: boolean;
}

/**
 * Lets what is planned for a policy wait under a sweep id of its own, with its keys
 * in the catalog. While one of
 * the policy's plans waits, that one stays as it is, id and keys, and this one is
 * dropped: who approves an id moves what they have seen.
 */
export async function fileWaiting(place: Place, run: Run, plan: ToFile): Promise<Filed> {
  const { catalog, row, clock, random } = place;
  const { over } = plan;
  const known = waitingOf(place, plan.policy);
  // What was moved while this was planned is in it still.
  const isStale = plan.before !== undefined && catalog.waiting.get(plan.before.sweep)?.state === 'approved';
  if (known !== undefined || isStale) {
    await plan.fill(null);
    return { plan: known, isNew: false };
  }
  const id = makePlainId('s', clock.now(), random);
  // Until it is filed it is listed nowhere; a crash leaves it to recovery, and its keys to `tidyWaiting`.
  const to = catalog.sweeps.begin({
    id,
    store: row.n,
    run: run.n,
    reason: null,
    isDry: true,
    now: clock.now(),
  });
  try {
    await plan.fill(to);
    const isFiled = catalog.transaction(() => {
      expireIn(place);
      const now = clock.now();
      // A clock that is wrong neither ends its time early nor makes it last for years.
      const expiresAt = catalog.clock.sureTime(clock) + WAITS_MS;
      const { objects, bytes, limit } = over;
      const filed = catalog.waiting.file({
        sweep: to,
        store: row.n,
        policy: plan.policy,
        cause: plan.cause,
        over: limit,
        objects,
        bytes,
        now,
        expiresAt,
      });
      if (!filed) return false;
      plan.onFiled?.(to);
      const detail = `${id}, policy ${plan.policy}: ${limit}`;
      catalog.events.add({
        store: row.n,
        run: run.n,
        what: 'plan-waits',
        now,
        count: objects,
        bytes,
        detail,
      });
      return true;
    });
    if (isFiled) return { plan: catalog.waiting.get(id), isNew: true };
    // Another process has filed one meanwhile.
    catalog.sweeps.progress(to, 'interrupted', 0, clock.now());
    await dropKeys(place, to);
    return { plan: waitingOf(place, plan.policy), isNew: false };
  } catch (error) {
    if (catalog.waiting.get(id) === undefined) catalog.sweeps.progress(to, 'interrupted', 0, clock.now());
    throw error;
  }
}

interface FromPlan {
  readonly sweep: number;
  readonly plan: PolicyPlan;
  /** After each page: the work goes on. */
  readonly onListed: ((selected: number) => void) | undefined;
  readonly signal: AbortSignal | undefined;
}

/** Takes a policy's plan out of the sweep's, page by page: into a plan that is being filed, or for good. */
export async function takeOut({ catalog }: Place, from: FromPlan, to: number | null): Promise<void> {
  const { sweep, plan, onListed, signal } = from;
  for (let after: string | null = ''; after !== null; ) {
    after = catalog.waiting.takeOut({ from: sweep, cause: plan.cause, to, after, limit: KEYS });
    onListed?.(plan.selected);
    await setImmediate();
    signal?.throwIfAborted();
  }
}

/** The plan of a policy that waits, or is just being moved. */
export function waitingOf({ catalog, row, clock }: Place, policy: string): WaitingPlan | undefined {
  const now = catalog.clock.sureTime(clock);
  return catalog.waiting.ofStore(row.n, now).find((plan) => plan.policy === policy);
}

/** Gives up plans whose time is over, and drops the keys of those that nobody can approve any more. */
export async function tidyWaiting(place: Place): Promise<void> {
  const { catalog, report } = place;
  for (const { sweep, policy, objects } of catalog.transaction(() => expireIn(place)))
    report(
      'warn',
      `the plan ${sweep} of policy ${policy}, ${objects} objects, was not approved in time and is dropped`,
    );
  for (const n of catalog.waiting.leftovers()) await dropKeys(place, n);
}

function expireIn({ catalog, row, clock }: Place): WaitingPlan[] {
  const now = clock.now();
  const expired = catalog.waiting.expire(row.n, catalog.clock.sureTime(clock));
  for (const { sweep, policy, objects, bytes } of expired) {
    const detail = `${sweep}, policy ${policy}`;
    catalog.events.add({ store: row.n, run: null, what: 'plan-expired', now, count: objects, bytes, detail });
  }
  return expired;
}

/** Drops the keys of a plan that is done with. */
export async function dropKeys({ catalog }: Place, n: number): Promise<void> {
  while (catalog.waiting.dropKeys(n, KEYS)) await setImmediate();
}

/** What an operator does about a plan that waits. */
export function waitingHint(store: string, sweep: string): string {
  const ctl = `tombstonectl --store ${store}`;
  return `see its keys: ${ctl} sweeps ${sweep}; then ${ctl} approve ${sweep}, or ${ctl} reject ${sweep} --reason TEXT`;
}
