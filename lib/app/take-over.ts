import { randomUUID } from 'node:crypto';
import { Catalog, type StoreRow } from '../catalog/catalog.ts';
import { runLockFile, takeDeadLock, takeLock } from '../catalog/run-lock.ts';
import type { Config, StoreConfig } from '../config/config.ts';
import { isoTime } from '../domain/clock.ts';
import { messageOf, TombstonedError } from '../domain/errors.ts';
import type { Place } from '../run/place.ts';
import { waitForFences } from '../run/wait-for-fences.ts';
import { checkPendingPrefix, readIdentity, type StoreIdentity } from '../store/identity.ts';
import { checkOwner, type Owner, readOwner, replaceOwner } from '../store/owner.ts';
import type { Store } from '../store/store.ts';
import { claimPlaceOf, note } from './claim-place.ts';
import { type OpenPlace, openCatalog, openPlace } from './open.ts';
import { openStore } from './open-store.ts';
import { Holding, isEverything, type PutHold } from './put-hold.ts';
import { recover } from './recover.ts';
import { holdsIn } from './release-holds.ts';
import type { Surroundings } from './surroundings.ts';

/** By what a hold of a take-over is known. */
type HoldReason = 'adopted' | 'rebuilt';

/** Who owned a store before. */
export type Before = Owner | 'nobody' | 'unreadable';

export interface TakeOverOptions {
  /** Why everything is held meanwhile. */
  readonly holdReason: HoldReason;
  /** Whether a store of another owner is taken over, and a catalog is made where there is none. */
  readonly mayTakeOver: boolean;
  /** How long to wait for the batches that were announced before, ms. */
  readonly fenceTimeout: number;
  readonly signal?: AbortSignal | undefined;
  readonly onWait?: ((text: string) => void) | undefined;
}

/** A store that belongs to this catalog, and is held. */
export interface Held {
  readonly place: OpenPlace;
  /** Whose it was; null where it was this catalog's already. */
  readonly from: Before | null;
  readonly hold: PutHold;
}

/**
 * Holds everything in a store, makes the config's catalog its owner where it is another's,
 * and waits until every batch that was announced before is over (R5): then nothing is moved or
 * purged there, and what runs of this catalog have left half-done is nobody's any more. Throws
 * `blocked` before anything is written while the old owner may still be at work. May run again
 * after it was interrupted at any point. Whoever calls it closes store and catalog.
 */
export async function takeOver(
  config: Config,
  storeConfig: StoreConfig,
  surroundings: Surroundings,
  options: TakeOverOptions,
): Promise<Held> {
  const { identity } = await lookAtOwner(config, storeConfig, surroundings, options);
  const catalog = openOrMake(config, surroundings);
  try {
    makeKnown(catalog, storeConfig, identity, surroundings);
    const place = await openPlace(catalog, storeConfig, surroundings);
    try {
      return { place, ...(await hold(place, options)) };
    } catch (error) {
      place.store.close();
      throw error;
    }
  } catch (error) {
    catalog.close();
    throw error;
  }
}

/** Whose a store is, before anything is written there. */
export interface OwnerLook {
  readonly identity: StoreIdentity;
  readonly owner: Before;
  /** Whether the config's catalog is the owner. */
  readonly isOurs: boolean;
  /** Whether a hold of such a take-over stands: one was interrupted, or is under way. */
  readonly isHalfDone: boolean;
}

/** Looks whose a store is. Throws `blocked` where it is another's who may still be at work, or may not be taken over. */
export async function lookAtOwner(
  config: Config,
  storeConfig: StoreConfig,
  { clock }: Surroundings,
  options: TakeOverOptions,
): Promise<OwnerLook> {
  const store = await openStore(storeConfig, 'write', clock);
  try {
    const identity = await knownIdentity(store);
    const owner = await readOwner(store.control);
    const isOurs = isOwnedBy(owner, config.catalog);
    if (!isOurs) {
      if (!options.mayTakeOver) throw notOurs(store, owner, config.catalog);
      await refuseAtWork(store, owner, options, clock);
    }
    const holds = await holdsIn({ store });
    const isHalfDone = holds.some(({ hold: { problem, reason, scope } }) => {
      return problem === null && reason === options.holdReason && isEverything(scope);
    });
    return { identity, owner, isOurs, isHalfDone };
  } finally {
    store.close();
  }
}

async function knownIdentity(store: Store): Promise<StoreIdentity> {
  const identity = await readIdentity(store.control, 'write');
  if (identity === undefined) {
    throw new TombstonedError('failed', `${store.url} has no .tombstoned/store.json: not a store`, {
      key: store.url,
      hint: 'is the disk mounted? A new store is made known by `tombstonectl init`',
    });
  }
  checkPendingPrefix(store, identity);
  return identity;
}

function isOwnedBy(owner: Before, file: string): boolean {
  if (typeof owner === 'string' || !Catalog.exists(file)) return false;
  const catalog = Catalog.open(file);
  try {
    return catalog.uuid === owner.catalog;
  } finally {
    catalog.close();
  }
}

const GIVEN_UP = 'if that catalog is lost, or is to give it up: `tombstonectl rebuild --take-over`';

function notOurs(store: Store, owner: Before, file: string): TombstonedError {
  if (!Catalog.exists(file)) return noCatalog({ catalog: file }, store, owner);
  return new TombstonedError('blocked', `${store.url} belongs to ${ownerText(owner)}, not to this catalog`, {
    reason: 'owner',
    key: store.url,
    hint: GIVEN_UP,
  });
}

/** What is said where a store's catalog is not there. */
export function noCatalog(
  { catalog }: Pick<Config, 'catalog'>,
  { url }: Pick<StoreConfig, 'url'>,
  owner: Before,
): TombstonedError {
  return new TombstonedError(
    'failed',
    `there is no catalog at ${catalog}, and ${url} belongs to ${ownerText(owner)}`,
    { key: catalog, hint: `bring the catalog here, or back from a backup; ${GIVEN_UP}` },
  );
}

/** An owner in words. */
export function ownerText(owner: Before): string {
  if (owner === 'nobody') return 'nobody';
  if (owner === 'unreadable') return 'an owner who can not be read';
  return `catalog ${owner.catalog} on ${owner.host} since ${owner.since}`;
}

/** Throws `blocked`, with nothing written, while a batch is announced: its process may be at it. */
async function refuseAtWork(
  store: Store,
  owner: Before,
  { fenceTimeout: timeout, signal, onWait }: TakeOverOptions,
  clock: Place['clock'],
): Promise<void> {
  try {
    await waitForFences(store, [''], {
      clock,
      timeout,
      signal,
      onWait: ([first]) => onWait?.(`waiting for the batch that fence ${first?.name} announces`),
    });
  } catch (error) {
    if (!(error instanceof TombstonedError) || error.code !== 'blocked') throw error;
    throw new TombstonedError(
      'blocked',
      `${store.url} belongs to ${ownerText(owner)}, who may still be at work: ${messageOf(error)}; nothing was changed`,
      {
        reason: 'owner',
        key: store.url,
        hint: `end tombstoned there; if that host is gone for good: tombstonectl --url ${store.url} fence break ID --reason TEXT --force`,
        cause: error,
      },
    );
  }
}

function openOrMake(config: Config, { clock }: Surroundings): Catalog {
  if (!Catalog.exists(config.catalog)) Catalog.create(config.catalog, randomUUID(), clock.now()).close();
  return openCatalog(config);
}

function makeKnown(
  catalog: Catalog,
  { name, url }: StoreConfig,
  { uuid, pendingPrefix }: StoreIdentity,
  { clock, actor }: Surroundings,
): StoreRow {
  const known = catalog.storeByName(name);
  if (known !== undefined && known.uuid !== uuid) {
    throw new TombstonedError(
      'failed',
      `the catalog knows ${name} as store ${known.uuid}, and ${url} is ${uuid}`,
      { key: url, hint: 'is the disk mounted? A different store needs a name of its own' },
    );
  }
  return catalog.transaction(() => {
    const row = catalog.addStore({ name, uuid, url, pendingPrefix });
    if (known === undefined) {
      const detail = `${name}: store ${uuid} at ${url}`;
      catalog.events.add({
        store: row.n,
        run: null,
        who: actor,
        what: 'store-added',
        now: clock.now(),
        detail,
      });
    }
    return row;
  });
}

async function hold(place: OpenPlace, options: TakeOverOptions): Promise<Omit<Held, 'place'>> {
  const { store, catalog, clock, actor } = place;
  const { holdReason: reason, fenceTimeout, signal, onWait } = options;
  await recover(place); // fences of dead runs of this catalog would be waited for in vain
  const claim = claimPlaceOf(place);
  const holding = new Holding(claim, {
    until: null,
    reason,
    fenceTimeout,
    dryRun: false,
    isOwn: true,
    signal,
  });
  // Before the store changes hands: until all of this is done, nobody acts.
  await holding.prefix('');
  const before = await readOwner(store.control);
  const isForeign = typeof before === 'string' || before.catalog !== catalog.uuid;
  if (isForeign) {
    if (!options.mayTakeOver) await checkOwner(store, catalog.uuid);
    await replaceOwner(store.control, {
      catalog: catalog.uuid,
      host: actor.host,
      since: isoTime(clock.now()) ?? '',
    });
    note(claim, 'adopted', `store ${place.row.uuid}`, `it belonged to ${ownerText(before)}`);
  }
  const [put] = await holding.end(onWait);
  if (put === undefined) throw new TypeError('nothing is held');
  await checkOwner(store, catalog.uuid); // another may have taken it over at the same time
  leaveToRecovery(place);
  return { from: isForeign ? before : null, hold: put };
}

/**
 * Runs without their own lock files are those of a catalog that this one is a copy of. Every
 * batch is over and nothing is begun, so no process is at what they have left here: recovery may have it.
 */
function leaveToRecovery({ catalog, row }: OpenPlace): void {
  for (const run of catalog.runs.open(row.n)) {
    const file = runLockFile(catalog.file, run.id);
    const lock = takeDeadLock(file, run.lock);
    if (lock === 'held') continue;
    if (lock !== 'missing') {
      lock.release();
      continue;
    }
    catalog.runs.forgetLock(run.n);
    takeLock(file)?.release();
  }
}
