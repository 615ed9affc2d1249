import type {
  AgePolicyConfig,
  AptosCompactionPolicyConfig,
  AptosConfig,
  AptosPayloadPolicyConfig,
  Config,
  LimitsConfig,
  S3Config,
  StoreConfig,
  ThrottleConfig,
} from './config.ts';

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

export const CONFIG_DEFAULTS = {
  catalog: '/var/lib/tombstoned/catalog.db',
  metrics: { listen: { host: '127.0.0.1', port: 9644 } },
  log: { level: 'info', file: null },
  historyFor: 400 * DAY,
  clockTolerance: 5 * MINUTE,
  notify: null,
} as const satisfies Omit<Config, 'file' | 'stores'>;

export const S3_DEFAULTS: S3Config = {
  endpoint: null,
  region: null,
  forcePathStyle: false,
  versions: 'keep',
};

export const THROTTLE_DEFAULTS: ThrottleConfig = {
  requestsPerSecond: null,
  bytesPerSecond: null,
  concurrency: 32,
};

export const LIMITS_DEFAULTS: LimitsConfig = { maxObjects: 100_000, maxFraction: 0.5, maxBytes: null };

export const APTOS_DEFAULTS: AptosConfig = {
  compactEvery: null,
  factors: { epochEndings: 100, stateSnapshots: 100, transactions: 100 },
  removeAfter: DAY,
};

export const STORE_DEFAULTS: Omit<StoreConfig, 'name' | 'url' | 'location'> = {
  format: 'plain',
  s3: S3_DEFAULTS,
  pendingPrefix: 'pending_deletion/',
  safetyWindow: 7 * DAY,
  sweepEvery: HOUR,
  purgeEvery: 15 * MINUTE,
  exemptAfterRestore: 7 * DAY,
  minimumAge: HOUR,
  settle: 'auto',
  throttle: THROTTLE_DEFAULTS,
  limits: LIMITS_DEFAULTS,
  protect: [],
  policies: [],
  aptos: APTOS_DEFAULTS,
};

export const POLICY_DEFAULTS = {
  prefix: '',
  match: '**',
  keepLast: 0,
  unit: 'object',
} as const satisfies Partial<AgePolicyConfig>;

/** As long as the original compactor waits. */
export const APTOS_COMPACTION_DEFAULTS = {
  removeAfter: DAY,
} as const satisfies Partial<AptosCompactionPolicyConfig>;

export const APTOS_PAYLOAD_DEFAULTS = {
  keepSnapshots: null,
} as const satisfies Partial<AptosPayloadPolicyConfig>;
