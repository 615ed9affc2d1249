import type { KnownCopy, LaterWindow, RebuiltRow } from '../catalog/rebuilding.ts';
import { type FoundCopy, ScratchFound } from '../catalog/scratch.ts';
import { digestRowOf, LEAST_STAY_MS, type Tombstone } from '../catalog/tombstones.ts';
import { isoTime } from '../domain/clock.ts';
import { makePlainId, parseTombstoneId, pendingName } from '../domain/ids.ts';
import { formatDuration } from '../domain/quantities.ts';
import { revisionHash, sameRevision } from '../domain/revision.ts';
import { refreshHolds } from '../run/batch.ts';
import { whyNotRight } from '../run/clock.ts';
import type { Place } from '../run/place.ts';
import { inRun, type Run } from '../run/run.ts';
import { checkIdentity } from '../store/identity.ts';
import { checkOwner } from '../store/owner.ts';
import type { LiveObject } from '../store/store.ts';

/** How many tombstones are recorded in one transaction; whole batches, but for those that are larger. */
const PAGE = 2500;
/** How long after the time in its id a mover may have made a copy in S3, and what clocks may differ by. ms. */
const MADE_WITHIN_MS = 3_600_000;
/** Ids of later times are nobody's: there would be none after them. */
const LATEST = Date.UTC(9999);
/** Before all times. */
const EVER = -8.64e15;

/** Why something below the pending prefix is not taken in; the words are those of `verify`. */
type LeftProblem = 'malformed-name' | 'changed-copy' | 'other-key' | 'left-copy' | 'future-id';

/** Something below the pending prefix of which the listing can't be sure. */
export interface LeftCopy {
  readonly problem: LeftProblem;
  /** The key, or of what has none its path. */
  readonly key: string;
  readonly id: string | null;
  readonly detail: string;
}

export interface RebuildOptions {
  /** Looks and compares, and changes nothing. */
  readonly dryRun: boolean;
  /** Stops after the page that is under way. */
  readonly signal?: AbortSignal | undefined;
  readonly onLeft: (left: LeftCopy) => void;
  readonly onProgress?: ((done: number, total: number | undefined) => void) | undefined;
}

export interface RebuildResult {
  /** Pending copies that were listed. */
  readonly copies: number;
  readonly added: number;
  readonly bytes: number;
  /** How many of those that were added are due already. */
  readonly due: number;
  /** How many the catalog knew. */
  readonly known: number;
  /** Of those, how many windows begin later by what the store says, by more than clocks may differ. */
  readonly delayed: number;
  /** How many are `restored`: their objects are live. */
  readonly restored: number;
  readonly left: ReadonlyMap<LeftProblem, number>;
  /** Why windows begin no sooner than now, or null: the clock is right. */
  readonly clock: string | null;
  /** The time of the newest id that was found, ms; ids are greater from now on. */
  readonly newest: number | null;
  /** Whether the signal ended it before all was taken in. */
  readonly isCut: boolean;
}

/**
 * Adds to the catalog what the store's listing has and the catalog has not, and lets windows
 * begin later where the store says so. Takes nothing away, and ends no window sooner. The store
 * must be this catalog's, and held, so that nothing is moved or removed meanwhile. What was
 * listed is in a table on disk: memory does not grow with objects.
 */
export async function rebuild(place: Place, options: RebuildOptions): Promise<RebuildResult> {
  if (options.dryRun) return new Rebuilder(place, options, await whyNotRight(place)).run(undefined);
  return inRun(place, 'restore', async (run) => {
    return new Rebuilder(place, options, await whyNotRight(place)).run(run);
  });
}

/** A found copy, and the time in its id, ms. */
interface TimedCopy extends FoundCopy {
  readonly at: number;
}

interface TimedRow extends RebuiltRow {
  readonly at: number;
}

/** How one found copy ends. */
type Verdict =
  | { readonly as: 'added'; readonly row: TimedRow }
  | { readonly as: 'known'; readonly later: LaterWindow | null; readonly isNotable: boolean }
  | { readonly as: 'left'; readonly left: LeftCopy };

class Rebuilder {
  readonly #place: Place;
  readonly #options: RebuildOptions;
  readonly #clock: string | null;
  readonly #left = new Map<LeftProblem, number>();
  /** Batches that are larger than a page: their entries can't be compared with what they made. */
  readonly #inParts = new Set<number>();
  #newest: number | null = null;
  readonly #sums = { copies: 0, added: 0, bytes: 0, due: 0, known: 0, delayed: 0, restored: 0 };

  constructor(place: Place, options: RebuildOptions, clock: string | null) {
    this.#place = place;
    this.#options = options;
    this.#clock = clock;
  }

  async run(run: Run | undefined): Promise<RebuildResult> {
    const { store, row, catalog } = this.#place;
    await refreshHolds(this.#place); // exemptions say what was restored, and when
    const found = new ScratchFound();
    let isCut: boolean;
    try {
      await this.#list(found);
      await checkIdentity(store, row.uuid);
      if (run !== undefined) await checkOwner(store, catalog.uuid);
      await this.#takeIn(found, run);
      await this.#compareLive();
      isCut = false;
    } catch (error) {
      isCut = this.#options.signal?.aborted === true && error === this.#options.signal.reason;
      if (!isCut) throw error;
    } finally {
      await found.close();
    }
    return { ...this.#sums, left: this.#left, clock: this.#clock, newest: this.#newest, isCut };
  }

  async #list(found: ScratchFound): Promise<void> {
    const { signal, onProgress } = this.#options;
    for await (const page of this.#place.store.listPending('', signal)) {
      const copies: FoundCopy[] = [];
      for (const item of page) {
        if (item.type === 'pending') {
          const { id, key, copy, since } = item;
          copies.push({ id, key, revision: copy.revision, since: Math.floor(since) });
        } else {
          const detail = `it is no pending copy: ${item.why}`;
          this.#leave({ problem: 'malformed-name', key: item.path, id: null, detail });
        }
      }
      found.add(copies);
      this.#sums.copies += copies.length;
      onProgress?.(this.#sums.copies, undefined);
    }
    await found.finish();
  }

  async #takeIn(found: ScratchFound, run: Run | undefined): Promise<void> {
    const { signal, onProgress } = this.#options;
    const into = run === undefined ? undefined : this.#begin(run);
    let done = 0;
    for (let after: TimedCopy | undefined; ; ) {
      signal?.throwIfAborted();
      const page = this.#wholeBatches(timed(found.page(after, PAGE)));
      after = page.at(-1);
      if (after === undefined) return;
      await breathe();
      const back = await this.#backUnderOtherContent(page);
      await breathe();
      this.#place.catalog.checkFile();
      this.#page(page, back, into);
      done += page.length;
      onProgress?.(done, this.#sums.copies);
      await breathe();
    }
  }

  /** As much of a page as is whole batches; of one that is larger than a page, all there is. */
  #wholeBatches(page: TimedCopy[]): TimedCopy[] {
    if (page.length < PAGE) return page;
    const last = page.at(-1)?.at ?? EVER;
    const whole = page.filter(({ at }) => at !== last);
    if (whole.length > 0) return whole;
    this.#inParts.add(last);
    return page;
  }

  /** The sweep that what is added is of: it is shown nowhere as one. */
  #begin(run: Run): Into {
    const { catalog, row, clock, random } = this.#place;
    return catalog.transaction(() => {
      const now = clock.now();
      const id = makePlainId('s', now, random);
      const sweep = catalog.sweeps.begin({
        id,
        store: row.n,
        run: run.n,
        reason: 'rebuilt',
        isDry: true,
        now,
      });
      catalog.sweeps.progress(sweep, 'done', 0, now);
      return { run, sweep, cause: catalog.sweeps.cause(null, 'rebuilt') };
    });
  }

  /** Local copies that are not what their ids say because their objects are back, and were written to: it is the same file. */
  async #backUnderOtherContent(page: readonly FoundCopy[]): Promise<ReadonlySet<string>> {
    const back = new Set<string>();
    for (const { id, key, revision } of page) {
      if (revision.kind !== 'local' || hashOf(id) === revisionHash(revision)) continue;
      const live = await this.#place.store.head(key);
      if (live !== undefined && sameRevision(live.revision, revision)) back.add(id);
    }
    return back;
  }

  #page(page: readonly TimedCopy[], back: ReadonlySet<string>, into: Into | undefined): void {
    const { catalog, row, clock } = this.#place;
    const ended = catalog.transaction(() => {
      const known = catalog.rebuilding.known(
        row.n,
        page.map(({ id }) => id),
      );
      const starts = this.#starts(page);
      const verdicts: Verdict[] = [];
      for (const [i, copy] of page.entries()) {
        const verdict = this.#judge(copy, known.get(copy.id), starts[i] ?? 0, back.has(copy.id));
        verdicts.push(verdict);
        // A second one of that id, under another key, is not it.
        if (verdict.as === 'added')
          known.set(copy.id, {
            store: row.n,
            key: copy.key,
            state: verdict.row.state,
            goneAt: verdict.row.goneAt,
          });
      }
      const rows = verdicts.flatMap((verdict) => (verdict.as === 'added' ? verdict.row : []));
      const later = verdicts.flatMap((verdict) => (verdict.as === 'known' ? (verdict.later ?? []) : []));
      const newest = page.findLast(({ at }) => at < LATEST)?.at ?? null;
      const ends = { verdicts, rows, newest };
      if (into === undefined) return ends;
      if (ends.newest !== null) catalog.rebuilding.noteNewest(row.n, ends.newest);
      catalog.rebuilding.delay(row.n, later);
      if (rows.length > 0) {
        const { run, sweep, cause } = into;
        catalog.rebuilding.add({ store: row.n, run: run.n, sweep, cause, rows });
        catalog.rebuilding.noteTimes(sweep, rows[0]?.at ?? EVER, rows.at(-1)?.at ?? EVER);
        this.#record(run, rows, clock.now());
      }
      return ends;
    });
    this.#newest = ended.newest ?? this.#newest;
    for (const verdict of ended.verdicts) if (verdict.as === 'left') this.#leave(verdict.left);
    this.#sums.added += ended.rows.length;
    this.#sums.bytes += ended.rows.reduce((sum, { revision }) => sum + revision.size, 0);
    const now = this.#place.catalog.clock.counted(this.#place.clock);
    this.#sums.due += ended.rows.filter(({ purgeAfter }) => purgeAfter <= now).length;
    this.#sums.restored += ended.rows.filter(({ state }) => state === 'restored').length;
    this.#sums.known += ended.verdicts.filter(({ as }) => as === 'known').length;
    this.#sums.delayed += ended.verdicts.filter((one) => one.as === 'known' && one.isNotable).length;
  }

  /** An entry of the log for each batch that the rows are of. */
  #record(run: Run, rows: readonly TimedRow[], now: number): void {
    const { catalog, row } = this.#place;
    for (const [batchAt, ofBatch] of byBatch(rows)) {
      catalog.events.add({
        store: row.n,
        run: run.n,
        what: 'rebuilt',
        now,
        batchAt,
        count: ofBatch.length,
        bytes: ofBatch.reduce((sum, { revision }) => sum + revision.size, 0),
        rows: this.#inParts.has(batchAt) ? undefined : ofBatch.map((one) => digestRowOf(one)),
      });
    }
  }

  /** When each one's window begins, in counted time (docs/recovery.md). */
  #starts(page: readonly TimedCopy[]): number[] {
    const { catalog, row, clock } = this.#place;
    const exempted = new Map<number, number>();
    for (const { hold, index } of catalog.holds.covering(row.n, EVER, page)) {
      const at = hold.kind === 'exempt' ? Date.parse(hold.createdAt) : Number.NaN;
      if (at > (exempted.get(index) ?? EVER)) exempted.set(index, at);
    }
    const ahead = catalog.clock.ahead(clock);
    return page.map(({ at, since }, i) => Math.max(at, since, exempted.get(i) ?? EVER) - ahead);
  }

  #judge(copy: TimedCopy, known: KnownCopy | undefined, start: number, isBack: boolean): Verdict {
    if (known !== undefined) return this.#judgeKnown(copy, known, start);
    const { id, at, key, revision } = copy;
    const of = { key, id };
    if (at >= LATEST) {
      return { as: 'left', left: { ...of, problem: 'future-id', detail: 'no id can come after it' } };
    }
    if (!isBack && !isMeant(copy)) {
      const detail = `it is not what its id says: ${sinceText(copy)}`;
      return { as: 'left', left: { ...of, problem: 'changed-copy', detail } };
    }
    const state = isBack ? 'restored' : 'pending';
    return { as: 'added', row: { id, at, key, revision, state, ...this.#window(start, state) } };
  }

  #judgeKnown({ id, key }: FoundCopy, known: KnownCopy, start: number): Verdict {
    const { row, store, catalog } = this.#place;
    const of = { key, id };
    if (known.store !== row.n || known.key !== key) {
      const whose =
        known.store === row.n
          ? pendingName(store.pendingPrefix, known.key, id)
          : 'another store of this catalog';
      return { as: 'left', left: { ...of, problem: 'other-key', detail: `its id is that of ${whose}` } };
    }
    switch (known.state) {
      case 'purged':
      case 'abandoned': {
        const detail = `the catalog says that it was ${known.state}`;
        return { as: 'left', left: { ...of, problem: 'left-copy', detail } };
      }
      case 'pending':
      case 'restored': {
        const isLater = start > (known.goneAt ?? EVER);
        const isNotable = start - (known.goneAt ?? EVER) > catalog.clock.tolerance;
        return {
          as: 'known',
          later: isLater ? { id, ...this.#window(start, known.state) } : null,
          isNotable,
        };
      }
      case 'moving':
      case 'purging':
      case 'restoring':
        return { as: 'known', later: null, isNotable: false }; // recovery sees to it
    }
  }

  #window(start: number, state: 'pending' | 'restored'): { goneAt: number; purgeAfter: number } {
    const { safetyWindow, catalog, clock } = this.#place;
    // By a clock that is wrong, what was just moved may seem old.
    const goneAt = this.#clock === null ? start : Math.max(start, catalog.clock.counted(clock));
    const stays = state === 'restored' ? Math.max(safetyWindow, LEAST_STAY_MS) : safetyWindow;
    return { goneAt, purgeAfter: goneAt + stays };
  }

  /** Pending ones whose very revision is live were restored: their copies go only if it still is then. */
  async #compareLive(): Promise<void> {
    const { store, catalog, row, clock } = this.#place;
    const { signal, dryRun } = this.#options;
    for await (const page of store.list('', signal)) {
      const live = new Map(page.flatMap((item) => (item.type === 'object' ? [[item.key, item]] : [])));
      if (live.size === 0) continue;
      const pending = catalog.tombstones
        .copiesOf(row.n, [...live.keys()])
        .filter(({ state }) => state === 'pending');
      const back = pending.flatMap((tombstone) => {
        const object = live.get(tombstone.key);
        return object !== undefined && isBackAs(tombstone, object) ? [{ tombstone, object }] : [];
      });
      if (back.length === 0) continue;
      const rows = back.map(({ tombstone, object }) => this.#since(tombstone, object));
      this.#sums.restored += dryRun
        ? rows.length
        : catalog.transaction(() => {
            const count = catalog.rebuilding.markRestored(row.n, rows);
            for (const { id } of rows) {
              const detail = 'what was moved away is live: a rebuild takes it as restored';
              catalog.events.add({
                store: row.n,
                run: null,
                who: this.#place.actor,
                now: clock.now(),
                what: 'restored',
                tombstone: id,
                detail,
              });
            }
            return count;
          });
    }
  }

  #since({ id, goneAt }: Tombstone, { revision, modifiedAt }: LiveObject): LaterWindow {
    const { catalog, clock } = this.#place;
    // Locally a restored file has the time of what it was.
    const at = revision.kind === 's3' ? modifiedAt - catalog.clock.ahead(clock) : EVER;
    return { id, ...this.#window(Math.max(goneAt ?? EVER, at), 'restored') };
  }

  #leave(left: LeftCopy): void {
    this.#left.set(left.problem, (this.#left.get(left.problem) ?? 0) + 1);
    this.#options.onLeft(left);
  }
}

interface Into {
  readonly run: Run;
  /** Row numbers. */
  readonly sweep: number;
  readonly cause: number;
}

/** Found copies, with the times in their ids, which are in order: those of one batch have the same. */
function timed(page: readonly FoundCopy[]): TimedCopy[] {
  let known: { readonly text: string; readonly at: number } | undefined;
  return page.map((copy) => {
    const text = copy.id.slice(0, copy.id.indexOf('-'));
    if (known?.text !== text) known = { text, at: parseTombstoneId(copy.id)?.at ?? EVER };
    return { ...copy, at: known.at };
  });
}

function byBatch(rows: readonly TimedRow[]): Map<number, TimedRow[]> {
  const batches = new Map<number, TimedRow[]>();
  for (const one of rows) {
    const batch = batches.get(one.at);
    if (batch === undefined) batches.set(one.at, [one]);
    else batch.push(one);
  }
  return batches;
}

/** Whether a copy is what its id says that was tombstoned. */
function isMeant({ id, at, revision, since }: TimedCopy): boolean {
  if (hashOf(id) === revisionHash(revision)) return true;
  // In S3 a copy may have another ETag than its source: of several parts, or under a key. Then its mover has made it.
  return revision.kind === 's3' && Math.abs(since - at) <= MADE_WITHIN_MS;
}

function sinceText({ at, revision, since }: TimedCopy): string {
  if (revision.kind === 'local') return `it has ${revision.size} bytes, or a time, that were not tombstoned`;
  const late = formatDuration(Math.abs(since - at));
  return `it has another ETag, and is of ${isoTime(since)}, ${late} from when it was moved`;
}

/** Whether a live object is what a tombstone is of. */
function isBackAs({ id, revision }: Tombstone, { revision: live }: LiveObject): boolean {
  return sameRevision(live, revision) || (live.kind === 's3' && revisionHash(live) === hashOf(id));
}

function hashOf(id: string): string {
  return parseTombstoneId(id)?.revisionHash ?? '';
}

/** Lets signals and timers run. */
async function breathe(): Promise<void> {
  await new Promise<void>((resolve) => {
    setImmediate(resolve);
  });
}
