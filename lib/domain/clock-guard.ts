import type { Clock } from './clock.ts';

/**
 * The guard against wall clocks that are wrong. Safety windows are counted in
 * **counted time**: it goes on with the time since boot while this machine runs, so
 * it never goes faster than true time, whatever becomes of the wall clock. Time
 * between two boots is counted only where NTP had the wall clock right before and
 * after. The wall clock is right while it is where counted time says that it should be.
 */
export interface ClockRecord {
  /** The boot in which the clock was last looked at, and how long after its begin, ms. */
  readonly boot: string;
  readonly sinceBoot: number;
  /** Counted time at that look, ms; the wall time when counting began. */
  readonly counted: number;
  /** By how much wall time was ahead of counted time when it was last right, ms. */
  readonly ahead: number;
  /** Whether the machine was started since the wall clock was last right. */
  readonly isRestarted: boolean;
  /** Counted time when the wall clock was found wrong, ms; null while it is right. */
  readonly wrongSince: number | null;
  /** When NTP last had it right. */
  readonly synced: { readonly boot: string; readonly wall: number; readonly counted: number } | null;
}

/** What is read of a clock at one moment. */
export interface ClockReading {
  readonly boot: string;
  readonly sinceBoot: number;
  readonly wall: number;
}

/** How the wall clock stands. */
export interface ClockStanding {
  readonly isRight: boolean;
  /** Wall time, ms. */
  readonly wall: number;
  /** The wall time that counted time vouches for, ms. */
  readonly vouched: number;
  /** Wall time minus that, ms. */
  readonly off: number;
  readonly isRestarted: boolean;
}

/** How far the time since boot may seem to go back: two processes may read it and write it in another order. ms. */
const RACE_MS = 60_000;
/** What NTP may be wrong by, at both ends of a time that it vouches for. ms. */
const SYNC_ERROR_MS = 60_000;

export function readingOf(clock: Clock): ClockReading {
  const { boot, ms } = clock.sinceBoot();
  return { boot, sinceBoot: Math.floor(ms), wall: Math.floor(clock.now()) };
}

/** The first record. `lastSeen` is the newest wall time that is known from before, ms, or null. */
export function firstRecord({ boot, sinceBoot, wall }: ClockReading, lastSeen: number | null): ClockRecord {
  // What is pending already counts by wall time, from before: a clock that is ahead now must end no window.
  const counted = Math.min(wall, lastSeen ?? wall);
  return {
    boot,
    sinceBoot,
    counted,
    ahead: Math.max(wall, lastSeen ?? wall) - counted,
    isRestarted: true,
    wrongSince: null,
    synced: null,
  };
}

/** Counted time goes on to a moment. */
export function goOn(record: ClockRecord, { boot, sinceBoot }: ClockReading): ClockRecord {
  if (record.boot !== boot || sinceBoot < record.sinceBoot - RACE_MS)
    return { ...record, boot, sinceBoot, isRestarted: true };
  const passed = Math.max(0, sinceBoot - record.sinceBoot);
  return { ...record, sinceBoot: record.sinceBoot + passed, counted: record.counted + passed };
}

export function standingAt(record: ClockRecord, { wall }: ClockReading, tolerance: number): ClockStanding {
  const vouched = record.counted + record.ahead;
  const off = wall - vouched;
  return { isRight: Math.abs(off) <= tolerance, wall, vouched, off, isRestarted: record.isRestarted };
}

/**
 * The record after a look, which has gone on to this moment. A wall clock within the
 * tolerance is right. One that is further off after a start is so when a witness says
 * it: the machine may have been off, or have had no clock while it was. One that has
 * jumped while the machine ran is wrong, whoever says what.
 */
export function judge(
  record: ClockRecord,
  reading: ClockReading,
  { tolerance, witness }: { tolerance: number; witness: 'ntp' | 'store' | null },
): ClockRecord {
  const isRight = standingAt(record, reading, tolerance).isRight || (record.isRestarted && witness !== null);
  if (!isRight) return { ...record, wrongSince: record.wrongSince ?? record.counted };
  const counted = witness === 'ntp' ? countedWhileOff(record, reading) : record.counted;
  return {
    ...record,
    counted,
    ahead: reading.wall - counted,
    isRestarted: false,
    wrongSince: null,
    synced: witness === 'ntp' ? { boot: reading.boot, wall: reading.wall, counted } : record.synced,
  };
}

/** Counted time with that between two boots, where NTP has vouched for both ends. */
function countedWhileOff({ counted, synced }: ClockRecord, { boot, wall }: ClockReading): number {
  if (synced === null || synced.boot === boot) return counted;
  return Math.max(counted, synced.counted + (wall - synced.wall) - SYNC_ERROR_MS);
}

/** The record after somebody has vouched for the wall clock: windows go on from what was counted. */
export function accept(record: ClockRecord, { wall }: ClockReading): ClockRecord {
  return {
    ...record,
    ahead: wall - record.counted,
    isRestarted: false,
    wrongSince: null,
    // What NTP said before may have been what was wrong.
    synced: null,
  };
}
