import { createHash } from 'node:crypto';
import { type MetadataLine, metadataText } from '../aptos/metadata.ts';
import type { Key } from '../domain/key.ts';

/**
 * What a line says, as a text: two files say the same where it is the same. Where a line says more than
 * this program knows, or something else, that is its exact text.
 */
export type LineText = string;

/** Lines are kept as they are up to this length; of longer ones their hash. */
const LONGEST_KEPT = 1024;

export function lineText({ metadata, text, hasMore }: MetadataLine): LineText {
  const exact = metadata.kind === 'unknown' || hasMore ? text : metadataText(metadata);
  if (exact.length <= LONGEST_KEPT) return exact;
  return `sha256 of a line of ${exact.length} characters: ${createHash('sha256').update(exact).digest('base64')}`;
}

/** Whether a text is the line itself, and not what tells a long one. */
export function isWhole(line: LineText): boolean {
  return !line.startsWith('sha256');
}

/** Timestamps of a compaction: they say nothing any more once newer ones are saved. */
interface Dated {
  readonly text: LineText;
  readonly at: bigint;
}

/** A metadata file, as far as what it says is concerned. */
export interface FileLines {
  readonly key: Key;
  readonly lines: readonly LineText[];
  readonly dated: readonly Dated[];
}

export function fileLines(key: Key, lines: readonly MetadataLine[]): FileLines {
  const texts: LineText[] = [];
  const dated: Dated[] = [];
  for (const line of lines) {
    const { metadata, hasMore } = line;
    const text = lineText(line);
    if (metadata.kind === 'compaction-timestamps' && !hasMore)
      dated.push({ text, at: metadata.fileCompactedAt });
    else texts.push(text);
  }
  return { key, lines: [...new Set(texts)], dated };
}

/** Which files have a line: some 200 bytes a line, with its text. */
export class LineIndex {
  readonly #holders = new Map<LineText, FileLines[]>();
  readonly #dated = new Set<FileLines>();

  add(file: FileLines): void {
    for (const line of file.lines) {
      const holders = this.#holders.get(line);
      if (holders === undefined) this.#holders.set(line, [file]);
      else holders.push(file);
    }
    if (file.dated.length > 0) this.#dated.add(file);
  }

  remove(file: FileLines): void {
    for (const line of file.lines) {
      const holders = this.#holders.get(line) ?? [];
      if (holders.length === 1 && holders[0] === file) this.#holders.delete(line);
      else if (holders.includes(file)) holders.splice(holders.indexOf(file), 1);
    }
    this.#dated.delete(file);
  }

  /** All lines, each once, but timestamps. */
  lines(): IterableIterator<LineText> {
    return this.#holders.keys();
  }

  /** Whether a file that stays has a line. */
  has(line: LineText, stays: (key: Key) => boolean): boolean {
    return this.#holders.get(line)?.some(({ key }) => stays(key)) === true;
  }

  /** The files that have a line. */
  holders(line: LineText): readonly FileLines[] {
    return this.#holders.get(line) ?? [];
  }

  /**
   * The files that stand in for one, of those that stay: each of its lines is in one of them. Or the first
   * line that is in none. Timestamps of a compaction need newer ones, or the same.
   */
  standIns(file: FileLines, stays: (key: Key) => boolean): StandIns {
    const files = new Set<Key>();
    for (const line of file.lines) {
      // The last in the order of keys stays the longest where a plan takes them in that order.
      const holder = this.#holders.get(line)?.findLast(({ key }) => stays(key));
      if (holder === undefined) return { lost: line };
      files.add(holder.key);
    }
    for (const { text, at } of file.dated) {
      const newer = this.#newer(text, at, stays);
      if (newer === undefined) return { lost: text };
      files.add(newer);
    }
    return { files };
  }

  #newer(text: LineText, at: bigint, stays: (key: Key) => boolean): Key | undefined {
    for (const { key, dated } of this.#dated)
      if (dated.some((one) => one.at > at || one.text === text) && stays(key)) return key;
    return undefined;
  }

  /** The files with the timestamps that were saved last. */
  newestDated(): Key[] {
    let newest = -1n;
    let keys: Key[] = [];
    for (const { key, dated } of this.#dated) {
      for (const { at } of dated) {
        if (at > newest) keys = [];
        if (at >= newest) keys.push(key);
        newest = at > newest ? at : newest;
      }
    }
    return keys;
  }
}

type StandIns =
  | { readonly files: ReadonlySet<Key>; readonly lost?: undefined }
  | { readonly lost: LineText; readonly files?: undefined };
