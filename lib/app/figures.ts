import { statSync } from 'node:fs';
import { statfs } from 'node:fs/promises';
import path from 'node:path';
import { Catalog } from '../catalog/catalog.ts';
import { isPause } from '../catalog/holds.ts';
import type { PartStart, ScheduleBin } from '../catalog/schedule.ts';
import type { Config, StoreConfig } from '../config/config.ts';
import type { Clock } from '../domain/clock.ts';
import { errnoOf } from '../domain/errors.ts';
import type { State } from '../domain/state.ts';
import { refreshHolds } from '../run/batch.ts';
import { whyNotTrusted } from '../run/clock.ts';
import { readIdentity } from '../store/identity.ts';
import { inParts } from './in-parts.ts';
import type { KnownStore } from './known-stores.ts';
import { openStore } from './open-store.ts';
import { claimsIn, type StoreClaims } from './standing-claims.ts';
import type { Surroundings } from './surroundings.ts';

/** Room in a file system, bytes. */
export interface Room {
  /** For others than root. */
  readonly free: number;
  readonly size: number;
}

/** How long a look at figures waits for another process's transaction: the work goes on meanwhile. ms */
const PATIENCE_MS = 20;

/** Opens a catalog for a look that must not wait. Throws as `openCatalog` does, also where it would have to. */
export function openForFigures({ catalog, clockTolerance }: Config): Catalog {
  return Catalog.open(catalog, { clockTolerance, patience: PATIENCE_MS });
}

export interface QuickFigures {
  readonly states: ReadonlyMap<State, ScheduleBin>;
  readonly isPaused: boolean;
  /** Why the clock keeps purges away, or null. */
  readonly clock: string | null;
  /** Plans that wait for approval, and what they name. */
  readonly waiting: ScheduleBin & { readonly plans: number };
}

/** What costs nothing to read. */
export function quickFigures(catalog: Catalog, { row }: KnownStore, clock: Clock): QuickFigures {
  const now = catalog.clock.sureTime(clock);
  const tallies = catalog.tombstones.tallies(row.n);
  const waiting = catalog.waiting.ofStore(row.n, now);
  return {
    states: new Map(tallies.map(({ state, count, bytes }) => [state, { count, bytes }])),
    isPaused: catalog.holds.inForce(row.n, now).some(isPause),
    clock: whyNotTrusted(catalog, row, clock),
    waiting: {
      plans: waiting.length,
      count: waiting.reduce((sum, { objects }) => sum + objects, 0),
      bytes: waiting.reduce((sum, { bytes }) => sum + bytes, 0),
    },
  };
}

export interface DueFigures {
  /** `first`: since when the first of it is due, ms since 1970; null where nothing is. */
  readonly due: ScheduleBin & { readonly first: number | null };
  /** What the store itself keeps (object lock), due or not. */
  readonly locked: ScheduleBin;
}

/** What takes as long as much is due. Counted in parts; undefined when the signal ended it. */
export async function dueFigures(
  catalog: Catalog,
  { config, row }: KnownStore,
  { clock }: Pick<Surroundings, 'clock'>,
  signal: AbortSignal,
): Promise<DueFigures | undefined> {
  const now = catalog.clock.counted(clock);
  const sure = catalog.clock.sureTime(clock);
  const { safetyWindow: window } = config;
  const monotonic = (): number => clock.monotonic();
  const due = { count: 0, bytes: 0, first: Number.POSITIVE_INFINITY };
  const locked = { count: 0, bytes: 0 };
  const isWhole =
    (await inParts<PartStart>(
      (after, limit) => {
        const part = catalog.schedule.duePart({ store: row.n, now, window, after, limit });
        due.count += part.count;
        due.bytes += part.bytes;
        due.first = Math.min(due.first, part.first ?? due.first);
        return part.next;
      },
      monotonic,
      signal,
    )) &&
    (await inParts<PartStart>(
      (after, limit) => {
        const part = catalog.schedule.lockedPart({ store: row.n, now: sure, after, limit });
        locked.count += part.count;
        locked.bytes += part.bytes;
        return part.next;
      },
      monotonic,
      signal,
    ));
  if (!isWhole) return undefined;
  const first = due.count === 0 ? null : due.first + catalog.clock.ahead(clock);
  return { due: { ...due, first }, locked };
}

/** What a store itself says; `claims` only of one that is ours. */
export type StoreLook =
  | { readonly standing: 'ours'; readonly claims: StoreClaims }
  | { readonly standing: 'wrong' }
  /** It can't be opened or read. */
  | { readonly standing: 'away'; readonly error: unknown };

/**
 * Looks at whether a store is the one the catalog knows (R10), and at its claims. Lists
 * no objects. When the signal aborts it waits for nothing more.
 */
export async function lookAtStore(
  catalog: Catalog,
  { config, row }: KnownStore,
  surroundings: Pick<Surroundings, 'clock' | 'actor' | 'report'>,
  signal: AbortSignal,
): Promise<StoreLook> {
  const { actor, report } = surroundings;
  const clock = hurried(surroundings.clock, signal);
  try {
    const store = await openStore(config, 'read', clock);
    let isOpen = true;
    const close = (): void => {
      if (isOpen) store.close();
      isOpen = false;
    };
    signal.addEventListener('abort', close);
    try {
      signal.throwIfAborted();
      const identity = await readIdentity(store.control, 'read');
      if (identity?.uuid !== row.uuid) return { standing: 'wrong' };
      await refreshHolds({ store, catalog, row, report });
      return { standing: 'ours', claims: await claimsIn({ store, clock, actor, known: { catalog, row } }) };
    } finally {
      signal.removeEventListener('abort', close);
      close();
    }
  } catch (error) {
    return { standing: 'away', error };
  }
}

/** A clock on which nobody sleeps on when the signal aborts: the sleep throws. */
function hurried(clock: Clock, signal: AbortSignal): Clock {
  return {
    now: () => clock.now(),
    monotonic: () => clock.monotonic(),
    uptime: () => clock.uptime(),
    sinceBoot: () => clock.sinceBoot(),
    isSynced: async () => clock.isSynced(),
    sleep: async (ms) => {
      await clock.sleep(ms, signal);
      signal.throwIfAborted();
    },
  };
}

/** The room where a local store is; null of a bucket, and where it can't be said. */
export async function roomOf({ location }: StoreConfig): Promise<Room | null> {
  return location.kind === 'local' ? roomAt(location.directory) : null;
}

/** The catalog's size with its log, and the room beside it. */
export async function catalogRoom(file: string): Promise<{ bytes: number | null; room: Room | null }> {
  const size = statSync(file, { throwIfNoEntry: false })?.size;
  const log = statSync(`${file}-wal`, { throwIfNoEntry: false })?.size ?? 0;
  return { bytes: size === undefined ? null : size + log, room: await roomAt(path.dirname(file)) };
}

async function roomAt(directory: string): Promise<Room | null> {
  try {
    const { bavail, blocks, bsize } = await statfs(directory);
    return { free: bavail * bsize, size: blocks * bsize };
  } catch (error) {
    if (errnoOf(error) !== undefined) return null; // unmounted, or not for us: the store's own state tells
    throw error;
  }
}
