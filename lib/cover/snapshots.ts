import { parseLine } from '../aptos/metadata.ts';
import type { MetadataView } from '../aptos/view.ts';
import { isWhole, type LineText } from '../metadata/lines.ts';

/** The version of the oldest of the newest so many snapshots that a restore can begin with; null where there are fewer. */
export function oldestKept(view: MetadataView, keep: number): bigint | null {
  const { version } = view.restorable();
  if (version === null) return null;
  let count = 0;
  let last: bigint | undefined;
  for (const snapshot of view.snapshots.backwards()) {
    if (snapshot.version > version || snapshot.version === last) continue;
    last = snapshot.version;
    count += 1;
    if (count === keep) return last;
  }
  return null;
}

/** Of a line that is a snapshot and nothing else: its version. */
export function snapshotVersion(line: LineText): bigint | undefined {
  if (!isWhole(line)) return undefined;
  const { metadata, hasMore } = parseLine(line);
  return metadata.kind === 'state-snapshot' && !hasMore ? metadata.version : undefined;
}
