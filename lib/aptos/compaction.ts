import { TombstonedError } from '../domain/errors.ts';
import type { Key } from '../domain/key.ts';
import type { Covered } from './continuity.ts';
import { type Backup, metadataText } from './metadata.ts';
import type { Rows } from './rows.ts';
import type { MetadataView } from './view.ts';

/** How many lines a compacted file has at the most, by their kind; each from 1 up. */
export interface Factors {
  readonly epochEndings: number;
  readonly stateSnapshots: number;
  readonly transactions: number;
}

/** A file that compaction makes, or has made before. */
export interface CompactedFile {
  /** As the original tools name it, such as `transaction_compacted_0-99.meta`. */
  readonly name: string;
  readonly kind: Backup['kind'];
  readonly count: number;
  /** Its lines, as the tools write them and in their order, without their ends. */
  lines(): string[];
}

/**
 * What a view is compacted to: each kind's sorted lines, cut into chunks, in the order in which the original
 * tools write them. Throws where a chunk has a gap, as they do, and where two chunks have one name: before anything
 * is written.
 */
export function planCompaction(view: MetadataView, factors: Factors): CompactedFile[] {
  const files = [
    ...chunksOf(view.epochEndings, {
      factor: factors.epochEndings,
      name: (first, last) => `epoch_ending_compacted_${first.firstEpoch}-${last.lastEpoch}.meta`,
      covers: ({ firstEpoch, lastEpoch }) => ({ first: firstEpoch, last: lastEpoch }),
      unit: 'epoch',
    }),
    ...chunksOf(view.transactions, {
      factor: factors.transactions,
      name: (first, last) => `transaction_compacted_${first.firstVersion}-${last.lastVersion}.meta`,
      covers: ({ firstVersion, lastVersion }) => ({ first: firstVersion, last: lastVersion }),
      unit: 'version',
    }),
    ...chunksOf(view.snapshots, {
      factor: factors.stateSnapshots,
      name: (first, last) => `state_snapshot_compacted_epoch_${first.epoch}_${last.epoch}.meta`,
    }),
  ];
  checkNames(files);
  return files;
}

/** More snapshots of one epoch than a file has lines, or a backup that was made twice, would have one name for two files. */
function checkNames(files: readonly CompactedFile[]): void {
  const names = new Set<string>();
  for (const { name } of files) {
    if (names.has(name)) {
      throw new TombstonedError('failed', `nothing is compacted: two files would be named ${name}`, {
        key: name,
        hint: 'compact with a larger factor of its kind, so that one file has the lines of both',
      });
    }
    names.add(name);
  }
}

/** Whether a file has the name of a compacted one. */
export function isCompactedName(name: string): boolean {
  return /^(?:epoch_ending|transaction)_compacted_\d+-\d+\.meta$|^state_snapshot_compacted_epoch_\d+_\d+\.meta$/.test(
    name,
  );
}

interface Form<T extends Backup> {
  readonly factor: number;
  readonly name: (first: T, last: T) => string;
  /** What a line covers, where each is to begin where the one before ended plus one. */
  readonly covers?: (line: T) => Covered;
  readonly unit?: string;
}

function* chunksOf<T extends Backup>(rows: Rows<T>, form: Form<T>): Generator<CompactedFile> {
  const { factor } = form;
  if (!Number.isSafeInteger(factor) || factor < 1) {
    throw new TombstonedError('usage', `a compacted file can't have ${factor} lines`, {
      hint: 'give a whole number from 1 up',
    });
  }
  for (let from = 0; from < rows.length; from += factor) {
    const to = Math.min(from + factor, rows.length);
    const [first, last] = [rows.at(from), rows.at(to - 1)];
    if (first === undefined || last === undefined) throw new RangeError(`no row ${from} to ${to}`);
    const name = form.name(first, last);
    checkContinuous(rows, from, to, name, form);
    yield {
      name,
      kind: first.kind,
      count: to - from,
      lines: () => [...between(rows, from, to)].map((line) => metadataText(line)),
    };
  }
}

function* between<T extends Backup>(rows: Rows<T>, from: number, to: number): Generator<T> {
  for (let at = from; at < to; at++) {
    const line = rows.at(at);
    if (line !== undefined) yield line;
  }
}

function checkContinuous<T extends Backup>(
  rows: Rows<T>,
  from: number,
  to: number,
  name: string,
  { covers, unit }: Form<T>,
): void {
  if (covers === undefined) return;
  let next: bigint | undefined;
  for (const line of between(rows, from, to)) {
    const { first, last } = covers(line);
    if (next !== undefined && first !== next) {
      throw new TombstonedError(
        'failed',
        `nothing is compacted: ${name} would have lines for ${unit} ${next - 1n} and then ${first}, where ${next} is to come`,
        {
          key: line.manifest,
          hint: 'see the gap with tombstonectl aptos status, and bring the missing metadata back (tombstonectl ls --prefix metadata/)',
        },
      );
    }
    next = last + 1n;
  }
}

/** What becomes of the files that are listed, by when they were replaced. Seconds since 1970. */
export interface Replaced {
  /** Replaced for long enough, with since when. */
  readonly expired: ReadonlyMap<Key, bigint>;
  /** The others that are replaced, since when; as they are saved. */
  readonly saved: ReadonlyMap<Key, bigint>;
}

/**
 * Sorts out the listed files, as the original tools do: one that is none of the compacted ones counts as
 * replaced since the time that the newest timestamps have for it, or since now. It is expired when that
 * time plus `removeAfter` is past.
 */
export function replacedFiles(
  listed: Iterable<Key>,
  options: {
    readonly isCompacted: (file: Key) => boolean;
    readonly since: (file: Key) => bigint | null;
    readonly now: bigint;
    readonly removeAfter: bigint;
  },
): Replaced {
  const { isCompacted, since, now, removeAfter } = options;
  const expired = new Map<Key, bigint>();
  const saved = new Map<Key, bigint>();
  for (const file of listed) {
    if (isCompacted(file)) continue;
    const at = since(file);
    if (at !== null && at + removeAfter < now) expired.set(file, at);
    else saved.set(file, at ?? now);
  }
  return { expired, saved };
}
