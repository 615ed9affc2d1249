import type { Sql } from './sql.ts';

/** Drops some keys of a sweep that is done with from one of the tables of plans; says whether there are more. */
export function dropItems(
  sql: Sql,
  table: 'plan_items' | 'waiting_items',
  sweep: number,
  limit: number,
): boolean {
  // One transaction: what another process plans between the two statements is not ours to drop.
  return sql.transaction(() => {
    const others = sql.all(
      `SELECT 1 FROM ${table} WHERE sweep < @sweep UNION ALL SELECT 1 FROM ${table} WHERE sweep > @sweep LIMIT 1`,
      { sweep },
    );
    if (others.length === 0) {
      sql.run(`DELETE FROM ${table}`); // frees the table's pages, without a look at its rows
      return false;
    }
    const dropped = sql.change(
      `DELETE FROM ${table} WHERE sweep = @sweep AND key IN (SELECT key FROM ${table} WHERE sweep = @sweep LIMIT @limit)`,
      { sweep, limit },
    );
    return dropped === limit;
  });
}
