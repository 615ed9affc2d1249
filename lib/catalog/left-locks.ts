import { readdirSync } from 'node:fs';
import path from 'node:path';
import { errnoOf } from '../domain/errors.ts';
import { isPlainId } from '../domain/ids.ts';
import { catalogError } from './database.ts';
import { runLockFile } from './run-lock.ts';

/** The runs whose lock files are beside a catalog, by their ids, oldest first. */
export function lockedRuns(catalogFile: string): string[] {
  const directory = path.dirname(runLockFile(catalogFile, ''));
  try {
    return readdirSync(directory)
      .flatMap((name) => (name.endsWith('.lock') ? name.slice(0, -'.lock'.length) : []))
      .filter((id) => isPlainId(id, 'r'))
      .toSorted();
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return [];
    throw catalogError(directory, error);
  }
}
