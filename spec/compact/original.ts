import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { gunzipSync } from 'node:zlib';

type Line = Readonly<Record<string, Readonly<Record<string, unknown>>>>;

/** Numbers of a line by which it is sorted, of each variant that is compacted, and how its files are named. */
const VARIANTS = [
  {
    variant: 'EpochEndingBackup',
    columns: ['first_epoch', 'last_epoch', 'first_version', 'last_version'],
    ends: ['first_epoch', 'last_epoch'],
    name: (first: number, last: number) => `epoch_ending_compacted_${first}-${last}.meta`,
    isContinuous: true,
  },
  {
    variant: 'TransactionBackup',
    columns: ['first_version', 'last_version'],
    ends: ['first_version', 'last_version'],
    name: (first: number, last: number) => `transaction_compacted_${first}-${last}.meta`,
    isContinuous: true,
  },
  {
    variant: 'StateSnapshotBackup',
    columns: ['epoch', 'version'],
    ends: ['epoch', 'epoch'],
    name: (first: number, last: number) => `state_snapshot_compacted_epoch_${first}_${last}.meta`,
    isContinuous: false,
  },
] as const;

export interface OriginalOptions {
  readonly factor: number;
  /** Seconds since 1970. */
  readonly now: number;
  /** Seconds. */
  readonly removeAfter: number;
  /** Is asked before each file is written or moved: it may throw, as a kill or a failed command. */
  readonly before?: (step: 'write' | 'move', name: string) => void;
}

/** What the original compactor does in a directory, with its faults: a small model of it, of its own making. */
export function compactAsTheOriginal(root: string, options: OriginalOptions): void {
  const { factor, now, removeAfter, before } = options;
  const directory = path.join(root, 'metadata');
  const files = readdirSync(directory).toSorted();
  const lines = new Map<string, Line>();
  for (const name of files)
    for (const text of linesIn(path.join(directory, name))) lines.set(text, parse(text));
  const made = new Set<string>();
  for (const { variant, columns, ends, name, isContinuous } of VARIANTS) {
    const sorted = [...lines]
      .flatMap(([text, line]) => (line[variant] === undefined ? [] : [{ text, of: line[variant] }]))
      .toSorted((a, b) => columns.map((c) => compare(a.of[c], b.of[c])).find((n) => n !== 0) ?? 0);
    for (let at = 0; at < sorted.length; at += factor) {
      const chunk = sorted.slice(at, at + factor);
      for (const [i, { of }] of chunk.entries()) {
        const earlier = chunk[i - 1];
        if (!isContinuous || earlier === undefined) continue;
        if (Number(of[ends[0]]) !== Number(earlier.of[ends[1]]) + 1)
          throw new Error(`${variant} is not continuous`);
      }
      const file = name(Number(chunk[0]?.of[ends[0]]), Number(chunk.at(-1)?.of[ends[1]]));
      made.add(file);
      writeAsACommand(path.join(directory, file), chunk.map(({ text }) => `${text}\n`).join(''), () =>
        before?.('write', file),
      );
    }
  }
  const saved: Record<string, number> = {};
  const timestamps = newestTimestampsIn(
    files.flatMap((name) => linesIn(path.join(directory, name)).map(parse)),
  );
  for (const name of files) {
    if (made.has(name)) continue;
    const handle = `metadata/${name}`;
    const at = timestamps[handle] ?? null;
    if (at === null || now <= at + removeAfter) {
      saved[handle] = at ?? now;
      continue;
    }
    try {
      before?.('move', name);
      mkdirSync(path.join(root, 'metadata_backup'), { recursive: true });
      renameSync(path.join(directory, name), path.join(root, 'metadata_backup', name));
    } catch {
      // "ignoring": it has dropped out of the timestamps all the same
    }
  }
  const line = { CompactionTimestamps: { file_compacted_at: now, compaction_timestamps: saved } };
  writeAsACommand(
    path.join(directory, `compaction_timestamps_${now}.meta`),
    `${JSON.stringify(line)}\n`,
    () => undefined,
  );
}

/** What a restore of the original makes of files that it has listed: those that it can't get are skipped with a warning. */
export function restoreAsTheOriginal(
  root: string,
  listed: readonly string[],
): { lines: Set<string>; warnings: string[] } {
  const lines = new Set<string>();
  const warnings: string[] = [];
  for (const name of listed) {
    const file = path.join(root, 'metadata', name);
    if (existsSync(file)) for (const text of linesIn(file)) lines.add(text);
    else warnings.push(name);
  }
  return { lines, warnings };
}

/** A shell writes into the file itself, and leaves one that exists as it is (`set -o noclobber`). */
function writeAsACommand(file: string, content: string, middle: () => void): void {
  if (existsSync(file)) return;
  const cut = content.lastIndexOf('\n', Math.floor(content.length / 2)) + 1;
  writeFileSync(file, content.slice(0, cut));
  middle();
  writeFileSync(file, content);
}

function linesIn(file: string): string[] {
  const raw = readFileSync(file);
  const text = (raw[0] === 0x1f ? gunzipSync(raw) : raw).toString();
  return text.split('\n').filter((line) => line !== '');
}

function parse(text: string): Line {
  return JSON.parse(text) as Line;
}

function compare(a: unknown, b: unknown): number {
  return Number(a) - Number(b);
}

function newestTimestampsIn(lines: readonly Line[]): Record<string, number | null> {
  const all = lines.flatMap(({ CompactionTimestamps: one }) => (one === undefined ? [] : [one]));
  const newest = all.toSorted((a, b) => compare(b['file_compacted_at'], a['file_compacted_at']))[0];
  return (newest?.['compaction_timestamps'] ?? {}) as Record<string, number | null>;
}
