import { TombstonedError } from './errors.ts';

declare const keyBrand: unique symbol;

/** An object's name below the store's root: `/`-separated, valid by `keyProblem`. */
export type Key = string & { readonly [keyBrand]: true };

/** The segment that holds control objects; no key may contain it. */
export const CONTROL_SEGMENT = '.tombstoned';

/** What begins with a dot, or is empty, between two slashes or at an end. */
const SUSPECT = /(?:^|\/)(?:[./]|$)/;

/** What is wrong with a key (design, section 3), or undefined when it is one. */
export function keyProblem(text: string): string | undefined {
  if (text === '') return 'is empty';
  if (!text.isWellFormed()) return 'is not valid Unicode';
  if (text.includes('\0')) return 'contains a NUL';
  if (text.startsWith('/')) return 'is absolute';
  // What is wrong with a segment begins with a dot, or is that there is none: most keys need no second look.
  if (!SUSPECT.test(text)) return undefined;
  for (const segment of text.split('/')) {
    if (segment === '') return 'has an empty segment';
    if (segment === '.' || segment === '..') return `has a "${segment}" segment`;
    if (segment === CONTROL_SEGMENT) return `has a "${CONTROL_SEGMENT}" segment`;
  }
  return undefined;
}

/** The text as a key, or undefined when it is none. */
export function asKey(text: string): Key | undefined {
  return isKey(text) ? text : undefined;
}

/** The text as a key; a `usage` error that says what is wrong with it otherwise. */
export function parseKey(text: string): Key {
  if (isKey(text)) return text;
  throw new TombstonedError('usage', `${quote(text)} is not a key: it ${keyProblem(text)}`, {
    key: text,
    hint: "give the object's path below the store's root, such as metadata/a.meta",
  });
}

function isKey(text: string): text is Key {
  return keyProblem(text) === undefined;
}

/**
 * Whether a key is below a prefix. Prefixes are plain byte prefixes of the key,
 * `""` is everything: policies, leases, holds and fences all ask here.
 */
export function isBelowPrefix(key: string, prefix: string): boolean {
  return key.startsWith(prefix);
}

/** Whether two prefixes name a common key: one begins with the other. */
export function prefixesOverlap(a: string, b: string): boolean {
  return a.startsWith(b) || b.startsWith(a);
}

/** The longest prefix of whole characters that two keys, or prefixes, have in common. */
export function commonPrefix(a: string, b: string): string {
  let length = 0;
  while (length < a.length && a[length] === b[length]) length++;
  // Half a character is no prefix that can be written.
  return a.slice(0, length).isWellFormed() ? a.slice(0, length) : a.slice(0, length - 1);
}

/** Compares keys as UTF-8 bytes, as the catalog and S3 sort them. */
export function compareKeys(a: string, b: string): number {
  if (a === b) return 0;
  let at = 0;
  while (a.charCodeAt(at) === b.charCodeAt(at)) at++;
  const one = a.charCodeAt(at);
  const other = b.charCodeAt(at);
  // Only halves of characters are in another order than their bytes.
  if (isHalf(one) || isHalf(other)) return Buffer.compare(Buffer.from(a), Buffer.from(b));
  return Number.isNaN(one) || one < other ? -1 : 1;
}

function isHalf(unit: number): boolean {
  return unit >= 0xd800 && unit <= 0xdfff;
}

/** What must not reach a terminal: it would move the cursor, break the line or reorder the text. */
const UNPRINTABLE = /[\p{Cc}\p{Bidi_Control}\p{Surrogate}\u2028\u2029]/gu;

/** A key as text for people: as it is, or as a JSON string where it has such characters. */
export function printable(text: string): string {
  if (text.search(UNPRINTABLE) < 0 && !text.startsWith('"')) return text;
  return JSON.stringify(text).replaceAll(
    UNPRINTABLE,
    (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}

/** A text in quotes, for messages. */
export function quote(text: string): string {
  const shown = printable(text);
  return shown.startsWith('"') ? shown : `"${shown}"`;
}
