import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { TombstonedError } from '../domain/errors.ts';
import { keyProblem } from '../domain/key.ts';
import type { StoreConfig, StoreLocation } from './config.ts';
import { STORE_DEFAULTS } from './defaults.ts';
import { expected, shownText } from './wording.ts';

/** Names of stores and policies. */
export const NAME = /^[a-z0-9][a-z0-9._-]*$/;

/** What a store's URL looks like, for errors. */
export const STORE_URL = 'file:///directory or s3://bucket/prefix';

/**
 * The config of a store that is known by its URL alone (`--url`, `init URL`):
 * defaults, named after the URL's last segment. Loads neither YAML nor schema,
 * so that a command that needs no config starts fast. Throws `usage` when the
 * text is no store's URL.
 */
export function storeConfigFromUrl(url: string): StoreConfig {
  const location = readStoreUrl(url);
  if (typeof location === 'string') throw new TombstonedError('usage', location, { key: url });
  return { ...STORE_DEFAULTS, name: nameOf(location), url, location };
}

/** Where a store's URL leads, or what is wrong with it. */
export function readStoreUrl(url: string): StoreLocation | string {
  if (!url.isWellFormed() || /\p{Cc}/u.test(url) || url.trim() !== url) {
    return `${expected(STORE_URL, url)}: percent-encode control characters, and spaces at either end`;
  }
  const file = /^file:\/\/(?:localhost)?(\/.*)$/.exec(url)?.[1];
  if (file !== undefined) return readDirectory(url, file);
  const s3 = /^s3:\/\/([^/]*)\/?(.*)$/.exec(url);
  if (s3?.[1] !== undefined && s3[2] !== undefined) return readBucket(url, s3[1], s3[2]);
  if (url.startsWith('/')) return `${expected(STORE_URL, url)}: write ${pathToFileURL(url).href}`;
  if (url.startsWith('file:')) return `${expected(STORE_URL, url)}: three slashes, and an absolute directory`;
  return expected(STORE_URL, url);
}

function readDirectory(url: string, encoded: string): StoreLocation | string {
  if (/[?#]/.test(encoded)) return `${expected(STORE_URL, url)}: write "?" as %3F and "#" as %23`;
  const directory = decode(encoded);
  if (directory === undefined) return `${expected(STORE_URL, url)}: write "%" as %25`;
  if (directory.includes('\0')) return `${expected(STORE_URL, url)}: no path has a NUL`;
  const resolved = path.resolve(directory);
  if (resolved !== '/') return { kind: 'local', directory: resolved };
  return `${expected(STORE_URL, url)}: the root directory cannot be a store`;
}

function decode(encoded: string): string | undefined {
  try {
    return decodeURIComponent(encoded);
  } catch {
    return undefined;
  }
}

function readBucket(url: string, bucket: string, key: string): StoreLocation | string {
  if (!/^[a-z0-9][a-z0-9._-]{1,254}$/i.test(bucket)) {
    return `${expected(STORE_URL, url)}: that is no bucket's name`;
  }
  const prefix = key === '' || key.endsWith('/') ? key : `${key}/`;
  const problem = keyProblem(`${prefix}x`);
  if (problem === undefined) return { kind: 's3', bucket, prefix };
  return `${expected(STORE_URL, url)}: the prefix ${shownText(key)} ${problem}`;
}

/** A name that a config accepts, after the last segment. */
function nameOf(location: StoreLocation): string {
  const segments = location.kind === 'local' ? location.directory : `${location.bucket}/${location.prefix}`;
  const name = path
    .basename(segments)
    .toLowerCase()
    .replaceAll(/[^a-z0-9._-]+/g, '-')
    .replace(/^[^a-z0-9]+/, '')
    .replace(/-+$/, '');
  return name === '' ? 'store' : name;
}
