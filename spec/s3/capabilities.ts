import type { Capabilities } from '../../lib/store/s3/api.ts';

/** What Amazon honours, as probed. */
export const AMAZON: Capabilities = {
  putIfAbsent: true,
  putIfMatch: 'quoted',
  copyIfMatch: 'standard',
  copyUnmodifiedSince: true,
  copyIfAbsent: true,
  deleteIfMatch: true,
  deleteUnmodifiedSince: false,
  versioning: 'off',
};

/** What RGW 16 honours where it keeps no versions. */
export const RGW: Capabilities = {
  ...AMAZON,
  putIfMatch: 'unquoted',
  copyIfMatch: 'rgw',
  copyUnmodifiedSince: false,
  copyIfAbsent: false,
  deleteIfMatch: false,
  deleteUnmodifiedSince: true,
};

/** As RGW, and nothing guards a delete. */
export const UNGUARDED: Capabilities = { ...RGW, deleteUnmodifiedSince: false };

/** And where it keeps them: its PUT has no conditions then. */
export const RGW_VERSIONED: Capabilities = {
  ...UNGUARDED,
  putIfAbsent: false,
  putIfMatch: 'no',
  versioning: 'enabled',
};

/** And where they are suspended: its copies lose their content with their source. */
export const RGW_SUSPENDED: Capabilities = {
  ...UNGUARDED,
  putIfAbsent: false,
  versioning: 'suspended',
  copiesFollow: true,
};
