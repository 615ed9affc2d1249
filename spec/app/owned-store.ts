import { readFileSync, rmSync } from 'node:fs';
import path from 'node:path';
import { type Adopted, adopt } from '../../lib/app/adopt.ts';
import { backupCatalog } from '../../lib/app/backup-catalog.ts';
import { claimPlaceOf } from '../../lib/app/claim-place.ts';
import { type OpenPlace, openCatalog, openPlace } from '../../lib/app/open.ts';
import { type LeftCopy, type RebuildOptions, type RebuildResult, rebuild } from '../../lib/app/rebuild.ts';
import { resume } from '../../lib/app/release-holds.ts';
import type { Surroundings } from '../../lib/app/surroundings.ts';
import { takeOver } from '../../lib/app/take-over.ts';
import type { Config, StoreConfig } from '../../lib/config/config.ts';
import { loadConfig } from '../../lib/config/load.ts';
import { FAST } from '../support/phases.ts';
import { ACTOR, DAY, DrivenClock, seeded } from '../support/place.ts';
import { TempStore } from '../support/temp-store.ts';

export interface Rebuilt extends RebuildResult {
  readonly told: readonly LeftCopy[];
}

/** A store on a disk with its config, whose catalog may be lost. The clock is driven, from now on: ctimes are real. */
export class OwnedStore {
  readonly temp: TempStore;
  readonly clock = new DrivenClock();
  readonly config: Config;
  readonly storeConfig: StoreConfig;
  readonly talk: string[] = [];
  readonly #open = new Set<OpenPlace>();
  #seed = 1;
  #written = 0;

  static async make(): Promise<OwnedStore> {
    return new OwnedStore(await TempStore.make({ safetyWindow: '7d', exemptAfterRestore: '1h' }, FAST));
  }

  private constructor(temp: TempStore) {
    this.temp = temp;
    this.clock.wall = Date.now();
    this.config = loadConfig(temp.configFile);
    const [store] = this.config.stores;
    if (store === undefined) throw new Error('no store');
    this.storeConfig = store;
  }

  surroundings(): Surroundings {
    return {
      clock: this.clock,
      random: seeded(this.#seed++),
      actor: ACTOR,
      report: (level, message) => this.talk.push(`${level}: ${message}`),
    };
  }

  /** Writes a live file that is old by both clocks, each a second older than the one before. */
  write(key: string, content = key): void {
    const age = 3 * DAY + ++this.#written * 1000 - (this.clock.wall - Date.now());
    this.temp.write(key, content, age);
  }

  /** Opens it as one process would, with the catalog that is there. */
  async open(): Promise<OpenPlace> {
    const catalog = openCatalog(this.config);
    const place = await openPlace(catalog, this.storeConfig, this.surroundings());
    this.#open.add(place);
    return place;
  }

  close(place: OpenPlace): void {
    if (!this.#open.delete(place)) return;
    place.store.close();
    place.catalog.close();
  }

  /** The catalog is gone, with all that is beside it. */
  lose(): void {
    for (const place of this.#open) this.close(place);
    this.removeFiles();
  }

  /** The same while it is open. */
  removeFiles(): void {
    for (const more of ['', '-wal', '-shm', '.reserve', '.runs'])
      rmSync(this.temp.catalogFile + more, { recursive: true, force: true });
  }

  /** A backup under a name; gives its file. */
  async backUp(name = 'backup.db'): Promise<string> {
    const file = path.join(this.temp.directory, name);
    await backupCatalog(this.temp.catalogFile, file, { force: false });
    return file;
  }

  /** Takes the store over and rebuilds its catalog; what was found stays held. */
  async rebuild(
    options: Partial<RebuildOptions> & { mayTakeOver?: boolean } = {},
  ): Promise<Rebuilt & { place: OpenPlace }> {
    const told: LeftCopy[] = [];
    const { mayTakeOver = true, ...rest } = options;
    const asked = { holdReason: 'rebuilt', mayTakeOver, fenceTimeout: 0 } as const;
    const { place } = await takeOver(this.config, this.storeConfig, this.surroundings(), asked);
    this.#open.add(place);
    const result = await rebuild(place, { dryRun: false, onLeft: (left) => told.push(left), ...rest });
    return { ...result, told, place };
  }

  async adopt(): Promise<Adopted> {
    return adopt(this.config, this.storeConfig, this.surroundings(), { fenceTimeout: 0, dryRun: false });
  }

  async resume(place: OpenPlace): Promise<string[]> {
    const { released } = await resume(claimPlaceOf(place), false);
    return released.map(({ hold }) => hold.reason);
  }

  get owner(): unknown {
    return JSON.parse(readFileSync(path.join(this.temp.root, '.tombstoned/owner.json'), 'utf8'));
  }

  remove(): void {
    for (const place of this.#open) this.close(place);
    this.temp.remove();
  }
}
