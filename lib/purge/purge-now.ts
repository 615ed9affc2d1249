import type { Tombstone } from '../catalog/tombstones.ts';
import { isoTime } from '../domain/clock.ts';
import { type ErrorCode, messageOf, TombstonedError } from '../domain/errors.ts';
import { inFlight } from '../domain/in-flight.ts';
import type { KeptReason } from '../domain/kept-reason.ts';
import type { Key } from '../domain/key.ts';
import { type Revision, sameRevision } from '../domain/revision.ts';
import { retireShared } from '../run/batch.ts';
import { keeperText, reasonOf } from '../run/claims.ts';
import { requireRightClock } from '../run/clock.ts';
import type { Place } from '../run/place.ts';
import { checkPlace, inRun, type Run } from '../run/run.ts';
import { fencesAfterWait, fenceText } from '../run/wait-for-fences.ts';
import { type Fence, fenceOverlaps, listFences, readFence } from '../store/fences.ts';
import { checkIdentity } from '../store/identity.ts';
import type { Hidden, LiveObject } from '../store/store.ts';
import { type Erasure, type Purged, Purger } from './purge.ts';

/** What is to go at once: what is pending of a key, or one tombstone; undefined where there is none of that id. */
export type NowTarget =
  | { readonly by: 'key'; readonly key: Key }
  | { readonly by: 'id'; readonly id: string; readonly tombstone: Tombstone | undefined };

/** What became of one tombstone that was named, or of a key without one: the proof of it. */
export interface NowOutcome {
  readonly key: Key | null;
  readonly id: string | null;
  /**
   * `purged`: it has gone, and nothing of it was found after that. `hidden`: the store keeps
   * its content elsewhere. `live`: a live object has it, or its key. `gone`: nothing of it was there.
   */
  readonly outcome: 'purged' | 'hidden' | 'blocked' | 'live' | 'gone' | 'failed';
  readonly revision: Revision | null;
  readonly size: number | null;
  /** That were removed. */
  readonly bytes: number;
  /** When it was purged, ms since 1970. */
  readonly at: number | null;
  /** When it was looked for after that and nothing was found, ms since 1970. */
  readonly checkedAbsentAt: number | null;
  readonly detail: string | null;
  /** What stays of it, or of its key, each in words. */
  readonly stays: readonly string[];
  /** Why it is kept, where it is. */
  readonly reason: KeptReason | null;
  /** Null of what went well. */
  readonly code: ErrorCode | null;
}

export interface PurgeNowOptions extends Erasure {
  readonly targets: AsyncIterable<NowTarget>;
  /** Says what would go and what would stay, and removes nothing. */
  readonly dryRun: boolean;
  /** How long to wait for batches that are under way, ms. */
  readonly fenceTimeout?: number | undefined;
  readonly onOutcome: (outcome: NowOutcome) => void;
  readonly signal?: AbortSignal | undefined;
}

/** How many that are named are purged, and looked for, together. */
const CHUNK = 1000;
/** How many keys are looked at at the same time. */
const LOOKS = 16;
/** Of a key: all its tombstones. */
const ALL = Number.MAX_SAFE_INTEGER;

/**
 * Purges what is named before its window is over: never what a lease, a hold or a batch
 * under way is about, nor with a clock that is not trusted, as any purge. Then it looks
 * whether something of it is left.
 */
export async function purgeNow(place: Place, options: PurgeNowOptions): Promise<void> {
  await checkPlace(place, options.dryRun);
  return inRun(place, 'purge', async (run) => {
    await requireRightClock(place);
    const erasing = new Erasing(place, run, options);
    for await (const chunk of chunksOf(options.targets)) {
      if (options.signal?.aborted === true || !(await erasing.chunk(chunk))) break;
    }
    await retireShared(place, run);
  });
}

/** Something that was named, with all that is known of its key. */
interface Asked {
  readonly target: NowTarget;
  readonly key: Key;
  /** All of its key, newest first. */
  readonly known: readonly Tombstone[];
  /** Those that it names, and that are to go. */
  readonly named: readonly Tombstone[];
}

/** How a tombstone's own removal ended. */
type End =
  | { readonly as: 'purged'; readonly how: Purged; readonly names: number }
  | { readonly as: 'kept'; readonly reason: KeptReason; readonly detail: string };

class Erasing {
  readonly #place: Place;
  readonly #run: Run;
  readonly #options: PurgeNowOptions;
  readonly #purger: Purger;
  /** By id: of those that the purger has had. */
  #ends = new Map<string, End>();
  /** By key: what keeps old versions, and what was removed of them. */
  #versions = new Map<Key, VersionsEnd>();

  constructor(place: Place, run: Run, options: PurgeNowOptions) {
    this.#place = place;
    this.#run = run;
    this.#options = options;
    const { reason, allVersions, dryRun, signal } = options;
    this.#purger = new Purger(place, run, {
      dryRun,
      historyFor: Number.POSITIVE_INFINITY,
      signal,
      erasure: { reason, allVersions },
      onPurged: ({ id }, how) => this.#ends.set(id, { as: 'purged', how, names: 0 }),
      onKept: ({ id }, why, detail) => this.#ends.set(id, { as: 'kept', reason: why, detail }),
    });
  }

  /** Does some of what was named, and tells of it; false where the signal ended it. */
  async chunk(targets: readonly NowTarget[]): Promise<boolean> {
    const { onOutcome } = this.#options;
    this.#ends = new Map();
    this.#versions = new Map();
    const before = this.#askAll(targets);
    const fences = await this.#fences(before.map(({ key }) => key));
    const unfenced = before.filter(({ key, named }) => {
      const fence = fences.find((one) => fenceOverlaps(one, [key]));
      if (fence === undefined) return true;
      const detail = `${fenceText(fence)} is not over: try again, or see tombstonectl fence ls`;
      const blocked = { outcome: 'blocked', detail, reason: 'fence', code: 'blocked' } as const;
      for (const one of named.length === 0 ? [null] : named) onOutcome(outcomeOf(key, one, blocked));
      return false;
    });
    // What was waited for may have moved it, or brought it back.
    const free = this.#askAll(unfenced.map(({ target }) => target));
    const going = await this.#going(free);
    const files = await this.#files(going);
    let isDone: boolean;
    try {
      isDone = await this.#remove(going, free);
    } catch (error) {
      // What has gone is proved all the same.
      this.#countNames(files);
      await this.#tell(
        free.filter(
          ({ key, named }) =>
            this.#versions.has(key) || named.some(({ id }) => this.#ends.get(id)?.as === 'purged'),
        ),
      );
      throw error;
    }
    this.#countNames(files);
    await this.#tell(free);
    return isDone;
  }

  /** Removes what is to go; false where the signal ended it. */
  async #remove(going: readonly Tombstone[], asked: readonly Asked[]): Promise<boolean> {
    const { dryRun, allVersions } = this.#options;
    if (!(await this.#purger.named(going))) return false;
    if (dryRun) return true;
    // What was restored, and is not live any more, is pending again: as that it may go.
    const back = this.#place.catalog.tombstones
      .getAll(going.filter(({ state }) => state === 'restored').map(({ id }) => id))
      .filter(({ state }) => state === 'pending');
    if (back.length > 0 && !(await this.#purger.named(back))) return false;
    if (allVersions) await this.#removeVersions(asked);
    return true;
  }

  /** What is to go of each; tells what can be said at once of the others. */
  #askAll(targets: readonly NowTarget[]): Asked[] {
    return targets.flatMap((target) => {
      const one = this.#ask(target);
      if (!('outcome' in one)) return one;
      this.#options.onOutcome(one);
      return [];
    });
  }

  /** What is to go of a target; or what can be said of it at once. */
  #ask(target: NowTarget): Asked | NowOutcome {
    const { catalog, row } = this.#place;
    const { allVersions } = this.#options;
    if (target.by === 'id') {
      const { id, tombstone } = target;
      if (tombstone === undefined) {
        const detail = 'there is no tombstone of this id';
        return { ...NOTHING, key: null, id, outcome: 'gone', detail, code: 'not-found' };
      }
      const { key } = tombstone;
      const known = catalog.tombstones.ofKey(row.n, key, ALL);
      return {
        target,
        key,
        known,
        named: known.filter((one) => one.id === id || (allVersions && !isEnded(one))),
      };
    }
    const { key } = target;
    const known = catalog.tombstones.ofKey(row.n, key, ALL);
    const named = known.filter((one) => !isEnded(one));
    if (named.length > 1 && !allVersions) {
      const detail = `${named.length} generations of it are pending: name one by its id, or all with --all-versions`;
      const stays = named.map((one) => `${one.id}: ${one.state}, tombstoned ${isoTime(one.tombstonedAt)}`);
      return { ...NOTHING, key, id: null, outcome: 'blocked', detail, stays, code: 'conflict' };
    }
    return { target, key, known, named };
  }

  /** The fences that are about these keys, after a wait for those that are over soon. */
  async #fences(keys: readonly Key[]): Promise<Fence[]> {
    const { store, clock, report } = this.#place;
    const { dryRun, fenceTimeout: timeout, signal } = this.#options;
    if (keys.length === 0) return [];
    await retireShared(this.#place, this.#run); // its own
    if (!dryRun) {
      const onWait = ([first]: readonly Fence[]): void => {
        if (first !== undefined) report('info', `waiting for ${fenceText(first)}`);
      };
      return fencesAfterWait(store, keys, { clock, timeout, signal, onWait });
    }
    const found: Fence[] = [];
    for (const name of await listFences(store.control)) {
      const fence = await readFence(store.control, name);
      if (fence !== undefined) found.push(fence);
    }
    return found;
  }

  /** What the purger is to take: what waits, but no restored copy of what is live. */
  async #going(asked: readonly Asked[]): Promise<Tombstone[]> {
    const going = new Map<string, Tombstone>();
    for (const { named } of asked) {
      for (const tombstone of named) {
        const { id, key, state } = tombstone;
        if (going.has(id) || this.#ends.has(id)) continue;
        if (state === 'pending') going.set(id, tombstone);
        else if (state === 'restored') {
          const live = await this.#place.store.head(key);
          const isLive = live !== undefined && sameRevision(live.revision, tombstone.revision);
          if (!isLive) going.set(id, tombstone);
        } else if (state !== 'purged' && state !== 'abandoned') {
          const detail = `another run is at it (${state}): try again`;
          this.#ends.set(id, { as: 'kept', reason: 'fence', detail });
        }
      }
    }
    return [...going.values()];
  }

  /** Which files they are, and how many names each has: that can't be seen afterwards. */
  async #files(going: readonly Tombstone[]): Promise<Map<string, Map<string, number>>> {
    const { store } = this.#place;
    const files = new Map<string, Map<string, number>>();
    for (const { key, id } of going) {
      const file = await store.fileOf?.(key, id);
      if (file === undefined) continue;
      const ofFile = files.get(file.inode) ?? new Map<string, number>();
      files.set(file.inode, ofFile.set(id, file.names));
    }
    return files;
  }

  /** Notes what other names the files have whose pending names have gone. */
  #countNames(files: ReadonlyMap<string, ReadonlyMap<string, number>>): void {
    for (const names of files.values()) {
      const gone = [...names.keys()].filter((id) => this.#ends.get(id)?.as === 'purged');
      for (const id of gone) {
        const end = this.#ends.get(id);
        if (end?.as === 'purged') this.#ends.set(id, { ...end, names: (names.get(id) ?? 0) - gone.length });
      }
    }
  }

  /** Removes old versions of the keys of which nothing else is left. */
  async #removeVersions(asked: readonly Asked[]): Promise<void> {
    const { store, catalog, row } = this.#place;
    if (store.hidden === undefined) return;
    for (const key of new Set(asked.map((one) => one.key))) {
      if (this.#options.signal?.aborted === true) return;
      const isOpen = catalog.tombstones.ofKey(row.n, key, ALL).some((one) => !isEnded(one));
      if (isOpen || (await store.head(key)) !== undefined) continue;
      const found = await this.#purger.hidden(key, this.#options.reason);
      this.#versions.set(key, versionsEnd(found));
    }
  }

  /** Looks for what is left of each, and tells of it. */
  async #tell(asked: readonly Asked[]): Promise<void> {
    const { store, row, clock } = this.#place;
    const keys = [...new Set(asked.map(({ key }) => key))];
    // What somebody else put there may not show before.
    if (store.settle > 0 && keys.length > 0) await clock.sleep(store.settle, this.#options.signal);
    const looks = await this.#looks(keys);
    await checkIdentity(store, row.uuid); // before anything is taken as gone
    const byKey = new Map(keys.map((key, i) => [key, looks[i] ?? new Error('it was not looked for')]));
    for (const one of asked) {
      const look = byKey.get(one.key) ?? new Error('it was not looked for');
      for (const outcome of this.#outcomes(one, look)) this.#options.onOutcome(outcome);
    }
  }

  /** What is there of each key: looked for live, and then pending (R6). */
  async #looks(keys: readonly Key[]): Promise<(Look | Error)[]> {
    const { store } = this.#place;
    const live = await inFlight(LOOKS, keys, async (key) => store.head(key).catch(failureOf));
    const pending = await store.pendingIdsOf?.(keys);
    return inFlight(LOOKS, keys.entries(), async ([i, key]) => {
      const object = live[i];
      return object instanceof Error ? object : this.#look(key, object, pending?.get(key) ?? []);
    });
  }

  async #look(key: Key, object: LiveObject | undefined, listed: readonly string[]): Promise<Look | Error> {
    const { store, clock } = this.#place;
    try {
      const live = object?.revision ?? null;
      const ids = store.pendingIdsOf === undefined ? await store.pendingIds(key) : listed;
      const hidden = ((await store.hidden?.(key)) ?? []).filter(({ count }) => count > 0);
      const hides =
        this.#options.dryRun && !this.#options.allVersions && (await store.hidesRemoved?.()) === true;
      return { at: clock.now(), live, ids, hidden, hides };
    } catch (error) {
      return failureOf(error);
    }
  }

  #outcomes(asked: Asked, look: Look | Error): NowOutcome[] {
    const { key, named } = asked;
    if (named.length > 0) return named.map((tombstone) => this.#outcome(asked, tombstone, look));
    return [this.#keyOutcome(key, asked, look)];
  }

  /** Of a key that names no tombstone that waits. */
  #keyOutcome(key: Key, { known }: Asked, look: Look | Error): NowOutcome {
    if (look instanceof Error) return outcomeOf(key, null, failed(look));
    const versions = this.#versions.get(key);
    const stays = this.#stays(null, look);
    const bytes = versions?.bytes ?? 0;
    const base = { stays, bytes, at: versions === undefined ? null : look.at };
    if (versions?.kept !== undefined) return outcomeOf(key, null, { ...base, ...versions.kept });
    if (look.live !== null) {
      const detail = 'nothing of it is pending';
      return outcomeOf(key, null, { ...base, outcome: 'live', detail, code: 'conflict' });
    }
    if (look.ids.length > 0) {
      const detail = `the catalog does not know its pending copy ${look.ids[0]}, so no purge takes it: see tombstonectl verify`;
      return outcomeOf(key, null, { ...base, outcome: 'hidden', detail, code: 'conflict' });
    }
    if (look.hidden.length > 0) {
      const isToGo = this.#options.dryRun && this.#options.allVersions;
      const detail = isToGo ? 'old versions of it would be' : 'the store keeps old versions of it';
      const bytesToGo = isToGo ? look.hidden.reduce((sum, one) => sum + one.bytes, 0) : bytes;
      const left = look.hidden.some((one) => one.left !== null);
      if (isToGo && !left) return outcomeOf(key, null, { outcome: 'purged', detail, bytes: bytesToGo });
      return outcomeOf(key, null, { ...base, outcome: 'hidden', detail, code: 'conflict' });
    }
    const absent = { stays, checkedAbsentAt: look.at };
    if ((versions?.bytes ?? 0) > 0 || (versions?.count ?? 0) > 0)
      return outcomeOf(key, null, { ...base, ...absent, outcome: 'purged', detail: 'old versions of it' });
    const [last] = known;
    if (last === undefined) {
      const detail = 'there is no such object, and no tombstone of it';
      return outcomeOf(key, null, { ...absent, outcome: 'gone', detail, code: 'not-found' });
    }
    return outcomeOf(key, last, { ...absent, ...goneBefore(last) });
  }

  /** Of one tombstone that was named. */
  #outcome({ target, key }: Asked, tombstone: Tombstone, look: Look | Error): NowOutcome {
    const { id, revision, size } = tombstone;
    const end = this.#ends.get(id);
    const versions = this.#versions.get(key);
    const isPurged = end?.as === 'purged';
    const at = isPurged && !this.#options.dryRun ? this.#purgedAt(id) : null;
    const removed = { at, bytes: isPurged && !end.how.wasGone ? size : 0 };
    if (look instanceof Error) return outcomeOf(key, tombstone, { ...removed, ...failed(look) });
    const stays = this.#stays(id, look);
    const base = { ...removed, stays };
    if (end?.as === 'kept') {
      const outcome = end.reason === 'error' ? 'failed' : 'blocked';
      const { reason, detail } = end;
      return outcomeOf(key, tombstone, { ...base, outcome, reason, detail, code: codeOf(reason) });
    }
    const hasContent = look.live !== null && sameRevision(look.live, revision);
    const isLive = look.live !== null && (target.by === 'key' || hasContent);
    if (isLive) {
      const gone = this.#options.dryRun ? 'its pending copy would go' : 'its pending copy has gone';
      const detail = isPurged ? gone : 'it was restored';
      return outcomeOf(key, tombstone, { ...base, outcome: 'live', detail, code: 'conflict' });
    }
    if (end === undefined) {
      // It had ended before, or the signal came first.
      const last = this.#place.catalog.tombstones.get(id) ?? tombstone;
      const gone = goneBefore(last);
      const isAbsent = gone.outcome === 'gone' && !look.ids.includes(id);
      return outcomeOf(key, last, { ...base, checkedAbsentAt: isAbsent ? look.at : null, ...gone });
    }
    if (versions?.kept !== undefined) return outcomeOf(key, tombstone, { ...base, ...versions.kept });
    const own = look.hidden.filter((one) => target.by === 'key' || one.id === id);
    const left = this.#left(end, own, look);
    if (left !== null)
      return outcomeOf(key, tombstone, { ...base, outcome: 'hidden', detail: left, code: 'conflict' });
    const isThere = target.by === 'key' ? look.ids.length > 0 : look.ids.includes(id);
    const isFree = !isThere && !this.#options.dryRun;
    const checkedAbsentAt = isFree ? look.at : null;
    if (this.#options.dryRun)
      return outcomeOf(key, tombstone, { ...base, outcome: 'purged', detail: 'would be' });
    if (end.how.wasGone) {
      const detail = 'its pending copy was gone already';
      return outcomeOf(key, tombstone, { ...base, checkedAbsentAt, outcome: 'gone', detail });
    }
    return outcomeOf(key, tombstone, { ...base, checkedAbsentAt, outcome: 'purged', detail: null });
  }

  /** What of a purged tombstone is elsewhere, in words, or null. */
  #left({ how, names }: Extract<End, { as: 'purged' }>, own: readonly Hidden[], look: Look): string | null {
    const { dryRun, allVersions } = this.#options;
    if (names > 0)
      return `its file has ${names} other name${names === 1 ? '' : 's'} (hard links), which stay`;
    if (how.left !== null) return `the store keeps ${how.left}`;
    if (look.hides) return 'the store would keep it as old versions: --all-versions removes those too';
    if (own.length === 0) return null;
    if (!dryRun || !allVersions) return 'the store keeps old versions of it';
    const kept = own.find(({ left }) => left !== null)?.left ?? null;
    return kept === null ? null : `the store would keep ${kept}`;
  }

  /** What stays of a key beside a tombstone of it, in words. */
  #stays(id: string | null, { live, ids, hidden }: Look): string[] {
    const { catalog } = this.#place;
    const { dryRun, allVersions } = this.#options;
    const stays: string[] = live === null ? [] : ['a live object at its key'];
    for (const other of ids) {
      if (other === id || (dryRun && this.#ends.get(other)?.as === 'purged')) continue;
      const state = catalog.tombstones.get(other)?.state ?? 'which the catalog does not know';
      stays.push(`pending copy ${other} (${state})`);
    }
    for (const one of hidden) {
      const versions = `${one.count} old version${one.count === 1 ? '' : 's'}`;
      const where = one.id === null ? 'at its key' : `of pending copy ${one.id}`;
      if (one.left !== null) stays.push(`${versions} ${where}: ${one.left}`);
      else if (!dryRun || !allVersions) stays.push(`${versions} ${where}`);
    }
    return stays;
  }

  #purgedAt(id: string): number | null {
    return this.#place.catalog.tombstones.get(id)?.endedAt ?? null;
  }
}

/** What was found of a key. */
interface Look {
  /** ms since 1970. */
  readonly at: number;
  readonly live: Revision | null;
  readonly ids: readonly string[];
  readonly hidden: readonly Hidden[];
  /** Whether the store would keep what is removed, in a dry run. */
  readonly hides: boolean;
}

interface VersionsEnd {
  readonly count: number;
  readonly bytes: number;
  readonly kept?: Ended;
}

function versionsEnd(found: Awaited<ReturnType<Purger['hidden']>>): VersionsEnd {
  if ('as' in found) {
    const detail = `old versions are kept by ${keeperText(found)}`;
    return {
      count: 0,
      bytes: 0,
      kept: { outcome: 'blocked', reason: reasonOf(found), detail, code: 'blocked' },
    };
  }
  const removed = found.filter(({ outcome }) => outcome.outcome === 'removed').map(({ hidden }) => hidden);
  const count = removed.reduce((sum, one) => sum + one.count, 0);
  const bytes = removed.reduce((sum, one) => sum + one.bytes, 0);
  for (const { outcome } of found) {
    if (outcome.outcome === 'failed') return { count, bytes, kept: failed(outcome.error) };
    if (outcome.outcome === 'locked') {
      const { detail } = outcome;
      return { count, bytes, kept: { outcome: 'blocked', reason: 'object-lock', detail, code: 'blocked' } };
    }
  }
  return { count, bytes };
}

function isEnded({ state }: Tombstone): boolean {
  return state === 'purged' || state === 'abandoned';
}

type Ended = Pick<NowOutcome, 'outcome'> & Partial<NowOutcome>;

const NOTHING = {
  revision: null,
  size: null,
  bytes: 0,
  at: null,
  checkedAbsentAt: null,
  detail: null,
  stays: [],
  reason: null,
  code: null,
} as const;

function outcomeOf(key: Key, tombstone: Tombstone | null, ended: Ended): NowOutcome {
  const { id = null, revision = null, size = null } = tombstone ?? {};
  return { ...NOTHING, key, id, revision, size, ...ended };
}

function goneBefore({ state, endedAt }: Tombstone): Ended {
  if (state === 'purged')
    return { outcome: 'gone', detail: `it was purged ${isoTime(endedAt)}`, at: endedAt, code: null };
  if (state === 'abandoned') return { outcome: 'gone', detail: 'it was never moved', code: 'not-found' };
  return { outcome: 'blocked', detail: 'it was not purged: try again', code: 'blocked' };
}

/** What is known to go wrong with one key; anything else is thrown. */
function failureOf(error: unknown): TombstonedError {
  if (error instanceof TombstonedError) return error;
  throw error;
}

function failed(error: Error): Ended {
  return { outcome: 'failed', detail: messageOf(error), reason: 'error', code: 'failed' };
}

function codeOf(reason: KeptReason): ErrorCode {
  if (reason === 'error') return 'failed';
  return reason === 'changed' ? 'conflict' : 'blocked';
}

async function* chunksOf(targets: AsyncIterable<NowTarget>): AsyncGenerator<NowTarget[]> {
  let chunk: NowTarget[] = [];
  for await (const target of targets) {
    chunk.push(target);
    if (chunk.length < CHUNK) continue;
    yield chunk;
    chunk = [];
  }
  if (chunk.length > 0) yield chunk;
}
