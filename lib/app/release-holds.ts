import { TombstonedError } from '../domain/errors.ts';
import { type Hold, listHolds, readHold, removeHoldNamed } from '../store/holds.ts';
import { type ClaimPlace, note } from './claim-place.ts';
import { isEverything } from './put-hold.ts';

/** A hold or exemption as `holds` shows it. */
export interface ListedHold {
  /** Its name in `holds/`. */
  readonly name: string;
  readonly hold: Hold;
}

/** All holds and exemptions, those that are over included, by name. */
export async function holdsIn({ store }: Pick<ClaimPlace, 'store'>): Promise<ListedHold[]> {
  const found: ListedHold[] = [];
  for (const name of await listHolds(store.control)) {
    const hold = await readHold(store.control, name);
    if (hold !== undefined) found.push({ name, hold });
  }
  return found;
}

/**
 * Takes one hold away, by its id, or by its file's name where it is unclear. Throws
 * `not-found` when there is none: only names that are there are ever removed.
 */
export async function releaseHold(place: ClaimPlace, text: string, dryRun: boolean): Promise<ListedHold> {
  const { control } = place.store;
  const name = (await listHolds(control)).find((one) => one === text || one === `${text}.json`);
  const hold = name === undefined ? undefined : await readHold(control, name);
  if (name === undefined || hold === undefined) {
    throw new TombstonedError('not-found', `there is no hold ${text}`, {
      key: text,
      hint: `see ${place.ctl} holds --all`,
    });
  }
  const found = { name, hold };
  if (!dryRun) await takeAway(place, found);
  return found;
}

/**
 * Takes every hold on everything away, those that are over included. Gives them,
 * and what is unclear and counts as such a hold still: that is nobody's pause.
 */
export async function resume(
  place: ClaimPlace,
  dryRun: boolean,
): Promise<{ released: ListedHold[]; unclear: ListedHold[] }> {
  const released: ListedHold[] = [];
  const unclear: ListedHold[] = [];
  for (const one of await holdsIn(place)) {
    if (one.hold.problem !== null) unclear.push(one);
    else if (one.hold.kind === 'hold' && isEverything(one.hold.scope)) {
      if (!dryRun) await takeAway(place, one);
      released.push(one);
    }
  }
  return { released, unclear };
}

async function takeAway(place: ClaimPlace, { name, hold }: ListedHold): Promise<void> {
  await removeHoldNamed(place.store.control, name);
  note(
    place,
    'hold-released',
    `${hold.kind} ${hold.id}`,
    `it was ${hold.by === '' ? 'unclear' : `of ${hold.by}`}, ${hold.reason}`,
  );
}
