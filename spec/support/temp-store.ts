import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { initStore } from '../../lib/app/init.ts';
import { realSurroundings } from '../../lib/app/surroundings.ts';
import { loadConfig } from '../../lib/config/load.ts';

/** Members of a store in the config, as YAML has them. */
export type StoreSettings = Readonly<Record<string, unknown>>;

/** A member that is left out has the config's default, but for these: specs do not wait. */
const QUICK: StoreSettings = { safetyWindow: '0s', minimumAge: '0s', exemptAfterRestore: '7d' };

/** An `age` policy as the config has it: everything older than an hour. */
export const OLD = { name: 'old', type: 'age', olderThan: '1h', limits: { maxFraction: null } };

/**
 * A store in a temporary directory with a config and a catalog beside it, for
 * specs that run whole programs; time is real there. `root` is the first store.
 */
export class TempStore {
  readonly directory: string;
  readonly root: string;
  readonly url: string;
  readonly catalogFile: string;
  readonly configFile: string;

  /** Makes the directories, and nothing in them. */
  constructor(parent = tmpdir()) {
    this.directory = mkdtempSync(path.join(parent, 'tombstoned-'));
    this.root = path.join(this.directory, 'store');
    this.url = pathToFileURL(this.root).href;
    this.catalogFile = path.join(this.directory, 'catalog.db');
    this.configFile = path.join(this.directory, 'tombstoned.yaml');
    mkdirSync(this.root);
  }

  /** A store that is ready for use; its name is `main`. */
  static async make(settings: StoreSettings = {}, parent = tmpdir()): Promise<TempStore> {
    const store = new TempStore(parent);
    store.configure({ main: settings });
    await store.init();
    return store;
  }

  /** Writes the config. The store `main` is at `root`, others are in directories of their names. */
  configure(stores: Readonly<Record<string, StoreSettings>>, members: StoreSettings = {}): void {
    const config = {
      catalog: this.catalogFile,
      metrics: null, // daemons of specs run side by side
      ...members,
      stores: Object.entries(stores).map(([name, settings]) => ({
        name,
        url: pathToFileURL(this.rootOf(name)).href,
        ...QUICK,
        ...settings,
      })),
    };
    writeFileSync(this.configFile, JSON.stringify(config, null, 2)); // JSON is YAML
  }

  rootOf(name: string): string {
    return name === 'main' ? this.root : path.join(this.directory, name);
  }

  /** Makes every store of the config known, in this process. */
  async init(): Promise<void> {
    const config = loadConfig(this.configFile);
    for (const store of config.stores) {
      mkdirSync(this.rootOf(store.name), { recursive: true });
      await initStore(
        config,
        store,
        realSurroundings(() => undefined),
      );
    }
  }

  /** Writes a live file, last modified so many ms ago. */
  write(key: string, content: string, age = 0, root = this.root): void {
    const file = path.join(root, key);
    mkdirSync(path.dirname(file), { recursive: true });
    writeFileSync(file, content);
    const at = (Date.now() - age) / 1000;
    utimesSync(file, at, at);
  }

  /** Every live key and its content. */
  live(root = this.root): Record<string, string> {
    return Object.fromEntries(
      filesBelow(root)
        .filter((name) => !name.startsWith('.tombstoned/') && !name.startsWith('pending_deletion/'))
        .map((name) => [name, readFileSync(path.join(root, name), 'utf8')]),
    );
  }

  /** Every pending name, below `pending_deletion/`. */
  pending(root = this.root): string[] {
    return filesBelow(path.join(root, 'pending_deletion'));
  }

  remove(): void {
    rmSync(this.directory, { recursive: true, force: true });
  }
}

function filesBelow(directory: string): string[] {
  try {
    return readdirSync(directory, { recursive: true, withFileTypes: true })
      .filter((entry) => !entry.isDirectory())
      .map((entry) => path.relative(directory, path.join(entry.parentPath, entry.name)))
      .toSorted();
  } catch {
    return [];
  }
}
