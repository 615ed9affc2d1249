import { setMaxListeners } from 'node:events';
import { isDeepStrictEqual } from 'node:util';
import type { Surroundings } from '../app/surroundings.ts';
import type { Config, StoreConfig } from '../config/config.ts';
import { formatDuration } from '../domain/quantities.ts';
import type { CatalogWatch } from './catalog-watch.ts';
import type { Log } from './log.ts';
import { serveStore } from './serve-store.ts';
import type { Service } from './service.ts';
import { Turns } from './turns.ts';
import type { Witness } from './witness.ts';

export interface ServiceSurroundings extends Omit<Surroundings, 'report'> {
  readonly log: Log;
  readonly service: Service;
  readonly witness: Witness;
  readonly catalog: CatalogWatch;
  /** Stops all of them after the batches that are under way. */
  readonly signal: AbortSignal;
}

interface Running {
  readonly stop: AbortController;
  /** Never rejects: what broke it is kept. */
  readonly ended: Promise<void>;
}

/**
 * The stores that a daemon serves, each in a loop of its own. A loop ends only when
 * it is told to; should one break, the others end too, each after its batch.
 */
export class StoreServices {
  readonly #of: ServiceSurroundings;
  readonly #running = new Map<string, Running>();
  /** When tasks are due, also past a change of the config. */
  readonly #turns = new Map<string, Turns>();
  readonly #broken = new AbortController();
  /** Aborts when all are to end. */
  readonly stopping: AbortSignal;
  #failure: { readonly error: unknown } | undefined;

  constructor(of: ServiceSurroundings) {
    this.#of = of;
    this.stopping = AbortSignal.any([of.signal, this.#broken.signal]);
    setMaxListeners(0, this.stopping); // every store waits on it
  }

  /** Serves the stores of a config. */
  start(config: Config): void {
    for (const store of config.stores) this.#start(config, store);
  }

  /**
   * Serves the stores of a changed config: those that differ are stopped after the
   * batch that is under way, and go on from there as the new one says; the others are
   * not touched.
   */
  async change(from: Config, to: Config): Promise<void> {
    const isSame = isDeepStrictEqual(withoutStores(from), withoutStores(to));
    const before = new Map(from.stores.map((store) => [store.name, store]));
    const changed = to.stores.filter((store) => !isSame || !isDeepStrictEqual(store, before.get(store.name)));
    const kept = new Set(to.stores.map(({ name }) => name));
    const removed = from.stores.filter(({ name }) => !kept.has(name));
    const ending = [...changed, ...removed].flatMap(({ name }) => this.#running.get(name) ?? []);
    for (const { stop } of ending) stop.abort();
    for (const { ended } of ending) await ended;
    for (const { name } of removed) {
      this.#turns.delete(name);
      this.#of.log.write('info', 'is in the config no more, and is left alone', { store: name });
    }
    await this.#of.witness.use(to);
    if (this.stopping.aborted) return;
    for (const store of changed) this.#start(to, store);
  }

  /** Ends all of them, for a failure. */
  break(error: unknown): void {
    this.#failure ??= { error };
    this.#broken.abort();
  }

  /** Resolves when all have been told to end, and have. Throws what broke one. */
  async end(): Promise<void> {
    await untilAborted(this.stopping);
    while (this.#running.size > 0) for (const { ended } of this.#running.values()) await ended;
    if (this.#failure !== undefined) throw this.#failure.error;
  }

  #start(config: Config, store: StoreConfig): void {
    const stop = new AbortController();
    const turns = this.#turns.get(store.name) ?? new Turns();
    this.#turns.set(store.name, turns);
    const signal = AbortSignal.any([this.stopping, stop.signal]);
    const ended = this.#serve(config, store, turns, signal).finally(() => this.#running.delete(store.name));
    this.#running.set(store.name, { stop, ended });
  }

  async #serve(config: Config, store: StoreConfig, turns: Turns, signal: AbortSignal): Promise<void> {
    const { log, service, witness, catalog, random, actor, isThreaded = false } = this.#of;
    log.write('info', planOf(store), { store: store.name, url: store.url });
    const watch = service.watch(store.name);
    const seen = witness.of(store, watch.clock);
    const surroundings = { clock: seen.clock, random, actor, isThreaded };
    try {
      await serveStore({ config, store, surroundings, log, watch, witness: seen, catalog, signal }, turns);
    } catch (error) {
      this.break(error);
    } finally {
      seen.leave();
      watch.end();
    }
  }
}

/** What every store is served by. */
function withoutStores(config: Config): unknown {
  return { ...config, stores: undefined, log: undefined, metrics: undefined, notify: undefined };
}

/** Resolves when a signal aborts. */
export async function untilAborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  await new Promise<void>((resolve) => {
    signal.addEventListener('abort', () => resolve(), { once: true });
  });
}

function planOf({ policies, sweepEvery, purgeEvery, aptos }: StoreConfig): string {
  const { compactEvery } = aptos;
  const compacts =
    compactEvery === null ? '' : `, its metadata compacted every ${formatDuration(compactEvery)}`;
  const purges = `purged every ${formatDuration(purgeEvery)}${compacts}`;
  return policies.length === 0
    ? `no policy says what expires, so it is only ${purges}`
    : `swept every ${formatDuration(sweepEvery)}, ${purges}`;
}
