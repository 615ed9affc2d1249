import type { Capabilities, CopyGuard } from './api.ts';

/** By what the source of a move's copy is guarded (R3). */
export function copyGuardOf({ versioning, copyUnmodifiedSince, copyIfMatch }: Capabilities): CopyGuard {
  if (versioning === 'enabled') return 'version';
  if (copyUnmodifiedSince) return 'unmodified-since'; // alone: Amazon ignores it beside an ETag that matches
  if (copyIfMatch === 'standard') return 'if-match';
  return copyIfMatch === 'rgw' ? 'rgw-if-match' : 'none';
}

/** How a live object is deleted once it is copied (R3). */
export function deleteGuardOf({
  versioning,
  deleteIfMatch,
  deleteUnmodifiedSince,
}: Capabilities): 'if-match' | 'unmodified-since' | 'marker' | 'head-before' {
  if (versioning === 'enabled') return 'marker';
  if (deleteIfMatch) return 'if-match';
  return deleteUnmodifiedSince ? 'unmodified-since' : 'head-before';
}
