import { workerData } from 'node:worker_threads';
import { systemClock } from '../domain/clock.ts';
import { type Key, parseKey } from '../domain/key.ts';
import { parseRevision, sameRevision } from '../domain/revision.ts';
import { serve } from '../run/thread.ts';
import { at, splitKey } from '../store/local/directories.ts';
import { LocalStore } from '../store/local/local-store.ts';
import type { OpenObject } from '../store/store.ts';
import type { CopiedFile, CopyAnswer, CopyRequest, CopySettings, Wanted } from './copy-thread.ts';
import { createFile, finishFile, makeStage, type TemporaryFile } from './staging.ts';
import { targetError } from './target-error.ts';
import { nodeTargetFs } from './target-fs.ts';

// A thread of `startCopying`.

const { directory, pendingPrefix, target }: CopySettings = workerData;
let store: LocalStore | undefined;

async function answerTo(request: CopyRequest): Promise<CopyAnswer> {
  // The texts are of the other thread of this program.
  if (request.ask === 'copy') {
    const objects: readonly Wanted[] = JSON.parse(request.objects);
    return copy(request.stage, objects, request.isNamed);
  }
  const links: readonly (readonly [string, string])[] = JSON.parse(request.links);
  return { isLinked: links.map(([from, to]) => link(from, to)) };
}

/** Gives a file its name where there is nothing; where that fails it has the name it had. */
function link(from: string, to: string): boolean {
  try {
    nodeTargetFs.link(from, to);
  } catch {
    return false; // whoever asked tries it again, and says what is wrong
  }
  nodeTargetFs.unlink(from);
  return true;
}

function copy(path: string, objects: readonly Wanted[], isNamed: boolean): CopyAnswer {
  store ??= LocalStore.open({ path: directory, pendingPrefix, access: 'read', clock: systemClock });
  const files: (CopiedFile | null)[] = [];
  try {
    const stage = makeStage(nodeTargetFs, path, isNamed);
    store.openingMany((open) => {
      for (const object of objects) {
        const content = contentOf(open, object);
        if (content === undefined) files.push(null);
        else if (isNamed) files.push(writeNamed(at(stage.fd, splitKey(object[0]).base), content));
        else
          files.push(
            write(createFile(nodeTargetFs, at(stage.fd, String(files.length)), content.mode), content),
          );
      }
    });
    return { stage, files };
  } catch (error) {
    for (const file of files) if (file !== null) nodeTargetFs.close(file.fd);
    throw targetError(target, error);
  }
}

interface Content {
  readonly bytes: Buffer;
  readonly mode: number | undefined;
  readonly mtimeNs: bigint;
}

/** A live object's bytes, if it is the revision listed. */
function contentOf(
  open: (key: Key) => OpenObject | undefined,
  [key, size, text]: Wanted,
): Content | undefined {
  const revision = parseRevision(text);
  let object: OpenObject | undefined;
  try {
    object = open(parseKey(key));
    if (object === undefined || revision?.kind !== 'local' || !sameRevision(object.revision, revision))
      return undefined;
    const bytes = object.readAll?.();
    return bytes?.length === size ? { bytes, mode: object.mode, mtimeNs: revision.mtimeNs } : undefined;
  } catch {
    return undefined; // whoever asked looks at it again, and says what is wrong
  } finally {
    object?.close();
  }
}

/** Writes a file under the name that it keeps; null, and nothing there, where it can't have that here. */
function writeNamed(path: string, content: Content): CopiedFile | null {
  let file: TemporaryFile;
  try {
    file = createFile(nodeTargetFs, path, content.mode);
  } catch {
    return null; // whoever asked tries it alone, and says what is wrong
  }
  return write(file, content);
}

function write(file: TemporaryFile, { bytes, mtimeNs }: Content): CopiedFile {
  try {
    nodeTargetFs.write(file.fd, bytes);
    return { ...file, ...finishFile(nodeTargetFs, file, mtimeNs) };
  } catch (error) {
    nodeTargetFs.close(file.fd);
    throw error;
  }
}

serve({ answerTo, onEnd: () => store?.close() });
