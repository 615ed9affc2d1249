import { realpathSync, statSync } from 'node:fs';
import path from 'node:path';
import { type FSWatcher, watch } from 'chokidar';
import { errnoOf, messageOf } from '../domain/errors.ts';

/**
 * Watches a drop-in directory for requests, so that they are seen at once. Events
 * are but a hint: what they miss is found by the next scan.
 */
export class InboxWatch {
  readonly #directory: string;
  readonly #onArrival: () => void;
  readonly #onTrouble: (message: string) => void;
  #watched: { id: string; watcher: FSWatcher } | undefined;
  #closing: Promise<void>[] = [];

  constructor(directory: string, on: { arrival: () => void; trouble: (message: string) => void }) {
    this.#directory = directory;
    this.#onArrival = on.arrival;
    this.#onTrouble = on.trouble;
  }

  /** Watches the directory that is there now: it may have been made, or replaced, since. */
  refresh(): void {
    const found = this.#find();
    if (found?.id === this.#watched?.id) return;
    this.#stop();
    if (found === undefined) return; // a scan says so
    const { real, id } = found;
    const watcher = watch(real, {
      depth: 0,
      ignoreInitial: true,
      followSymlinks: false,
      ignored: (file) => file !== real && (!file.endsWith('.keys') || path.basename(file).startsWith('.')),
    });
    watcher.on('add', this.#onArrival);
    watcher.on('change', this.#onArrival);
    watcher.on('ready', this.#onArrival); // what came before it watched
    watcher.on('error', (error) => this.#onTrouble(messageOf(error)));
    this.#watched = { id, watcher };
  }

  async close(): Promise<void> {
    this.#stop();
    await Promise.all(this.#closing);
  }

  #find(): { real: string; id: string } | undefined {
    try {
      const real = realpathSync(this.#directory);
      const stat = statSync(real, { bigint: true });
      return { real, id: `${real} ${stat.dev}:${stat.ino}` };
    } catch (error) {
      if (errnoOf(error) !== 'ENOENT') this.#onTrouble(messageOf(error));
      return undefined;
    }
  }

  #stop(): void {
    if (this.#watched !== undefined) this.#closing.push(this.#watched.watcher.close());
    this.#watched = undefined;
  }
}
