import { monitorEventLoopDelay } from 'node:perf_hooks';
import { Counter, Gauge, Histogram, Registry } from 'prom-client';
import { STATES } from '../domain/state.ts';
import type { CatalogSnapshot, StoreSnapshot } from './snapshot.ts';

/** How often the delay of the event loop is looked at. ms; an idle daemon wakes so often. */
const DELAY_MS = 20;

/** How a sweep or purge ended. */
const OUTCOMES = ['success', 'failure', 'interrupted'] as const;
export type Outcome = (typeof OUTCOMES)[number];

/** s; a run takes from a moment to hours. */
const DURATIONS = [0.1, 1, 10, 60, 300, 900, 3600, 14_400, 43_200];

/**
 * What a scrape sees (docs/metrics.md). Counters are counted where things happen;
 * everything else is written from snapshots, anew at each scrape, so that what is
 * not known is absent and not old.
 */
export class Metrics {
  readonly #registry = new Registry();
  readonly #gauges: Gauge[] = [];
  readonly #objects = this.#gauge('objects', 'Tombstones by state.', 'store', 'state');
  readonly #bytes = this.#gauge('bytes', 'Bytes of tombstones by state.', 'store', 'state');
  readonly #dueObjects = this.#gauge('due_objects', 'Tombstones that a purge may take now.', 'store');
  readonly #dueBytes = this.#gauge('due_bytes', 'Bytes of tombstones that a purge may take now.', 'store');
  readonly #keptObjects = this.#gauge('kept_objects', 'What stays, by reason.', 'store', 'reason');
  readonly #keptBytes = this.#gauge('kept_bytes', 'Bytes of what stays, by reason.', 'store', 'reason');
  readonly #oldestDue = this.#gauge(
    'oldest_due_timestamp_seconds',
    'Since when the oldest of what is due is due; absent where nothing is.',
    'store',
  );
  readonly #lastSuccess = this.#gauge(
    'last_success_timestamp_seconds',
    'When the last sweep or purge ended that did all it was to do.',
    'store',
    'job',
  );
  readonly #waiting = this.#gauge('waiting_sweeps', 'Plans over a limit that wait for approval.', 'store');
  readonly #paused = this.#gauge('paused', '1 while a hold on everything is in force.', 'store');
  readonly #leases = this.#gauge('leases', 'Leases that are not dead.', 'store');
  readonly #oldestLease = this.#gauge(
    'oldest_lease_timestamp_seconds',
    'Since when the oldest lease is held; absent where there is none.',
    'store',
  );
  readonly #fenceAge = this.#gauge(
    'fence_age_seconds',
    'How long the oldest fence is up; 0 where there is none.',
    'store',
  );
  readonly #up = this.#gauge('store_up', '1 when the store could be looked at, and is ours.', 'store');
  readonly #wrong = this.#gauge(
    'store_wrong',
    '1 when what is at its URL is not the store that the catalog knows.',
    'store',
  );
  readonly #clockWrong = this.#gauge('clock_wrong', '1 while the clock keeps purges away.', 'store');
  readonly #storeFree = this.#gauge('store_free_bytes', 'Free room where a local store is.', 'store');
  readonly #storeSize = this.#gauge('store_size_bytes', 'Size of the file system of a local store.', 'store');
  readonly #catalogReadable = this.#gauge('catalog_readable', '1 when the catalog could be read.');
  readonly #catalogBytes = this.#gauge('catalog_bytes', 'Size of the catalog with its log.');
  readonly #catalogFree = this.#gauge('catalog_free_bytes', 'Free room where the catalog is.');
  readonly #readAt = this.#gauge(
    'figures_timestamp_seconds',
    'When figures were last read from the catalog.',
  );
  readonly #runs = this.#counter(
    'runs_total',
    'Sweeps and purges of this process by outcome.',
    'store',
    'job',
    'outcome',
  );
  readonly #missing = this.#counter(
    'missing_copies_total',
    'Pending copies that were gone when a purge came.',
    'store',
  );
  readonly #requests = this.#counter(
    'store_requests_total',
    'Requests to stores in S3.',
    'store',
    'op',
    'outcome',
  );
  readonly #duration = new Histogram({
    name: 'tombstoned_run_duration_seconds',
    help: 'How long sweeps and purges took.',
    labelNames: ['store', 'job', 'outcome'],
    buckets: DURATIONS,
    registers: [this.#registry],
  });

  readonly #loopDelay = this.#gauge(
    'event_loop_delay_seconds',
    'How late turns of the event loop were since the scrape before.',
    'quantile',
  );
  readonly #delay = monitorEventLoopDelay({ resolution: DELAY_MS });

  constructor(version: string) {
    new Gauge({
      name: 'tombstoned_build_info',
      help: 'Always 1; its labels say what runs.',
      labelNames: ['version', 'node'],
      registers: [this.#registry],
    }).set({ version, node: process.version }, 1);
  }

  get contentType(): string {
    return this.#registry.contentType;
  }

  /** A store's counters begin at 0, so that the first failure is seen as one. */
  begin(store: string, jobs: readonly string[]): void {
    this.#missing.inc({ store }, 0);
    for (const job of jobs) for (const outcome of OUTCOMES) this.#runs.inc({ store, job, outcome }, 0);
  }

  /** A sweep or purge has ended; it took so many ms. */
  ended(store: string, job: string, outcome: Outcome, ms: number): void {
    this.#runs.inc({ store, job, outcome });
    this.#duration.observe({ store, job, outcome }, ms / 1000);
  }

  foundMissing(store: string, count: number): void {
    this.#missing.inc({ store }, count);
  }

  requested(store: string, op: string, outcome: string): void {
    this.#requests.inc({ store, op, outcome });
  }

  /** The text of a scrape, at a wall time. */
  async text(
    catalog: CatalogSnapshot,
    stores: ReadonlyMap<string, StoreSnapshot>,
    now: number,
  ): Promise<string> {
    for (const gauge of this.#gauges) {
      gauge.reset();
      gauge.remove({}); // one without labels would be 0
    }
    this.#catalogReadable.set(catalog.isReadable ? 1 : 0);
    put(this.#catalogBytes, {}, catalog.bytes);
    put(this.#catalogFree, {}, catalog.room?.free);
    put(this.#readAt, {}, seconds(catalog.readAt));
    for (const [store, snapshot] of stores) this.#write(store, snapshot, now);
    this.#writeDelay();
    return this.#registry.metrics();
  }

  /** Since the scrape before; the first begins to measure. */
  #writeDelay(): void {
    const delay = this.#delay;
    if (delay.count > 0) {
      // What is measured is from one look to the next.
      const late = (ns: number): number => Math.max(0, ns / 1e9 - DELAY_MS / 1000);
      this.#loopDelay.set({ quantile: '0.5' }, late(delay.percentile(50)));
      this.#loopDelay.set({ quantile: '0.99' }, late(delay.percentile(99)));
      this.#loopDelay.set({ quantile: '1' }, late(delay.max));
    }
    delay.reset();
    delay.enable();
  }

  /** Measures no more. */
  close(): void {
    this.#delay.disable();
  }

  #write(store: string, of: StoreSnapshot, now: number): void {
    for (const state of of.states === null ? [] : STATES) {
      this.#objects.set({ store, state }, of.states?.get(state)?.count ?? 0);
      this.#bytes.set({ store, state }, of.states?.get(state)?.bytes ?? 0);
    }
    put(this.#dueObjects, { store }, of.due?.count);
    put(this.#dueBytes, { store }, of.due?.bytes);
    put(this.#oldestDue, { store }, seconds(of.due?.first));
    for (const [reason, { count, bytes }] of of.kept) {
      this.#keptObjects.set({ store, reason }, count);
      this.#keptBytes.set({ store, reason }, bytes);
    }
    for (const [job, at] of of.lastSuccess) this.#lastSuccess.set({ store, job }, at / 1000);
    put(this.#waiting, { store }, of.waiting);
    put(this.#paused, { store }, flag(of.isPaused));
    put(this.#leases, { store }, of.leases?.count);
    put(this.#oldestLease, { store }, seconds(of.leases?.oldest));
    if (of.leases !== null)
      this.#fenceAge.set({ store }, Math.max(0, (now - (of.oldestFence ?? now)) / 1000));
    if (of.standing !== null) {
      this.#up.set({ store }, of.standing === 'ours' ? 1 : 0);
      this.#wrong.set({ store }, of.standing === 'wrong' ? 1 : 0);
    }
    this.#clockWrong.set({ store }, of.isClockWrong ? 1 : 0);
    put(this.#storeFree, { store }, of.room?.free);
    put(this.#storeSize, { store }, of.room?.size);
  }

  #gauge(name: string, help: string, ...labelNames: string[]): Gauge {
    const gauge = new Gauge({ name: `tombstoned_${name}`, help, labelNames, registers: [this.#registry] });
    this.#gauges.push(gauge);
    return gauge;
  }

  #counter(name: string, help: string, ...labelNames: string[]): Counter {
    return new Counter({ name: `tombstoned_${name}`, help, labelNames, registers: [this.#registry] });
  }
}

function put(gauge: Gauge, labels: Readonly<Record<string, string>>, value: number | null | undefined): void {
  if (value !== null && value !== undefined) gauge.set(labels, value);
}

function seconds(ms: number | null | undefined): number | null {
  return ms === null || ms === undefined ? null : ms / 1000;
}

function flag(value: boolean | null): number | null {
  return value === null ? null : Number(value);
}
