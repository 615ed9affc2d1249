import { mkdirSync, utimesSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { initStore } from '../../lib/app/init.ts';
import { openPlace } from '../../lib/app/open.ts';
import { Catalog } from '../../lib/catalog/catalog.ts';
import { storeConfigFromUrl } from '../../lib/config/store-url.ts';
import { TombstonedError } from '../../lib/domain/errors.ts';
import type { Place } from '../../lib/run/place.ts';
import type { LocalFs } from '../../lib/store/local/local-fs.ts';
import { LocalStore } from '../../lib/store/local/local-store.ts';
import { ACTOR, DAY, DrivenClock, seeded } from '../support/place.ts';

/** A store and a catalog, each in a directory that may be on any disk. */
export class DiskPlace {
  readonly root: string;
  readonly catalogFile: string;
  readonly clock = new DrivenClock();
  readonly talk: string[] = [];
  readonly window = 7 * DAY;
  readonly #open = new Set<Place>();
  #seed = 1;

  constructor(storeParent: string, catalogParent: string) {
    this.root = path.join(storeParent, 'store');
    this.catalogFile = path.join(catalogParent, 'catalog.db');
    mkdirSync(this.root);
  }

  async init(): Promise<void> {
    await initStore({ catalog: this.catalogFile }, this.#config(), this.#surroundings());
  }

  #config() {
    return { ...storeConfigFromUrl(`file://${this.root}`), name: 'spec', safetyWindow: this.window };
  }

  #surroundings() {
    const report: Place['report'] = (level, message) => this.talk.push(`${level}: ${message}`);
    return { clock: this.clock, random: seeded(this.#seed++), actor: ACTOR, report };
  }

  /** Writes live files of one block and a bit each, older than any policy here asks for. */
  write(keys: readonly string[]): void {
    for (const key of keys) {
      const file = path.join(this.root, key);
      mkdirSync(path.dirname(file), { recursive: true });
      writeFileSync(file, contentOf(key));
      const at = (this.clock.wall - 3 * DAY) / 1000;
      utimesSync(file, at, at);
    }
  }

  /** Opens it as a process would; for a purge with the catalog's reserve at hand. */
  async open(options: { purges?: boolean; fs?: LocalFs } = {}): Promise<Place> {
    const catalog = Catalog.open(this.catalogFile, { mayUseReserve: options.purges === true });
    try {
      const place = await openPlace(catalog, this.#config(), this.#surroundings());
      const opened = options.fs === undefined ? place : this.#through(place, options.fs);
      this.#open.add(opened);
      return opened;
    } catch (error) {
      catalog.close();
      throw error;
    }
  }

  #through(place: Place, fs: LocalFs): Place {
    place.store.close();
    const { pendingPrefix } = place.store;
    const options = { path: this.root, pendingPrefix, access: 'write', clock: this.clock, fs } as const;
    return { ...place, store: LocalStore.open(options) };
  }

  close(place: Place): void {
    if (!this.#open.delete(place)) return;
    place.store.close();
    place.catalog.close();
  }

  closeAll(): void {
    for (const place of this.#open) this.close(place);
  }
}

export function contentOf(key: string): string {
  return `content of ${key}\n`.repeat(300);
}

/** The error that some work ends in: ours, one line, with a key and what to do. */
export async function failure(work: () => Promise<unknown>): Promise<TombstonedError> {
  const error = await work().catch((e: unknown) => e);
  if (!(error instanceof TombstonedError))
    throw new Error(`no clear error: ${String(error)}`, { cause: error });
  if (error.message.includes('\n') || error.hint === undefined || error.key === undefined) {
    throw new Error(`not clear: ${JSON.stringify([error.message, error.key, error.hint])}`);
  }
  return error;
}
