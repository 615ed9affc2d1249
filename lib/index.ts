export { openReader } from './app/reading.ts';
export { openSession } from './app/sessions.ts';
export { type ErrorCode, TombstonedError } from './domain/errors.ts';
export { type Key, parseKey } from './domain/key.ts';
export { allKeys } from './reader/all-keys.ts';
export { LeaseLost } from './reader/lease-term.ts';
export type { Found, ListedKey, Reader, RefusedName } from './reader/reader.ts';
export type { Session, SessionOptions, ViewedKey } from './reader/session.ts';
