import { randomUUID } from 'node:crypto';
import path from 'node:path';
import { backupDatabase } from '../catalog/backup.ts';
import { Catalog } from '../catalog/catalog.ts';

/** What a backup of a catalog came to. */
export interface CatalogBackup {
  readonly file: string;
  /** Null: the signal ended it, and there is no backup. */
  readonly bytes: number | null;
}

/**
 * Writes a copy of a catalog, which may be in use, to a file. The copy owns no store: whoever
 * brings it back says so with `rebuild --take-over` or `adopt`, since it may be older than the stores.
 */
export async function backupCatalog(
  catalogFile: string,
  target: string,
  options: {
    readonly force: boolean;
    readonly signal?: AbortSignal | undefined;
    readonly onProgress?: (done: number, total: number) => void;
  },
): Promise<CatalogBackup> {
  Catalog.open(catalogFile).close(); // says what is wrong with it
  const file = path.resolve(target);
  const bytes = await backupDatabase(catalogFile, file, { ...options, uuid: randomUUID() });
  return { file, bytes: bytes ?? null };
}
