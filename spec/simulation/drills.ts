import {
  FENCE_BREAKER,
  HOLDER,
  LEASE_BREAKER,
  MOVER,
  NEW_OWNER,
  type Part,
  PURGER,
  part,
  READER,
  RECOVERY,
  SESSION,
  type Theme,
  WITH_LEASE,
  WRITER,
} from './parts.ts';
import * as roles from './roles.ts';

/** How many seeds each drill has, and all the themes together before the first. */
export const SEEDS = 1_000_000;

const steady = (one: Part): Part => ({ ...one, isSteady: true });
const BUSY_MOVER = steady(part('mover', 'daemonHost', roles.mover('catalog', { most: 8 })));
const BUSY_PURGER = steady(part('purger', 'daemonHost', roles.purger('catalog', 12)));
const BUSY_RESTORER = steady(part('restorer', 'daemonHost', roles.restorer('catalog', 12)));
const BUSY_ERASER = part('eraser', 'daemonHost', roles.eraser('catalog', 6));
const LATER_MOVER = part('mover', 'daemonHost', later(1000, roles.mover('catalog', { most: 1 })));
const LARGE_MOVER = part('mover', 'daemonHost', roles.mover('catalog', { batchSize: 10 }));
const STEADY_BREAKER = steady(FENCE_BREAKER);
const STEADY_HOLDER = steady(HOLDER);
const STEADY_LEASE = steady(WITH_LEASE);
/** Those who begin at about the same time, when what there was has been moved. */
const MET = {
  lease: meeting(WITH_LEASE),
  holder: meeting(HOLDER),
  eraser: meeting(BUSY_ERASER),
  purger: meeting(BUSY_PURGER),
  recovery: meeting(steady(RECOVERY)),
  restorer: meeting(BUSY_RESTORER),
  writer: meeting(part('writer', 'otherHost', roles.writer(12))),
};
const KEYS = ['a/1', 'a/2', 'b/3', 'c/4', 'd/5', 'e/6'];

/** Settings in which nothing dies, and listings are true. */
const QUIET = { settle: 0, staleness: 0, doom: 0, window: 0 } as const;

/**
 * Histories for one rule each, with all of a small cast: what random ones meet too
 * rarely. A drill keeps its place, and so its seeds: new ones come last.
 */
const DRILLS = {
  /** Sessions that list many directories, and movers at work in them. */
  listing: {
    setting: { ...QUIET, keys: KEYS },
    temper: { stick: 0.2, slow: 0.03, freeze: 0, jump: 0, race: 0, late: 0 },
    cast: [SESSION, SESSION, SESSION, MOVER, MOVER, WRITER],
  },
  /** Claims and batches that begin at about the same time, by old listings. */
  'stale-listings': {
    setting: { ...QUIET, settle: 5000, staleness: 5000, isOldest: true, longestFreeze: 4000 },
    temper: { stick: 0.3, slow: 0, wake: 0.02, freeze: 0.015, jump: 0, race: 0, late: 0 },
    cast: [STEADY_HOLDER, STEADY_HOLDER, STEADY_LEASE, LATER_MOVER, LATER_MOVER],
  },
  /** Holders that stand still for more than a TTL. */
  'frozen-holders': {
    setting: { ...QUIET, longestFreeze: 150_000 },
    temper: { slow: 0, freeze: 0.02, jump: 0, race: 0, late: 0 },
    cast: [WITH_LEASE, WITH_LEASE, WITH_LEASE, BUSY_MOVER, BUSY_MOVER],
  },
  /** Holders that are slow, and not as slow as that. */
  'slow-holders': {
    setting: { ...QUIET, longestFreeze: 20_000 },
    temper: { slow: 0.02, freeze: 0.02, jump: 0, race: 0, late: 0 },
    cast: [WITH_LEASE, WITH_LEASE, WITH_LEASE, BUSY_MOVER, BUSY_MOVER],
  },
  /** Leases that are taken as dead, or broken, while their holders read. */
  'wrong-clocks': {
    setting: QUIET,
    temper: { slow: 0, freeze: 0, jump: 0, race: 0.03, late: 0 },
    cast: [SESSION, SESSION, SESSION, LEASE_BREAKER, BUSY_MOVER, BUSY_PURGER, BUSY_PURGER],
  },
  /** Fences that are broken while their runs look. */
  'broken-fences': {
    setting: { ...QUIET, keys: KEYS, longestFreeze: 5_000 },
    temper: { stick: 0.3, slow: 0, wake: 0.3, freeze: 0.01, jump: 0, race: 0, late: 0 },
    cast: [
      STEADY_BREAKER,
      STEADY_BREAKER,
      STEADY_BREAKER,
      STEADY_LEASE,
      STEADY_LEASE,
      STEADY_HOLDER,
      MOVER,
      MOVER,
    ],
  },
  /** A take-over in the middle of long sweeps. */
  'take-over': {
    setting: { ...QUIET, keys: KEYS },
    temper: { freeze: 0, jump: 0, race: 0, late: 0 },
    cast: [NEW_OWNER, MOVER, MOVER, PURGER],
  },
  /** Holds on what is about to be moved. */
  holds: {
    setting: QUIET,
    temper: { jump: 0, race: 0, late: 0 },
    cast: [HOLDER, HOLDER, MOVER, MOVER, WRITER],
  },
  /** Requests that land late, and restores that come soon after them. */
  'late-requests': {
    setting: { ...QUIET, manner: 's3' },
    temper: { slow: 0, freeze: 0, jump: 0, race: 0, late: 0.15 },
    cast: [MOVER, MOVER, BUSY_RESTORER, BUSY_RESTORER, BUSY_RESTORER],
  },
  /** Claims that begin while a purge looks. */
  purges: {
    setting: { ...QUIET, keys: KEYS },
    temper: { stick: 0.2, slow: 0, wake: 0.05, freeze: 0, jump: 0, race: 0, late: 0 },
    cast: [MOVER, MOVER, MET.lease, MET.lease, MET.holder, MET.purger, MET.purger],
  },
  /** Sessions that begin while large batches do. */
  beginnings: {
    setting: { ...QUIET, manner: 's3', keys: KEYS },
    temper: { stick: 0.2, slow: 0, wake: 0.2, freeze: 0, jump: 0, race: 0, late: 0 },
    cast: [SESSION, SESSION, SESSION, LARGE_MOVER, LARGE_MOVER, WRITER],
  },
  /** Restores of what is purged. */
  restores: {
    setting: { ...QUIET, keys: KEYS },
    temper: { stick: 0.2, slow: 0, wake: 0.05, freeze: 0, jump: 0, race: 0, late: 0 },
    cast: [MOVER, MOVER, MET.restorer, MET.restorer, MET.restorer, MET.purger, MET.purger],
  },
  /** Restores to where somebody writes. */
  'put-back': {
    setting: { ...QUIET, manner: 's3', keys: KEYS },
    temper: { stick: 0.2, slow: 0, wake: 0.05, freeze: 0, jump: 0, race: 0, late: 0 },
    cast: [MOVER, MOVER, MET.restorer, MET.restorer, MET.restorer, MET.writer, MET.writer],
  },
  /** The same in real files. */
  'link-back': {
    setting: { ...QUIET, manner: 'disk', keys: ['a/1', 'a/2', 'b/3'], mostBetween: 30 },
    temper: { stick: 0.2, slow: 0, wake: 0.05, freeze: 0, jump: 0, race: 0, late: 0, between: 0.1 },
    cast: [MOVER, MOVER, MET.restorer, MET.restorer, MET.restorer, MET.writer],
  },
  /** Readers, with and without a session, of what is moved meanwhile. */
  readers: {
    setting: { ...QUIET, keys: KEYS },
    temper: { stick: 0.2, slow: 0, wake: 0.1, freeze: 0, jump: 0, race: 0, late: 0 },
    cast: [READER, READER, READER, SESSION, SESSION, LARGE_MOVER, LARGE_MOVER, WRITER],
  },
  /** Movers that die in their batches, recovery, and claims that come between. */
  deaths: {
    setting: { ...QUIET, manner: 's3', keys: KEYS, doom: 0.8 },
    temper: { stick: 0.2, slow: 0, wake: 0.2, freeze: 0, jump: 0, race: 0, late: 0 },
    cast: [
      LARGE_MOVER,
      LARGE_MOVER,
      LARGE_MOVER,
      STEADY_LEASE,
      STEADY_LEASE,
      STEADY_HOLDER,
      STEADY_HOLDER,
      MET.recovery,
    ],
  },
  /** Purges of what is named before its window, beside claims, restores and sweeps. */
  erasures: {
    setting: { ...QUIET, keys: KEYS, window: 3_600_000, doom: 0.2 },
    temper: { stick: 0.2, slow: 0, wake: 0.05, freeze: 0, jump: 0, race: 0, late: 0 },
    cast: [
      MOVER,
      MOVER,
      MET.eraser,
      MET.eraser,
      MET.eraser,
      MET.restorer,
      MET.lease,
      MET.holder,
      SESSION,
      WRITER,
    ],
  },
} as const satisfies Record<string, Theme>;

export type Drill = keyof typeof DRILLS;

export const DRILL_NAMES = Object.keys(DRILLS) as readonly Drill[];

/** Where a drill's seeds begin. */
export function firstSeedOf(drill: Drill): number {
  return SEEDS * (1 + DRILL_NAMES.indexOf(drill));
}

/** The drill that a seed is of, or undefined. */
export function drillOf(seed: number): Theme | undefined {
  const name = DRILL_NAMES[Math.floor(seed / SEEDS) - 1];
  return name === undefined ? undefined : DRILLS[name];
}

/** A role that begins a while later. */
function later(ms: number, role: roles.Role): roles.Role {
  return async (world, process) => {
    await process.clock.sleep(ms + process.random(2 * ms));
    await role(world, process);
  };
}

/** The same, from a moment that is about the same for all of them. */
function meeting(one: Part): Part {
  const role: roles.Role = async (world, process) => {
    await process.clock.sleep(Math.max(0, 5000 + process.random(60) - process.clock.monotonic()));
    await one.role(world, process);
  };
  return { ...one, role };
}
