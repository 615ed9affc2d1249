import type { Tombstone } from '../../catalog/tombstones.ts';
import { isoTime } from '../../domain/clock.ts';
import { hasOtherMd5, isCopyOf, parseTombstoneId, pendingName } from '../../domain/ids.ts';
import type { Key } from '../../domain/key.ts';
import { modifiedNs, type Revision } from '../../domain/revision.ts';
import type { PendingCopy } from '../../store/store.ts';
import type { Difference, Remedies } from './difference.ts';

/** A pending name, with what the catalog and the store have of it at one moment. */
export interface Judged {
  readonly key: Key;
  readonly id: string;
  readonly row: Tombstone | undefined;
  readonly copy: PendingCopy | undefined;
  /** The store's name, and the beginning of its pending names. */
  readonly store: string;
  readonly pendingPrefix: string;
  /** ms since 1970, with what clocks may differ by: no id is younger. */
  readonly latest: number;
}

/** What is not as it should be with a pending name. What a run is at counts as well: that run sees to it. */
export function judge(judged: Judged, remedies: Remedies): Difference[] {
  const differences = [ofPair(judged, remedies), ofTime(judged, remedies)];
  return differences.filter((difference) => difference !== undefined);
}

function ofPair(judged: Judged, remedies: Remedies): Difference | undefined {
  const { key, id, row, copy, store, pendingPrefix } = judged;
  const name = pendingName(pendingPrefix, key, id);
  const of = { key, id };
  if (row === undefined || row.store !== store) {
    if (copy === undefined) return undefined;
    const whose = row === undefined ? 'the catalog does not know it' : `its id is one of store ${row.store}`;
    return { ...of, problem: 'missing-row', detail: whose, remedy: remedies.ctl('rebuild') };
  }
  if (row.key !== key) {
    if (copy === undefined) return undefined;
    const detail = `its id is that of ${pendingName(pendingPrefix, row.key, id)}`;
    const remedy = remedies.move(name, pendingName(pendingPrefix, row.key, id));
    return { ...of, problem: 'other-key', detail, remedy };
  }
  switch (row.state) {
    case 'moving':
    case 'purging':
    case 'restoring':
      return undefined; // its run sees to it; what a dead one has left is told as that run's
    case 'purged':
    case 'abandoned': {
      if (copy === undefined) return undefined;
      const detail = `the catalog says that it was ${row.state}, and its pending copy is there`;
      return { ...of, problem: 'left-copy', detail, remedy: remedies.away(name) };
    }
    case 'pending':
    case 'restored': {
      if (copy === undefined) {
        const detail = `it is ${row.state}, and its pending copy is not there`;
        const remedy = `bring ${name} back from a backup of the store; ${remedies.ctl('verify --repair')} records that it is gone`;
        return { ...of, problem: 'missing-copy', detail, remedy };
      }
      // Under a key an ETag is no MD5: a look says so, a listing does not.
      const isOther = copy.md5 !== null && hasOtherMd5(copy.revision, row.revision);
      if (isCopyOf(id, copy.revision, row.revision) && !isOther) return undefined;
      const detail = `its pending copy has ${revisionWords(copy.revision)}; ${revisionWords(row.revision)} were tombstoned`;
      const remedy = `it is never purged; if nobody needs it: ${remedies.away(name)}`;
      return { ...of, problem: 'changed-copy', detail, remedy };
    }
  }
}

function ofTime({ key, id, copy, latest }: Judged, remedies: Remedies): Difference | undefined {
  const at = parseTombstoneId(id)?.at;
  if (copy === undefined || at === undefined || at <= latest) return undefined;
  return {
    key,
    id,
    problem: 'future-id',
    detail: `its id says that it was moved at ${isoTime(at)}, which is yet to come`,
    remedy: `see whether the clock is right: date; it stays until a window after that, or ${remedies.ctl('restore', id)}`,
  };
}

/** A revision in words. */
function revisionWords(revision: Revision): string {
  if (revision.kind === 's3') return `${revision.size} bytes of ETag ${revision.etag}`;
  const ms = Number(modifiedNs(revision) / 1_000_000n);
  const when = Number.isNaN(new Date(ms).getTime()) ? `${revision.mtimeNs} ns` : isoTime(ms);
  return `${revision.size} bytes of ${when}`;
}
