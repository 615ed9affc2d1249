/** Why something is kept: the closed list of design section 6. */
export const KEPT_REASONS = [
  'window',
  'lease',
  'hold',
  'exempt',
  'fence',
  'clock',
  'limit',
  'owner',
  'protected',
  'too-young',
  'keep-last',
  'no-policy',
  'coverage',
  'object-lock',
  'changed',
  'error',
] as const;

export type KeptReason = (typeof KEPT_REASONS)[number];
