import path from 'node:path';
import * as v from 'valibot';
import { keyProblem } from '../domain/key.ts';
import { parseDuration, parseSize } from '../domain/quantities.ts';
import type { Config, LimitsConfig, PolicyConfig } from './config.ts';
import {
  APTOS_COMPACTION_DEFAULTS,
  APTOS_DEFAULTS,
  APTOS_PAYLOAD_DEFAULTS,
  CONFIG_DEFAULTS,
  LIMITS_DEFAULTS,
  POLICY_DEFAULTS,
  S3_DEFAULTS,
  STORE_DEFAULTS,
  THROTTLE_DEFAULTS,
} from './defaults.ts';
import { list, mapping, member, nullOr, oneOf, orNull, Refusal } from './members.ts';
import { NAME, readStoreUrl, STORE_URL } from './store-url.ts';
import { expected } from './wording.ts';

/** A config as its file holds it, with every default applied; or what is wrong with it first. */
export type CheckedConfig =
  | { readonly config: Omit<Config, 'file'> }
  | { readonly problem: string; readonly path: v.BaseIssue<unknown>['path'] };

/** Checks each member of a config by itself; `contradictionIn` checks them against each other. */
export function checkConfig(value: unknown): CheckedConfig {
  const result = v.safeParse(configSchema, value);
  if (result.success) return { config: result.output };
  const [issue] = result.issues;
  return { problem: issue.message, path: issue.path };
}

/** More than this is a slip of the pen, and near the end of what a date can say. */
const LONGEST = '36500d';
const LONGEST_MS = parseDuration(LONGEST) ?? 0;

function readDuration(value: unknown): number | Refusal | undefined {
  const ms = typeof value === 'string' ? parseDuration(value) : undefined;
  if (ms === undefined || ms <= LONGEST_MS) return ms;
  return new Refusal(expected(`a duration of at most ${LONGEST}`, value));
}

function readSize(value: unknown): number | undefined {
  return typeof value === 'string' ? parseSize(value) : undefined;
}

function readText(value: unknown): string | undefined {
  return typeof value === 'string' && value.trim() !== '' && isClean(value) ? value : undefined;
}

function readFilePath(value: unknown): string | undefined {
  if (typeof value !== 'string' || !path.isAbsolute(value) || value.endsWith('/') || !isClean(value)) {
    return undefined;
  }
  return path.normalize(value);
}

function readDirectoryPath(value: unknown): string | undefined {
  return typeof value === 'string' ? readFilePath(value.replace(/(?<=.)\/+$/, '')) : undefined;
}

function isClean(text: string): boolean {
  return text.isWellFormed() && !text.includes('\0');
}

function readName(value: unknown): string | undefined {
  return typeof value === 'string' && NAME.test(value) ? value : undefined;
}

/** A prefix is valid when some key can begin with it. */
function readPrefix(value: unknown): string | Refusal | undefined {
  if (typeof value !== 'string') return undefined;
  const problem = keyProblem(`${value}x`);
  return problem === undefined ? value : new Refusal(`${expected(PREFIX, value)}: it ${problem}`);
}

function readPendingPrefix(value: unknown): string | undefined {
  if (typeof value !== 'string' || !value.endsWith('/')) return undefined;
  return keyProblem(`${value}x`) === undefined ? value : undefined;
}

function integerFrom(least: number, most = Number.MAX_SAFE_INTEGER) {
  return (value: unknown): number | undefined =>
    typeof value === 'number' && Number.isSafeInteger(value) && value >= least && value <= most
      ? value
      : undefined;
}

function numberWhere(holds: (value: number) => boolean) {
  return (value: unknown): number | undefined =>
    typeof value === 'number' && Number.isFinite(value) && holds(value) ? value : undefined;
}

function readListen(value: unknown): { host: string; port: number } | undefined {
  const match =
    typeof value === 'string' ? /^(?:\[([0-9a-f:.]+)\]|([^\s:[\]]+)):(\d{1,5})$/i.exec(value) : null;
  const host = match?.[1] ?? match?.[2];
  const port = Number(match?.[3]);
  return host === undefined || !(port <= 65_535) ? undefined : { host, port };
}

function readEndpoint(value: unknown): string | Refusal | undefined {
  if (typeof value !== 'string' || !URL.canParse(value)) return undefined;
  const url = new URL(value);
  if (url.username !== '' || url.password !== '') {
    return new Refusal('credentials do not belong here: the AWS SDK finds them where it always does');
  }
  const isBare = url.search === '' && url.hash === '';
  return isBare && (url.protocol === 'http:' || url.protocol === 'https:') ? value : undefined;
}

/** Reads one type of policy; any other is an issue, so that it is told as that, and not by the members it lacks. */
function policyType<const T extends PolicyConfig['type']>(type: T) {
  return member('age, drop-in, aptos-compaction or aptos-payload', (value): T | undefined =>
    value === type ? type : undefined,
  );
}

const PREFIX = 'the beginning of keys, such as logs/';
const NAME_FORM = 'a name of small letters, digits, ".", "_" and "-", such as mainnet';

const duration = member('a duration such as 30d', readDuration);
const sizeOrNull = orNull('a size such as 10MiB', readSize);
const flag = member('true or false', (value) => (typeof value === 'boolean' ? value : undefined));
const name = member(NAME_FORM, readName);
const glob = member('a glob such as "**/*.meta"', readText);

const limits = mapping({
  maxObjects: v.exactOptional(orNull('a whole number from 0 up', integerFrom(0))),
  maxFraction: v.exactOptional(
    orNull(
      'a number from 0 to 1',
      numberWhere((n) => n >= 0 && n <= 1),
    ),
  ),
  maxBytes: v.exactOptional(sizeOrNull),
});

const agePolicy = mapping({
  type: policyType('age'),
  name,
  prefix: v.exactOptional(member(PREFIX, readPrefix)),
  match: v.exactOptional(glob),
  olderThan: duration,
  keepLast: v.exactOptional(member('a whole number from 0 up', integerFrom(0))),
  unit: v.exactOptional(oneOf('object', 'directory')),
  limits: v.exactOptional(limits),
});

const dropInPolicy = mapping({
  type: policyType('drop-in'),
  name,
  directory: member('an absolute path of a directory', readDirectoryPath),
  limits: v.exactOptional(limits),
});

const aptosCompactionPolicy = mapping({
  type: policyType('aptos-compaction'),
  name,
  removeAfter: v.exactOptional(duration),
  limits: v.exactOptional(limits),
});

const aptosPayloadPolicy = mapping({
  type: policyType('aptos-payload'),
  name,
  olderThan: duration,
  keepSnapshots: v.exactOptional(orNull('a whole number from 1 up', integerFrom(1, 1_000_000))),
  limits: v.exactOptional(limits),
});

/** By its type; one of no known type is told as an `age` policy of a wrong type. */
const anyPolicy = v.lazy((value): v.GenericSchema<unknown, GivenPolicy> => {
  const type = typeof value === 'object' && value !== null && 'type' in value ? value.type : undefined;
  switch (type) {
    case 'drop-in':
      return dropInPolicy;
    case 'aptos-compaction':
      return aptosCompactionPolicy;
    case 'aptos-payload':
      return aptosPayloadPolicy;
    default:
      return agePolicy;
  }
});

type GivenPolicy = v.InferOutput<
  typeof agePolicy | typeof dropInPolicy | typeof aptosCompactionPolicy | typeof aptosPayloadPolicy
>;

function withDefaults(policy: GivenPolicy, storeLimits: LimitsConfig): PolicyConfig {
  const own = { ...storeLimits, ...policy.limits };
  switch (policy.type) {
    case 'drop-in':
      return { ...policy, limits: own };
    case 'aptos-compaction':
      // Of metadata that was compacted nearly all is replaced, and each line of it is covered.
      return {
        ...APTOS_COMPACTION_DEFAULTS,
        ...policy,
        limits: { ...own, maxFraction: policy.limits?.maxFraction ?? null },
      };
    case 'aptos-payload':
      return { ...APTOS_PAYLOAD_DEFAULTS, ...policy, limits: own };
    case 'age':
      return { ...POLICY_DEFAULTS, ...policy, limits: own };
  }
}

const s3 = mapping({
  endpoint: v.exactOptional(orNull('an http:// or https:// URL', readEndpoint)),
  region: v.exactOptional(orNull('a region such as eu-central-1', readText)),
  forcePathStyle: v.exactOptional(flag),
  versions: v.exactOptional(oneOf('keep', 'purge')),
});

const throttle = mapping({
  requestsPerSecond: v.exactOptional(
    orNull(
      'a number above 0',
      numberWhere((n) => n > 0),
    ),
  ),
  bytesPerSecond: v.exactOptional(sizeOrNull),
  concurrency: v.exactOptional(member('a whole number from 1 to 1024', integerFrom(1, 1024))),
});

const factor = member('a whole number from 1 up', integerFrom(1));

const aptos = mapping({
  compactEvery: v.exactOptional(orNull('a duration such as 1d', readDuration)),
  factors: v.exactOptional(
    mapping({
      epochEndings: v.exactOptional(factor),
      stateSnapshots: v.exactOptional(factor),
      transactions: v.exactOptional(factor),
    }),
  ),
  removeAfter: v.exactOptional(duration),
});

const store = v.pipe(
  mapping({
    name,
    url: member(STORE_URL, (value) => {
      if (typeof value !== 'string') return undefined;
      const location = readStoreUrl(value);
      return typeof location === 'string' ? new Refusal(location) : { url: value, location };
    }),
    format: v.exactOptional(oneOf('plain', 'aptos')),
    s3: v.exactOptional(s3),
    pendingPrefix: v.exactOptional(
      member('a key prefix that ends in "/", such as pending_deletion/', readPendingPrefix),
    ),
    safetyWindow: v.exactOptional(duration),
    sweepEvery: v.exactOptional(duration),
    purgeEvery: v.exactOptional(duration),
    exemptAfterRestore: v.exactOptional(duration),
    minimumAge: v.exactOptional(duration),
    settle: v.exactOptional(
      member('auto or a duration such as 65s', (value) => (value === 'auto' ? value : readDuration(value))),
    ),
    throttle: v.exactOptional(throttle),
    limits: v.exactOptional(limits),
    protect: v.exactOptional(list('a list of globs', glob)),
    policies: v.exactOptional(list('a list of policies', anyPolicy)),
    aptos: v.exactOptional(aptos),
  }),
  v.transform((given) => {
    const storeLimits = { ...LIMITS_DEFAULTS, ...given.limits };
    return {
      ...STORE_DEFAULTS,
      ...given,
      ...given.url,
      s3: { ...S3_DEFAULTS, ...given.s3 },
      throttle: { ...THROTTLE_DEFAULTS, ...given.throttle },
      limits: storeLimits,
      policies: (given.policies ?? []).map((one) => withDefaults(one, storeLimits)),
      aptos: {
        ...APTOS_DEFAULTS,
        ...given.aptos,
        factors: { ...APTOS_DEFAULTS.factors, ...given.aptos?.factors },
      },
    };
  }),
);

const configSchema = v.pipe(
  mapping({
    catalog: v.exactOptional(member('an absolute path of a file', readFilePath)),
    metrics: v.exactOptional(
      nullOr(
        mapping({
          listen: v.exactOptional(orNull('an address and port such as 127.0.0.1:9644', readListen)),
        }),
      ),
    ),
    log: v.exactOptional(
      mapping({
        level: v.exactOptional(oneOf('error', 'warn', 'info', 'debug')),
        file: v.exactOptional(orNull('an absolute path of a file', readFilePath)),
      }),
    ),
    historyFor: v.exactOptional(duration),
    clockTolerance: v.exactOptional(duration),
    notify: v.exactOptional(orNull('a command', readText)),
    stores: list('a list of at least one store', store, 1),
  }),
  v.transform(
    (given): Omit<Config, 'file'> => ({
      ...CONFIG_DEFAULTS,
      ...given,
      metrics: given.metrics === null ? { listen: null } : { ...CONFIG_DEFAULTS.metrics, ...given.metrics },
      log: { ...CONFIG_DEFAULTS.log, ...given.log },
    }),
  ),
);
