import type { OpenBatch } from '../catalog/tombstones.ts';
import { TombstonedError } from '../domain/errors.ts';
import { type Key, printable } from '../domain/key.ts';
import { sameRevision } from '../domain/revision.ts';
import type { State } from '../domain/state.ts';
import type { FileLines, LineText } from '../metadata/lines.ts';
import { type LiveFile, LiveFiles, readPendingLines } from '../metadata/live-files.ts';
import { isMetadataKey, METADATA_PREFIX } from '../metadata/names.ts';
import { isPayload, type References, referencesOf, rootOf } from '../metadata/references.ts';
import type { Policy } from '../policy/policy.ts';
import type { Place } from '../run/place.ts';
import type { LiveObject } from '../store/store.ts';
import { lineInWords, unreadableIn } from './unreadable.ts';

/** How much of a plan is read at once. */
const PAGE = 5000;
/** More files than this are looked at by one listing, and not each by itself; how many of those at once. */
const FEW = 1000;
const AT_ONCE = 32;
/** How many tombstones of a key are looked at, and in which states its object has gone. */
const SOME = 10;
const AWAY: ReadonlySet<State> = new Set(['pending', 'purging', 'restoring', 'purged']);

/** What coverage keeps of a policy's plan. */
export interface PolicyCoverage {
  readonly kept: number;
  /** Why all of it is refused, or null. */
  readonly problem: TombstonedError | null;
}

export interface PolicyPlanned {
  /** Row numbers. */
  readonly sweep: number;
  readonly cause: number;
  readonly policy: Policy;
  readonly signal?: AbortSignal | undefined;
}

/**
 * The coverage guard of one sweep of a store with `format: aptos`: a metadata file leaves the live names
 * only if each of its lines is also in another live, whole file that stays, and nothing goes that lines
 * refer to. Asked when something is planned; and once more, with what others move at the same time, when
 * its intent is written.
 */
export class Coverage {
  readonly #place: Place;
  readonly #live: LiveFiles;
  readonly #damaged: ReadonlySet<string>;
  /** What was let go, key by key. */
  readonly #going = new Set<string>();
  /** By cause: which lines may be lost. */
  readonly #retiring = new Map<number, (line: LineText) => boolean>();
  /** By sweep: what it has planned of metadata. */
  readonly #planned = new Map<number, ReadonlySet<string>>();
  /** By key: what comes back to it at once. */
  readonly #comingBack = new Map<string, FileLines>();
  #references: References | undefined;
  #isFresh = false;

  private constructor(place: Place, damaged: ReadonlySet<string>) {
    this.#place = place;
    this.#damaged = damaged;
    this.#live = LiveFiles.of(place.store);
  }

  /**
   * That of a store; undefined where it has no metadata that would have to be covered. `damaged` are files
   * that can't be read, and of which somebody has made sure that others have what is left of them.
   */
  static of(place: Place, damaged: ReadonlySet<string> = new Set()): Coverage | undefined {
    return place.format === 'aptos' ? new Coverage(place, damaged) : undefined;
  }

  /** Takes out of a policy's plan what is not covered; all of it where that can't be told, or where something would be lost. */
  async ofPolicy({ sweep, cause, policy, signal }: PolicyPlanned): Promise<PolicyCoverage> {
    const { sweeps } = this.#place.catalog;
    const { count } = sweeps.plannedOf(sweep, cause);
    if (count === 0) return { kept: 0, problem: null };
    const refused = (problem: TombstonedError): PolicyCoverage => {
      sweeps.unplanCause(sweep, cause);
      return { kept: count, problem };
    };
    await this.#live.refresh(signal);
    this.#isFresh = true;
    const unreadable = unreadableIn(this.#place, this.#live, this.#damaged);
    if (unreadable !== undefined) return refused(unreadable);
    const needed = await this.#neededPayload(sweep, cause, policy.name, signal);
    if (needed !== undefined) return refused(needed);
    const retires = policy.retires ?? (() => false);
    const { going, kept } = this.#divide(sweep, cause, retires);
    const lost = this.#lowered(going);
    if (lost !== undefined) return refused(wouldLower(policy.name, lost));
    sweeps.unplan(sweep, kept);
    if (policy.retires !== undefined) this.#retiring.set(cause, retires);
    return { kept: kept.length, problem: null };
  }

  /** Why a live object that somebody names is to stay, in words, or null: then it counts as gone from now on. */
  async ofKey({ key, revision }: Pick<LiveObject, 'key' | 'revision'>): Promise<string | null> {
    const isKnown = (): boolean => {
      const file = this.#live.get(key);
      return file !== undefined && sameRevision(file.revision, revision);
    };
    if (!this.#isFresh || (isMetadataKey(key) && !isKnown())) {
      await this.#live.refresh();
      this.#isFresh = true;
    }
    if (key.startsWith(METADATA_PREFIX) && this.#isReplaced(key)) return null;
    const unreadable = unreadableIn(this.#place, this.#live, this.#damaged);
    if (unreadable !== undefined) return `not all metadata can be read: ${unreadable.message}`;
    if (!key.startsWith(METADATA_PREFIX)) return this.#whyNeeded(key);
    const file = this.#live.get(key);
    if (file === undefined || !isKnown()) return NOT_KNOWN;
    const { lost } = this.#live.index.standIns(file, (other) => other !== key && !this.#going.has(other));
    if (lost !== undefined) return isLostText(lost);
    this.#going.add(key);
    return null;
  }

  /** Notes which pending copy is about to come back to a key, in place of what is there. One that is not read whole stands in for nothing. */
  async comesBack(key: Key, copy: { readonly key: Key; readonly id: string }): Promise<void> {
    if (!isMetadataKey(key)) return;
    try {
      const file = await readPendingLines(this.#place.store, copy.key, copy.id);
      if (file !== undefined) this.#comingBack.set(key, file);
    } catch (error) {
      if (!(error instanceof TombstonedError)) throw error;
      this.#place.report('warn', `it stands in for nothing: ${error.message}`, { id: copy.id });
    }
  }

  /**
   * What of a batch is not covered, by its ids, in words. Called when its intents are written, and before
   * anything is moved: whoever else moves metadata sees them, or has ended, or is seen here.
   */
  async ofBatch(run: number, open: OpenBatch): Promise<Map<string, string>> {
    const kept = new Map<string, string>();
    const moves = open.moves.filter(({ key }) => key.startsWith(METADATA_PREFIX));
    if (moves.length === 0) return kept;
    const { catalog, row, store } = this.#place;
    // Others are looked for first: what has ended by then is not found live below.
    const moving = catalog.tombstones.movingBelow(row.n, METADATA_PREFIX, { run, batchAt: open.batchAt });
    const planned = this.#plannedOf(open.sweep);
    const fileOf = ({ key, revision }: (typeof moves)[number]): LiveFile | undefined => {
      const file = this.#live.get(key);
      return file !== undefined && sameRevision(file.revision, revision) ? file : undefined;
    };
    if (moves.some((move) => fileOf(move) === undefined)) await this.#live.refresh();
    const own = new Set<string>(moves.map(({ key }) => key));
    const looked = new Map<string, boolean>();
    const stays = (key: Key): boolean =>
      !own.has(key) &&
      !planned.has(key) &&
      !moving.has(key) &&
      looked.get(key) !== false &&
      !this.#hasMoved(key);
    for (let isListed = false; ; ) {
      const wanted = new Set<Key>();
      for (const move of moves) {
        if (kept.has(move.id) || this.#isReplaced(move.key)) continue;
        const file = fileOf(move);
        if (file === undefined) {
          kept.set(move.id, NOT_KNOWN);
          continue;
        }
        const retires = this.#retiring.get(move.cause);
        const { lost, files } = this.#live.index.standIns(without(file, retires), stays);
        if (lost !== undefined) kept.set(move.id, isLostText(lost));
        for (const key of files ?? []) if (!looked.has(key)) wanted.add(key);
      }
      if (wanted.size === 0 || isListed) return kept;
      if (wanted.size > FEW) {
        await this.#live.refresh();
        isListed = true;
        continue;
      }
      const all = [...wanted];
      for (let from = 0; from < all.length; from += AT_ONCE) {
        const some = all.slice(from, from + AT_ONCE);
        const heads = await Promise.all(some.map(async (key) => store.head(key)));
        for (const [i, key] of some.entries()) {
          const [now, known] = [heads[i], this.#live.get(key)];
          const isThere =
            now !== undefined && known !== undefined && sameRevision(now.revision, known.revision);
          looked.set(key, isThere);
        }
      }
    }
  }

  /** Whether the catalog knows that a file has gone, where the store may show it for a while still. */
  #hasMoved(key: Key): boolean {
    const { catalog, row, store } = this.#place;
    const file = this.#live.get(key);
    if (store.settle === 0 || file === undefined) return false;
    return catalog.tombstones
      .ofKey(row.n, key, SOME)
      .some(({ state, revision }) => AWAY.has(state) && sameRevision(revision, file.revision));
  }

  #plannedOf(sweep: number): ReadonlySet<string> {
    const planned =
      this.#planned.get(sweep) ?? new Set(this.#place.catalog.sweeps.plannedBelow(sweep, METADATA_PREFIX));
    this.#planned.set(sweep, planned);
    return planned;
  }

  /** Divides what a cause has planned of metadata into what is covered and what is not; a unit is one or the other. */
  #divide(
    sweep: number,
    cause: number,
    retires: (line: LineText) => boolean,
  ): { going: ReadonlySet<string>; kept: string[] } {
    const { sweeps } = this.#place.catalog;
    const mine = new Set<string>();
    const units = new Map<string, { file: LiveFile | undefined; key: Key }[]>();
    for (let after = ''; ; ) {
      const page = sweeps.plannedPage(sweep, cause, after, PAGE);
      const last = page.at(-1);
      if (last === undefined) break;
      after = last.key;
      for (const { key, revision, unit } of page) {
        if (!key.startsWith(METADATA_PREFIX)) continue;
        const file = this.#live.get(key);
        const isKnown = file !== undefined && sameRevision(file.revision, revision);
        const member = { key, file: isKnown ? file : undefined };
        const name = unit ?? key;
        const members = units.get(name);
        if (members === undefined) units.set(name, [member]);
        else members.push(member);
        mine.add(key);
      }
    }
    // What other policies of this sweep take.
    const going = new Set(this.#plannedNow(sweep).filter((key) => !mine.has(key)));
    const stays = (key: Key): boolean => !going.has(key);
    const kept: string[] = [];
    // The fewest lines first: of one line in two files, the compacted one stays.
    for (const members of [...units.values()].toSorted((a, b) => linesOf(a) - linesOf(b))) {
      for (const { key } of members) going.add(key);
      const isCovered = members.every(
        ({ file }) =>
          file !== undefined && this.#live.index.standIns(without(file, retires), stays).lost === undefined,
      );
      if (isCovered) continue;
      for (const { key } of members) {
        going.delete(key);
        kept.push(key);
      }
    }
    return { going, kept };
  }

  #plannedNow(sweep: number): string[] {
    return this.#place.catalog.sweeps.plannedBelow(sweep, METADATA_PREFIX);
  }

  /** The first line that is lost with what goes, if less could be restored from live files then. */
  #lowered(going: ReadonlySet<string>): LineText | undefined {
    const stays = (key: Key): boolean => !going.has(key);
    let lost: LineText | undefined;
    for (const line of this.#live.index.lines()) if (!this.#live.index.has(line, stays)) lost ??= line;
    if (lost === undefined) return undefined;
    const before = this.#live.view().restorable();
    const after = this.#live.view(stays).restorable();
    const isAsMuch =
      isAtLeast(after.version, before.version) &&
      isAtLeast(after.lastEpoch, before.lastEpoch) &&
      isAtLeast(after.lastTransaction, before.lastTransaction) &&
      isAtLeast(after.snapshot?.version, before.snapshot?.version);
    return isAsMuch ? undefined : lost;
  }

  /** What of a policy's plan live or pending metadata refers to, as an error. */
  async #neededPayload(
    sweep: number,
    cause: number,
    policy: string,
    signal: AbortSignal | undefined,
  ): Promise<TombstonedError | undefined> {
    for (let after = ''; ; ) {
      const page = this.#place.catalog.sweeps.plannedPage(sweep, cause, after, PAGE);
      const last = page.at(-1);
      if (last === undefined) return undefined;
      after = last.key;
      for (const { key } of page) {
        if (key.startsWith(METADATA_PREFIX)) continue;
        const { lines, doubt } = await this.#refers(signal);
        const line = lines.get(rootOf(key));
        if (line !== undefined) return wouldTake(policy, key, line);
        if (doubt !== null && isPayload(key)) return doubt;
      }
    }
  }

  async #whyNeeded(key: Key): Promise<string | null> {
    const { lines, doubt } = await this.#refers();
    const line = lines.get(rootOf(key));
    if (line !== undefined) return `metadata refers to it: ${lineInWords(line)}`;
    return doubt === null || !isPayload(key) ? null : `it may be in use: ${doubt.message}`;
  }

  async #refers(signal?: AbortSignal): Promise<References> {
    const { store, isProtected = () => false } = this.#place;
    this.#references ??= await referencesOf(store, this.#live, { isExcluded: isProtected, signal });
    return this.#references;
  }

  /** Whether what comes back to a key has each line that is there now, or what is there can't be read, and may go. */
  #isReplaced(key: Key): boolean {
    const back = this.#comingBack.get(key);
    const file = this.#live.get(key);
    if (file === undefined)
      return this.#live.errors.has(key) && (back !== undefined || this.#damaged.has(key));
    if (back === undefined) return false;
    const isBack = (text: LineText): boolean =>
      back.lines.includes(text) || back.dated.some((one) => one.text === text);
    return [...file.lines, ...file.dated.map(({ text }) => text)].every(isBack);
  }
}

/** How many lines the files of a unit have. */
function linesOf(members: readonly { readonly file: LiveFile | undefined }[]): number {
  return members.reduce((sum, { file }) => sum + (file?.lines.length ?? 0), 0);
}

function isAtLeast(after: bigint | null | undefined, before: bigint | null | undefined): boolean {
  return (after ?? -1n) >= (before ?? -1n);
}

const NOT_KNOWN = 'it is no metadata file as it was read: no other is known to have its lines';

function isLostText(line: LineText): string {
  return `no other live metadata file that stays has its line ${lineInWords(line)}`;
}

function without(file: FileLines, retires: ((line: LineText) => boolean) | undefined): FileLines {
  return retires === undefined ? file : { ...file, lines: file.lines.filter((line) => !retires(line)) };
}

function wouldLower(policy: string, line: LineText): TombstonedError {
  return new TombstonedError(
    'blocked',
    `policy ${policy} moves nothing: less could be restored from live files without ${lineInWords(line)}`,
    { reason: 'coverage', key: policy, hint: 'see tombstonectl aptos status' },
  );
}

function wouldTake(policy: string, key: Key, line: LineText): TombstonedError {
  return new TombstonedError(
    'blocked',
    `policy ${policy} moves nothing: it names ${printable(key)}, and metadata refers to that: ${lineInWords(line)}`,
    { reason: 'coverage', key: policy, hint: 'let its prefix and match name no payload that is in use' },
  );
}
