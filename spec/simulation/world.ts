import { copyFileSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import Database from 'better-sqlite3';
import { Catalog } from '../../lib/catalog/catalog.ts';
import type { RandomSource } from '../../lib/domain/ids.ts';
import type { Key } from '../../lib/domain/key.ts';
import type { Place } from '../../lib/run/place.ts';
import type { Store } from '../../lib/store/store.ts';
import { PENDING } from './contents.ts';
import { type Backend, Disk } from './disk.ts';
import type { Manner } from './memory-store.ts';
import { RealDisk } from './real-disk.ts';
import { type Host, Process, Scheduler, type Temper } from './scheduler.ts';
import { steppedCatalog } from './stepped-catalog.ts';
import { FAST, seeded } from './surroundings.ts';
import { Truth } from './truth.ts';

const STORE_UUID = '00000000-0000-4000-8000-000000000001';
const CATALOG_UUID = '00000000-0000-4000-8000-00000000000a';

/** How a world is. */
export interface Setting {
  /** Where objects are: in memory, moved as on a local disk or as on S3, or in real files. */
  readonly manner: Manner | 'disk';
  readonly keys: readonly string[];
  /** Safety window, ms. */
  readonly window: number;
  /** What the store says, and how old its listings really are, ms. */
  readonly settle: number;
  readonly staleness: number;
  /** Whether they are always as old as they may be. */
  readonly isOldest?: boolean;
  readonly temper: Temper;
  /** How many writes come between system calls, at the most. */
  readonly mostBetween?: number;
  /** ms. */
  readonly longestFreeze: number;
  /** How often a process is doomed. */
  readonly doom: number;
}

/** One store, its hosts and catalogs: what a seed's processes act on. */
export class World {
  readonly scheduler: Scheduler;
  readonly truth: Truth;
  readonly disk: Backend;
  readonly random: RandomSource;
  readonly setting: Setting;
  readonly keys: readonly Key[];
  readonly daemonHost: Host;
  readonly readerHost: Host;
  readonly otherHost: Host;
  /** Leases that an operator has begun to break. */
  readonly broken = new Set<string>();
  readonly #directory: string;
  readonly #catalogs = new Map<string, Catalog>();
  #count = 0;

  constructor(random: RandomSource, setting: Setting, isTraced: boolean) {
    this.random = random;
    this.setting = setting;
    const { temper, longestFreeze } = setting;
    this.scheduler = new Scheduler({ random, temper, longestFreeze, isTraced });
    this.truth = new Truth(this.scheduler, setting.window);
    this.#directory = mkdtempSync(path.join(FAST, 'tombstoned-sim-'));
    writeFileSync(this.catalogFile('catalog'), template());
    this.daemonHost = this.scheduler.host('daemon-host');
    this.readerHost = this.scheduler.host('reader-host');
    this.otherHost = this.scheduler.host('other-host');
    const network = new Process(this.scheduler, {
      name: 'network',
      host: this.otherHost,
      random,
      isFreezable: false,
    });
    const { manner, mostBetween } = setting;
    this.disk =
      manner === 'disk'
        ? new RealDisk(path.join(this.#directory, 'store'), this.scheduler, this.truth, mostBetween)
        : new Disk(this.scheduler, this.truth, network, { ...setting, manner });
    this.keys = setting.keys as readonly Key[];
    for (const key of this.keys) this.disk.write(key, this.otherHost);
    const line = (value: object): string => `${JSON.stringify(value)}\n`;
    const createdAt = '2026-11-22T10:00:00.000Z';
    const identity = { uuid: STORE_UUID, layout: 1, minReader: 1, pendingPrefix: PENDING, createdAt };
    this.disk.setControl('store.json', line(identity), this.otherHost);
    const owner = { catalog: CATALOG_UUID, host: 'daemon-host', since: createdAt };
    this.disk.setControl('owner.json', line(owner), this.otherHost);
  }

  catalogFile(name: string): string {
    return path.join(this.#directory, `${name}.db`);
  }

  /** A catalog's own connection, for what no process sees. */
  catalog(name = 'catalog'): Catalog {
    const known = this.#catalogs.get(name) ?? Catalog.open(this.catalogFile(name));
    this.#catalogs.set(name, known);
    return known;
  }

  /** A copy of the catalog as it is now; with a uuid of its own, or as an old backup is, with the same. */
  copyCatalog(name: string, uuid: string | undefined): void {
    for (const suffix of ['', '-wal'])
      if (existsSync(this.catalogFile('catalog') + suffix))
        copyFileSync(this.catalogFile('catalog') + suffix, this.catalogFile(name) + suffix);
    if (uuid === undefined) return;
    const db = new Database(this.catalogFile(name));
    db.prepare('UPDATE catalog SET uuid = ?').run(uuid);
    db.close();
  }

  /** A new process. `isImmortal` ones are neither doomed nor frozen. */
  process(name: string, host: Host, { isImmortal = false } = {}): Process {
    this.#count += 1;
    const isDoomed = !isImmortal && this.scheduler.chance(this.setting.doom);
    const when = this.random(2) === 0 ? 'before' : 'after';
    return new Process(this.scheduler, {
      name: `${name}-${this.#count}`,
      host,
      random: seeded(this.random(2 ** 31)),
      isFreezable: !isImmortal,
      doom: isDoomed ? { at: 1 + this.random(90), when } : undefined,
    });
  }

  store(process: Process): Store {
    return this.disk.store(process);
  }

  /** All that a process with a catalog needs. */
  place(process: Process, name = 'catalog'): Place {
    const inner = this.catalog(name);
    const row = inner.storeByName('sim');
    if (row === undefined) throw new Error('no store');
    const { host } = process;
    process.catalog = name;
    return {
      store: this.store(process),
      catalog: steppedCatalog(inner, process),
      row,
      format: 'plain',
      safetyWindow: this.setting.window,
      clock: process.clock,
      random: process.random,
      actor: { pid: 1, host: host.name, boot: host.boot, by: `sim@${host.name}` },
      report: (level, message) => this.scheduler.note(process, `${level}: ${message}`),
    };
  }

  close(): void {
    this.disk.close();
    for (const catalog of this.#catalogs.values()) catalog.close();
    rmSync(this.#directory, { recursive: true, force: true });
  }
}

let made: Buffer | undefined;

/** The bytes of a catalog that knows the store: made once. */
function template(): Buffer {
  if (made !== undefined) return made;
  const directory = mkdtempSync(path.join(FAST, 'tombstoned-sim-'));
  try {
    const file = path.join(directory, 'catalog.db');
    const catalog = Catalog.create(file, CATALOG_UUID, 0);
    catalog.addStore({ name: 'sim', uuid: STORE_UUID, url: 'memory:///', pendingPrefix: PENDING });
    catalog.close();
    made = readFileSync(file);
    return made;
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}
