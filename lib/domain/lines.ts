/** Longer than any key, with room for JSON around it. Bytes. */
const LONGEST_LINE = 65_536;

/** A line without its end, or how it is none; `isEnded` unless it is the last and has no end. */
export type Line =
  | { readonly text: string; readonly isEnded: boolean }
  | { readonly problem: string; readonly hint?: string };

/**
 * The lines of a file of keys (UTF-8, each ended by `\n`), as chunks of it come.
 * Memory does not grow with a line's length.
 */
export async function* linesOf(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Line> {
  let rest: Buffer = Buffer.alloc(0);
  for await (const chunk of chunks) {
    let from = 0;
    for (let end = chunk.indexOf(0x0a); end >= 0; end = chunk.indexOf(0x0a, from)) {
      yield lineOf(Buffer.concat([rest, chunk.subarray(from, end)]), true);
      rest = Buffer.alloc(0);
      from = end + 1;
    }
    if (rest.length <= LONGEST_LINE) rest = Buffer.concat([rest, chunk.subarray(from)]);
  }
  if (rest.length > 0) yield lineOf(rest, false);
}

const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

function lineOf(bytes: Uint8Array, isEnded: boolean): Line {
  if (bytes.length > LONGEST_LINE) return { problem: 'the line is too long for a key' };
  let text: string;
  try {
    text = decoder.decode(bytes);
  } catch {
    return { problem: 'the line is not valid UTF-8' };
  }
  if (!text.endsWith('\r')) return { text, isEnded };
  return { problem: 'the line ends in a carriage return', hint: 'save the file with Unix line ends' };
}
