import type { Clock } from '../domain/clock.ts';
import {
  accept,
  type ClockRecord,
  type ClockStanding,
  firstRecord,
  goOn,
  judge,
  readingOf,
  standingAt,
} from '../domain/clock-guard.ts';
import { asNumber, asNumberOrNull, asText, asTextOrNull, type Row, type Sql } from './sql.ts';

/** By how much wall time may be off before purges stop, unless the config says so. ms. */
const TOLERANCE_MS = 300_000;

/** How much time may be lost to a power cut, and how small a step of the clock is worth a note. ms. */
const NOTED_EVERY_MS = 60_000;
const NOTED_STEP_MS = 1000;

/** What a look at the clock found, and how it stood before. */
export interface ClockLook {
  readonly before: ClockRecord;
  readonly after: ClockRecord;
  readonly standing: ClockStanding;
}

/** What all processes that use this catalog have seen of the clock. */
export class ClockWatch {
  readonly #sql: Sql;
  /** `clockTolerance` of the config, ms. */
  readonly tolerance: number;

  constructor(sql: Sql, tolerance = TOLERANCE_MS) {
    this.#sql = sql;
    this.tolerance = tolerance;
  }

  /**
   * Counted time now, ms: what begins and ends of safety windows are told in.
   * Called in the transaction that uses it, so that nobody else goes on between.
   */
  count(clock: Clock): number {
    const record = goOn(this.#known(clock), readingOf(clock));
    this.#write(record);
    return record.counted;
  }

  /** Counted time now, without a note of it: for who only looks. */
  counted(clock: Clock): number {
    return goOn(this.#known(clock), readingOf(clock)).counted;
  }

  /** Looks at the wall clock, and notes how it stands; `witness` says that it is right. */
  look(clock: Clock, witness: 'ntp' | 'store' | null): ClockLook {
    const { isNews: isWorthIt, ...look } = this.#seen(clock, witness);
    if (!isWorthIt) return look; // nobody has to wait for a look that writes nothing
    return this.#sql.transaction(() => {
      const { isNews: isStill, ...again } = this.#seen(clock, witness);
      if (isStill) this.#write(again.after);
      return again;
    });
  }

  #seen(clock: Clock, witness: 'ntp' | 'store' | null): ClockLook & { isNews: boolean } {
    const reading = readingOf(clock);
    const stored = this.#stored();
    const before = stored ?? this.#first(clock);
    const { tolerance } = this;
    const after = judge(goOn(before, reading), reading, { tolerance, witness });
    const standing = standingAt(after, reading, tolerance);
    return { before, after, standing, isNews: stored === undefined || isNews(stored, after) };
  }

  /** How the wall clock stands, without a note: for who only shows it. */
  standing(clock: Clock): ClockStanding {
    const reading = readingOf(clock);
    return standingAt(goOn(this.#known(clock), reading), reading, this.tolerance);
  }

  /**
   * The wall time that is sure to have come, ms: the earlier of the wall clock's and
   * of what counted time vouches for. Nothing ends sooner by it than it should.
   */
  sureTime(clock: Clock): number {
    const { wall, vouched } = this.standing(clock);
    return Math.min(wall, vouched);
  }

  /** The wall time that is most likely, ms: the clock's while that is right, else what counted time vouches for. */
  likelyTime(clock: Clock): number {
    const { isRight, wall, vouched } = this.standing(clock);
    return isRight ? wall : vouched;
  }

  /** Counted time as wall time is this plus that, ms. */
  ahead(clock: Clock): number {
    return this.#known(clock).ahead;
  }

  /** Whether NTP was last seen to have the clock right in this boot, and for how long that is, ms; null when not. */
  syncedFor(clock: Clock): number | null {
    const { synced, ...record } = this.#known(clock);
    const reading = readingOf(clock);
    if (synced?.boot !== reading.boot) return null;
    return goOn({ ...record, synced }, reading).counted - synced.counted;
  }

  /** Somebody vouches for the wall clock as it is. Part of a transaction. */
  accept(clock: Clock): void {
    const reading = readingOf(clock);
    this.#write(accept(goOn(this.#known(clock), reading), reading));
  }

  /** By how much wall time is ahead of a store's, ms: what was accepted, and what keeps its purges, or null. */
  ofStore(store: number): { accepted: number; off: number | null } {
    const row = this.#sql.all(`SELECT accepted, off FROM store_clocks WHERE store = ?`, store)[0];
    if (row === undefined) return { accepted: 0, off: null };
    return { accepted: asNumber(row['accepted']), off: asNumberOrNull(row['off']) };
  }

  noteStore(store: number, { accepted, off }: { accepted: number; off: number | null }): void {
    this.#sql.run(
      `INSERT INTO store_clocks (store, accepted, off) VALUES (?, ?, ?)
       ON CONFLICT DO UPDATE SET accepted = excluded.accepted, off = excluded.off`,
      store,
      Math.round(accepted),
      off === null ? null : Math.round(off),
    );
  }

  #known(clock: Clock): ClockRecord {
    return this.#stored() ?? this.#first(clock);
  }

  #stored(): ClockRecord | undefined {
    const row = this.#sql.all(`SELECT * FROM clock`)[0];
    return row === undefined ? undefined : toRecord(row);
  }

  #first(clock: Clock): ClockRecord {
    const seen = this.#sql.all(`SELECT max(max(started_at, coalesce(ended_at, 0))) AS at FROM runs`)[0];
    return firstRecord(readingOf(clock), asNumberOrNull(seen?.['at'] ?? null));
  }

  #write(record: ClockRecord): void {
    const { boot, sinceBoot, counted, ahead, isRestarted, wrongSince, synced } = record;
    this.#sql.run(
      `INSERT OR REPLACE INTO clock (one, boot, since_boot, counted, ahead, restarted, wrong_since,
         synced_boot, synced_wall, synced_counted) VALUES (1, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
      boot,
      sinceBoot,
      counted,
      ahead,
      Number(isRestarted),
      wrongSince,
      synced?.boot ?? null,
      synced?.wall ?? null,
      synced?.counted ?? null,
    );
  }
}

/** Whether a look is worth a commit: time that merely went on is written with what uses it, or after a while. */
function isNews(before: ClockRecord, after: ClockRecord): boolean {
  return (
    before.boot !== after.boot ||
    before.isRestarted !== after.isRestarted ||
    before.wrongSince !== after.wrongSince ||
    before.synced?.counted !== after.synced?.counted ||
    after.sinceBoot - before.sinceBoot >= NOTED_EVERY_MS ||
    Math.abs(after.ahead - before.ahead) >= NOTED_STEP_MS
  );
}

function toRecord(row: Row): ClockRecord {
  const boot = asTextOrNull(row['synced_boot']);
  return {
    boot: asText(row['boot']),
    sinceBoot: asNumber(row['since_boot']),
    counted: asNumber(row['counted']),
    ahead: asNumber(row['ahead']),
    isRestarted: asNumber(row['restarted']) === 1,
    wrongSince: asNumberOrNull(row['wrong_since']),
    synced:
      boot === null
        ? null
        : { boot, wall: asNumber(row['synced_wall']), counted: asNumber(row['synced_counted']) },
  };
}
