import type { Catalog } from '../catalog/catalog.ts';
import type { ClockStanding } from '../domain/clock-guard.ts';
import { messageOf } from '../domain/errors.ts';
import { aheadOfStore, clockText, storeClockText } from '../run/clock.ts';
import type { KnownStore } from './known-stores.ts';
import { openStore } from './open-store.ts';
import type { Surroundings } from './surroundings.ts';

/** How the clock stands against a store's own, ms. */
interface StoreClock {
  readonly name: string;
  /** By how much the clock is ahead of it; null where the store has none, or does not answer. */
  readonly ahead: number | null;
  /** What somebody has accepted. */
  readonly accepted: number;
  /** Why it keeps purges from this store, or null. */
  readonly problem: string | null;
}

/** How the clock stands, by this machine and by each store. */
export interface ClockState {
  readonly standing: ClockStanding;
  /** What is wrong with it, or null. */
  readonly problem: string | null;
  readonly stores: readonly StoreClock[];
}

type Around = Pick<Surroundings, 'clock' | 'report'>;

/** Looks at the clock, and changes nothing. A store that can't be asked is told. */
export async function clockState(
  catalog: Catalog,
  known: readonly KnownStore[],
  around: Around,
): Promise<ClockState> {
  const stores: StoreClock[] = [];
  for (const { config, row } of known) {
    const { accepted, off } = catalog.clock.ofStore(row.n);
    const ahead = await ask(config, around);
    const isOff = ahead === null ? off !== null : Math.abs(ahead - accepted) > catalog.clock.tolerance;
    const problem = isOff ? storeClockText(ahead ?? off ?? 0) : null;
    stores.push({ name: config.name, ahead, accepted, problem });
  }
  const standing = catalog.clock.standing(around.clock);
  return { standing, problem: standing.isRight ? null : clockText(standing), stores };
}

/**
 * Somebody vouches for the clock as it is: against counted time, and against the
 * stores' own clocks. No window ends sooner by it: they go on from what was counted.
 * Each store has an event of it.
 */
export function acceptClock(
  catalog: Catalog,
  known: readonly KnownStore[],
  state: ClockState,
  { clock, actor, reason }: Pick<Surroundings, 'clock' | 'actor'> & { reason: string | null },
): void {
  const why = reason === null ? '' : `: ${reason}`;
  catalog.transaction(() => {
    catalog.clock.accept(clock);
    for (const { config, row } of known) {
      const of = state.stores.find(({ name }) => name === config.name);
      if (of?.problem !== undefined && of.problem !== null)
        catalog.clock.noteStore(row.n, { accepted: of.ahead ?? 0, off: null });
      const was = state.problem ?? of?.problem ?? 'it was right';
      const detail = `accepted by ${actor.by}${why} (${was})`;
      catalog.events.add({
        store: row.n,
        run: null,
        who: actor,
        what: 'clock-accepted',
        now: clock.now(),
        detail,
      });
    }
  });
}

async function ask(config: KnownStore['config'], { clock, report }: Around): Promise<number | null> {
  if (config.location.kind !== 's3') return null;
  try {
    const store = await openStore(config, 'read', clock);
    try {
      return await aheadOfStore({ store, clock });
    } finally {
      store.close();
    }
  } catch (error) {
    report('warn', `${config.name}: its clock is not known: ${messageOf(error)}`);
    return null;
  }
}
