import { TombstonedError } from '../domain/errors.ts';
import type { Key } from '../domain/key.ts';
import { MOST_U64, parseJson, shortened } from './exact-json.ts';
import { Malformed } from './malformed.ts';
import { Members } from './members.ts';

/** Epochs whose ends a backup has; a version is the one that ends an epoch. */
export interface EpochEnding {
  readonly kind: 'epoch-ending';
  readonly firstEpoch: bigint;
  readonly lastEpoch: bigint;
  readonly firstVersion: bigint;
  readonly lastVersion: bigint;
  readonly manifest: Key;
}

export interface StateSnapshot {
  readonly kind: 'state-snapshot';
  readonly epoch: bigint;
  readonly version: bigint;
  readonly manifest: Key;
}

export interface TransactionRange {
  readonly kind: 'transaction';
  readonly firstVersion: bigint;
  readonly lastVersion: bigint;
  readonly manifest: Key;
}

export interface Identity {
  readonly kind: 'identity';
  /** 64 hexadecimal digits. */
  readonly id: string;
}

/** Since when metadata files have been replaced by compacted ones. Seconds since 1970. */
export interface CompactionTimestamps {
  readonly kind: 'compaction-timestamps';
  readonly fileCompactedAt: bigint;
  /** By file; null is one that is not replaced. */
  readonly timestamps: ReadonlyMap<Key, bigint | null>;
}

/** A variant that this program does not know; what it says is in its line's text. */
export interface UnknownVariant {
  readonly kind: 'unknown';
  readonly variant: string;
}

/** What backups are there, as lines say it. */
export type Backup = EpochEnding | StateSnapshot | TransactionRange;
export type KnownMetadata = Backup | Identity | CompactionTimestamps;
export type Metadata = KnownMetadata | UnknownVariant;

/** A line of a metadata file. */
export interface MetadataLine {
  readonly metadata: Metadata;
  /** As it stands in the file, without its end. */
  readonly text: string;
  /** Whether there are members that this program does not know, so that only the text says it all. */
  readonly hasMore: boolean;
}

/** Reads one line, without its end; throws `Malformed`. */
export function parseLine(text: string): MetadataLine {
  const value = parseJson(text);
  const [member, ...others] = value instanceof Map ? [...value] : [];
  if (member === undefined || others.length > 0)
    throw new Malformed('expected one JSON object with one member, the variant');
  const [variant, content] = member;
  const members = new Members(variant, content);
  const metadata = known(variant, members);
  if (metadata === undefined) return { metadata: { kind: 'unknown', variant }, text, hasMore: false };
  return { metadata, text, hasMore: members.hasMore };
}

/** The line, without its end, as the original tools write it. */
export function metadataText(metadata: KnownMetadata): string {
  switch (metadata.kind) {
    case 'epoch-ending': {
      const { firstEpoch, lastEpoch, firstVersion, lastVersion, manifest } = metadata;
      return (
        `{"EpochEndingBackup":{"first_epoch":${digits(firstEpoch)},"last_epoch":${digits(lastEpoch)},` +
        `"first_version":${digits(firstVersion)},"last_version":${digits(lastVersion)},` +
        `"manifest":${JSON.stringify(manifest)}}}`
      );
    }
    case 'state-snapshot': {
      const { epoch, version, manifest } = metadata;
      return (
        `{"StateSnapshotBackup":{"epoch":${digits(epoch)},"version":${digits(version)},` +
        `"manifest":${JSON.stringify(manifest)}}}`
      );
    }
    case 'transaction': {
      const { firstVersion, lastVersion, manifest } = metadata;
      return (
        `{"TransactionBackup":{"first_version":${digits(firstVersion)},"last_version":${digits(lastVersion)},` +
        `"manifest":${JSON.stringify(manifest)}}}`
      );
    }
    case 'identity':
      return `{"Identity":{"id":${JSON.stringify(metadata.id)}}}`;
    case 'compaction-timestamps': {
      const entries = [...metadata.timestamps].map(
        ([handle, at]) => `${JSON.stringify(handle)}:${at === null ? 'null' : digits(at)}`,
      );
      return (
        `{"CompactionTimestamps":{"file_compacted_at":${digits(metadata.fileCompactedAt)},` +
        `"compaction_timestamps":{${entries.join(',')}}}}`
      );
    }
  }
}

function digits(value: bigint): string {
  if (value >= 0n && value <= MOST_U64) return value.toString();
  throw new TombstonedError('usage', `${value} is no unsigned 64-bit number`, {
    hint: `give a number from 0 to ${MOST_U64}`,
  });
}

function known(variant: string, members: Members): KnownMetadata | undefined {
  switch (variant) {
    case 'EpochEndingBackup': {
      const [firstEpoch, lastEpoch] = members.range('first_epoch', 'last_epoch');
      const [firstVersion, lastVersion] = members.range('first_version', 'last_version');
      const manifest = members.handle('manifest');
      return { kind: 'epoch-ending', firstEpoch, lastEpoch, firstVersion, lastVersion, manifest };
    }
    case 'StateSnapshotBackup': {
      const epoch = members.u64('epoch');
      return {
        kind: 'state-snapshot',
        epoch,
        version: members.u64('version'),
        manifest: members.handle('manifest'),
      };
    }
    case 'TransactionBackup': {
      const [firstVersion, lastVersion] = members.range('first_version', 'last_version');
      return { kind: 'transaction', firstVersion, lastVersion, manifest: members.handle('manifest') };
    }
    case 'Identity': {
      const id = members.text('id');
      if (!/^[\da-f]{64}$/i.test(id)) throw new Malformed(`"id" is ${shortened(id)}: expected 64 hex digits`);
      return { kind: 'identity', id };
    }
    case 'CompactionTimestamps': {
      const fileCompactedAt = members.u64('file_compacted_at');
      return {
        kind: 'compaction-timestamps',
        fileCompactedAt,
        timestamps: members.timesByHandle('compaction_timestamps'),
      };
    }
    default:
      return undefined;
  }
}
