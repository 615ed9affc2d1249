import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import path from 'node:path';

/** Lies beside the repository, or where the environment says; without it specs of it are skipped. */
const DATA = process.env['TOMBSTONED_SPEC_DATA'] ?? path.resolve(import.meta.dirname, '../../../shared/data');
const ARCHIVE = path.join(DATA, '0l-mainnet-backup.tar.xz');

/** What a suite that needs it says in its title. */
export const NEEDS_REAL_BACKUP = 'needs 0l-mainnet-backup.tar.xz in TOMBSTONED_SPEC_DATA';

export function hasRealBackup(): boolean {
  return existsSync(ARCHIVE);
}

/** Puts a real network's backup into a directory: its metadata, manifests, and small files; or only one directory of it. */
export function extractRealBackup(directory: string, only?: string): void {
  const chosen = only === undefined ? [] : ['--wildcards', `*${only}/*`];
  execFileSync('tar', ['--extract', '--xz', '--file', ARCHIVE, '--directory', directory, ...chosen]);
}
