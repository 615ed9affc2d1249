import { errnoOf, messageOf, TombstonedError } from '../../domain/errors.ts';
import { type Answer, connectionText } from './http.ts';
import { type Asked, whatToAllow } from './permissions.ts';

/** A definite "no": the server has done nothing. */
export interface Refusal {
  readonly status: number;
  /** S3's code; empty where the answer has none (HEAD). */
  readonly code: string;
  readonly message: string;
  /** The region the bucket is in, where the server said so. */
  readonly region: string | undefined;
  /** Which condition did not hold, where the server said so. */
  readonly condition: string | undefined;
  readonly headers: Answer['headers'];
}

/** What an error is about. */
export interface About extends Asked {
  /** For people: `s3://bucket/name`. */
  readonly where: string;
  /** For people: `read`, `copied`, … */
  readonly what: string;
  readonly key: string | undefined;
  /** The host asked, with its port. */
  readonly host: string;
}

/** Reads an answer of 300 and above. */
export function readRefusal({ status, headers, text }: Answer): Refusal {
  return {
    status,
    code: elementOf(text, 'Code') ?? '',
    message: elementOf(text, 'Message') ?? '',
    region: headers['x-amz-bucket-region'] ?? elementOf(text, 'Region'),
    condition: elementOf(text, 'Condition'),
    headers,
  };
}

/** Whether the same request may be answered otherwise in a while. */
export function isPassing({ status, code }: Refusal): boolean {
  if (code === 'NotImplemented') return false;
  return status === 408 || status === 429 || status >= 500 || isPassingCode(code);
}

/** The same of one entry of a batch. */
export function isPassingCode(code: string): boolean {
  return PASSING.has(code) || TOO_FAST.has(code);
}

/** Whether the server says that requests come too fast. */
export function isTooFast({ status, code }: { status: number; code: string }): boolean {
  return status === 429 || status === 503 || TOO_FAST.has(code);
}

const TOO_FAST = new Set(['SlowDown', 'Throttling', 'ThrottlingException', 'TooManyRequests']);
const PASSING = new Set(['InternalError', 'ServiceUnavailable', 'RequestTimeout', 'OperationAborted']);

/** Whether it says that there is no such object or version; a bucket that is missing is another thing. */
export function isNoSuchObject({ status, code }: Refusal): boolean {
  return status === 404 && (code === 'NoSuchKey' || code === 'NoSuchVersion');
}

/** Whether a condition of the request did not hold. */
export function isConditionFailed({ status }: Refusal): boolean {
  return status === 412;
}

/** Whether the server has done nothing, and wants to be asked again: it has too much to do, or another writer was in the way. */
export function isPutOff({ status, code }: Refusal): boolean {
  return (
    status === 429 ||
    TOO_FAST.has(code) ||
    code === 'ConditionalRequestConflict' ||
    code === 'OperationAborted'
  );
}

/** A refusal as the operator's one line. `signedAt`: of the request, ms. */
export function refusalError(refusal: Refusal, about: About, signedAt: number | undefined): TombstonedError {
  const [reason, hint] = reasonOf(refusal, about, signedAt);
  const said = saidBy(refusal);
  return new TombstonedError('failed', `${about.where} can't be ${about.what}: ${reason} (${said})`, {
    key: about.key,
    hint,
    cause: new Error(`${about.operation}: HTTP ${refusal.status} ${said}`),
  });
}

function saidBy({ status, code, message }: Refusal): string {
  if (code === '') return `HTTP ${status}`;
  return message === '' ? code : `${code}: ${message}`;
}

function reasonOf(
  refusal: Refusal,
  about: About,
  signedAt: number | undefined,
): [reason: string, hint: string] {
  const { bucket, host } = about;
  switch (refusal.code) {
    case 'NoSuchBucket':
      return [
        `there is no bucket ${bucket} at ${host}`,
        "check the store's url, and s3.endpoint in the config",
      ];
    case 'InvalidAccessKeyId':
      return [
        'the store does not know the access key',
        `check that the credentials are those of ${host}: the AWS SDK takes them from the environment, ~/.aws or the host's role`,
      ];
    case 'SignatureDoesNotMatch':
      return [
        "the request's signature is not accepted",
        'check the secret key; if it is right, see whether a proxy changes the Host header or the path',
      ];
    case 'ExpiredToken':
    case 'ExpiredTokenException':
    case 'TokenRefreshRequired':
    case 'RequestExpired':
      return ['the credentials have expired', 'renew them, such as with `aws sso login`'];
    case 'InvalidToken':
      return [
        'the session token is not valid',
        'check AWS_SESSION_TOKEN: it belongs to one access key and one store',
      ];
    case 'PermanentRedirect':
    case 'TemporaryRedirect':
    case 'IllegalLocationConstraintException':
    case 'AuthorizationHeaderMalformed':
      return regionReason(refusal, bucket);
    case 'InvalidObjectState':
      return ['it is archived', 'restore it from the archive first'];
    case 'InvalidBucketName':
      return [`${bucket} is no name of a bucket`, "correct the store's url"];
    case 'NotImplemented':
    case 'MethodNotAllowed':
      return [
        `the store does not support ${about.operation} as it was asked`,
        'see what `tombstonectl doctor` says about this store',
      ];
    case 'SlowDown':
      return ['requests come too fast', 'lower throttle.requestsPerSecond in the config'];
    default:
      return reasonOfStatus(refusal, about, signedAt);
  }
}

function reasonOfStatus(
  refusal: Refusal,
  about: About,
  signedAt: number | undefined,
): [reason: string, hint: string] {
  const { status, code, headers } = refusal;
  // HEAD answers have no code, so the clocks are compared.
  const skew = signedAt === undefined ? 0 : Date.parse(headers['date'] ?? '') - signedAt;
  if (code === 'RequestTimeTooSkewed' || (status === 403 && code === '' && Math.abs(skew) > SKEW_MS)) {
    return [
      `this host's clock is ${skewText(skew)} the store's`,
      'set the clock of this host (and see that time synchronisation runs)',
    ];
  }
  if (status === 301 || status === 307 || (status === 400 && refusal.region !== undefined)) {
    return regionReason(refusal, about.bucket);
  }
  if (status === 403) {
    return ['the store denies it', whatToAllow(refusal.message, about)];
  }
  if (status === 401) return ['the store does not accept the credentials', 'check them'];
  if (status === 404) {
    return [
      `${about.host} knows nothing there`,
      "check the store's url and s3.endpoint: this is not how S3 says that an object is missing",
    ];
  }
  if (status === 429) return ['requests come too fast', 'lower throttle.requestsPerSecond in the config'];
  return ['the store refuses it', `see what HTTP ${status} means at ${about.host}`];
}

const SKEW_MS = 14 * 60_000;

function skewText(skew: number): string {
  if (!Number.isFinite(skew) || skew === 0) return 'too far from';
  const minutes = Math.abs(skew) / 60_000;
  const text = minutes < 120 ? `${Math.round(minutes)} min` : `${Math.round(minutes / 60)} h`;
  return `${text} ${skew > 0 ? 'behind' : 'ahead of'}`;
}

function regionReason({ region }: Refusal, bucket: string): [reason: string, hint: string] {
  return region === undefined
    ? [`bucket ${bucket} is in another region or at another endpoint`, "set s3.region to the bucket's"]
    : [`bucket ${bucket} is in region ${region}`, `set s3.region: ${region} in the config`];
}

/** The store can't be reached, or gives no good answer: what is asked about has no part in it. */
export class Unreachable extends TombstonedError {}

/** Why a request never left this host, as the operator's one line: nothing was done. */
export function unsentError(error: unknown, about: About): TombstonedError {
  const [reason, hint] = unsentReason(error, about);
  return new Unreachable('failed', `${about.where} can't be ${about.what}: ${reason}`, {
    key: about.key,
    hint,
    cause: error,
  });
}

function unsentReason(error: unknown, { host, bucket }: About): [reason: string, hint: string] {
  const name = error instanceof Error ? error.name : '';
  const code = errnoOf(error) ?? '';
  const text = connectionText(error);
  if (name === 'CredentialsProviderError' || name === 'TokenProviderError') {
    return [
      `there are no credentials (${text})`,
      'set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile in ~/.aws, or give this host a role; with SSO, run `aws sso login`',
    ];
  }
  if (text.startsWith('Region is missing')) {
    return ['no region is set', `set s3.region in the config, or AWS_REGION, to that of bucket ${bucket}`];
  }
  switch (code) {
    case 'ECONNREFUSED':
      return [`${host} refuses the connection`, 'check s3.endpoint, and that the server runs'];
    case 'ENOTFOUND':
      return [`the host of ${host} is not known`, 'check s3.endpoint, s3.region and the name servers'];
    case 'EAI_AGAIN':
      return [`the name servers don't answer for ${host}`, "check this host's network"];
    case 'ETIMEDOUT':
    case 'EHOSTUNREACH':
    case 'ENETUNREACH':
      return [`${host} can't be reached (${text})`, "check s3.endpoint and this host's network"];
    case 'EPROTO':
    case 'ERR_SSL_WRONG_VERSION_NUMBER':
    case 'ERR_SSL_PACKET_LENGTH_TOO_LONG':
      return [`${host} does not speak TLS (${text})`, 'write s3.endpoint with http://, or with the TLS port'];
    default:
      break;
  }
  if (/CERT|SELF_SIGNED|ALTNAME|UNABLE_TO_/.test(code)) {
    return [
      `the certificate of ${host} is not trusted (${text})`,
      'name its authority in NODE_EXTRA_CA_CERTS, or correct s3.endpoint',
    ];
  }
  return [text, 'check s3.endpoint and the credentials'];
}

/** What no longer is worth waiting for, as the operator's one line. */
export function exhaustedError(last: unknown, about: About, seconds: number): TombstonedError {
  const text = connectionText(last);
  return new Unreachable(
    'failed',
    `${about.where} can't be ${about.what}: no good answer from ${about.host} for ${seconds} s (the last: ${text})`,
    {
      key: about.key,
      hint: 'see whether the store is in trouble, and whether s3.endpoint is an S3 server',
      cause: last,
    },
  );
}

/** An error of the server, or of what is on the way to it, as an error: what became of the request is not known. */
export function serverError({ status, code, message }: Refusal): Error {
  return new Error(`HTTP ${status}${code === '' ? '' : ` ${code}`}${message === '' ? '' : `: ${message}`}`);
}

function elementOf(text: string, name: string): string | undefined {
  const found = new RegExp(`<${name}>([^<]*)</${name}>`).exec(text)?.[1];
  if (found === undefined) return undefined;
  const plain = found.replaceAll(/&(lt|gt|quot|apos|amp);/g, (_, entity: string) => ENTITIES[entity] ?? '');
  return messageOf(plain).trim();
}

const ENTITIES: Readonly<Record<string, string>> = { lt: '<', gt: '>', quot: '"', apos: "'", amp: '&' };
