import type { Capabilities } from '../../lib/store/s3/api.ts';

/** What Amazon honours, as probed. */
export const AMAZON: Capabilities = {
  putIfAbsent: true,
  putIfMatch: 'quoted',
  copyIfMatch: 'standard',
  copyUnmodifiedSince: true,
  copyIfAbsent: true,
  deleteIfMatch: true,
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
};

/** And where it keeps them: its PUT has no conditions then. */
export const RGW_VERSIONED: Capabilities = {
  ...RGW,
  putIfAbsent: false,
  putIfMatch: 'no',
  versioning: 'enabled',
};

/** And where they are suspended: its copies lose their content with their source. */
export const RGW_SUSPENDED: Capabilities = {
  ...RGW,
  putIfAbsent: false,
  versioning: 'suspended',
  copiesFollow: true,
};
