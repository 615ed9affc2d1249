import type { Catalog, StoreRow } from '../catalog/catalog.ts';
import { TombstonedError } from '../domain/errors.ts';
import { isPlainId } from '../domain/ids.ts';
import { usageError } from './fail.ts';

/** `--sweep ID|last`: a sweep's id. `last` is the newest that moved something in any of the stores. */
export function sweepIdOf(catalog: Catalog, rows: readonly StoreRow[], text: string): string {
  if (text === 'last') {
    const newest = rows
      .flatMap((row) => catalog.sweeps.lastMoving(row.n) ?? [])
      .toSorted((a, b) => (b.lastBatchAt ?? 0) - (a.lastBatchAt ?? 0))[0];
    if (newest !== undefined) return newest.id;
    throw new TombstonedError('not-found', 'no sweep has moved anything yet', {
      hint: 'see tombstonectl sweeps',
    });
  }
  if (!isPlainId(text, 's')) {
    throw usageError(
      `${JSON.stringify(text)} is no sweep's id`,
      'see tombstonectl sweeps, or say last',
      text,
    );
  }
  const sweep = catalog.sweeps.get(text);
  if (sweep !== undefined) {
    if (rows.some(({ name }) => name === sweep.store)) return text;
    throw usageError(`sweep ${text} is of the store ${sweep.store}`, `add --store ${sweep.store}`, text);
  }
  throw new TombstonedError('not-found', `there is no sweep ${text}`, {
    key: text,
    hint: 'see tombstonectl sweeps',
  });
}
