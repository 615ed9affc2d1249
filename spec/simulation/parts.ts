import type { Role } from './roles.ts';
import * as roles from './roles.ts';
import type { Temper } from './scheduler.ts';
import type { Setting } from './world.ts';

/** Who takes part, and on which machine. */
export interface Part {
  readonly name: string;
  readonly at: 'daemonHost' | 'readerHost' | 'otherHost';
  readonly role: Role;
  /** Neither killed nor frozen. */
  readonly isSteady?: boolean;
}

/** A kind of history: what its seeds have more of. */
export interface Theme {
  readonly setting?: Partial<Omit<Setting, 'temper'>>;
  readonly temper?: Partial<Temper>;
  readonly cast?: readonly Part[];
}

export const part = (name: string, at: Part['at'], role: Role): Part => ({ name, at, role });
export const MOVER = part('mover', 'daemonHost', roles.mover());
export const PURGER = part('purger', 'daemonHost', roles.purger());
export const RESTORER = part('restorer', 'daemonHost', roles.restorer());
export const RECOVERY = part('recovery', 'daemonHost', roles.recovery());
export const SESSION = part('session', 'readerHost', roles.session);
export const WITH_LEASE = part('with-lease', 'readerHost', roles.withLease);
export const WRITER = part('writer', 'otherHost', roles.writer());
export const READER = part('reader', 'readerHost', roles.plainReader);
export const HOLDER = part('holder', 'otherHost', roles.holder);
export const LEASE_BREAKER = part('lease-breaker', 'otherHost', roles.leaseBreaker);
export const FENCE_BREAKER = part('fence-breaker', 'daemonHost', roles.fenceBreaker);
export const NEW_OWNER = part('new-owner', 'otherHost', roles.newOwner);
export const OLD_COPY = part('old-copy', 'otherHost', roles.oldCopy);
