import type { State } from '../domain/state.ts';
import type { Sql } from './sql.ts';

/** How many tombstones, and bytes, are in a state: by so much more, or less. Part of the transaction that makes it so. */
export function addToTally(
  sql: Sql,
  store: number,
  state: State,
  { count, bytes }: { readonly count: number; readonly bytes: number },
): void {
  if (count === 0) return;
  sql.run(
    `INSERT INTO tallies (store, state, count, bytes) VALUES (?, ?, ?, ?)
     ON CONFLICT DO UPDATE SET count = count + excluded.count, bytes = bytes + excluded.bytes`,
    store,
    state,
    count,
    bytes,
  );
}
