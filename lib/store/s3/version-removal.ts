import { isCopyOf } from '../../domain/ids.ts';
import { type S3Revision, sameRevision } from '../../domain/revision.ts';
import type { ListedVersion } from './api.ts';
import { revisionOf, wholeSeconds } from './revisions.ts';
import { NULL_VERSION } from './versions.ts';

/** Which versions and markers of one name go for good, by their ids, in this order. */
export interface Removal {
  readonly ids: readonly string[];
  /** What stays, and why, for people; null where nothing does that should go. */
  readonly left: string | null;
}

/**
 * What goes of a key's versions (newest first) when its tombstone is purged: the
 * version that was tombstoned, and then the markers that have no version below.
 * Never the live one, never `null` by its id, and nothing where it can't be told
 * which version it was: no older version ever becomes live (R3).
 */
export function removalAtKey(
  versions: readonly ListedVersion[],
  meant: S3Revision,
  isBack: boolean,
): Removal {
  const alike = versions.filter((version) => isContent(version, meant));
  const those = alike.filter((version) => isTombstoned(version, meant));
  const [target] = those;
  const { removed, left } = choice(alike, those, target, isBack);
  const rest = versions.filter((version) => version !== removed);
  const ids = removed === undefined ? [] : [removed.versionId];
  for (const { isMarker, versionId } of rest.toReversed()) {
    if (!isMarker) break;
    if (versionId !== NULL_VERSION) ids.push(versionId);
  }
  return { ids, left };
}

function choice(
  alike: readonly ListedVersion[],
  those: readonly ListedVersion[],
  target: ListedVersion | undefined,
  isBack: boolean,
): { removed?: ListedVersion; left: string | null } {
  if (target === undefined) {
    const others = alike.filter(({ isLatest }) => !isLatest).length;
    return {
      left: others === 0 ? null : 'an old version at its key that has the same ETag and another time',
    };
  }
  if (those.length > 1)
    return { left: `${those.length} versions at its key, for it can't be told which of them was tombstoned` };
  if (target.isLatest) return { left: isBack ? null : 'the version at its key, which is live again' };
  if (target.versionId === NULL_VERSION)
    return { left: 'the version at its key, which was written while no versions were kept (null)' };
  return { removed: target, left: null };
}

function isContent(version: ListedVersion, meant: S3Revision): boolean {
  if (version.isMarker) return false;
  return sameRevision(revisionOf({ ...version, storageClass: undefined }), meant);
}

/** By its id where that is recorded; else a version has its content's ETag and size, and its time. */
function isTombstoned(version: ListedVersion, meant: S3Revision): boolean {
  if (meant.versionId !== null) return version.versionId === meant.versionId;
  return wholeSeconds(version.modifiedAt) === wholeSeconds(meant.modifiedAt);
}

/** What goes where nothing of a name is to be kept, with how many contents that are, and their bytes. */
export interface HiddenRemoval extends Removal {
  readonly count: number;
  readonly bytes: number;
}

/**
 * What goes of a name's versions (newest first) where nothing of it is to be kept, the
 * oldest first: nothing where the name is live, never `null` by its id, and no marker
 * that has a version below it.
 */
export function removalOfHidden(versions: readonly ListedVersion[]): HiddenRemoval {
  const contents = versions.filter(({ isMarker }) => !isMarker);
  const count = contents.length;
  const bytes = contents.reduce((sum, { size }) => sum + size, 0);
  if (versions[0]?.isMarker !== true) return { ids: [], count, bytes, left: 'what is live' };
  const isNullLeft = contents.some(({ versionId }) => versionId === NULL_VERSION);
  const left = isNullLeft ? 'a version that was written while no versions were kept (null)' : null;
  const ids: string[] = [];
  let isOverNull = false;
  for (const { isMarker, versionId } of versions.toReversed()) {
    if (versionId !== NULL_VERSION && !(isMarker && isOverNull)) ids.push(versionId);
    if (versionId === NULL_VERSION && !isMarker) isOverNull = true;
  }
  return { ids, count, bytes, left };
}

/** How a pending copy stands among the versions of its name (newest first). */
export type CopyRemoval =
  | { readonly as: 'gone' }
  /** Some version is no copy of what was tombstoned. */
  | { readonly as: 'changed'; readonly detail: string }
  /** By ids, the oldest first: when the turn of one comes, nothing is below it. */
  | { readonly as: 'by-id'; readonly ids: readonly string[] }
  /** By its name: a version among them is called `null`, and stays where versions are kept. */
  | { readonly as: 'by-name'; readonly left: string };

export function removalOfCopy(
  versions: readonly ListedVersion[],
  id: string,
  meant: S3Revision,
): CopyRemoval {
  const copies = versions.filter(({ isMarker }) => !isMarker);
  const wrong = copies.find((copy) => !isCopyOf(id, revisionOf({ ...copy, storageClass: undefined }), meant));
  if (wrong !== undefined) {
    return {
      as: 'changed',
      detail: `version ${wrong.versionId} has ${wrong.size} bytes and ETag ${wrong.etag}`,
    };
  }
  return copyRemoval(versions);
}

/** Whether nothing of a pending copy is left that a purge removes. */
export function isCopyRemoved(versions: readonly ListedVersion[]): boolean {
  return copyRemoval(versions).as === 'gone';
}

function copyRemoval(versions: readonly ListedVersion[]): CopyRemoval {
  if (versions.some(({ isMarker, versionId }) => !isMarker && versionId === NULL_VERSION)) {
    if (versions[0]?.isMarker === true) return { as: 'gone' };
    return {
      as: 'by-name',
      left: 'old versions of its copy, which was made while no versions were kept (null)',
    };
  }
  const ids = versions
    .map(({ versionId }) => versionId)
    .filter((versionId) => versionId !== NULL_VERSION)
    .toReversed();
  return ids.length === 0 ? { as: 'gone' } : { as: 'by-id', ids };
}
