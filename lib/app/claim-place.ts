import path from 'node:path';
import type { Catalog, StoreRow } from '../catalog/catalog.ts';
import type { EventWhat } from '../catalog/events.ts';
import { storeConfigFromUrl } from '../config/store-url.ts';
import { messageOf } from '../domain/errors.ts';
import type { Place } from '../run/place.ts';
import { becomeOwnerOf } from './become-owner.ts';
import type { OpenPlace } from './open.ts';
import { openForClaims, openForReading } from './open-store.ts';
import type { Surroundings } from './surroundings.ts';

/** A store for those who claim something there, or see to others' claims. */
export interface ClaimPlace extends Pick<Place, 'store' | 'clock' | 'random' | 'actor' | 'report'> {
  /** The store's name in the config, or its URL. */
  readonly name: string;
  /** How a command line about this store begins. */
  readonly ctl: string;
  /** The catalog, where it is at hand. */
  readonly known: { readonly catalog: Catalog; readonly row: StoreRow } | null;
}

/** A place of a config, for claims. */
export function claimPlaceOf(place: OpenPlace): ClaimPlace {
  const { store, clock, random, actor, report, catalog, row, config } = place;
  const known = { catalog, row };
  return { store, clock, random, actor, report, name: config.name, ctl: ctlOf(config.name), known };
}

/**
 * Opens a store by its URL alone: `write` for claims. As root, those become the
 * owner of the store's identity first, so that its daemon can use what is left there.
 */
export async function openClaimPlace(
  url: string,
  surroundings: Surroundings,
  access: 'read' | 'write',
): Promise<ClaimPlace> {
  const config = storeConfigFromUrl(url);
  if (access === 'write' && config.location.kind === 'local')
    becomeOwnerOf(path.join(config.location.directory, '.tombstoned/store.json'));
  const open = access === 'write' ? openForClaims : openForReading;
  const store = await open(config, surroundings.clock);
  const { clock, random, actor, report } = surroundings;
  return { store, clock, random, actor, report, name: url, ctl: ctlOfUrl(url), known: null };
}

/** How a command line about a store of the config begins. */
export function ctlOf(store: string): string {
  return `tombstonectl --store ${store}`;
}

/** The same of a store that is known by its URL alone. */
export function ctlOfUrl(url: string): string {
  return `tombstonectl --url ${url}`;
}

/** Writes into the catalog's log, where there is one, what was done by hand; that it can't be is no reason to undo it. `key` is the one that it is about, where it is one. */
export function note(
  { known, clock, actor, report }: ClaimPlace,
  what: EventWhat,
  about: string,
  reason: string,
  key?: string,
): void {
  if (known === null) return;
  const { catalog, row } = known;
  try {
    const detail = `${about}: ${reason}`;
    catalog.transaction(() =>
      catalog.events.add({ store: row.n, run: null, who: actor, what, now: clock.now(), key, detail }),
    );
  } catch (error) {
    report('warn', `${about} is not in the catalog's log: ${messageOf(error)}`);
  }
}
