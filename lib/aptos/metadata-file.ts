import { promisify } from 'node:util';
import { gunzipSync, gzip } from 'node:zlib';
import { errnoOf, messageOf, TombstonedError } from '../domain/errors.ts';
import { printable, quote } from '../domain/key.ts';
import { formatSize } from '../domain/quantities.ts';
import { nameProblem } from './file-name.ts';
import { Malformed } from './malformed.ts';
import { type MetadataLine, parseLine } from './metadata.ts';

/** A metadata file that was read whole. */
export interface MetadataFile {
  readonly handle: string;
  readonly lines: readonly MetadataLine[];
  readonly isGzip: boolean;
}

/** Bytes, packed or not: the timestamps of a million files, and 400,000 lines of the others. */
export const LARGEST_FILE = 64 * 1024 ** 2;
/** Bytes; longer than any handle, with room for JSON around it. */
const LONGEST_LINE = 64 * 1024;
/** The one line that names every file there is. */
const MAY_BE_LONG = /^\s*\{\s*"CompactionTimestamps"/;

/**
 * Reads a metadata file, gzip or plain, to its end. All its lines, or a `failed` error that names it and the
 * line: one that is malformed, cut short, too large, or not what its name says has no lines to rely on.
 * What reading its bytes throws is thrown as it is.
 */
export async function readMetadataFile(
  handle: string,
  bytes: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
): Promise<MetadataFile> {
  const lines: MetadataLine[] = [];
  let line = 0;
  try {
    const { plain, isGzip } = await plainBytes(bytes);
    for (let from = 0; from < plain.length; ) {
      line += 1;
      const end = plain.indexOf(0x0a, from);
      if (end < 0) throw new Malformed('it has no end: every line ends in a newline', true);
      lines.push(parseLine(textOf(plain.subarray(from, end))));
      from = end + 1;
    }
    line = 0;
    if (lines.length === 0) throw new Malformed('it is empty', true);
    const problem = nameProblem(handle, lines);
    if (problem !== undefined) throw new Malformed(`${problem}: was it cut short at the end of a line?`);
    return { handle, lines, isGzip };
  } catch (error) {
    throw error instanceof Malformed ? refused(handle, line, error) : error;
  }
}

/** The bytes of a metadata file of these lines, given without their ends. */
export async function metadataFileBytes(
  lines: Iterable<string>,
  { isGzip }: { readonly isGzip: boolean },
): Promise<Buffer> {
  const texts = [...lines];
  if (texts.length === 0 || texts.some((text) => text === '' || text.includes('\n'))) {
    const hint = 'give at least one line, each without its end';
    throw new TombstonedError('usage', 'these are not the lines of a metadata file', { hint });
  }
  const plain = Buffer.from(texts.map((text) => `${text}\n`).join(''));
  return isGzip ? promisify(gzip)(plain) : plain;
}

/** All bytes of a small file, gzip or plain, as they were packed; throws `Malformed`. */
export async function plainBytes(
  bytes: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
): Promise<{ readonly plain: Buffer; readonly isGzip: boolean }> {
  const raw = await collected(bytes);
  const isGzip = raw[0] === 0x1f && raw[1] === 0x8b;
  return { plain: isGzip ? unpacked(raw) : raw, isGzip };
}

async function collected(bytes: AsyncIterable<Uint8Array> | Iterable<Uint8Array>): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of bytes) {
    length += chunk.length;
    if (length > LARGEST_FILE) throw tooLarge('');
    chunks.push(chunk);
  }
  return Buffer.concat(chunks, length);
}

/** What gzip packed; its own checksum and length say whether it is whole. In one call: most files are tiny. */
function unpacked(bytes: Buffer): Buffer {
  try {
    // Of a small file: what zlib would set aside for its output is many times that.
    const chunkSize = Math.min(Math.max(bytes.length * 4, 256), 64 * 1024);
    return gunzipSync(bytes, { chunkSize, maxOutputLength: LARGEST_FILE });
  } catch (error) {
    const code = errnoOf(error);
    if (code === 'ERR_BUFFER_TOO_LARGE') throw tooLarge(' unpacked');
    if (code === 'Z_BUF_ERROR') throw new Malformed('what gzip packed has no end', true);
    if (code?.startsWith('Z_') !== true) throw error;
    throw new Malformed(`what gzip packed is damaged: ${messageOf(error)}`);
  }
}

function tooLarge(how: string): Malformed {
  return new Malformed(`it is larger than ${formatSize(LARGEST_FILE)}${how}`);
}

const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

function textOf(bytes: Buffer): string {
  if (bytes.length > LONGEST_LINE && !MAY_BE_LONG.test(bytes.subarray(0, 1024).toString('latin1')))
    throw new Malformed(`it is longer than ${formatSize(LONGEST_LINE)}`);
  return decoded(bytes);
}

/** Bytes as the text that they are; throws `Malformed`. */
export function decoded(bytes: Uint8Array): string {
  let text: string;
  try {
    text = decoder.decode(bytes);
  } catch {
    throw new Malformed('it is not valid UTF-8');
  }
  if (text.startsWith('\u{feff}')) throw new Malformed('it begins with a byte order mark');
  if (/^\s*$/.test(text)) throw new Malformed('it is empty');
  return text;
}

function refused(handle: string, line: number, { message, isCut }: Malformed): TombstonedError {
  const place = line === 0 ? '' : `, line ${line}`;
  return new TombstonedError('failed', printable(`metadata file ${quote(handle)}${place}: ${message}`), {
    key: handle,
    hint: isCut
      ? 'it was cut short while it was written: have the backup tool write it again, or put back a whole copy'
      : 'put back a whole copy, or have the backup tool write it again',
  });
}
