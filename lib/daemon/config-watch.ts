import { lstatSync, readlinkSync } from 'node:fs';
import path from 'node:path';
import { type FSWatcher, watch } from 'chokidar';
import { errnoOf, messageOf } from '../domain/errors.ts';

/**
 * Watches a config file: written in place, replaced by a rename, or reached
 * through symbolic links of which one is swapped, as configuration managers do.
 * Events are but a hint to read it again.
 */
export class ConfigWatch {
  readonly #file: string;
  readonly #onChange: () => void;
  readonly #onTrouble: (message: string) => void;
  #watcher: FSWatcher | undefined;
  #trail = '';
  #closing: Promise<void>[] = [];

  constructor(file: string, on: { change: () => void; trouble: (message: string) => void }) {
    this.#file = file;
    this.#onChange = on.change;
    this.#onTrouble = on.trouble;
    this.refresh();
  }

  /** Watches the way that leads to the file now. */
  refresh(): void {
    const trail = trailTo(this.#file);
    const text = trail.join('\n');
    if (text === this.#trail) return;
    this.#trail = text;
    this.#stop();
    // The directories, as a file that is replaced is another one; of what is in them only the way itself.
    const directories = new Set(trail.map((step) => path.dirname(step)));
    const steps = new Set([...directories, ...trail]);
    const watcher = watch([...directories], {
      depth: 0,
      ignoreInitial: true,
      followSymlinks: false,
      ignored: (file) => !steps.has(file),
    });
    watcher.on('all', this.#onChange);
    watcher.on('ready', this.#onChange); // what came before it watched
    watcher.on('error', (error) => this.#onTrouble(messageOf(error)));
    this.#watcher = watcher;
  }

  async close(): Promise<void> {
    this.#stop();
    await Promise.all(this.#closing);
  }

  #stop(): void {
    if (this.#watcher !== undefined) this.#closing.push(this.#watcher.close());
    this.#watcher = undefined;
  }
}

/** As many symbolic links as the kernel follows. */
const MOST_LINKS = 40;

/** Each symbolic link on the way to a file, and last the file itself, as far as there is one. */
function trailTo(file: string): string[] {
  const trail: string[] = [];
  let at = '/';
  const rest = path.resolve(file).split('/').filter(Boolean).toReversed();
  for (let name = rest.pop(); name !== undefined; name = rest.pop()) {
    const step = path.join(at, name);
    const target = trail.length < MOST_LINKS ? linkTarget(step) : undefined;
    if (target === undefined) {
      at = step;
      continue;
    }
    trail.push(step);
    if (path.isAbsolute(target)) at = '/';
    rest.push(...target.split('/').filter(Boolean).toReversed());
  }
  return [...trail, at];
}

function linkTarget(file: string): string | undefined {
  try {
    return lstatSync(file).isSymbolicLink() ? readlinkSync(file) : undefined;
  } catch (error) {
    if (['ENOENT', 'ENOTDIR', 'EACCES'].includes(errnoOf(error) ?? '')) return undefined;
    throw error;
  }
}
