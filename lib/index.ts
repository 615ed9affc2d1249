export { openReader } from './app/reading.ts';
export { openSession } from './app/sessions.ts';
export type { Break } from './aptos/continuity.ts';
export { readManifest } from './aptos/manifest.ts';
export {
  type Backup,
  type CompactionTimestamps,
  type EpochEnding,
  type Identity,
  type KnownMetadata,
  type Metadata,
  type MetadataLine,
  metadataText,
  type StateSnapshot,
  type TransactionRange,
  type UnknownVariant,
} from './aptos/metadata.ts';
export { type MetadataFile, metadataFileBytes, readMetadataFile } from './aptos/metadata-file.ts';
export { allGaps, type Gap, planRestore, type RestorePlan } from './aptos/restore-plan.ts';
export type { Rows } from './aptos/rows.ts';
export { compactedAt, newestTimestamps } from './aptos/timestamps.ts';
export { type MetadataView, type Restorable, ViewBuilder } from './aptos/view.ts';
export { type ErrorCode, TombstonedError } from './domain/errors.ts';
export { type Key, parseKey } from './domain/key.ts';
export { allKeys } from './reader/all-keys.ts';
export { LeaseLost } from './reader/lease-term.ts';
export type { Found, ListedKey, Reader, RefusedName } from './reader/reader.ts';
export type { Session, SessionOptions, ViewedKey } from './reader/session.ts';
