import type { Metadata, MetadataLine } from './metadata.ts';

/** What the name of a metadata file says that its lines have, from the first to the last. */
interface Named {
  readonly first: bigint;
  readonly last: bigint;
  /** What a line has of it; undefined where it is about something else. */
  readonly of: (metadata: Metadata) => readonly [bigint, bigint] | undefined;
}

/**
 * How a file's lines are not what its name says, or undefined. This tells a file that was cut at the end of a
 * line, which looks whole otherwise. Names that are none of the original tools' say nothing.
 */
export function nameProblem(handle: string, lines: readonly MetadataLine[]): string | undefined {
  const named = whatNameSays(handle.slice(handle.lastIndexOf('/') + 1));
  if (named === undefined) return undefined;
  let first: bigint | undefined;
  let last: bigint | undefined;
  for (const { metadata } of lines) {
    const range = named.of(metadata);
    if (range === undefined) continue;
    if (first === undefined || range[0] < first) first = range[0];
    if (last === undefined || range[1] > last) last = range[1];
  }
  if (first === named.first && last === named.last) return undefined;
  const there = first === undefined || last === undefined ? 'none of that' : spread(first, last);
  return `its name says ${spread(named.first, named.last)}, its lines have ${there}`;
}

function spread(first: bigint, last: bigint): string {
  return first === last ? first.toString() : `${first} to ${last}`;
}

const FORMS: readonly (readonly [RegExp, Named['of']])[] = [
  [
    /^epoch_ending_(?:compacted_)?(\d{1,20})-(\d{1,20})\.meta$/,
    (line) => (line.kind === 'epoch-ending' ? [line.firstEpoch, line.lastEpoch] : undefined),
  ],
  [
    /^state_snapshot_ver_(\d{1,20})\.meta$/,
    (line) => (line.kind === 'state-snapshot' ? [line.version, line.version] : undefined),
  ],
  [
    /^state_snapshot_compacted_epoch_(\d{1,20})_(\d{1,20})\.meta$/,
    (line) => (line.kind === 'state-snapshot' ? [line.epoch, line.epoch] : undefined),
  ],
  [
    /^transaction_(?:compacted_)?(\d{1,20})-(\d{1,20})\.meta$/,
    (line) => (line.kind === 'transaction' ? [line.firstVersion, line.lastVersion] : undefined),
  ],
  [
    /^compaction_timestamps_(\d{1,20})\.meta$/,
    (line) =>
      line.kind === 'compaction-timestamps' ? [line.fileCompactedAt, line.fileCompactedAt] : undefined,
  ],
];

function whatNameSays(name: string): Named | undefined {
  for (const [form, of] of FORMS) {
    const [, first, last = first] = form.exec(name) ?? [];
    if (first !== undefined && last !== undefined) return { first: BigInt(first), last: BigInt(last), of };
  }
  return undefined;
}
