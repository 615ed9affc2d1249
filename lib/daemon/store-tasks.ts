import { dropInsOf, guardsOf, type OpenPlace, openCatalog, openPlace, policiesOf } from '../app/open.ts';
import type { OnRequest } from '../app/open-store.ts';
import { recover } from '../app/recover.ts';
import type { Surroundings } from '../app/surroundings.ts';
import { type CompactResult, compact } from '../compact/compact.ts';
import type { Config, StoreConfig } from '../config/config.ts';
import { messageOf, TombstonedError } from '../domain/errors.ts';
import type { KeptReason } from '../domain/kept-reason.ts';
import { printable } from '../domain/key.ts';
import { formatSize } from '../domain/quantities.ts';
import { aptosKeyIn, PLAIN_LAYOUT } from '../metadata/layout.ts';
import { purge } from '../purge/purge.ts';
import { BoundedReport } from '../run/bounded-report.ts';
import { LEASE_DIED } from '../run/leases.ts';
import type { Report } from '../run/place.ts';
import { hasNewRequests, orphanedRequests, orphanHint, orphanText } from '../sweep/requests.ts';
import { type SweepOptions, sweep } from '../sweep/sweep.ts';
import type { CatalogWatch } from './catalog-watch.ts';
import type { Log } from './log.ts';
import type { StoreWatch } from './service.ts';
import type { Task } from './store-loop.ts';
import type { Job, StoreWitness, TurnEnd } from './witness.ts';

export interface StoreTasks {
  readonly config: Config;
  readonly store: StoreConfig;
  readonly surroundings: Omit<Surroundings, 'report'>;
  readonly log: Log;
  /** Whose clock `surroundings` have. */
  readonly watch: StoreWatch;
  /** Is told what each turn came to. */
  readonly witness: StoreWitness;
  /** Ends all where the catalog is not the one that it was. */
  readonly catalog: CatalogWatch;
  /** Ends a task after the batch that is under way. */
  readonly signal: AbortSignal;
}

/** How long files that come together may take to come. ms. */
const GATHER_MS = 200;

/** The task that is nudged when something comes into a drop-in directory. */
export const REQUESTS = 'requests';

/** What the daemon does for one store. Without a policy nothing expires, and it is only purged. */
export function tasksOf(of: StoreTasks): Task[] {
  const { store } = of;
  const purging = {
    name: 'purge',
    every: store.purgeEvery,
    run: async () => inPlace(of, 'purge', purgeOnce),
  };
  const { compactEvery } = store.aptos;
  const compacting = {
    name: 'compact',
    every: compactEvery ?? Infinity,
    run: async () => inPlace(of, 'compact', compactOnce),
  };
  const always = compactEvery === null ? [purging] : [compacting, purging];
  if (store.policies.length === 0) return always;
  const sweepAsConfigured = lookingFirst(of, sweepOnce);
  const sweeping = {
    name: 'sweep',
    every: store.sweepEvery,
    run: async () => inPlace(of, 'sweep', sweepAsConfigured),
  };
  if (dropInsOf(store).length === 0) return [sweeping, ...always];
  // A sweep looks into the directories too: what no event has told of is found then.
  const requests = {
    name: REQUESTS,
    every: Infinity,
    run: async () => inPlace(of, 'sweep', serveOnce, REQUESTS),
  };
  return [sweeping, ...always, requests];
}

type Work = (of: StoreTasks, place: OpenPlace) => Promise<TurnEnd | undefined>;

/** Before the first sweep of a plain store it is looked at what that holds. */
function lookingFirst({ store, signal }: StoreTasks, work: Work): Work {
  let isLookedAt = store.format !== 'plain';
  return async (of, place) => {
    if (!isLookedAt) {
      const key = await aptosKeyIn(place.store, signal);
      const { text, remedy } = PLAIN_LAYOUT;
      if (key !== undefined) place.report('warn', `${text} (${remedy})`, { key });
      isLookedAt = true;
    }
    return work(of, place);
  };
}

/** Serves the requests that have come, if any have. */
async function serveOnce(of: StoreTasks, place: OpenPlace): Promise<TurnEnd | undefined> {
  await of.surroundings.clock.sleep(GATHER_MS, of.signal);
  if (of.signal.aborted) return undefined;
  const dropIns = dropInsOf(of.store).filter((dropIn) => hasNewRequests(place, dropIn));
  return dropIns.length === 0 ? undefined : sweepFor(of, place, { policies: [], dropIns, isOnlyNew: true });
}

/**
 * Opens catalog and store for one turn, so that an idle daemon keeps no disk
 * busy and sees a catalog or disk that was changed under it; recovers; works.
 * A failure is logged, and the next turn tries again; throws only where the catalog has gone.
 */
async function inPlace(
  of: StoreTasks,
  doing: 'sweep' | 'purge' | 'compact',
  work: Work,
  job: Job = doing,
): Promise<void> {
  of.catalog.check();
  const bounded = new BoundedReport(of.log.reportFor(of.store.name));
  const { witness } = of;
  const { clock } = of.surroundings;
  const begun = clock.monotonic();
  const report: Report = (level, message, fields) => {
    bounded.report(level, message, fields);
    const { event, lease } = fields ?? {};
    if (event === LEASE_DIED && typeof lease === 'string') witness.leaseDied(lease, message);
  };
  let isRecovered = false;
  try {
    const catalog = openCatalog(of.config, { mayUseReserve: doing === 'purge' });
    try {
      const onRequest: OnRequest = (op, outcome) => witness.requested(op, outcome);
      const place = await openPlace(catalog, of.store, { ...of.surroundings, report, onRequest });
      try {
        await recover(place);
        of.watch.isRecovered();
        isRecovered = true;
        witness.recovered(true);
        const end = of.signal.aborted ? undefined : await work(of, place);
        if (end !== undefined) witness.ended(job, end, clock.monotonic() - begun);
      } finally {
        place.store.close();
      }
    } finally {
      catalog.close();
    }
  } catch (error) {
    of.log.failure(error, { store: of.store.name, during: doing });
    of.watch.says(`${doing} failed: ${messageOf(error)}`);
    witness.failed(job, error, clock.monotonic() - begun);
  } finally {
    if (!isRecovered) witness.recovered(false);
    of.watch.isRecovered(); // or can't be, for now: the other stores don't wait for this one
    bounded.finish();
  }
}

async function sweepOnce(of: StoreTasks, place: OpenPlace): Promise<TurnEnd> {
  const dropIns = dropInsOf(of.store);
  return sweepFor(of, place, { policies: policiesOf(of.store), dropIns, knownDropIns: dropIns });
}

async function sweepFor(
  of: StoreTasks,
  place: OpenPlace,
  what: Pick<SweepOptions, 'policies' | 'dropIns' | 'knownDropIns' | 'isOnlyNew'>,
): Promise<TurnEnd> {
  const { store, log, watch, signal, surroundings } = of;
  const begun = surroundings.clock.monotonic();
  const result = await sweep(place, {
    ...what,
    guards: guardsOf(store),
    dryRun: false,
    signal,
    onRefusal: ({ key, why }) => place.report('warn', about(key, 'stays', why), { key }),
    onListed: (selected) => watch.says(`sweep: ${selected} objects looked at`),
    onProgress: (done, planned) => {
      watch.says(`sweep: ${done} of ${planned} done`);
      log.write('debug', `sweep: ${done} of ${planned} done`, { store: store.name });
    },
  });
  for (const problem of result.problems) log.failure(problem, { store: store.name, during: 'sweep' });
  const { sweep: id, planned, moved, abandoned, failed, bytes, kept, blocked, isCut } = result;
  const counts = [
    ...(abandoned > 0 ? [`${abandoned} abandoned`] : []),
    ...(failed > 0 ? [`${failed} failed`] : []),
    ...keptWords(kept),
    ...(isCut ? ['stopped before its end'] : []),
  ];
  const message = `sweep ${id ?? ''}: moved ${moved} of ${planned} planned, ${formatSize(bytes)}`;
  const line = [message, ...counts].join(', ');
  watch.says(line);
  log.write('info', line, {
    type: 'sweep',
    store: store.name,
    sweep: id,
    planned,
    moved,
    abandoned,
    failed,
    bytes,
    kept: Object.fromEntries(kept),
    overLimit: blocked.map(({ policy }) => policy),
    waiting: blocked.flatMap(({ waiting }) => waiting?.sweep ?? []),
    interrupted: isCut,
    ms: Math.round(surroundings.clock.monotonic() - begun),
  });
  return { failed, isCut, blocked };
}

async function purgeOnce(of: StoreTasks, place: OpenPlace): Promise<TurnEnd> {
  const amounts = new Map<KeptReason, { count: number; bytes: number }>();
  const { config, store, log, watch, signal, surroundings } = of;
  // Without a policy there is no sweep that says so.
  if (store.policies.length === 0) {
    for (const orphan of orphanedRequests(place, [])) {
      const hint = orphanHint(store.name);
      place.report('warn', `there are orphaned requests: ${orphanText(orphan)}`, { hint });
    }
  }
  const begun = surroundings.clock.monotonic();
  const result = await purge(place, {
    dryRun: false,
    historyFor: config.historyFor,
    signal,
    onKept: ({ key, id, size }, reason, detail) => {
      const { count, bytes } = amounts.get(reason) ?? { count: 0, bytes: 0 };
      amounts.set(reason, { count: count + 1, bytes: bytes + size });
      // A hold is no failure: the figures say how many there are.
      if (reason !== 'hold') place.report('warn', about(key, 'is not purged', detail), { key, id, reason });
    },
    onProgress: (done) => {
      watch.says(`purge: ${done} done`);
      log.write('debug', `purge: ${done} done`, { store: store.name });
    },
  });
  const { due, purged, failed, bytes, kept, missing, isCut } = result;
  const counts = [
    ...(failed > 0 ? [`${failed} failed`] : []),
    ...keptWords(kept),
    ...(isCut ? ['stopped before its end'] : []),
  ];
  const message = `purge: removed ${purged} of ${due} due, ${formatSize(bytes)}`;
  const line = [message, ...counts].join(', ');
  watch.says(line);
  log.write('info', line, {
    type: 'purge',
    store: store.name,
    due,
    purged,
    kept: Object.fromEntries(kept),
    failed,
    bytes,
    // Noted outside the catalog, for `log --check --seen`.
    logHead: place.catalog.events.headText(),
    interrupted: isCut,
    ms: Math.round(surroundings.clock.monotonic() - begun),
  });
  return { failed, isCut, missing, kept: amounts };
}

/** Compacts a store's metadata as its config says. */
async function compactOnce(of: StoreTasks, place: OpenPlace): Promise<TurnEnd> {
  const { store, log, watch, signal, surroundings } = of;
  const begun = surroundings.clock.monotonic();
  const { factors, removeAfter } = store.aptos;
  let result: CompactResult;
  try {
    result = await compact(place, {
      factors,
      removeAfter,
      guards: guardsOf(store),
      limits: store.limits,
      concurrency: store.throttle.concurrency,
      dryRun: false,
      signal,
      onCompacted: ({ key, outcome }) => {
        if (outcome === 'redone')
          place.report('warn', about(key, 'was written again', 'it did not hold all of its lines'), { key });
      },
      onReplaced: ({ key, outcome, detail, reason }) => {
        if (outcome === 'failed')
          place.report('warn', about(key, 'stays', detail ?? outcome), { key, reason });
      },
      onRead: (files) => watch.says(`compact: ${files} metadata files read`),
      onProgress: (done, total) => watch.says(`compact: ${done} of ${total} written`),
    });
  } catch (error) {
    if (!signal.aborted || error !== signal.reason) throw error;
    log.write('info', 'compact: stopped before its end', {
      type: 'compact',
      store: store.name,
      interrupted: true,
    });
    return { failed: 0, isCut: true };
  }
  const { kept, over, ...counts } = result;
  const { lines, files, written, redone, tombstoned, expired, failed } = counts;
  const words = [
    `compact: ${lines} lines in ${files} files, ${written + redone} compacted files written`,
    `${tombstoned} of ${expired} replaced ones tombstoned`,
    ...(failed > 0 ? [`${failed} failed`] : []),
    ...keptWords(kept),
  ];
  const line = words.join(', ');
  watch.says(line);
  log.write('info', line, {
    type: 'compact',
    store: store.name,
    ...counts,
    kept: Object.fromEntries(kept),
    interrupted: signal.aborted,
    ms: Math.round(surroundings.clock.monotonic() - begun),
  });
  if (over !== null) {
    throw new TombstonedError('blocked', `what compaction replaced stays: ${over}`, {
      reason: 'limit',
      key: store.name,
      hint: 'it is in compacted files: raise the limits of the store in the config for this',
    });
  }
  return { failed, isCut: signal.aborted };
}

/** `KEY stays: WHY`; errors about a key begin with it already. */
function about(key: string, what: string, why: string): string {
  const name = printable(key);
  return `${name} ${what}: ${why.startsWith(`${name}: `) ? why.slice(name.length + 2) : why}`;
}

function keptWords(kept: ReadonlyMap<KeptReason, number>): string[] {
  if (kept.size === 0) return [];
  return [`kept ${[...kept].map(([reason, count]) => `${count} ${reason}`).join(', ')}`];
}
