export { openReader } from './app/reading.ts';
export { type ErrorCode, TombstonedError } from './domain/errors.ts';
export { type Key, parseKey } from './domain/key.ts';
export { allKeys } from './reader/all-keys.ts';
export type { Found, ListedKey, Reader } from './reader/reader.ts';
