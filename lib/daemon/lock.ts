import { readFileSync, realpathSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { withReserve } from '../catalog/database.ts';
import { takeLock } from '../catalog/run-lock.ts';
import { errnoOf, messageOf, TombstonedError } from '../domain/errors.ts';
import { printable } from '../domain/key.ts';
import type { Report } from '../run/place.ts';

/**
 * Takes the right to be the daemon of a catalog, which must exist; gives what
 * frees it. The lock is the truth and dies with the process; the file with the
 * pid is for the message only. Throws `failed` when another daemon has it.
 */
export function takeDaemonLock(catalogFile: string, pid: number, report: Report): () => void {
  // Two configs may name one catalog differently.
  const catalog = realpathSync(catalogFile);
  const pidFile = `${catalog}.daemon.pid`;
  // On a full disk too: the daemon must start, to purge.
  const lock = withReserve(catalog, () => takeLock(`${catalog}.daemon.lock`));
  if (lock === undefined) {
    throw new TombstonedError(
      'failed',
      `another tombstoned${readPid(pidFile)} runs on the catalog ${printable(catalog)}`,
      {
        key: catalog,
        hint: 'stop it first, or give this one a catalog of its own',
      },
    );
  }
  writePid(pidFile, pid, report);
  return () => {
    rmSync(pidFile, { force: true });
    // The lock's file stays: removed, it could be held twice for a moment.
    lock.release();
  };
}

/** ` (pid N)`, or nothing where that is not known. */
function readPid(file: string): string {
  try {
    const text = readFileSync(file, 'utf8').trim();
    return /^\d+$/.test(text) ? ` (pid ${text})` : '';
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return '';
    return ` (its pid can't be read: ${printable(messageOf(error))})`;
  }
}

/** A full disk must not keep a daemon from purging, so a failure is only reported. */
function writePid(file: string, pid: number, report: Report): void {
  const temporary = `${file}.${pid}`;
  try {
    writeFileSync(temporary, `${pid}\n`, { mode: 0o644 });
    renameSync(temporary, file);
  } catch (error) {
    rmSync(temporary, { force: true });
    rmSync(file, { force: true });
    report('warn', `${printable(file)} can't be written: ${messageOf(error)}`, { key: file });
  }
}
