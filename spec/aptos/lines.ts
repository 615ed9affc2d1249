import fc from 'fast-check';
import { TombstonedError } from '../../lib/domain/errors.ts';
import { type Key, parseKey } from '../../lib/domain/key.ts';
import {
  type KnownMetadata,
  type MetadataFile,
  type MetadataView,
  readMetadataFile,
  ViewBuilder,
} from '../../lib/index.ts';

export const MOST = 2n ** 64n - 1n;

/** Bytes in pieces, as they come from a disk or the net. */
export async function* inPieces(bytes: Uint8Array, size = 7): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

export async function read(bytes: Uint8Array | string, handle = 'metadata/a.meta'): Promise<MetadataFile> {
  return readMetadataFile(handle, inPieces(Buffer.from(bytes), 4096));
}

/** The error that reading ends in: its message and hint. */
export async function refusal(bytes: Uint8Array | string, handle?: string): Promise<string> {
  try {
    await read(bytes, handle);
  } catch (error) {
    if (error instanceof TombstonedError && error.code === 'failed')
      return `${error.message} [${error.key}] (${error.hint})`;
    throw error;
  }
  return 'it was read';
}

export function epoch(epochs: [number, number], versions: [number, number], manifest = 'e/m'): KnownMetadata {
  return {
    kind: 'epoch-ending',
    firstEpoch: BigInt(epochs[0]),
    lastEpoch: BigInt(epochs[1]),
    firstVersion: BigInt(versions[0]),
    lastVersion: BigInt(versions[1]),
    manifest: parseKey(manifest),
  };
}

export function snapshot(ofEpoch: number, version: number, manifest = 's/m'): KnownMetadata {
  return {
    kind: 'state-snapshot',
    epoch: BigInt(ofEpoch),
    version: BigInt(version),
    manifest: parseKey(manifest),
  };
}

export function transactions(first: number | bigint, last: number | bigint, manifest = 't/m'): KnownMetadata {
  return {
    kind: 'transaction',
    firstVersion: BigInt(first),
    lastVersion: BigInt(last),
    manifest: parseKey(manifest),
  };
}

export function viewOf(lines: Iterable<KnownMetadata>): MetadataView {
  const builder = new ViewBuilder();
  for (const line of lines) builder.add(line);
  return builder.view();
}

const anyU64 = fc.bigInt({ min: 0n, max: MOST });
const anyRange = fc.tuple(anyU64, anyU64).map(([a, b]): [bigint, bigint] => (a < b ? [a, b] : [b, a]));
/** A handle of characters that JSON escapes, or that sort differently in UTF-16 and UTF-8. */
export const anyHandle: fc.Arbitrary<Key> = fc
  .string({
    unit: fc.constantFrom('a', 'Z', '"', '\\', '~', '\u{7e}', '\uff5e', '\u{1f600}', '\u2028'),
    minLength: 1,
  })
  .map((text) => parseKey(`x/${text}`));

export const anyMetadata: fc.Arbitrary<KnownMetadata> = fc.oneof(
  fc.tuple(anyRange, anyRange, anyHandle).map(
    ([epochs, versions, manifest]): KnownMetadata => ({
      kind: 'epoch-ending',
      firstEpoch: epochs[0],
      lastEpoch: epochs[1],
      firstVersion: versions[0],
      lastVersion: versions[1],
      manifest,
    }),
  ),
  fc.tuple(anyU64, anyU64, anyHandle).map(
    ([ofEpoch, version, manifest]): KnownMetadata => ({
      kind: 'state-snapshot',
      epoch: ofEpoch,
      version,
      manifest,
    }),
  ),
  fc.tuple(anyRange, anyHandle).map(
    ([[firstVersion, lastVersion], manifest]): KnownMetadata => ({
      kind: 'transaction',
      firstVersion,
      lastVersion,
      manifest,
    }),
  ),
  fc
    .string({ unit: fc.constantFrom(...'0123456789abcdef'.split('')), minLength: 64, maxLength: 64 })
    .map((id): KnownMetadata => ({ kind: 'identity', id })),
  fc.tuple(anyU64, fc.array(fc.tuple(anyHandle, fc.option(anyU64)))).map(
    ([fileCompactedAt, times]): KnownMetadata => ({
      kind: 'compaction-timestamps',
      fileCompactedAt,
      timestamps: new Map(times),
    }),
  ),
);
