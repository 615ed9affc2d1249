import { randomBytes } from 'node:crypto';
import { closeSync, futimesSync, mkdirSync, openSync, readdirSync, writeSync } from 'node:fs';
import path from 'node:path';

const FILE_BYTES = 1024;
const DAY_SECONDS = 86_400;

export function directoryName(d: number): string {
  return `epoch-${String(d).padStart(4, '0')}`;
}

/** Names are unique over all directories: `mv -t` puts them into one. */
function fileName(f: number): string {
  return `part-${String(f).padStart(8, '0')}.chunk`;
}

/** The keys of such files, directory by directory. */
export function* keysOf(files: number, directories: number): Generator<string> {
  for (let d = 0; d < directories; d++) {
    for (let f = d; f < files; f += directories) yield `${directoryName(d)}/${fileName(f)}`;
  }
}

/** Makes `files` files of 1 KiB, spread evenly over `directories` directories below `root`, all days old. */
export function makeFiles(root: string, files: number, directories: number): void {
  const body = randomBytes(FILE_BYTES);
  const newest = Date.now() / 1000 - DAY_SECONDS;
  for (let d = 0; d < directories; d++) {
    const directory = path.join(root, directoryName(d));
    mkdirSync(directory, { recursive: true });
    for (let f = d; f < files; f += directories) {
      const fd = openSync(path.join(directory, fileName(f)), 'wx');
      writeSync(fd, body);
      futimesSync(fd, newest - f, newest - f);
      closeSync(fd);
    }
  }
}

/** How many files, as opposed to directories, are below a directory. */
export function countFiles(root: string): number {
  let count = 0;
  for (const entry of readdirSync(root, { withFileTypes: true })) {
    count += entry.isDirectory() ? countFiles(path.join(root, entry.name)) : 1;
  }
  return count;
}
