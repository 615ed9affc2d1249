import { Catalog } from '../catalog/catalog.ts';
import type { Config, StoreConfig } from '../config/config.ts';
import { claimPlaceOf } from './claim-place.ts';
import { type RebuildOptions, type RebuildResult, rebuild } from './rebuild.ts';
import { releaseHold } from './release-holds.ts';
import type { Surroundings } from './surroundings.ts';
import { type Before, lookAtOwner, noCatalog, type TakeOverOptions, takeOver } from './take-over.ts';

/** `dryRun` only says whose the store is. */
export type AdoptOptions = Pick<TakeOverOptions, 'fenceTimeout' | 'signal' | 'onWait'> &
  Pick<RebuildOptions, 'dryRun' | 'onProgress'>;

export interface Adopted {
  readonly outcome: 'adopted' | 'already' | 'would be';
  /** Whose the store was; null where it was this catalog's already. */
  readonly from: Before | null;
  /** How the store's listing compares with the catalog; null where nobody has looked. */
  readonly compared: RebuildResult | null;
  /** The hold on everything that stays, since the catalog is older than the store or was not compared to the end; or null. */
  readonly hold: string | null;
}

/**
 * Makes the config's catalog the owner of a store. Nothing is moved or purged meanwhile, nor
 * after it where the store's listing has what the catalog has not, or windows that begin later:
 * the catalog is older than the store then. A rebuild brings it up to date. Throws `failed`,
 * with nothing written, where there is no catalog: only a rebuild makes one.
 */
export async function adopt(
  config: Config,
  storeConfig: StoreConfig,
  surroundings: Surroundings,
  options: AdoptOptions,
): Promise<Adopted> {
  const { dryRun, signal, onProgress } = options;
  const asked: TakeOverOptions = { ...options, holdReason: 'adopted', mayTakeOver: true };
  const look = await lookAtOwner(config, storeConfig, surroundings, asked);
  // Else a path that is wrong, or a copy that was not brought yet, would take the store from the catalog that knows it.
  Catalog.refuseLeftLog(config.catalog);
  if (!Catalog.exists(config.catalog)) throw noCatalog(config, storeConfig, look.owner);
  if (look.isOurs && !look.isHalfDone) return { outcome: 'already', from: null, compared: null, hold: null };
  if (dryRun) return { outcome: 'would be', from: look.owner, compared: null, hold: null };
  const { place, from, hold } = await takeOver(config, storeConfig, surroundings, asked);
  try {
    const compared = await rebuild(place, {
      dryRun: true,
      signal,
      onLeft: () => undefined,
      onProgress,
    });
    const { isCut, newest, added, delayed, restored } = compared;
    if (newest !== null) place.catalog.rebuilding.noteNewest(place.row.n, newest);
    const isUpToDate = !isCut && added === 0 && delayed === 0 && restored === 0;
    if (isUpToDate) await releaseHold(claimPlaceOf(place), hold.hold.id, false);
    return { outcome: 'adopted', from, compared, hold: isUpToDate ? null : hold.hold.id };
  } finally {
    place.store.close();
    place.catalog.close();
  }
}
