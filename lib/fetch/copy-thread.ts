import type { FetchedFile } from '../catalog/fetch-manifest.ts';
import { Thread } from '../run/thread.ts';
import type { StageDirectory, TemporaryFile } from './staging.ts';
import type { Linker } from './target.ts';

/** It has little to remember. */
const HEAP = { maxYoungGenerationSizeMb: 4, maxOldGenerationSizeMb: 64 };

/** What a thread that copies is told at its start. */
export interface CopySettings {
  /** The store's directory. */
  readonly directory: string;
  readonly pendingPrefix: string;
  /** The name of what is copied into, for messages. */
  readonly target: string;
}

/** A live object to copy: its key, size, and the revision listed, as text. */
export type Wanted = readonly [key: string, size: number, revision: string];

/** What it is asked. Lists cross as JSON text, which costs the least. */
export type CopyRequest =
  /** To copy objects (`Wanted[]`) into a new directory, under the names that they have in theirs or under others. */
  | { readonly ask: 'copy'; readonly stage: string; readonly isNamed: boolean; readonly objects: string }
  /** To give files their names where there is nothing: `[from, to][]`. */
  | { readonly ask: 'link'; readonly links: string };

export type CopyAnswer =
  | {
      readonly stage: StageDirectory;
      /** Null for what is not live as it was listed, or can't be read: that is for who asked to look at again. */
      readonly files: readonly (CopiedFile | null)[];
    }
  /** Of each link whether the file has its name, and that alone. */
  | { readonly isLinked: readonly boolean[] };

export type CopyThread = Thread<CopyRequest, CopyAnswer>;

export interface CopiedFile extends TemporaryFile, Pick<FetchedFile, 'size' | 'mtimeNs' | 'inode'> {}

/** A thread that copies files: system calls of several wait for the disk, and run, at once. */
export function startCopying(settings: CopySettings): CopyThread {
  return new Thread({
    file: new URL('./copy-worker', import.meta.url),
    name: 'a thread that copies',
    settings,
    limits: HEAP,
  });
}

/** Copies objects into a new directory; `isNamed`: all are of one directory, and have the same names in this one. */
export async function copyBy(
  thread: CopyThread,
  { stage, isNamed, objects }: { stage: string; isNamed: boolean; objects: readonly Wanted[] },
): Promise<Extract<CopyAnswer, { stage: unknown }>> {
  const answer = await thread.ask({ ask: 'copy', stage, isNamed, objects: JSON.stringify(objects) });
  if (!('stage' in answer)) throw new TypeError('a thread that copies has copied nothing');
  return answer;
}

/** Gives files their names, as far as it can: two threads at it would wait for each other's directories. */
export async function linkBy(thread: CopyThread, links: Parameters<Linker>[0]): Promise<readonly boolean[]> {
  const pairs = links.map(({ from, to }) => [from, to]);
  const answer = await thread.ask({ ask: 'link', links: JSON.stringify(pairs) });
  if (!('isLinked' in answer)) throw new TypeError('a thread that copies has linked nothing');
  return answer.isLinked;
}
