import { type MetadataFile, readMetadataFile } from '../aptos/metadata-file.ts';
import { messageOf, TombstonedError } from '../domain/errors.ts';
import { printable } from '../domain/key.ts';
import type { OpenObject } from '../store/store.ts';

/** What is read of an open object. */
export type ReadableObject = Pick<OpenObject, 'read'> & { readonly readAll?: (() => Buffer) | undefined };

/** Reads an open object as a metadata file, and closes it. Throws `failed` where it is none, and what reading it throws. */
export async function readObject(key: string, object: ReadableObject): Promise<MetadataFile> {
  if (object.readAll !== undefined) return readBytes(key, object.readAll());
  const stream = object.read();
  try {
    return await readMetadataFile(key, stream);
  } finally {
    stream.destroy();
  }
}

/** Reads bytes as those of a metadata file. Throws `failed` where they are not. */
export async function readBytes(key: string, bytes: Buffer): Promise<MetadataFile> {
  return readMetadataFile(key, inOnePiece(bytes));
}

async function* inOnePiece(bytes: Buffer): AsyncGenerator<Buffer> {
  yield bytes;
}

/** Why a file says nothing, as an error that names it. */
export function notRead(key: string, cause: unknown): TombstonedError {
  if (cause instanceof TombstonedError) return cause;
  return new TombstonedError('failed', `${printable(key)} can't be read: ${messageOf(cause)}`, {
    key,
    hint: 'it counts as neither there nor gone',
    cause,
  });
}

/** What a listing has that can't be a metadata file, and why, as an error that names it. */
export function noObject(path: string, why: string): TombstonedError {
  return new TombstonedError('failed', `${printable(path)} is no object, and was not read: ${why}`, {
    key: path,
    hint: 'move it away, or put a file in its place',
  });
}
