import { type CompactedFile, type Factors, planCompaction, replacedFiles } from '../aptos/compaction.ts';
import { MOST_U64 } from '../aptos/exact-json.ts';
import { metadataText } from '../aptos/metadata.ts';
import { metadataFileBytes, readMetadataFile } from '../aptos/metadata-file.ts';
import { compactedAt } from '../aptos/timestamps.ts';
import { TombstonedError } from '../domain/errors.ts';
import { inFlight } from '../domain/in-flight.ts';
import type { KeptReason } from '../domain/kept-reason.ts';
import { compareKeys, type Key, printable } from '../domain/key.ts';
import type { Guards, Limits } from '../policy/policy.ts';
import type { Place } from '../run/place.ts';
import { checkPlace, inRun, type Run } from '../run/run.ts';
import type { NewObject } from '../store/store.ts';
import { byHandIn } from '../sweep/by-hand.ts';
import type { HandOutcome } from '../sweep/hand-outcome.ts';
import { allOf, type CutFile, checkRemains, cutFilesOf } from './cut-files.ts';
import { digestOf, type Loaded, loadMetadata, metadataKey, textsOf } from './load.ts';

/** How many files are made in one go. */
const WRITTEN_AT_ONCE = 256;

/** What the files that compaction replaces are tombstoned for. */
const COMPACTION_POLICY = 'aptos-compaction';

export interface CompactOptions {
  readonly factors: Factors;
  /** How long a file stays after it was replaced, ms. */
  readonly removeAfter: number;
  readonly guards: Guards;
  readonly limits: Limits;
  /** How many files are read or written at once. */
  readonly concurrency: number;
  /** Says what would be done, and changes nothing. */
  readonly dryRun: boolean;
  readonly signal?: AbortSignal | undefined;
  /** Each compacted file, in their order. */
  readonly onCompacted?: (file: { key: Key; lines: number; outcome: CompactedOutcome }) => void;
  /** Each file that was replaced for long enough, and what became of it. */
  readonly onReplaced?: (outcome: HandOutcome) => void;
  readonly onProgress?: (done: number, total: number) => void;
  readonly onRead?: (files: number) => void;
}

/** `there`: it was, whole. `redone`: it was, and did not hold all of its lines. */
export type CompactedOutcome = 'written' | 'there' | 'redone';

export interface CompactResult {
  /** Metadata files that were read. */
  readonly files: number;
  readonly lines: number;
  readonly written: number;
  readonly there: number;
  readonly redone: number;
  /** Replaced, and not for long enough. */
  readonly waiting: number;
  /** Replaced for long enough: what became of them. */
  readonly expired: number;
  readonly tombstoned: number;
  readonly failed: number;
  readonly kept: ReadonlyMap<KeptReason, number>;
  /** Why a limit keeps them, in words, or null. */
  readonly over: string | null;
  /** The sweep that tombstoned them, or null: there was none. */
  readonly sweep: string | null;
  /** The timestamps that were saved, or null: nothing has changed since the newest, or it is a dry run. */
  readonly timestamps: Key | null;
}

/**
 * Compacts a store's metadata as the original tools do, safely: each compacted file is whole and durable
 * before it has its name; one that was cut short is written again before anything relies on it; what was
 * replaced for long enough is tombstoned, if each of its lines is in a compacted file. A metadata file that
 * can't be read, or a gap, is an error, and nothing is changed. What a crash leaves, the next run finishes.
 */
export async function compact(place: Place, options: CompactOptions): Promise<CompactResult> {
  if (place.format !== 'aptos') {
    throw new TombstonedError('usage', `store ${place.row.name} has not format: aptos`, {
      key: place.row.name,
      hint: 'set it in the config, if it holds a backup of an Aptos-family node',
    });
  }
  await checkPlace(place, options.dryRun);
  return inRun(place, 'sweep', async (run) => new Compaction(place, run, options).run());
}

/** A compacted file as it is planned, and how it stands. */
interface Planned {
  readonly key: Key;
  readonly file: CompactedFile;
  readonly stands: 'missing' | 'whole' | 'cut' | 'lacking';
}

class Compaction {
  readonly #place: Place;
  readonly #run: Run;
  readonly #options: CompactOptions;
  readonly #kept = new Map<KeptReason, number>();
  #tombstoned = 0;
  #failed = 0;
  #over: string | null = null;
  #sweep: string | null = null;
  /** Checked: what is left of each is in other files. */
  #cut: ReadonlySet<string> = new Set();

  constructor(place: Place, run: Run, options: CompactOptions) {
    this.#place = place;
    this.#run = run;
    this.#options = options;
  }

  async run(): Promise<CompactResult> {
    const { factors, dryRun, concurrency, signal, onRead } = this.#options;
    const loaded = await loadMetadata(this.#place, { concurrency, signal, onRead });
    const cut = cutFilesOf(loaded);
    checkNewest(loaded);
    checkPartial(loaded);
    this.#cut = new Set(cut.map(({ key }) => key));
    const files = planCompaction(loaded.view, factors);
    await checkRemains(this.#place.store, cut, files);
    const planned: Planned[] = [];
    for (const file of files) planned.push(await this.#standing(file, loaded, cut));
    if (!dryRun) await this.#write(planned, loaded, cut);
    for (const { key, file, stands } of planned) {
      this.#options.onCompacted?.({ key, lines: file.count, outcome: outcomeOf(stands) });
    }
    const count = (...all: Planned['stands'][]): number =>
      planned.filter(({ stands }) => all.includes(stands)).length;
    const counts = { written: count('missing'), there: count('whole'), redone: count('cut', 'lacking') };
    const { expired, waiting, saved } = await this.#replace(planned, loaded);
    const isChanged = counts.written + counts.redone + this.#tombstoned > 0;
    const timestamps = dryRun ? null : await this.#save(saved, loaded, isChanged);
    return {
      files: loaded.files.size,
      lines: files.reduce((sum, file) => sum + file.count, 0),
      ...counts,
      waiting,
      expired,
      tombstoned: this.#tombstoned,
      failed: this.#failed,
      kept: this.#kept,
      over: this.#over,
      sweep: this.#sweep,
      timestamps,
    };
  }

  /** How a compacted file stands, before anything is written. */
  async #standing(file: CompactedFile, loaded: Loaded, cut: readonly CutFile[]): Promise<Planned> {
    const key = metadataKey(file.name);
    if (cut.some((one) => one.key === key)) return { key, file, stands: 'cut' };
    const there = loaded.files.get(key);
    if (there === undefined) return { key, file, stands: 'missing' };
    const lines = file.lines();
    const isWhole = there.digest === digestOf(lines) || (await this.#holds(key, lines));
    if (isWhole) return { key, file, stands: 'whole' };
    if (there.own === null) return { key, file, stands: 'lacking' };
    throw new TombstonedError(
      'failed',
      `${printable(key)} does not hold all of its lines, and has ${there.own}: it is not written again`,
      { key, hint: 'move that file away by hand, or compact with another factor' },
    );
  }

  /** Whether a live file holds all these lines, as it does where it has just these bytes. */
  async #holds(key: Key, lines: readonly string[], written?: Uint8Array): Promise<boolean> {
    const object = await this.#place.store.openLive(key);
    if (object === undefined) return false;
    const bytes = await allOf(object);
    if (bytes === undefined) return false;
    if (written !== undefined && bytes.equals(written)) return true;
    const texts = textsOf((await readMetadataFile(key, [bytes])).lines);
    return lines.every((line) => texts.has(line));
  }

  async #write(planned: readonly Planned[], loaded: Loaded, cut: readonly CutFile[]): Promise<void> {
    const { signal, onProgress } = this.#options;
    const missing = planned.filter(({ stands }) => stands === 'missing');
    // Those that can't be read first: while there is one, nothing else gives way.
    const redone = [
      ...planned.filter(({ stands }) => stands === 'cut'),
      ...planned.filter(({ stands }) => stands === 'lacking'),
    ];
    const total = missing.length + redone.length;
    let done = 0;
    for (let from = 0; from < missing.length; from += WRITTEN_AT_ONCE) {
      signal?.throwIfAborted();
      const batch = missing.slice(from, from + WRITTEN_AT_ONCE);
      await this.#create(
        batch.map(({ key, file }) => ({ key, lines: file.lines() })),
        loaded,
      );
      onProgress?.((done += batch.length), total);
    }
    // Each of their lines is in other files that are live and whole: what is left of them may wait elsewhere.
    const left = cut.filter(({ key }) => !redone.some((one) => one.key === key));
    for (const { key } of left) await this.#giveWay(key);
    for (const { key, file, stands } of redone) {
      signal?.throwIfAborted();
      const lines = file.lines();
      if (stands === 'lacking') {
        // Some of its lines may be nowhere else: they have another live file before it gives way.
        const name = `${file.name.replace(/\.meta$/, '')}.redone-${this.#now()}.meta`;
        await this.#create([{ key: metadataKey(name), lines }], loaded);
      }
      await this.#giveWay(key);
      await this.#create([{ key, lines }], loaded);
      onProgress?.(++done, total);
    }
  }

  /** Makes files of these lines, each whole and durable before it has its name, and reads them once more. */
  async #create(
    batch: readonly { readonly key: Key; readonly lines: readonly string[] }[],
    { files, isGzip }: Loaded,
  ): Promise<void> {
    const { store } = this.#place;
    const [like] = files.keys();
    const objects: NewObject[] = [];
    for (const { key, lines } of batch) {
      objects.push({ key, body: await metadataFileBytes(lines, { isGzip }), like });
    }
    await store.create(objects);
    await inFlight(this.#options.concurrency, [...batch.entries()], async ([i, { key, lines }]) => {
      if (await this.#holds(key, lines, objects[i]?.body)) return;
      throw new TombstonedError('failed', `${printable(key)} does not hold what was to be written there`, {
        key,
        hint: 'something else writes it too: run it again when that has ended',
      });
    });
  }

  /** Tombstones a compacted file that does not hold all of its lines. */
  async #giveWay(key: Key): Promise<void> {
    let last: HandOutcome | undefined;
    await this.#tombstone([key], 'it did not hold all of its lines, and is written again', {
      // However young it is: nothing may rely on it as it is.
      guards: { ...this.#options.guards, minimumAge: Number.NEGATIVE_INFINITY },
      onOutcome: (outcome) => {
        last = outcome;
      },
    });
    if (last !== undefined && isAway(last)) return;
    throw new TombstonedError(
      last?.outcome === 'blocked' ? 'blocked' : 'failed',
      `${printable(key)} does not hold all of its lines, and can't be written again: ${last?.detail ?? 'it was not moved'}`,
      { key, reason: last?.reason ?? undefined, hint: 'until it is, nothing that it replaces is tombstoned' },
    );
  }

  /** Tombstones what was replaced for long enough. Gives how many that are, how many are not yet, and the times to save. */
  async #replace(
    planned: readonly Planned[],
    loaded: Loaded,
  ): Promise<{ expired: number; waiting: number; saved: Map<Key, bigint> }> {
    const compacted = new Set(planned.map(({ key }) => key));
    const { expired, saved } = replacedFiles(loaded.files.keys(), {
      isCompacted: (key) => compacted.has(key),
      since: (key) => compactedAt(loaded.newest, key),
      now: this.#now(),
      removeAfter: BigInt(Math.ceil(this.#options.removeAfter / 1000)),
    });
    const gone = new Set<string>();
    if (expired.size > 0) {
      // Whether its lines are in files that stay, the coverage guard looks at.
      this.#sweep = await this.#tombstone([...expired.keys()], 'a compacted file has its lines', {
        guards: this.#options.guards,
        onOutcome: (outcome) => {
          this.#ended(outcome);
          if (isAway(outcome)) gone.add(outcome.key);
        },
      });
    }
    // One that was not moved keeps its time.
    const left = [...expired].filter(([key]) => !gone.has(key));
    return { expired: expired.size, waiting: saved.size, saved: new Map([...saved, ...left]) };
  }

  #ended(outcome: HandOutcome): void {
    this.#options.onReplaced?.(outcome);
    if (outcome.outcome === 'tombstoned') this.#tombstoned += 1;
    if (outcome.outcome === 'failed') this.#failed += 1;
    if (outcome.outcome !== 'blocked' || outcome.reason === null) return;
    this.#kept.set(outcome.reason, (this.#kept.get(outcome.reason) ?? 0) + 1);
    if (outcome.reason === 'limit') this.#over = outcome.detail;
  }

  async #tombstone(
    keys: readonly Key[],
    reason: string,
    { guards, onOutcome }: { guards: Guards; onOutcome: (outcome: HandOutcome) => void },
  ): Promise<string | null> {
    const { limits, dryRun, signal } = this.#options;
    return byHandIn(this.#place, this.#run, {
      keys,
      reason,
      policy: COMPACTION_POLICY,
      guards,
      limits,
      damaged: this.#cut,
      dryRun,
      onOutcome,
      signal,
    });
  }

  /** Saves the timestamps, unless the newest say the same. */
  async #save(saved: ReadonlyMap<Key, bigint>, loaded: Loaded, isChanged: boolean): Promise<Key | null> {
    const { newest, files } = loaded;
    if (newest === null ? saved.size === 0 : !isChanged && isSaid(saved, loaded)) return null;
    const timestamps = new Map([...saved].toSorted(([a], [b]) => compareKeys(a, b)));
    const now = this.#now();
    // What a clock that was ahead has saved would be the newest for long.
    let fileCompactedAt =
      newest !== null && newest.fileCompactedAt >= now ? newest.fileCompactedAt + 1n : now;
    const [like] = files.keys();
    for (;;) {
      const key = metadataKey(`compaction_timestamps_${fileCompactedAt}.meta`);
      const line = metadataText({ kind: 'compaction-timestamps', fileCompactedAt, timestamps });
      const body = await metadataFileBytes([line], { isGzip: loaded.isGzip });
      const [outcome] = await this.#place.store.create([{ key, body, like }]);
      if (outcome === 'created') return key;
      fileCompactedAt += 1n; // another compaction has saved its own in this second
    }
  }

  /** s since 1970; by a clock that is ahead, what was replaced just now would have expired. */
  #now(): bigint {
    const { catalog, clock } = this.#place;
    return BigInt(Math.floor(catalog.clock.sureTime(clock) / 1000));
  }
}

/** Throws where no timestamps could be newer than those that are there. */
function checkNewest({ files }: Loaded): void {
  const [key] = [...files].find(([, { savedAt }]) => savedAt === MOST_U64) ?? [];
  if (key === undefined) return;
  throw new TombstonedError(
    'failed',
    `nothing is compacted: ${printable(key)} says the largest time there is, and none can be saved after it`,
    { key, hint: 'no compactor writes that: move it out of the store by hand' },
  );
}

/**
 * Throws where a line would be compacted to less than it says: whoever wrote it may not read that, or would take both
 * for two backups of one range. Where the lesser line is there already, nothing new comes of it.
 */
function checkPartial({ partial, view }: Loaded): void {
  if (partial.size === 0) return;
  const left = new Map(partial);
  for (const rows of [view.epochEndings, view.snapshots, view.transactions])
    for (const line of rows) left.delete(metadataText(line));
  for (const key of left.values()) {
    throw new TombstonedError(
      'failed',
      `nothing is compacted: ${printable(key)} has a line with members that this version does not know, and would leave out`,
      {
        key,
        hint: 'update tombstoned; or compact with the tool that wrote it, and let an aptos-compaction policy tombstone what that replaces',
      },
    );
  }
}

function isAway({ outcome }: HandOutcome): boolean {
  return outcome === 'tombstoned' || outcome === 'already' || outcome === 'gone';
}

/** Whether the newest timestamps say this already, but of their own file. */
function isSaid(saved: ReadonlyMap<Key, bigint>, { newest, files }: Loaded): boolean {
  return [...saved].every(
    ([key, at]) =>
      compactedAt(newest, key) === at || files.get(key)?.savedAt === (newest?.fileCompactedAt ?? null),
  );
}

function outcomeOf(stands: Planned['stands']): CompactedOutcome {
  if (stands === 'whole') return 'there';
  return stands === 'missing' ? 'written' : 'redone';
}
