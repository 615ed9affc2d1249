import type { Catalog, StoreRow } from '../catalog/catalog.ts';
import { type Clock, isoTime } from '../domain/clock.ts';
import type { ClockStanding } from '../domain/clock-guard.ts';
import { TombstonedError } from '../domain/errors.ts';
import { formatDuration } from '../domain/quantities.ts';
import type { Place } from './place.ts';

type ClockPlace = Pick<Place, 'store' | 'catalog' | 'row' | 'clock' | 'report'>;

/** How often NTP is asked about a clock that is right. ms. */
const ASK_EVERY_MS = 3_600_000;
/** What a store's `Date` is cut to. ms. */
const DATE_STEP_MS = 1000;

const HINT = 'if the clock is right now: tombstonectl clock accept; see tombstonectl clock';

/**
 * Looks at the wall clock, and reports and records when it goes wrong or is right
 * again. After a start, a clock that is further on than counted time is right if NTP
 * or the store says so.
 */
export async function lookAtClock(place: ClockPlace): Promise<ClockStanding> {
  const { catalog, clock } = place;
  let look = catalog.clock.look(clock, null);
  const isInDoubt = !look.standing.isRight && look.standing.isRestarted;
  if (isInDoubt || (look.standing.isRight && isTimeToAsk(catalog, clock))) {
    const { before } = look;
    askedAt.set(clock, clock.monotonic());
    const witness = (await clock.isSynced()) ? 'ntp' : null;
    const vouches = witness ?? (isInDoubt ? await storeVouches(place) : null);
    if (vouches !== null) look = { ...catalog.clock.look(clock, vouches), before };
  }
  const { before, after, standing } = look;
  if (after.wrongSince !== null && before.wrongSince === null) {
    note(place, 'clock-wrong', clockText(standing));
    place.report('warn', `the clock is not trusted: ${clockText(standing)}`, { hint: HINT });
  } else if (after.wrongSince === null && before.wrongSince !== null) {
    note(place, 'clock-right', 'the clock is right again');
    place.report('info', 'the clock is right again: purges go on');
  }
  return standing;
}

/** When this process last asked about NTP. */
const askedAt = new WeakMap<Clock, number>();

function isTimeToAsk(catalog: Catalog, clock: Clock): boolean {
  if ((catalog.clock.syncedFor(clock) ?? ASK_EVERY_MS) < ASK_EVERY_MS) return false;
  const last = askedAt.get(clock);
  return last === undefined || clock.monotonic() - last >= ASK_EVERY_MS;
}

/** Throws `blocked` (clock) where the wall clock, or by it the store's, can't be trusted: nothing is purged then. */
export async function requireRightClock(place: ClockPlace): Promise<void> {
  const why = await whyNotRight(place);
  if (why !== null) throw wrongClock(why);
}

/** Looks at the wall clock, and at the store's by it: why they can't be trusted, in words, or null. */
export async function whyNotRight(place: ClockPlace): Promise<string | null> {
  const standing = await lookAtClock(place);
  if (!standing.isRight) return clockText(standing);
  const off = await lookAtStoreClock(place);
  return off === null ? null : storeClockText(off);
}

/** As `requireRightClock`, in the middle of a run: by this machine alone. */
export async function requireOwnClock(place: ClockPlace): Promise<void> {
  const standing = await lookAtClock(place);
  if (!standing.isRight) throw wrongClock(clockText(standing));
}

/** Looks at a store's own clock, and notes by how much more than the tolerance wall time is ahead of it; null where it is not. */
async function lookAtStoreClock(place: ClockPlace): Promise<number | null> {
  const { catalog, row, report } = place;
  const found = await aheadOfStore(place);
  const known = catalog.clock.ofStore(row.n);
  if (found === null) return null;
  const off = Math.abs(found - known.accepted) <= catalog.clock.tolerance ? null : found;
  if (off === null && known.off === null) return null;
  catalog.transaction(() => catalog.clock.noteStore(row.n, { ...known, off }));
  if (off !== null && known.off === null) {
    note(place, 'clock-wrong', storeClockText(off));
    report('warn', `the clock is not trusted: ${storeClockText(off)}`, { hint: HINT });
  } else if (off === null) {
    note(place, 'clock-right', "the clock agrees with the store's again");
    report('info', "the clock agrees with the store's again: purges go on");
  }
  return off;
}

/** What keeps a store's purges of the clock, as it was last seen, in words; null where nothing does. */
export function whyNotTrusted(catalog: Catalog, row: StoreRow, clock: Clock): string | null {
  const standing = catalog.clock.standing(clock);
  if (!standing.isRight) return clockText(standing);
  const { off } = catalog.clock.ofStore(row.n);
  return off === null ? null : storeClockText(off);
}

/** By how much wall time is ahead of a store's own, ms; null of a store that has none. */
export async function aheadOfStore({ store, clock }: Pick<Place, 'store' | 'clock'>): Promise<number | null> {
  if (store.late === undefined) return null;
  const asked = clock.now();
  const date = await store.late.time();
  // The answer was given somewhere between, and its date is cut to a second.
  const ahead = asked - date;
  return ahead > 0 ? Math.max(0, ahead - DATE_STEP_MS) : Math.min(0, clock.now() - date);
}

async function storeVouches(place: ClockPlace): Promise<'store' | null> {
  if (place.store.late?.isHere === true) return null; // it has the same clock
  const ahead = await aheadOfStore(place);
  const { accepted } = place.catalog.clock.ofStore(place.row.n);
  return ahead !== null && Math.abs(ahead - accepted) <= place.catalog.clock.tolerance ? 'store' : null;
}

/** What is wrong with a wall clock, in words. */
export function clockText({ wall, vouched, off, isRestarted }: ClockStanding): string {
  const by = formatDuration(Math.abs(off));
  const says = `the clock says ${isoTime(wall)}`;
  if (!isRestarted)
    return `${says}, and was set ${by} ${off > 0 ? 'forward' : 'back'} while this machine ran`;
  return off > 0
    ? `${says}, ${by} after it was last seen before a restart, and nothing says that this machine was off for so long`
    : `${says}, ${by} before ${isoTime(vouched)}, which it was already before a restart`;
}

export function storeClockText(off: number): string {
  const by = formatDuration(Math.abs(off));
  return `the clock is ${by} ${off > 0 ? 'ahead of' : 'behind'} the store's`;
}

function wrongClock(text: string): TombstonedError {
  return new TombstonedError('blocked', `nothing is purged: ${text}`, { reason: 'clock', hint: HINT });
}

function note(
  { catalog, row, clock }: ClockPlace,
  what: 'clock-wrong' | 'clock-right',
  detail: string,
): void {
  catalog.transaction(() => catalog.events.add({ store: row.n, run: null, what, now: clock.now(), detail }));
}
