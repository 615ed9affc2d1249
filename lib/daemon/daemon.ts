import { setMaxListeners } from 'node:events';
import { existsSync } from 'node:fs';
import { openCatalog, type Surroundings } from '../app/open.ts';
import type { Config } from '../config/config.ts';
import { warnings } from '../config/warnings.ts';
import { messageOf } from '../domain/errors.ts';
import { formatDuration } from '../domain/quantities.ts';
import { takeDaemonLock } from './lock.ts';
import type { Log } from './log.ts';
import { serveStore } from './serve-store.ts';
import { Service } from './service.ts';
import { Turns } from './turns.ts';
import { Witness } from './witness.ts';

export interface DaemonOptions extends Omit<Surroundings, 'report'> {
  readonly config: Config;
  readonly log: Log;
  readonly version: string;
  /** Is told how the loops are; absent where no service manager wants to know. */
  readonly service?: Service;
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
  const { config, log, signal, random, actor } = options;
  await witness.use(config);
  // A loop ends only when it is told to; should one break, the others end too, each after its batch.
  const broken = new AbortController();
  const stop = AbortSignal.any([signal, broken.signal]);
  setMaxListeners(0, stop); // every store waits on it
  const watched = config.stores.map((store) => ({ store, watch: service.watch(store.name) }));
  const loops = watched.map(async ({ store, watch }) => {
    log.write('info', planOf(store), { store: store.name, url: store.url });
    const seen = witness.of(store, watch.clock);
    const surroundings = { clock: seen.clock, random, actor };
    try {
      const of = { config, store, surroundings, log, watch, witness: seen, signal: stop };
      await serveStore(of, new Turns());
    } finally {
      seen.leave();
      watch.end();
      broken.abort();
    }
  });
  const ends = await Promise.allSettled(loops);
  noteTime(options);
  for (const end of ends) if (end.status === 'rejected') throw end.reason;
}

/** Time is counted to the end: what is between this and the next start may be a restart's. */
function noteTime({ config, clock, log }: DaemonOptions): void {
  try {
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

function planOf({ policies, sweepEvery, purgeEvery }: Config['stores'][number]): string {
  const purges = `purged every ${formatDuration(purgeEvery)}`;
  return policies.length === 0
    ? `no policy says what expires, so it is only ${purges}`
    : `swept every ${formatDuration(sweepEvery)}, ${purges}`;
}
