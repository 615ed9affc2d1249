import { constants, gunzipSync } from 'node:zlib';
import { Malformed } from './malformed.ts';
import { type MetadataLine, parseLine } from './metadata.ts';
import { LARGEST_FILE } from './metadata-file.ts';

/** What is there of a metadata file that was cut short while it was written. */
export interface Remains {
  /** Its whole lines. */
  readonly lines: readonly MetadataLine[];
  /** The beginning of the line after them; empty where it was cut between two. */
  readonly rest: Buffer;
}

/**
 * What is left of a file that was cut short, plain or gzip. Undefined where it is anything else than the
 * beginning of a metadata file: then nothing says what was in it.
 */
export function remainsOf(bytes: Buffer): Remains | undefined {
  const plain = unpackedSoFar(bytes);
  if (plain === undefined) return undefined;
  const end = plain.lastIndexOf(0x0a) + 1;
  const lines: MetadataLine[] = [];
  try {
    const text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(plain.subarray(0, end));
    for (const line of text.split('\n').slice(0, -1)) lines.push(parseLine(line));
  } catch (error) {
    if (error instanceof Malformed || error instanceof TypeError) return undefined;
    throw error;
  }
  return { lines, rest: plain.subarray(end) };
}

function unpackedSoFar(bytes: Buffer): Buffer | undefined {
  const isGzip = bytes[0] === 0x1f && (bytes.length === 1 || bytes[1] === 0x8b);
  if (!isGzip) return bytes;
  if (bytes.length < 10) return Buffer.alloc(0); // not even its header
  try {
    return gunzipSync(bytes, { finishFlush: constants.Z_SYNC_FLUSH, maxOutputLength: LARGEST_FILE });
  } catch {
    return undefined; // what zlib can't make sense of is damaged, and not just cut short
  }
}
