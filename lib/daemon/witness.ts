import {
  catalogRoom,
  dueFigures,
  lookAtStore,
  openForFigures,
  quickFigures,
  roomOf,
  type StoreLook,
} from '../app/figures.ts';
import type { KnownStore } from '../app/known-stores.ts';
import type { FenceStanding, LeaseStanding } from '../app/standing-claims.ts';
import { fenceText, leaseDetail } from '../app/standing-claims.ts';
import type { Catalog } from '../catalog/catalog.ts';
import type { Config, StoreConfig } from '../config/config.ts';
import type { Clock } from '../domain/clock.ts';
import { errnoOf, messageOf, TombstonedError } from '../domain/errors.ts';
import type { KeptReason } from '../domain/kept-reason.ts';
import { formatDuration } from '../domain/quantities.ts';
import { Metrics, type Outcome } from '../metrics/metrics.ts';
import { type Page, PageServer } from '../metrics/server.ts';
import type { Amount, CatalogSnapshot, StoreSnapshot } from '../metrics/snapshot.ts';
import type { Actor } from '../run/place.ts';
import { type BlockedPolicy, blockedText } from '../sweep/sweep.ts';
import { Hook } from './hook.ts';
import { Life } from './life.ts';
import type { Log } from './log.ts';

/** `requests` is a sweep of what came into drop-in directories, between two others. */
export type Job = 'sweep' | 'purge' | 'requests' | 'compact';

/** What a turn came to. */
export interface TurnEnd {
  /** Objects that could not be moved or removed. */
  readonly failed: number;
  /** Whether it was told to stop before its end. */
  readonly isCut: boolean;
  /** Due, and kept, by reason; of a purge. */
  readonly kept?: ReadonlyMap<KeptReason, Amount>;
  /** Pending copies that were gone; of a purge. */
  readonly missing?: number;
  /** Policies over a limit; of a sweep. */
  readonly blocked?: readonly BlockedPolicy[];
}

/** How old what is cheap to read may be in a scrape. ms */
const QUICK_MS = 5000;
/** How old what has to be counted may be, and how much of the time may go into counting it. ms */
const COUNT_MS = 60_000;
const COUNT_SHARE = 20;
/** How old what the store says of itself may be. ms */
const LOOK_MS = 300_000;
/** From when on somebody is told of a lease, and of a fence. ms */
const OLD_LEASE_MS = 86_400_000;
const OLD_FENCE_MS = 3_600_000;

/** What is known of a store, from its turns and from looks. */
interface Standing {
  life: Life | undefined;
  recovery: 'recovering' | 'recovered' | 'failed';
  quick: ReturnType<typeof quickFigures> | undefined;
  counts: Awaited<ReturnType<typeof dueFigures>>;
  purgeKept: ReadonlyMap<KeptReason, Amount>;
  look: StoreLook | undefined;
  lookedAt: number;
  readonly lastSuccess: Map<Job, number>;
  room: StoreSnapshot['room'];
}

/** What the loop of one store tells. */
export interface StoreWitness {
  /** For all that the loop does: looks at it are signs of life. */
  readonly clock: Clock;
  /** What dead processes have left was seen to; `false`: it can't be, for now. */
  recovered(isDone: boolean): void;
  ended(job: Job, end: TurnEnd, ms: number): void;
  failed(job: Job, error: unknown, ms: number): void;
  /** A lease was taken as dead. */
  leaseDied(id: string, message: string): void;
  /** A request to a store in S3 has ended. */
  requested(op: string, outcome: string): void;
  /** The loop has ended. */
  leave(): void;
}

/**
 * Sees what the store loops do and how their stores stand, and tells: metrics and
 * health over HTTP, notices to the `notify` command. Whatever it does is beside the
 * work, and what fails in it is logged: it reads the catalog without waiting, and
 * counts in parts.
 */
export class Witness {
  readonly #options: { readonly clock: Clock; readonly actor: Actor; readonly log: Log };
  readonly #metrics: Metrics;
  readonly #server: PageServer;
  readonly #hook: Hook;
  readonly #stores = new Map<string, Standing>();
  readonly #closed = new AbortController();
  #config: Config;
  #listenProblem = '';
  #catalog: CatalogSnapshot = { isReadable: false, bytes: null, room: null, readAt: null };
  #quickAt = Number.NEGATIVE_INFINITY;
  #countedAt = Number.NEGATIVE_INFINITY;
  #countTook = 0;
  #counting: Promise<void> | undefined;

  constructor(options: {
    readonly config: Config;
    readonly clock: Clock;
    readonly actor: Actor;
    readonly log: Log;
    readonly version: string;
  }) {
    const { config, clock, actor, log, version } = options;
    this.#options = { clock, actor, log };
    this.#config = config;
    this.#metrics = new Metrics(version);
    this.#hook = new Hook({ config: config.file, host: actor.host, clock, log });
    this.#server = new PageServer(
      {
        '/metrics': async () => this.#metricsPage(),
        '/healthz': () => this.#healthPage(),
        '/readyz': () => this.#readyPage(),
      },
      (error) => log.failure(error, { during: 'metrics' }),
    );
  }

  /** Takes a config into use: at the start, and after each reload. */
  async use(config: Config): Promise<void> {
    this.#config = config;
    this.#hook.use(config.notify);
    for (const { name, policies, aptos } of config.stores) {
      const hasRequests = policies.some(({ type }) => type === 'drop-in');
      const jobs: Job[] = ['purge'];
      if (policies.length > 0) jobs.push('sweep');
      if (hasRequests) jobs.push('requests');
      if (aptos.compactEvery !== null) jobs.push('compact');
      this.#metrics.begin(name, jobs);
    }
    await this.#listen();
  }

  /** Where metrics are; undefined where nobody can see them. */
  get url(): string | undefined {
    return this.#server.url;
  }

  /** Watches the loop of a store. */
  of({ name }: StoreConfig, clock: Clock): StoreWitness {
    const life = new Life(clock, this.#options.clock);
    const standing = this.#standing(name);
    standing.life = life;
    return {
      clock: life,
      recovered: (isDone) => {
        if (isDone || standing.recovery === 'recovering') standing.recovery = isDone ? 'recovered' : 'failed';
      },
      ended: (job, end, ms) => this.#ended(name, standing, job, end, ms),
      failed: (job, error, ms) => this.#failed(name, job, error, ms),
      leaseDied: (id, message) => this.#hook.tell({ event: 'lease', store: name, about: id, message }),
      requested: (op, outcome) => this.#metrics.requested(name, op, outcome),
      leave: () => {
        if (standing.life === life) standing.life = undefined;
      },
    };
  }

  /** Resolves when no notice waits to be told and nothing is being counted. */
  async idle(): Promise<void> {
    await this.#counting;
    await this.#hook.idle();
  }

  async close(): Promise<void> {
    this.#closed.abort();
    await this.#server.close();
    await this.#counting;
    this.#metrics.close();
    await this.#hook.close();
  }

  #standing(name: string): Standing {
    let standing = this.#stores.get(name);
    if (standing === undefined) {
      standing = {
        life: undefined,
        recovery: 'recovering',
        quick: undefined,
        counts: undefined,
        purgeKept: new Map(),
        look: undefined,
        lookedAt: Number.NEGATIVE_INFINITY,
        lastSuccess: new Map(),
        room: null,
      };
      this.#stores.set(name, standing);
    }
    return standing;
  }

  /** A failure is told once, and tried again after each turn: the work goes on unseen rather than not at all. */
  async #listen(): Promise<void> {
    const { log } = this.#options;
    const { listen } = this.#config.metrics;
    try {
      const isNew = await this.#server.listen(listen);
      this.#listenProblem = '';
      if (isNew && this.url !== undefined) log.write('info', `metrics are at ${this.url}/metrics`);
      else if (isNew) log.write('info', 'metrics are off');
    } catch (error) {
      const message = messageOf(error);
      if (message === this.#listenProblem) return;
      this.#listenProblem = message;
      log.write('error', `metrics can't be seen: ${message}`, {
        key: 'metrics.listen',
        hint: 'set metrics.listen in the config to an address and port that are free, or to null',
      });
    }
  }

  #ended(name: string, standing: Standing, job: Job, end: TurnEnd, ms: number): void {
    const { failed, isCut, kept, missing = 0, blocked } = end;
    const outcome: Outcome = failed > 0 ? 'failure' : isCut ? 'interrupted' : 'success';
    this.#metrics.ended(name, job, outcome, ms);
    if (outcome === 'success') standing.lastSuccess.set(job, this.#options.clock.now());
    if (kept !== undefined) standing.purgeKept = kept;
    if (missing > 0) this.#metrics.foundMissing(name, missing);
    const tell = this.#hook.tell.bind(this.#hook);
    if (missing > 0) {
      const message = `${missing} pending copies were gone when a purge came: somebody else removed them`;
      const hint = 'see tombstonectl verify, and who else writes in the store';
      tell({ event: 'missing', store: name, about: '', message, hint, detail: { missing } });
    }
    if (failed > 0) {
      const message = `a ${job} left ${failed} objects as they are: they could not be ${job === 'purge' ? 'removed' : 'moved'}`;
      tell({
        event: 'failure',
        store: name,
        about: job,
        message,
        hint: 'see the log',
        detail: { job, failed },
      });
    }
    for (const one of blocked ?? []) {
      const { policy, waiting, isNew } = one;
      if (waiting !== undefined && !isNew) continue; // told when it was filed
      const detail = { policy, sweep: waiting?.sweep ?? null };
      tell({ event: 'limit', store: name, about: policy, ...blockedText(name, one), detail });
    }
    this.#turned();
  }

  #failed(name: string, job: Job, error: unknown, ms: number): void {
    this.#metrics.ended(name, job, 'failure', ms);
    const known = error instanceof TombstonedError ? error : undefined;
    const isClock = known?.reason === 'clock';
    this.#hook.tell({
      event: isClock ? 'clock' : 'failure',
      store: name,
      about: isClock ? '' : job,
      message: isClock ? messageOf(error) : `${job} failed: ${messageOf(error)}`,
      hint: known?.hint,
      detail: { job, code: known?.code ?? 'failed', reason: known?.reason ?? null, key: known?.key ?? null },
    });
    this.#turned();
  }

  /** After a turn all is looked at again, in the background, where anybody may want to know. */
  #turned(): void {
    for (const standing of this.#stores.values()) standing.lookedAt = Number.NEGATIVE_INFINITY;
    if (this.#config.metrics.listen === null && this.#config.notify === null) return;
    if (this.url === undefined) void this.#listen();
    this.#count();
  }

  async #metricsPage(): Promise<Page> {
    const { clock } = this.#options;
    if (clock.monotonic() - this.#quickAt > QUICK_MS) {
      this.#withCatalog((catalog) => this.#readQuick(catalog));
      const { bytes, room } = await catalogRoom(this.#config.catalog);
      this.#catalog = { ...this.#catalog, bytes, room };
    }
    if (clock.monotonic() - this.#countedAt > Math.max(COUNT_MS, COUNT_SHARE * this.#countTook))
      this.#count();
    const snapshots = this.#config.stores.map(
      ({ name }) => [name, snapshotOf(this.#standing(name))] as const,
    );
    const body = await this.#metrics.text(this.#catalog, new Map(snapshots), clock.now());
    return { status: 200, type: this.#metrics.contentType, body };
  }

  #healthPage(): Page {
    const stores = this.#config.stores.map(({ name }) => {
      const silent = this.#stores.get(name)?.life?.silentFor ?? 0;
      return [name, silent === 0 ? 'ok' : `silent for ${formatDuration(silent)}`] as const;
    });
    const alive = stores.every(([, how]) => how === 'ok');
    return jsonPage(alive, { alive, stores: Object.fromEntries(stores) });
  }

  #readyPage(): Page {
    const stores = this.#config.stores.map(
      ({ name }) => [name, this.#stores.get(name)?.recovery ?? 'recovering'] as const,
    );
    const ready = stores.every(([, how]) => how !== 'recovering');
    return jsonPage(ready, { ready, stores: Object.fromEntries(stores) });
  }

  /** Reads from the catalog; one that can't be read now is a figure too, and its turns tell why. */
  #withCatalog(work: (catalog: Catalog) => void): void {
    try {
      const catalog = openForFigures(this.#config);
      try {
        work(catalog);
      } finally {
        catalog.close();
      }
      this.#catalog = { ...this.#catalog, isReadable: true, readAt: this.#options.clock.now() };
    } catch (error) {
      this.#unreadable(error);
    }
  }

  #unreadable(error: unknown): void {
    const cause = error instanceof TombstonedError ? error.cause : error;
    const isBusy = errnoOf(cause)?.startsWith('SQLITE_BUSY') === true; // the next look has it
    if (!isBusy) this.#catalog = { ...this.#catalog, isReadable: false };
    this.#options.log.write('debug', `figures can't be read now: ${messageOf(error)}`);
  }

  #known(catalog: Catalog): { known: KnownStore; standing: Standing }[] {
    return this.#config.stores.flatMap((config) => {
      const row = catalog.storeByName(config.name);
      return row === undefined ? [] : [{ known: { config, row }, standing: this.#standing(config.name) }];
    });
  }

  #readQuick(catalog: Catalog): void {
    const { clock } = this.#options;
    for (const { known, standing } of this.#known(catalog))
      standing.quick = quickFigures(catalog, known, clock);
    this.#quickAt = clock.monotonic();
  }

  /** Counts and looks, in the background, one time at once. */
  #count(): void {
    if (this.#closed.signal.aborted) return;
    this.#counting ??= this.#countAll().finally(() => {
      this.#counting = undefined;
    });
  }

  async #countAll(): Promise<void> {
    const { clock } = this.#options;
    const began = clock.monotonic();
    this.#countedAt = began;
    try {
      const catalog = openForFigures(this.#config);
      try {
        for (const { known, standing } of this.#known(catalog))
          await this.#countOne(catalog, known, standing);
        this.#readQuick(catalog);
      } finally {
        catalog.close();
      }
      const { bytes, room } = await catalogRoom(this.#config.catalog);
      this.#catalog = { isReadable: true, bytes, room, readAt: clock.now() };
    } catch (error) {
      this.#unreadable(error);
    }
    this.#countTook = clock.monotonic() - began;
  }

  async #countOne(catalog: Catalog, known: KnownStore, standing: Standing): Promise<void> {
    const { clock, actor, log } = this.#options;
    const { signal } = this.#closed;
    const { row, config } = known;
    for (const job of ['sweep', 'purge'] as const) {
      const at = catalog.runs.lastDone(row.n, job);
      if (at !== undefined && !standing.lastSuccess.has(job)) standing.lastSuccess.set(job, at);
    }
    if (signal.aborted) return;
    if (clock.monotonic() - standing.lookedAt > LOOK_MS) {
      standing.lookedAt = clock.monotonic();
      const report = (level: 'info' | 'warn' | 'error', message: string): void =>
        log.write('debug', `while looking: ${message}`, { store: config.name, level });
      standing.look = await lookAtStore(catalog, known, { clock, actor, report }, signal);
      this.#tellClaims(config.name, standing.look);
    }
    standing.room = await roomOf(config);
    standing.counts = (await dueFigures(catalog, known, { clock }, signal)) ?? standing.counts;
  }

  #tellClaims(store: string, look: StoreLook): void {
    if (look.standing !== 'ours') return;
    for (const one of look.claims.leases) {
      const since = leaseSince(one);
      const isOld = since === null || this.#options.clock.now() - since > OLD_LEASE_MS;
      if (one.isDead === true || !isOld) continue;
      const hint = `if no restore uses it: tombstonectl lease break ${one.lease.id} --reason TEXT`;
      const message = `an old lease keeps purges away: ${leaseDetail(one)}`;
      this.#hook.tell({ event: 'lease', store, about: one.lease.id, message, hint });
    }
    for (const one of look.claims.fences) {
      if (one.age !== null && one.age <= OLD_FENCE_MS) continue;
      const hint = 'see tombstonectl fence ls, and docs/sessions.md';
      const message = `an old fence makes claims wait: ${fenceText(one)}`;
      this.#hook.tell({ event: 'fence', store, about: one.fence.name, message, hint });
    }
  }
}

function snapshotOf(standing: Standing): StoreSnapshot {
  const { quick, counts, look, lastSuccess, room } = standing;
  const claims = look?.standing === 'ours' ? look.claims : undefined;
  const leases = claims?.leases.filter(({ isDead }) => isDead !== true);
  return {
    states: quick?.states ?? null,
    due: counts?.due ?? null,
    kept: keptOf(standing),
    waiting: quick?.waiting.plans ?? null,
    isPaused: quick?.isPaused ?? null,
    leases: leases === undefined ? null : { count: leases.length, oldest: oldest(leases.map(leaseSince)) },
    oldestFence: oldest((claims?.fences ?? []).map(fenceSince)),
    standing: look?.standing ?? null,
    isClockWrong: typeof quick?.clock === 'string',
    lastSuccess,
    room,
  };
}

/** What stays, each object under one reason: its window, or what keeps what is due. */
function keptOf({ quick, counts, purgeKept }: Standing): Map<KeptReason, Amount> {
  const kept = new Map(purgeKept);
  if (counts !== undefined && quick !== undefined) {
    const { due, locked } = counts;
    const left = (of: 'count' | 'bytes'): number => {
      const waits = (quick.states.get('pending')?.[of] ?? 0) + (quick.states.get('restored')?.[of] ?? 0);
      return Math.max(0, waits - due[of] - locked[of]);
    };
    kept.set('window', { count: left('count'), bytes: left('bytes') });
    if (quick.clock !== null) kept.set('clock', due);
    if (locked.count > 0) kept.set('object-lock', locked);
  }
  if (quick !== undefined && quick.waiting.plans > 0) kept.set('limit', quick.waiting);
  return kept;
}

function leaseSince({ lease: { acquiredAt } }: LeaseStanding): number | null {
  const at = Date.parse(acquiredAt);
  return Number.isNaN(at) ? null : at;
}

function fenceSince({ fence: { startedAt } }: FenceStanding): number | null {
  const at = Date.parse(startedAt);
  return Number.isNaN(at) ? null : at;
}

/** The earliest of some times; null where none is known. */
function oldest(times: readonly (number | null)[]): number | null {
  const known = times.filter((time) => time !== null);
  return known.length === 0 ? null : Math.min(...known);
}

function jsonPage(isWell: boolean, body: object): Page {
  return { status: isWell ? 200 : 503, type: 'application/json', body: `${JSON.stringify(body)}\n` };
}
