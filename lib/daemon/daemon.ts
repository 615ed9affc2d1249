import { existsSync } from 'node:fs';
import { openCatalog } from '../app/open.ts';
import type { Surroundings } from '../app/surroundings.ts';
import type { Config } from '../config/config.ts';
import { warnings } from '../config/warnings.ts';
import { messageOf } from '../domain/errors.ts';
import { CatalogWatch } from './catalog-watch.ts';
import { takeDaemonLock } from './lock.ts';
import type { Log } from './log.ts';
import { Reloader } from './reloader.ts';
import type { Reloads } from './reloads.ts';
import { Service } from './service.ts';
import { StoreServices } from './store-services.ts';
import { Witness } from './witness.ts';

export interface DaemonOptions extends Omit<Surroundings, 'report'> {
  readonly config: Config;
  readonly log: Log;
  readonly version: string;
  /** Is told how the loops are; absent where no service manager wants to know. */
  readonly service?: Service;
  /** By whom the config is read again; without it that stays as it is. */
  readonly reloads?: Reloads;
  /** Stops the daemon after the batches that are under way. */
  readonly signal: AbortSignal;
}

/**
 * Sweeps and purges every store of a config on its intervals until the signal
 * aborts. Throws when the catalog can't be used or has a daemon; a store that
 * can't be used is logged, and tried again.
 */
export async function runDaemon(options: DaemonOptions): Promise<void> {
  const { config, log, version, clock, actor } = options;
  const { service = new Service({ manager: undefined, clock, log }) } = options;
  if (!existsSync(config.catalog)) openCatalog(config).close(); // says what is wrong
  const release = takeDaemonLock(config.catalog, actor.pid, (level, message, fields) =>
    log.write(level, message, fields),
  );
  try {
    // A broken one is told now, not at the first turn; under the lock, as opening one may migrate it.
    openCatalog(config).close();
    log.write('info', `tombstoned ${version} runs`, {
      pid: actor.pid,
      config: config.file,
      catalog: config.catalog,
      stores: config.stores.map(({ name }) => name),
    });
    for (const line of warnings(config)) log.write('warn', line, { key: config.file });
    const witness = new Witness({ config, clock, actor, log, version });
    try {
      await runLoops(options, service, witness);
    } finally {
      await witness.close();
    }
    log.write('info', 'tombstoned has stopped', { pid: actor.pid });
  } finally {
    release();
  }
}

/** Resolves when every store's loop has ended. */
async function runLoops(options: DaemonOptions, service: Service, witness: Witness): Promise<void> {
  const { config, log, reloads, clock } = options;
  const catalog = new CatalogWatch(config.catalog);
  await witness.use(config);
  const stores = new StoreServices({ ...options, service, witness, catalog });
  catalog.onLost = (error) => stores.break(error);
  stores.start(config);
  const reloading = async (): Promise<void> => {
    if (reloads !== undefined) await new Reloader(config, { log, clock, stores, reloads }).run();
  };
  // A reload that breaks ends the daemon, as a loop does.
  const ends = [stores.end(), reloading().catch((error: unknown) => stores.break(error))];
  const [ended] = await Promise.allSettled(ends);
  catalog.close();
  noteTime(options, catalog);
  if (ended?.status === 'rejected') throw ended.reason;
}

/** Time is counted to the end: what is between this and the next start may be a restart's. */
function noteTime({ config, clock, log }: DaemonOptions, watch: CatalogWatch): void {
  try {
    watch.check();
    const catalog = openCatalog(config);
    try {
      catalog.transaction(() => catalog.clock.count(clock));
    } finally {
      catalog.close();
    }
  } catch (error) {
    log.write('warn', `the time of the end is not noted: ${messageOf(error)}`);
  }
}
