import { existsSync, lstatSync, readdirSync, renameSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { Tombstone } from '../../lib/catalog/tombstones.ts';
import { idTime, makeTombstoneId } from '../../lib/domain/ids.ts';
import { type Key, parseKey } from '../../lib/domain/key.ts';
import type { Revision } from '../../lib/domain/revision.ts';
import { revisionHash } from '../../lib/domain/revision.ts';
import { type PurgeOptions, type PurgeResult, purge } from '../../lib/purge/purge.ts';
import { type NowOutcome, type PurgeNowOptions, purgeNow } from '../../lib/purge/purge-now.ts';
import { Reader } from '../../lib/reader/reader.ts';
import { type RestoreOptions, type RestoreOutcome, restore } from '../../lib/restore/restore.ts';
import type { Place } from '../../lib/run/place.ts';
import { createHold } from '../../lib/store/holds.ts';
import { type SweepOptions, type SweepResult, sweep } from '../../lib/sweep/sweep.ts';
import { age, DAY, HOUR, NO_GUARDS, type TempPlace } from './place.ts';

/** Where specs that make many stores put them: no disk to wait for, where there is such a place. */
export const FAST = existsSync('/dev/shm') ? '/dev/shm' : tmpdir();

/** Sweeps keys that are written old, and gives their newest tombstones, in their order. */
export async function tombstonedOld(
  temp: TempPlace,
  place: Place,
  keysOf: readonly string[],
): Promise<Tombstone[]> {
  for (const key of keysOf) temp.write(key, `content of ${key}`, 3 * DAY);
  await sweepOld(place);
  return keysOf.flatMap((key) => tombstonesOf(place, key).slice(0, 1));
}

/** Where a tombstone's pending copy is. */
export function pendingFile(temp: TempPlace, { key, id }: Tombstone): string {
  return path.join(temp.root, `pending_deletion/${key}~${id}`);
}

/** A hold, or an exemption, of somebody elsewhere, on keys or on a prefix; for an hour. */
export async function holdElsewhere(
  place: Place,
  on: readonly string[] | string,
  { kind = 'hold', nth = 1 }: { kind?: 'hold' | 'exempt'; nth?: number } = {},
): Promise<void> {
  await createHold(place.store.control, {
    id: `h-20261122T101500123Z-00000${nth}`,
    kind,
    blocks: 'sweep',
    scope: typeof on === 'string' ? { by: 'prefix', prefix: on } : { by: 'keys', keys: on },
    until: place.clock.now() + HOUR,
    reason: 'spec',
    by: 'spec',
    host: 'spec',
    createdAt: '2026-11-22T10:15:00.123Z',
    problem: null,
  });
}

/** A sweep of everything older than a day, without guards. */
export async function sweepOld(place: Place, options: Partial<SweepOptions> = {}): Promise<SweepResult> {
  return sweep(place, { policies: [age()], guards: NO_GUARDS, dryRun: false, ...options });
}

export async function purgeDue(place: Place, options: Partial<PurgeOptions> = {}): Promise<PurgeResult> {
  return purge(place, { dryRun: false, historyFor: 400 * DAY, ...options });
}

/** Purges keys and tombstones at once, and gives what became of them. */
export async function eraseNow(
  place: Place,
  named: readonly (string | Tombstone | undefined)[],
  options: Partial<PurgeNowOptions> = {},
): Promise<NowOutcome[]> {
  const outcomes: NowOutcome[] = [];
  await purgeNow(place, {
    targets: (async function* () {
      for (const one of named) {
        if (typeof one === 'string') yield { by: 'key', key: parseKey(one) } as const;
        else if (one !== undefined) yield { by: 'id', id: one.id, tombstone: one } as const;
      }
    })(),
    reason: 'asked by legal',
    allVersions: false,
    dryRun: false,
    fenceTimeout: 1000,
    onOutcome: (outcome) => outcomes.push(outcome),
    ...options,
  });
  return outcomes;
}

/** Restores tombstones, in one page, and gives what became of them. */
export async function bringBack(
  place: Place,
  tombstones: readonly (Tombstone | undefined)[],
  options: Partial<RestoreOptions> = {},
): Promise<RestoreOutcome[]> {
  const outcomes: RestoreOutcome[] = [];
  await restore(place, {
    pages: [tombstones.filter((tombstone) => tombstone !== undefined)],
    to: null,
    force: false,
    exemptFor: DAY,
    dryRun: false,
    onOutcome: (outcome) => outcomes.push(outcome),
    ...options,
  });
  return outcomes;
}

/** All tombstones, oldest first. */
export function allTombstones(place: Place): Tombstone[] {
  return place.catalog.tombstones.page({ limit: 10_000 });
}

/** A key's tombstones, newest first. */
export function tombstonesOf(place: Place, key: string): Tombstone[] {
  return place.catalog.tombstones.ofKey(place.row.n, key, 100);
}

/** A tombstone as the catalog has it now. */
export function again(place: Place, tombstone: Tombstone | undefined): Tombstone | undefined {
  return tombstone === undefined ? undefined : place.catalog.tombstones.get(tombstone.id);
}

/** What a reader finds at a key. */
export async function readThrough(place: Place, key: string): Promise<string> {
  return (await new Reader(place.store).bytes(parseKey(key))).toString();
}

/** Replaces a live file as careful writers do: under another name, renamed over. */
export function replaceLive(temp: TempPlace, key: string, content: string, msAgo = 0): void {
  const written = path.join(temp.directory, 'being-written');
  writeFileSync(written, content);
  const at = (temp.clock.wall - msAgo) / 1000;
  utimesSync(written, at, at);
  renameSync(written, path.join(temp.root, key));
}

/** Everything below a directory that is no directory, by its path there. */
export function filesBelow(directory: string): string[] {
  if (!existsSync(directory)) return [];
  return readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => !entry.isDirectory())
    .map((entry) => path.relative(directory, path.join(entry.parentPath, entry.name)))
    .toSorted();
}

/** The names of all pending copies, below the pending directory. */
export function pendingFiles(temp: TempPlace): string[] {
  return filesBelow(path.join(temp.root, 'pending_deletion'));
}

/** The revision of a file on the disk. */
export function revisionOfFile(file: string): Revision {
  const stats = lstatSync(file, { bigint: true });
  return { kind: 'local', size: Number(stats.size), mtimeNs: stats.mtimeNs };
}

/** An id such as a batch at this time gives out. */
export function idAt(ms: number, revision: Revision, counter = 0): string {
  return makeTombstoneId(idTime(ms), revisionHash(revision), counter, () => 0);
}

export function keys(...texts: string[]): Key[] {
  return texts.map((text) => parseKey(text));
}
