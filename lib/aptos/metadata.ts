import { TombstonedError } from '../domain/errors.ts';
import { asKey, type Key, keyProblem } from '../domain/key.ts';
import { type Json, MOST_U64, OtherNumber, parseJson, shortened } from './exact-json.ts';
import { Malformed } from './malformed.ts';

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

/** No path that a system takes is longer. */
const LONGEST_HANDLE = 4096;

/** What is wrong with the name of a file that a metadata file gives, or undefined: names there are anybody's. */
function handleProblem(handle: string): string | undefined {
  if (handle.length > LONGEST_HANDLE) return `is longer than ${LONGEST_HANDLE} characters`;
  if (/\p{Cc}/u.test(handle)) return 'contains a control character';
  return keyProblem(handle);
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

/** The members of a variant, as they are asked for. */
class Members {
  readonly #variant: string;
  readonly #content: Json;
  #asked = 0;

  constructor(variant: string, content: Json) {
    this.#variant = variant;
    this.#content = content;
  }

  /** Whether there are others than were asked for. */
  get hasMore(): boolean {
    return this.#content instanceof Map && this.#content.size > this.#asked;
  }

  u64(name: string): bigint {
    const value = this.#take(name);
    if (typeof value === 'bigint') return value;
    throw new Malformed(`"${name}" is ${shown(value)}: expected a whole number from 0 to ${MOST_U64}`);
  }

  range(first: string, last: string): readonly [bigint, bigint] {
    const from = this.u64(first);
    const to = this.u64(last);
    if (from <= to) return [from, to];
    throw new Malformed(`"${last}" is ${to}, before "${first}", ${from}`);
  }

  text(name: string): string {
    const value = this.#take(name);
    if (typeof value === 'string') return value;
    throw new Malformed(`"${name}" is ${shown(value)}: expected a text`);
  }

  handle(name: string): Key {
    return asHandle(`"${name}"`, this.text(name));
  }

  timesByHandle(name: string): ReadonlyMap<Key, bigint | null> {
    const value = this.#take(name);
    if (!(value instanceof Map)) throw new Malformed(`"${name}" is ${shown(value)}: expected an object`);
    const times = new Map<Key, bigint | null>();
    for (const [handle, at] of value) {
      if (at !== null && typeof at !== 'bigint')
        throw new Malformed(`the time of ${shortened(handle)} is ${shown(at)}: expected seconds, or null`);
      times.set(asHandle(`a name in "${name}"`, handle), at);
    }
    return times;
  }

  #take(name: string): Json {
    if (!(this.#content instanceof Map))
      throw new Malformed(`"${this.#variant}" is ${shown(this.#content)}: expected an object`);
    const value: Json | undefined = this.#content.get(name);
    if (value === undefined) throw new Malformed(`"${this.#variant}" has no "${name}"`);
    this.#asked += 1;
    return value;
  }
}

function asHandle(what: string, text: string): Key {
  const problem = handleProblem(text);
  const key = asKey(text);
  if (problem === undefined && key !== undefined) return key;
  throw new Malformed(`${what} is ${shortened(text)}, which names no file in the backup: it ${problem}`);
}

function shown(value: Json): string {
  if (value === null) return 'null';
  if (typeof value === 'string') return shortened(value);
  if (value instanceof OtherNumber) return value.text.slice(0, 60);
  if (typeof value === 'object') return value instanceof Map ? 'an object' : 'a list';
  return String(value);
}
