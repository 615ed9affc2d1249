import { statSync } from 'node:fs';
import { changesOf } from '../config/changes.ts';
import type { Config } from '../config/config.ts';
import { loadConfig } from '../config/load.ts';
import { warnings } from '../config/warnings.ts';
import type { Clock } from '../domain/clock.ts';
import { errnoOf, TombstonedError } from '../domain/errors.ts';
import { printable, quote } from '../domain/key.ts';
import { ConfigWatch } from './config-watch.ts';
import type { Log } from './log.ts';
import type { ReloadCause, Reloads } from './reloads.ts';
import { type StoreServices, untilAborted } from './store-services.ts';

/** For how long a file must stand still before it is read: an editor may be at it. ms. */
const STILL_MS = 250;
/** How often that is waited for: a file that never stands still is read all the same, and checked. */
const MOST_LOOKS = 40;

/**
 * Reads the config again whenever its file changes, or somebody asks, until all is
 * to end. A bad one is refused, with its error, and the old one stays in force.
 */
export class Reloader {
  readonly #log: Log;
  readonly #clock: Clock;
  readonly #stores: StoreServices;
  readonly #reloads: Reloads;
  #config: Config;
  /** The last refusal that was told: a file is looked at more often than it changes. */
  #refusal = '';

  constructor(config: Config, of: { log: Log; clock: Clock; stores: StoreServices; reloads: Reloads }) {
    this.#config = config;
    this.#log = of.log;
    this.#clock = of.clock;
    this.#stores = of.stores;
    this.#reloads = of.reloads;
  }

  async run(): Promise<void> {
    const { file } = this.#config;
    const { stopping } = this.#stores;
    const watch = new ConfigWatch(file, {
      change: () => this.#reloads.ask('file'),
      trouble: (message) => {
        const text = `${printable(file)} can't be watched: after a change, send SIGHUP`;
        this.#log.write('warn', `${text}: ${message}`, { key: file });
      },
    });
    try {
      for (;;) {
        await untilAborted(AbortSignal.any([this.#reloads.asked, stopping]));
        if (stopping.aborted) return;
        const cause = this.#reloads.take();
        if (cause === 'file') await this.#untilStill(file, stopping);
        if (cause !== undefined) await this.#reload(cause);
        watch.refresh();
      }
    } finally {
      await watch.close();
    }
  }

  async #untilStill(file: string, signal: AbortSignal): Promise<void> {
    let before = lookOf(file);
    for (let look = 0; look < MOST_LOOKS && !signal.aborted; look++) {
      await this.#clock.sleep(STILL_MS, signal);
      const now = lookOf(file);
      if (now === before) return;
      before = now;
    }
  }

  async #reload(cause: ReloadCause): Promise<void> {
    const from = this.#config;
    const read = this.#read(from);
    if (cause === 'file' && 'config' in read && read.changes.length === 0) {
      this.#refusal = '';
      return; // touched, and not changed
    }
    if (cause === 'file' && 'refusal' in read && read.refusal.message === this.#refusal) return;
    this.#reloads.emit('begin');
    try {
      if ('refusal' in read) this.#refuse(read.refusal);
      else await this.#use(cause, read);
    } finally {
      this.#reloads.emit('end', { config: this.#config, isChanged: this.#config !== from });
    }
  }

  #read(from: Config): { config: Config; changes: string[] } | { refusal: TombstonedError } {
    try {
      const config = loadConfig(from.file);
      if (config.catalog !== from.catalog) throw needsRestart(from, config);
      return { config, changes: changesOf(from, config) };
    } catch (error) {
      if (error instanceof TombstonedError) return { refusal: error };
      throw error;
    }
  }

  #refuse({ code, message, key, hint, cause }: TombstonedError): void {
    this.#refusal = message;
    const text = `the config is not reloaded, and the one before stays in force: ${message}`;
    this.#log.failure(new TombstonedError(code, text, { key, hint, cause }), { during: 'reload' });
  }

  async #use(cause: ReloadCause, { config, changes }: { config: Config; changes: string[] }): Promise<void> {
    const { file } = config;
    const from = this.#config;
    this.#refusal = '';
    if (changes.length === 0) {
      this.#log.write('info', `${cause}: ${printable(file)} is as it was`, { config: file });
      return;
    }
    try {
      this.#log.use(config.log);
    } catch (error) {
      if (!(error instanceof TombstonedError)) throw error;
      this.#refuse(error);
      return;
    }
    this.#log.write('info', `the config has changed: ${changes.map((one) => printable(one)).join('; ')}`, {
      config: file,
      changes,
    });
    const known = new Set(warnings(from));
    for (const line of warnings(config)) if (!known.has(line)) this.#log.write('warn', line, { key: file });
    await this.#stores.change(from, config);
    this.#config = config;
    this.#log.write('info', 'the changed config is in force', { config: file });
  }
}

/** What shows that a file is written, or replaced. */
function lookOf(file: string): string {
  try {
    const { dev, ino, size, mtimeNs, ctimeNs } = statSync(file, { bigint: true });
    return [dev, ino, size, mtimeNs, ctimeNs].join(' ');
  } catch (error) {
    return errnoOf(error) ?? 'unknown';
  }
}

function needsRestart(from: Config, to: Config): TombstonedError {
  return new TombstonedError(
    'config',
    `catalog: ${quote(from.catalog)} can't become ${quote(to.catalog)} while the daemon runs`,
    { key: to.file, hint: 'restart the daemon' },
  );
}
