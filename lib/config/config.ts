import type { StoreFormat } from '../domain/store-format.ts';

/** The config as the program uses it (design, section 9): durations in ms, sizes in bytes, defaults applied. */
export interface Config {
  /** The file it was read from, absolute. */
  readonly file: string;
  /** The catalog's file, absolute. */
  readonly catalog: string;
  readonly metrics: { readonly listen: ListenAddress | null };
  readonly log: LogConfig;
  readonly historyFor: number;
  readonly clockTolerance: number;
  /** A command, or null: nobody is told. */
  readonly notify: string | null;
  /** At least one; names are unique, directories and prefixes do not overlap. */
  readonly stores: readonly StoreConfig[];
}

interface ListenAddress {
  readonly host: string;
  readonly port: number;
}

interface LogConfig {
  readonly level: 'error' | 'warn' | 'info' | 'debug';
  /** Absolute, or null: the journal, or the terminal. */
  readonly file: string | null;
}

export interface StoreConfig {
  readonly name: string;
  /** As it was written. */
  readonly url: string;
  readonly location: StoreLocation;
  readonly format: StoreFormat;
  readonly s3: S3Config;
  /** A key prefix that ends in `/`. */
  readonly pendingPrefix: string;
  readonly safetyWindow: number;
  readonly sweepEvery: number;
  readonly purgeEvery: number;
  readonly exemptAfterRestore: number;
  readonly minimumAge: number;
  readonly settle: 'auto' | number;
  readonly throttle: ThrottleConfig;
  readonly limits: LimitsConfig;
  /** Globs on whole keys. */
  readonly protect: readonly string[];
  /** Their names are unique within the store. */
  readonly policies: readonly PolicyConfig[];
  readonly aptos: AptosConfig;
}

/** What is done for a store with format aptos. */
export interface AptosConfig {
  /** How often the daemon compacts its metadata, ms, or null: it does not. */
  readonly compactEvery: number | null;
  /** Lines of a compacted file, by their kind. */
  readonly factors: {
    readonly epochEndings: number;
    readonly stateSnapshots: number;
    readonly transactions: number;
  };
  /** How long a file stays after it was replaced by a compacted one. */
  readonly removeAfter: number;
}

/** Where a store is: an absolute, normalised directory, or a bucket and a prefix that is empty or ends in `/`. */
export type StoreLocation =
  | { readonly kind: 'local'; readonly directory: string }
  | { readonly kind: 's3'; readonly bucket: string; readonly prefix: string };

export interface S3Config {
  readonly endpoint: string | null;
  readonly region: string | null;
  readonly forcePathStyle: boolean;
  readonly versions: 'keep' | 'purge';
}

/** null: as fast as it goes. */
export interface ThrottleConfig {
  readonly requestsPerSecond: number | null;
  readonly bytesPerSecond: number | null;
  readonly concurrency: number;
}

/** null: no limit. */
export interface LimitsConfig {
  readonly maxObjects: number | null;
  /** 0 to 1. */
  readonly maxFraction: number | null;
  readonly maxBytes: number | null;
}

export interface AgePolicyConfig {
  readonly name: string;
  readonly type: 'age';
  readonly prefix: string;
  /** A glob on the key below the prefix. */
  readonly match: string;
  readonly olderThan: number;
  readonly keepLast: number;
  readonly unit: 'object' | 'directory';
  /** The store's, with the policy's own over them. */
  readonly limits: LimitsConfig;
}

interface DropInPolicyConfig {
  readonly name: string;
  readonly type: 'drop-in';
  /** Where other programs put requests: absolute, outside every local store. */
  readonly directory: string;
  /** The store's, with the policy's own over them. */
  readonly limits: LimitsConfig;
}

/** Only in stores with `format: aptos`. */
export interface AptosCompactionPolicyConfig {
  readonly name: string;
  readonly type: 'aptos-compaction';
  /** How long a metadata file stays once it is replaced. */
  readonly removeAfter: number;
  /** The store's, but for `maxFraction`, with the policy's own over them. */
  readonly limits: LimitsConfig;
}

/** Only in stores with `format: aptos`. */
export interface AptosPayloadPolicyConfig {
  readonly name: string;
  readonly type: 'aptos-payload';
  readonly olderThan: number;
  /** How many of the newest snapshots that a restore can begin with stay; null: all. */
  readonly keepSnapshots: number | null;
  /** The store's, with the policy's own over them. */
  readonly limits: LimitsConfig;
}

export type PolicyConfig =
  | AgePolicyConfig
  | DropInPolicyConfig
  | AptosCompactionPolicyConfig
  | AptosPayloadPolicyConfig;
