import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Catalog, type StoreRow } from '../../lib/catalog/catalog.ts';
import type { Intent, OpenBatch, Settled } from '../../lib/catalog/tombstones.ts';
import { makePlainId } from '../../lib/domain/ids.ts';
import { parseKey } from '../../lib/domain/key.ts';
import type { Revision } from '../../lib/domain/revision.ts';
import { DAY, START, seeded } from '../support/place.ts';

export const WINDOW = 7 * DAY;

/** A catalog in a directory of its own, without a store on any disk. */
export class TempCatalog {
  readonly directory = mkdtempSync(path.join(tmpdir(), 'tombstoned-'));
  readonly file = path.join(this.directory, 'catalog.db');
  readonly random = seeded(5);
  readonly catalog: Catalog;
  /** What a spec takes as the time, ms. */
  now = START;

  constructor() {
    this.catalog = Catalog.create(this.file, 'catalog-uuid', this.now);
  }

  addStore(name: string): StoreRow {
    return this.catalog.addStore({
      name,
      uuid: `${name}-uuid`,
      url: `file:///${name}`,
      pendingPrefix: 'pending_deletion/',
    });
  }

  beginRun(store: number, kind: 'sweep' | 'purge' | 'restore' = 'sweep'): number {
    const id = makePlainId('r', this.now, this.random);
    return this.catalog.runs.begin({
      id,
      store,
      kind,
      pid: 1,
      host: 'spec-host',
      boot: 'spec-boot',
      by: 'spec@spec-host',
      now: this.now,
    });
  }

  beginSweep(store: number, run: number): { id: string; n: number } {
    const id = makePlainId('s', this.now, this.random);
    return { id, n: this.catalog.sweeps.begin({ id, store, run, reason: null, now: this.now }) };
  }

  /** Writes the intents of one batch. */
  intend(store: number, run: number, sweep: number, items: readonly Intent[]): OpenBatch {
    const { catalog, now, random } = this;
    return catalog.transaction(() => catalog.tombstones.intend({ store, run, sweep, items, now, random }));
  }

  settle(store: number, run: number, open: OpenBatch, ends: readonly Settled[] = []): void {
    const { catalog, now } = this;
    const exceptions = new Map(ends.map((end) => [end.id, end]));
    catalog.transaction(() =>
      catalog.tombstones.settleMoves({ store, run, open, exceptions, now, at: now, window: WINDOW }),
    );
  }

  /** Tombstones keys as one sweep of one batch; gives its id and theirs. */
  tombstone(store: number, keys: readonly string[]): { sweep: string; ids: string[] } {
    const run = this.beginRun(store);
    const sweep = this.beginSweep(store, run);
    const cause = this.catalog.sweeps.cause('old', 'older than 1d');
    const open = this.intend(
      store,
      run,
      sweep.n,
      keys.map((key, i) => intent(key, cause, i + 1)),
    );
    this.settle(store, run, open);
    this.catalog.runs.end(run, 'done', this.now);
    return { sweep: sweep.id, ids: open.moves.map(({ id }) => id) };
  }

  remove(): void {
    this.catalog.close();
    rmSync(this.directory, { recursive: true, force: true });
  }

  /** An empty directory inside. */
  subdirectory(name: string): string {
    const directory = path.join(this.directory, name);
    mkdirSync(directory);
    return directory;
  }
}

export function revision(size: number, mtimeNs = 1_700_000_000_000_000_000n): Revision {
  return { kind: 'local', size, mtimeNs };
}

export function intent(key: string, cause: number, size = 1): Intent {
  return { key: parseKey(key), revision: revision(size), size, cause };
}
