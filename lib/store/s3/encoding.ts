import { escapeUri, MalformedAnswer } from './http.ts';

/** A name as `x-amz-copy-source` wants it. */
export function copySource(bucket: string, key: string, versionId: string | null): string {
  const path = [bucket, ...key.split('/')].map((segment) => escapeUri(segment)).join('/');
  return versionId === null ? path : `${path}?versionId=${escapeUri(versionId)}`;
}

/** A name as a listing has it. Throws a `NotUtf8` where it is none that can be read. */
export function listedKey(text: string, encoding: string | undefined): string {
  if (encoding === undefined || !/[%+]/.test(text)) return text;
  try {
    return decodeURIComponent(text.replaceAll('+', ' '));
  } catch (error) {
    throw new NotUtf8(text, error);
  }
}

/** A listed name whose bytes are no UTF-8: it is so however often it is listed. */
export class NotUtf8 extends Error {
  constructor(text: string, cause: unknown) {
    super(`there is a name that is no UTF-8, percent-encoded ${text}`, { cause });
    this.name = 'NotUtf8';
  }
}

/** Whether XML 1.0, and what servers make of it, keeps a name as it is. */
export function isPlainInXml(name: string): boolean {
  return PLAIN.test(name) || (name.isWellFormed() && !NOT_PLAIN.test(name));
}

/** Most names, told quickly. */
const PLAIN = /^[!-~]+$/;
const NOT_PLAIN = /[\p{Cc}\u2028\u2029\ufffe\uffff]|^\s|\s$/u;

/** A text that is plain in XML, as an element's. */
export function escapeXml(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
}

/** The text of an element that a document has once, and that has no others; undefined where it has none. */
export function elementOf(document: string, name: string): string | undefined {
  const text = new RegExp(`<${name}>([^<]*)</${name}>`).exec(document)?.[1];
  return text?.replaceAll(
    /&(quot|apos|lt|gt|amp|#34|#39);/g,
    (all, entity: string) => ENTITIES[entity] ?? all,
  );
}

const ENTITIES: Readonly<Record<string, string>> = {
  quot: '"',
  apos: "'",
  lt: '<',
  gt: '>',
  amp: '&',
  '#34': '"',
  '#39': "'",
};

/** An ETag without quotes or `W/`. */
export function bareEtag(text: string | undefined): string {
  const bare = text?.replace(/^W\//, '').replace(/^"(.*)"$/, '$1') ?? '';
  if (bare === '') throw new MalformedAnswer('the answer has no ETag');
  return bare;
}

export function quotedEtag(bare: string): string {
  return `"${bare}"`;
}

/** A version id; null where there is none, or it is `null`. */
export function versionOf(text: string | undefined): string | null {
  return text === undefined || text === '' || text === 'null' ? null : text;
}

/** ms since 1970. */
export function timeOf(date: Date | undefined): number {
  const time = date?.getTime() ?? Number.NaN;
  if (!Number.isFinite(time)) throw new MalformedAnswer('the answer has no time of change');
  return time;
}

/** ms since 1970, of a time as documents have it. */
export function timeIn(text: string | undefined): number {
  return timeOf(new Date(text !== undefined && TIME.test(text) ? text : Number.NaN));
}

const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)$/;

/** A count in decimal; undefined where the text is none. */
export function numberOf(text: string | undefined): number | undefined {
  return text !== undefined && /^\d+$/.test(text) ? Number(text) : undefined;
}

/** Whether a text says so; undefined where it says nothing of that. */
export function isTrue(text: string | undefined): boolean | undefined {
  return text === 'true' ? true : text === 'false' ? false : undefined;
}

export function sizeOf(size: number | undefined): number {
  if (size === undefined || !Number.isSafeInteger(size) || size < 0) {
    throw new MalformedAnswer('the answer has no size');
  }
  return size;
}
