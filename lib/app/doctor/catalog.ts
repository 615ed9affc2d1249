import { existsSync } from 'node:fs';
import path from 'node:path';
import { Catalog } from '../../catalog/catalog.ts';
import { type CatalogHealth, examineCatalogFile } from '../../catalog/look.ts';
import { runLockFile } from '../../catalog/run-lock.ts';
import type { Config } from '../../config/config.ts';
import type { Clock } from '../../domain/clock.ts';
import { printable } from '../../domain/key.ts';
import { formatDuration, formatSize } from '../../domain/quantities.ts';
import { clockText } from '../../run/clock.ts';
import { problemOfLogTail } from '../check-log.ts';
import { accessFindings } from './access.ts';
import { examineDisk } from './disk.ts';
import { examined, type Finding, failed, failing, ok, warning } from './finding.ts';
import type { Mount } from './mounts.ts';

/** A WAL that stays larger than this is kept so by somebody who reads and does not end. Bytes. */
const LARGE_WAL = 256 * 1024 * 1024;

/** Examines the catalog's file and what is beside it; gives the catalog, to look at, where it can be relied on. */
export async function* examineCatalog(
  { catalog: file, clockTolerance }: Pick<Config, 'catalog' | 'clockTolerance'>,
  mounts: readonly Mount[],
): AsyncGenerator<Finding, Catalog | undefined> {
  const directory = path.dirname(file);
  if (!existsSync(file)) {
    // Opened all the same: it says why, or what is there in its place.
    yield await examined('catalog', () => examinedFile(file).join('; '));
    if (existsSync(directory)) yield* examineDisk({ directory, what: 'catalog', mounts });
    return undefined;
  }
  yield* accessFindings('permissions', [
    { path: directory, to: 'write', others: 'fail' },
    { path: file, to: 'write', others: 'fail' },
    { path: path.dirname(runLockFile(file, '')), to: 'write', others: 'fail', isOptional: true },
  ]);
  yield* examineDisk({ directory, what: 'catalog', mounts });
  let health: CatalogHealth;
  try {
    health = examineCatalogFile(file);
  } catch (error) {
    yield failed('catalog', error);
    return undefined;
  }
  yield* healthFindings(file, health);
  if (health.schema !== health.newest) return undefined;
  let catalog: Catalog | undefined;
  try {
    catalog = Catalog.openToLook(file, { clockTolerance });
    yield logFinding(catalog);
    return catalog;
  } catch (error) {
    catalog?.close();
    yield failed('log', error);
    return undefined;
  }
}

function examinedFile(file: string): string[] {
  return [...examineCatalogFile(file).problems];
}

function* healthFindings(file: string, health: CatalogHealth): Generator<Finding> {
  const name = printable(file);
  const { problems, size, journalMode, synchronous, areForeignKeysKept } = health;
  const back =
    'stop the daemon, keep a copy of the file, and bring the catalog back from a backup, or move it away and `tombstonectl rebuild --take-over`; the stores are untouched';
  if (problems.length > 0) yield failing('catalog', `${name} is damaged: ${problems.join('; ')}`, back);
  else yield ok('catalog', `${name} is whole, ${formatSize(size)}`);
  yield schemaFinding(health);
  if (journalMode !== 'wal') {
    yield warning(
      'durability',
      `${name} has journal_mode=${journalMode}, and not WAL: another program has changed it`,
      'the next sweep or purge sets it again',
    );
  } else if (synchronous !== 2 || !areForeignKeysKept) {
    yield failing(
      'durability',
      `SQLite takes synchronous=${synchronous} and foreign_keys=${areForeignKeysKept ? 'ON' : 'OFF'}, where FULL and ON were asked for`,
      'reinstall tombstoned: its SQLite is not the one it was built with',
    );
  } else yield ok('durability', 'WAL, synchronous=FULL, foreign keys are kept');
  yield walFinding(health);
  yield reserveFinding(name, health);
}

function schemaFinding({ schema, newest }: CatalogHealth): Finding {
  if (schema === newest) return ok('schema', `version ${schema}, the newest that this program knows`);
  if (schema > newest) {
    return failing(
      'schema',
      `the catalog has schema ${schema}, and this program knows up to ${newest}`,
      'use the newer tombstoned that wrote it',
    );
  }
  return warning(
    'schema',
    `version ${schema}: the next other command brings it to ${newest}, and what it holds was not looked at`,
    'keep a copy of the catalog, then: tombstonectl status',
  );
}

function walFinding({ walSize }: CatalogHealth): Finding {
  const text = `the write-ahead log has ${formatSize(walSize)}`;
  if (walSize <= LARGE_WAL) return ok('wal', text);
  return warning(
    'wal',
    `${text}: somebody has read the catalog for very long`,
    'fuser -v FILE-wal, and end that process',
  );
}

function reserveFinding(name: string, { reserve, reserveWanted }: CatalogHealth): Finding {
  if (reserve >= reserveWanted) {
    return ok('reserve', `${formatSize(reserve)} are kept beside it, for purges when the disk is full`);
  }
  return warning(
    'reserve',
    `${formatSize(reserve)} of ${formatSize(reserveWanted)} are kept in ${name}.reserve: a purge may not go on when the disk is full`,
    'the next sweep or purge makes it, where there is room: tombstonectl purge',
  );
}

function logFinding(catalog: Catalog): Finding {
  const problem = problemOfLogTail(catalog);
  if (problem !== null)
    return failing('log', `the log is not as it was written: ${problem}`, 'tombstonectl log --check');
  return ok('log', `its newest entries follow one another, up to ${catalog.events.ends().head.n}`);
}

/** How the wall clock stands, by what all processes of this catalog have seen of it, and by what NTP says. */
export function clockFinding(catalog: Catalog, clock: Clock, ntp: 'yes' | 'no' | 'unknown'): Finding {
  const standing = catalog.clock.standing(clock);
  const within = `by ${formatDuration(catalog.clock.tolerance)} more or less`;
  if (standing.isRight) return ok('clock', `it is where it should be, ${within}`);
  if (standing.isRestarted && ntp === 'yes')
    return ok('clock', 'this machine was started since a purge looked at it, and NTP vouches for it now');
  return failing(
    'clock',
    `nothing is purged: ${clockText(standing)}`,
    'set it right; or if it is right now: tombstonectl clock accept',
  );
}
