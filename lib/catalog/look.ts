import { statSync } from 'node:fs';
import type Database from 'better-sqlite3';
import { catalogError, openToLook, RESERVE_BYTES } from './database.ts';
import { MIGRATIONS } from './migrations.ts';

/** How a catalog's file stands, whatever its schema. */
export interface CatalogHealth {
  /** How many steps of the schema it has, and how many this program knows. */
  readonly schema: number;
  readonly newest: number;
  /** SQLite's version. */
  readonly sqlite: string;
  /** As it is in the file: `wal` is ours. */
  readonly journalMode: string;
  /** What SQLite takes of a connection's settings: FULL is 2. */
  readonly synchronous: number;
  readonly areForeignKeysKept: boolean;
  /** What `quick_check` and `foreign_key_check` have found, the first few; none: it is whole. */
  readonly problems: readonly string[];
  /** Bytes. */
  readonly size: number;
  readonly walSize: number;
  /** Room kept beside it for purges on a full disk, and how much there should be. Bytes. */
  readonly reserve: number;
  readonly reserveWanted: number;
}

/** How many problems are told. */
const TOLD = 5;

/**
 * Examines a catalog's file, as a whole: its time grows with its size. Nothing is
 * written, and an older schema stays as it is. Throws `failed` for what is no catalog.
 */
export function examineCatalogFile(file: string): CatalogHealth {
  const db = openToLook(file);
  try {
    return healthOf(db, file);
  } catch (error) {
    throw catalogError(file, error);
  } finally {
    db.close();
  }
}

function healthOf(db: Database.Database, file: string): CatalogHealth {
  const rows: unknown[] = db.prepare(`PRAGMA quick_check(${TOLD})`).all();
  const problems = rows.flatMap(textsOf).filter((text) => text !== 'ok');
  for (const row of db.prepare('SELECT DISTINCT "table" FROM pragma_foreign_key_check LIMIT 5').iterate())
    problems.push(`rows of ${textsOf(row).join()} refer to rows that are missing`);
  return {
    schema: Number(db.pragma('user_version', { simple: true })),
    newest: MIGRATIONS.length,
    sqlite: String(db.prepare('SELECT sqlite_version()').pluck().get()),
    journalMode: String(db.pragma('journal_mode', { simple: true })),
    synchronous: Number(db.pragma('synchronous', { simple: true })),
    areForeignKeysKept: db.pragma('foreign_keys', { simple: true }) === 1,
    problems: problems.slice(0, TOLD),
    size: sizeOf(file),
    walSize: sizeOf(`${file}-wal`),
    reserve: sizeOf(`${file}.reserve`),
    reserveWanted: RESERVE_BYTES,
  };
}

function textsOf(row: unknown): string[] {
  if (typeof row !== 'object' || row === null) return [];
  return Object.values(row).map((value) => String(value).replaceAll(/\s*\n\s*/g, '; '));
}

function sizeOf(file: string): number {
  return statSync(file, { throwIfNoEntry: false })?.size ?? 0;
}
