import path from 'node:path';
import { backupCatalog } from '../../app/backup-catalog.ts';
import { becomeOwnerOf } from '../../app/become-owner.ts';
import { storeAround } from '../../config/contradictions.ts';
import { printable, quote } from '../../domain/key.ts';
import { formatSize } from '../../domain/quantities.ts';
import type { Call, OptionTable, Page } from '../command.ts';
import { configOf } from '../config-of.ts';
import { usageError } from '../fail.ts';
import { withProgress } from '../progress.ts';
import { untilSignalled } from '../signals.ts';

export const manual = {
  synopsis: ['catalog backup FILE [--force]'],
  description: [
    'Writes a copy of the catalog, as it is at one moment, while everything goes on. It is written',
    'under another name, checked, and on the disk before it is called FILE. A file that is there is',
    'only replaced with --force, and none is written into a store. The copy owns no store: when it is',
    'brought back, nothing is moved or purged until rebuild --take-over, or adopt, has compared it',
    'with the store. See docs/recovery.md.',
  ],
  examples: [['catalog backup /mnt/other/catalog-$(date +%F).db', 'each night, from cron']],
} as const satisfies Page;

export const options = {
  force: { says: 'Replaces FILE where it is there.' },
} as const satisfies OptionTable;

export async function run(call: Call<typeof options>): Promise<number> {
  const { operands, out, options: given } = call;
  const [action, target, more] = operands;
  const see = 'see tombstonectl catalog --help';
  if (action !== 'backup') {
    throw usageError(
      action === undefined ? 'catalog needs an action' : `there is no catalog ${quote(action)}`,
      see,
    );
  }
  if (target === undefined || target === '') throw usageError('catalog backup needs a FILE', see);
  if (more !== undefined) throw usageError(`catalog backup takes no ${quote(more)}`, see, more);
  const config = configOf(call);
  const around = storeAround(path.resolve(target), config.stores);
  if (around !== undefined) {
    throw usageError(
      `${quote(target)} lies inside the store ${quote(around.name)}, where a sweep could take it`,
      'name a file outside every store, on another disk if there is one',
      target,
    );
  }
  becomeOwnerOf(config.catalog);
  return untilSignalled(out, async (signal) => {
    const { file, bytes } = await withProgress(out, 'catalog', async (progress) =>
      backupCatalog(config.catalog, target, {
        force: given.force,
        signal,
        onProgress: (done, total) => progress.update(done, total),
      }),
    );
    if (bytes === null) return 0;
    out.result(
      { type: 'catalog-backup', catalog: config.catalog, file, bytes },
      () => `${printable(file)}  ${formatSize(bytes)}`,
    );
    return 0;
  });
}
