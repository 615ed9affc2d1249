import type { Database } from 'better-sqlite3';
import { TombstonedError } from '../domain/errors.ts';
import { ClockWatch } from './clock-watch.ts';
import {
  BRING_BACK,
  databaseExists,
  keepReserve,
  openDatabase,
  openToLook,
  refuseLeftWal,
  requireNewest,
  withReserve,
} from './database.ts';
import { Events } from './events.ts';
import { fileIdentity } from './file-identity.ts';
import { Holds } from './holds.ts';
import { LeaseWatch } from './lease-watch.ts';
import { Rebuilding } from './rebuilding.ts';
import { Requests } from './requests.ts';
import { Retention } from './retention.ts';
import { Runs } from './runs.ts';
import { Schedule } from './schedule.ts';
import { asNumber, asText, type Row, Sql } from './sql.ts';
import { Sweeps } from './sweeps.ts';
import { Tombstones } from './tombstones.ts';
import { Waiting } from './waiting.ts';

/** A store as the catalog knows it. */
export interface StoreRow {
  /** Its row number: what everything else refers to. */
  readonly n: number;
  readonly name: string;
  readonly uuid: string;
  readonly url: string;
  readonly pendingPrefix: string;
}

export interface CatalogOptions {
  readonly mayUseReserve?: boolean;
  readonly clockTolerance?: number;
}

/** The SQLite database. One catalog owns a store; several processes may use it at once. */
export class Catalog {
  readonly file: string;
  readonly uuid: string;
  readonly tombstones: Tombstones;
  readonly sweeps: Sweeps;
  readonly waiting: Waiting;
  readonly runs: Runs;
  readonly events: Events;
  readonly holds: Holds;
  readonly leaseWatch: LeaseWatch;
  readonly schedule: Schedule;
  readonly requests: Requests;
  readonly clock: ClockWatch;
  readonly rebuilding: Rebuilding;
  /** What tells its file from another that came to its place; undefined where there was none. */
  readonly identity: string | undefined;
  readonly retention: Retention;
  readonly #sql: Sql;
  /** Whether its statements may have the room that is kept for a full disk. */
  readonly mayUseReserve: boolean;

  private constructor(file: string, sql: Sql, uuid: string, options: CatalogOptions) {
    const { mayUseReserve = false, clockTolerance } = options;
    this.file = file;
    this.uuid = uuid;
    this.mayUseReserve = mayUseReserve;
    this.#sql = sql;
    this.tombstones = new Tombstones(sql);
    this.sweeps = new Sweeps(sql);
    this.waiting = new Waiting(sql);
    this.runs = new Runs(sql);
    this.events = new Events(sql);
    this.holds = new Holds(sql);
    this.leaseWatch = new LeaseWatch(sql);
    this.schedule = new Schedule(sql);
    this.requests = new Requests(sql);
    this.clock = new ClockWatch(sql, clockTolerance);
    this.rebuilding = new Rebuilding(sql);
    this.identity = fileIdentity(file);
    this.retention = new Retention(sql);
  }

  /** Whether a catalog's file is there. Throws for what can be none, as `open` does. */
  static exists(file: string): boolean {
    return databaseExists(file);
  }

  /** Throws where the log of one that is lost is left. */
  static refuseLeftLog(file: string): void {
    refuseLeftWal(file, 'there is none');
  }

  /**
   * Opens a catalog that exists. Throws `failed`, with a hint, when it can't be
   * relied on. `mayUseReserve` is for purges: on a full disk they go on in the
   * room that is kept for them. `clockTolerance` is the config's, ms. `patience`: how
   * long its statements wait for another process's transaction, ms.
   */
  static open(file: string, options: CatalogOptions & { readonly patience?: number } = {}): Catalog {
    const open = (): Database => openDatabase(file, undefined, options.patience);
    const db = options.mayUseReserve === true ? withReserve(file, open) : open();
    return Catalog.#over(file, db, options);
  }

  /** Opens a catalog to look at it: nothing is written. Throws as `open` does, and where its schema is an older one. */
  static openToLook(file: string, options: Pick<CatalogOptions, 'clockTolerance'> = {}): Catalog {
    const db = openToLook(file);
    try {
      requireNewest(db, file);
    } catch (error) {
      db.close();
      throw error;
    }
    return Catalog.#over(file, db, options);
  }

  /** Opens a catalog, and makes it, with its directory, where there is none. `uuid` is what a new one is called. */
  static create(file: string, uuid: string, now: number): Catalog {
    const catalog = Catalog.#over(file, openDatabase(file, { uuid, now }), {});
    try {
      catalog.keepReserve();
      return catalog;
    } catch (error) {
      catalog.close();
      throw error;
    }
  }

  static #over(file: string, db: Database, options: CatalogOptions): Catalog {
    const sql = new Sql(db, file, options.mayUseReserve);
    try {
      const row = sql.all('SELECT uuid FROM catalog')[0];
      if (row === undefined) {
        throw new TombstonedError('failed', `the catalog ${file} has no identity`, {
          key: file,
          hint: BRING_BACK,
        });
      }
      return new Catalog(file, sql, asText(row['uuid']), options);
    } catch (error) {
      db.close();
      throw error;
    }
  }

  /**
   * Runs `work` in one transaction; nothing in it may await. On a full disk it may
   * run twice, the first time without effect on the catalog.
   */
  transaction<T>(work: () => T): T {
    return this.#sql.transaction(work);
  }

  /** Makes a store known, or gives the row it has. */
  addStore(store: Omit<StoreRow, 'n'>): StoreRow {
    this.#sql.run(
      `INSERT INTO stores (name, uuid, url, pending_prefix) VALUES (?, ?, ?, ?)
       ON CONFLICT (uuid) DO UPDATE SET name = excluded.name, url = excluded.url`,
      store.name,
      store.uuid,
      store.url,
      store.pendingPrefix,
    );
    return toStore(this.#sql.all(`SELECT * FROM stores WHERE uuid = ?`, store.uuid)[0]);
  }

  /** A store by its name in the config, or undefined. */
  storeByName(name: string): StoreRow | undefined {
    const row = this.#sql.all(`SELECT * FROM stores WHERE name = ?`, name)[0];
    return row === undefined ? undefined : toStore(row);
  }

  /** Room for commits on a full disk: makes it where it is missing; false when there is not enough for all of it. */
  keepReserve(): boolean {
    return keepReserve(this.file);
  }

  /** Does what needs room beside the catalog; as with its own statements, a purge may have the reserve's. */
  withRoom<T>(work: () => T): T {
    return this.mayUseReserve ? withReserve(this.file, work) : work();
  }

  /** Throws where its file has been removed or replaced since it was opened: what is written now is lost with it. */
  checkFile(): void {
    checkCatalogFile(this.file, this.identity);
  }

  /** The value of a pragma on this connection, for checks. */
  pragma(name: 'synchronous' | 'journal_mode' | 'foreign_keys' | 'user_version'): unknown {
    return this.#sql.db.pragma(name, { simple: true });
  }

  close(): void {
    this.#sql.db.close();
    if (!this.mayUseReserve) return;
    try {
      this.keepReserve(); // the WAL that had its room is gone by now
    } catch {
      // Each run has told why it can't be made.
    }
  }
}

/** What tells a catalog's file from another in its place; undefined where there is none. */
export function catalogIdentity(file: string): string | undefined {
  return fileIdentity(file);
}

/** Throws `failed` unless a catalog's file is the one that it was. */
export function checkCatalogFile(file: string, was: string | undefined): void {
  const is = fileIdentity(file);
  if (is !== undefined && is === was) return;
  const what = is === undefined ? 'removed' : 'replaced by another';
  throw new TombstonedError(
    'failed',
    `the catalog ${file} was ${what} while it was in use: nothing more is done with it`,
    {
      key: file,
      hint:
        is === undefined
          ? 'bring it back from a backup, or from the store with `tombstonectl rebuild --take-over`'
          : 'start again, with the one that is there now',
    },
  );
}

function toStore(row: Row | undefined): StoreRow {
  return {
    n: asNumber(row?.['n']),
    name: asText(row?.['name']),
    uuid: asText(row?.['uuid']),
    url: asText(row?.['url']),
    pendingPrefix: asText(row?.['pending_prefix']),
  };
}
