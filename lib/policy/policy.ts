import type { LiveObject, Store } from '../store/store.ts';

/** A rule that names expired objects. It decides, and touches nothing. */
export interface Policy {
  readonly name: string;
  /** What it lists: a byte prefix. */
  readonly prefix: string;
  /** Why what it names is tombstoned, for people. */
  readonly reason: string;
  /** How many of the newest units it keeps whatever their age. */
  readonly keepLast: number;
  readonly limits: Limits;
  /** Whether the policy is about this object: below its prefix, and matching. */
  selects(key: string): boolean;
  /** What the object expires with: a directory's prefix, or null for by itself. */
  unitOf(key: string): string | null;
  /** Whether an object, or a unit whose newest object it is, is old enough. */
  isExpired(object: Aged, now: number): boolean;
  /** Whether a line of metadata may go with it for good, though no other file has it. None does, unless set. */
  readonly retires?: (line: string) => boolean;
  /**
   * Of a policy that decides by more than names and times: how it decides today, after a look at the
   * store. Until then it names nothing.
   */
  readonly prepare?: (look: PolicyLook) => Promise<Decision>;
}

/** What a policy decides by. */
export type Decision = Pick<Policy, 'selects' | 'unitOf' | 'isExpired' | 'retires'>;

/** An object with when it was modified, ms since 1970. */
export type Aged = Pick<LiveObject, 'key' | 'modifiedAt'>;

/** What a policy looks at. */
export interface PolicyLook {
  readonly store: Store;
  /** ms since 1970, by a clock that is not ahead. */
  readonly now: number;
  readonly isProtected: (key: string) => boolean;
  readonly signal?: AbortSignal | undefined;
}

/** A policy as it decides today. */
export async function prepared(policy: Policy, look: PolicyLook): Promise<Policy> {
  return policy.prepare === undefined ? policy : { ...policy, ...(await policy.prepare(look)) };
}

/** A policy that names what other programs ask for (design, section 8). */
export interface DropIn {
  readonly name: string;
  /** Where they put their requests: an absolute path. */
  readonly directory: string;
  /** Of all live objects of the store. */
  readonly limits: Limits;
}

/** How much one plan may move; null is no limit. */
export interface Limits {
  readonly maxObjects: number | null;
  /** Of the live objects that the policy selects. */
  readonly maxFraction: number | null;
  readonly maxBytes: number | null;
}

export const NO_LIMITS: Limits = { maxObjects: null, maxFraction: null, maxBytes: null };

/** Which limit a plan is over, in words; null when it is within all. */
export function overLimit(
  limits: Limits,
  plan: { objects: number; bytes: number; selected: number },
): string | null {
  const { objects, bytes, selected } = plan;
  if (limits.maxObjects !== null && objects > limits.maxObjects) {
    return `it would move ${objects} objects, and maxObjects is ${limits.maxObjects}`;
  }
  if (limits.maxBytes !== null && bytes > limits.maxBytes) {
    return `it would move ${bytes} bytes, and maxBytes is ${limits.maxBytes}`;
  }
  if (limits.maxFraction !== null && objects > limits.maxFraction * selected) {
    return `it would move ${objects} of ${selected} objects, and maxFraction is ${limits.maxFraction}`;
  }
  return null;
}

/** What keeps a live object from a policy, before holds: the guards that need no look at the store. */
export interface Guards {
  /** ms. */
  readonly minimumAge: number;
  readonly isProtected: (key: string) => boolean;
}

/** Why a live object is kept by the guards, or null. */
export function guard(
  guards: Guards,
  object: LiveObject,
  now: number,
): { reason: 'protected' | 'too-young' | 'error'; detail: string | null } | null {
  if (guards.isProtected(object.key)) return { reason: 'protected', detail: null };
  if (object.refusal !== null) return { reason: 'error', detail: object.refusal };
  if (object.modifiedAt > now - guards.minimumAge) return { reason: 'too-young', detail: null };
  return null;
}
