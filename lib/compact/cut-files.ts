import { type CompactedFile, isCompactedName } from '../aptos/compaction.ts';
import { metadataText } from '../aptos/metadata.ts';
import { LARGEST_FILE } from '../aptos/metadata-file.ts';
import { remainsOf } from '../aptos/remains.ts';
import { TombstonedError } from '../domain/errors.ts';
import { asKey, type Key, printable } from '../domain/key.ts';
import { METADATA_PREFIX } from '../metadata/names.ts';
import type { OpenObject, Store } from '../store/store.ts';
import { type Loaded, ownOf, type UnreadFile } from './load.ts';

/** A compacted file that can't be read: a crash may have cut it short while it was written. */
export interface CutFile {
  readonly key: Key;
  readonly error: TombstonedError;
}

/**
 * Of the files that can't be read, those that have the name of a compacted one. Throws where another can't
 * be read: what it says is not known, and nothing is compacted without it.
 */
export function cutFilesOf({ unread }: Pick<Loaded, 'unread'>): CutFile[] {
  const cut: CutFile[] = [];
  const others: UnreadFile[] = [];
  for (const { key, error } of unread) {
    const known = asKey(key);
    if (known !== undefined && isCompactedName(key.slice(METADATA_PREFIX.length)))
      cut.push({ key: known, error });
    else others.push({ key, error });
  }
  const [first] = others;
  if (first === undefined) return cut;
  const { message, hint, reason } = first.error;
  const more = others.length === 1 ? '' : `; and ${others.length - 1} more`;
  throw new TombstonedError('failed', `nothing is compacted: ${message}${more}`, {
    key: first.key,
    reason,
    hint,
    cause: first.error,
  });
}

/**
 * Throws unless each of these files was but cut short, and what is left of it is in what is planned, whose
 * lines are all in other files that were read: then nothing is lost when it gives way.
 */
export async function checkRemains(
  store: Store,
  cut: readonly CutFile[],
  files: readonly CompactedFile[],
): Promise<void> {
  for (const { key, error } of cut) {
    const object = await store.openLive(key);
    if (object === undefined) continue; // it has gone: it will be written anew
    const bytes = await allOf(object);
    const remains = bytes === undefined ? undefined : remainsOf(bytes);
    const own = remains?.lines.map((line) => ownOf(line)).find((one) => one !== undefined);
    if (remains === undefined || own !== undefined) {
      throw notCut(key, error, own === undefined ? error.message : `${error.message}; it has ${own}`);
    }
    const texts = new Set(
      remains.lines.map(({ metadata, text }) =>
        metadata.kind === 'unknown' ? text : metadataText(metadata),
      ),
    );
    let isBegun = remains.rest.length === 0;
    for (const file of files) {
      if (texts.size === 0 && isBegun) break;
      for (const line of file.lines()) {
        texts.delete(line);
        isBegun ||= Buffer.from(line).subarray(0, remains.rest.length).equals(remains.rest);
      }
    }
    if (texts.size > 0)
      throw notCut(key, error, `${error.message}; ${texts.size} of its lines are in no other file`);
    if (!isBegun) throw notCut(key, error, `${error.message}; it ends in what begins no line`);
  }
}

/** All bytes of an object; undefined where it is larger than a metadata file can be. */
export async function allOf(object: OpenObject): Promise<Buffer | undefined> {
  if (object.size > LARGEST_FILE) {
    object.close();
    return undefined;
  }
  const chunks: Uint8Array[] = [];
  for await (const chunk of object.read()) chunks.push(Buffer.from(chunk));
  return Buffer.concat(chunks);
}

function notCut(key: Key, cause: TombstonedError, why: string): TombstonedError {
  return new TombstonedError('failed', `nothing is compacted: ${why}`, {
    key,
    hint: `${printable(key)} can't be written again from other files: put back a whole copy, or move it away by hand`,
    cause,
  });
}
