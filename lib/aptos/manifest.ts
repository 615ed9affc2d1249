import { TombstonedError } from '../domain/errors.ts';
import { type Key, printable, quote } from '../domain/key.ts';
import { breaksOf, type Covered } from './continuity.ts';
import { parseJson } from './exact-json.ts';
import { Malformed } from './malformed.ts';
import { Members } from './members.ts';
import type { Backup } from './metadata.ts';
import { decoded, plainBytes } from './metadata-file.ts';

/**
 * Reads the manifest of a backup, gzip or plain, and gives all files that it names, in its order. Throws a
 * `failed` error that names it where it is malformed, cut short or too large, names a file outside of the
 * backup, or is not of what the metadata line says. What reading its bytes throws is thrown as it is.
 */
export async function readManifest(
  backup: Backup,
  bytes: AsyncIterable<Uint8Array>,
): Promise<readonly Key[]> {
  try {
    const { plain } = await plainBytes(bytes);
    if (plain.length === 0) throw new Malformed('it is empty', true);
    return filesOf(backup, new Members('manifest', parseJson(decoded(plain))));
  } catch (error) {
    throw error instanceof Malformed ? refused(backup.manifest, error) : error;
  }
}

function refused(manifest: Key, { message }: Malformed): TombstonedError {
  return new TombstonedError('failed', printable(`manifest ${quote(manifest)}: ${message}`), {
    key: manifest,
    hint: 'put back a whole copy: what it describes can not be restored without it',
  });
}

function filesOf(backup: Backup, members: Members): readonly Key[] {
  switch (backup.kind) {
    case 'epoch-ending': {
      const range = members.range('first_epoch', 'last_epoch');
      sameRange('epochs', range, [backup.firstEpoch, backup.lastEpoch]);
      return chunkFiles(members, 'epochs', range, ['first_epoch', 'last_epoch'], ['ledger_infos']);
    }
    case 'transaction': {
      const range = members.range('first_version', 'last_version');
      sameRange('versions', range, [backup.firstVersion, backup.lastVersion]);
      const names = ['first_version', 'last_version'] as const;
      return chunkFiles(members, 'versions', range, names, ['transactions', 'proof']);
    }
    case 'state-snapshot': {
      const version = members.u64('version');
      sameRange('versions', [version, version], [backup.version, backup.version]);
      const epoch = members.u64('epoch');
      sameRange('epochs', [epoch, epoch], [backup.epoch, backup.epoch]);
      const chunks = members.list('chunks');
      if (chunks.length === 0) throw new Malformed('it has no chunks');
      const files = chunks.flatMap((chunk) => [chunk.handle('blobs'), chunk.handle('proof')]);
      return [...files, members.handle('proof')];
    }
  }
}

type Range = readonly [bigint, bigint];

function sameRange(of: string, [first, last]: Range, [saidFirst, saidLast]: Range): void {
  if (first === saidFirst && last === saidLast) return;
  throw new Malformed(
    `it has the ${of} ${first} to ${last}, and its metadata line says ${saidFirst} to ${saidLast}`,
  );
}

/** The files of chunks, which are to have all of a range, each its part. */
function chunkFiles(
  members: Members,
  of: string,
  [first, last]: Range,
  [firstName, lastName]: readonly [string, string],
  files: readonly string[],
): Key[] {
  const handles: Key[] = [];
  const covered: Covered[] = [];
  for (const chunk of members.list('chunks')) {
    const range = chunk.range(firstName, lastName);
    covered.push({ first: range[0] - first, last: range[1] - first });
    for (const file of files) handles.push(chunk.handle(file));
  }
  const [hole] = breaksOf(covered);
  const end = covered.at(-1)?.last;
  if (hole === undefined && end === last - first) return handles;
  throw new Malformed(`its chunks do not have the ${of} ${first} to ${last} without a gap`);
}
