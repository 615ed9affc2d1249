import { type Clock, systemClock } from '../domain/clock.ts';
import { type RandomSource, systemRandom } from '../domain/ids.ts';
import type { Actor, Report } from '../run/place.ts';
import { currentActor } from './actor.ts';
import type { OnRequest } from './open-store.ts';

/** Time, randomness and talk: what tests replace. */
export interface Surroundings {
  readonly clock: Clock;
  readonly random: RandomSource;
  readonly actor: Actor;
  readonly report: Report;
  readonly isThreaded?: boolean;
  /** Is told each request to a store in S3, and how it ended. */
  readonly onRequest?: OnRequest;
}

/** The real surroundings of a process. */
export function realSurroundings(report: Report): Surroundings {
  return { clock: systemClock, random: systemRandom, actor: currentActor(), report, isThreaded: true };
}
