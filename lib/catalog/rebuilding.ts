import type { Key } from '../domain/key.ts';
import type { Revision } from '../domain/revision.ts';
import { revisionText } from '../domain/revision.ts';
import type { State } from '../domain/state.ts';
import { asNumber, asNumberOrNull, asText, type Sql, stateOf } from './sql.ts';
import { addToTally } from './tallies.ts';
import { intentsOf } from './tombstones.ts';

/** What the catalog has of an id that a listing found. */
export interface KnownCopy {
  /** Row number. */
  readonly store: number;
  readonly key: string;
  readonly state: State;
  /** Counted time. */
  readonly goneAt: number | null;
}

/** A tombstone that is recorded by its pending copy alone. Times are counted time. */
export interface RebuiltRow {
  readonly id: string;
  readonly key: Key;
  readonly revision: Revision;
  readonly state: 'pending' | 'restored';
  readonly goneAt: number;
  readonly purgeAfter: number;
}

/** A window that begins later than the catalog has it. Counted time. */
export interface LaterWindow {
  readonly id: string;
  readonly goneAt: number;
  readonly purgeAfter: number;
}

/** All statements of a rebuild: they add what is missing and make windows end later, and nothing else. */
export class Rebuilding {
  readonly #sql: Sql;

  constructor(sql: Sql) {
    this.#sql = sql;
  }

  /** Those of the ids that the catalog knows, of whatever store, those that are being moved included. */
  known(store: number, ids: readonly string[]): Map<string, KnownCopy> {
    const known = new Map<string, KnownCopy>();
    for (const row of this.#sql.all(
      `SELECT b.intents AS intents FROM open_batches b WHERE b.store = ?`,
      store,
    )) {
      for (const { id, key } of intentsOf(row['intents']))
        known.set(id, { store, key, state: 'moving', goneAt: null });
    }
    const rows = this.#sql.all(
      `SELECT id, store, key, state, gone_at AS goneAt FROM tombstones WHERE id IN (SELECT value FROM json_each(?))`,
      JSON.stringify(ids),
    );
    for (const row of rows) {
      known.set(asText(row['id']), {
        store: asNumber(row['store']),
        key: asText(row['key']),
        state: stateOf(row['state']),
        goneAt: asNumberOrNull(row['goneAt']),
      });
    }
    return known;
  }

  /** Adds tombstones that are not known. */
  add(of: { store: number; run: number; sweep: number; cause: number; rows: readonly RebuiltRow[] }): void {
    const { store, run, sweep, cause, rows } = of;
    this.#sql.run(
      `INSERT INTO tombstones (id, store, key, state, size, revision, cause, sweep, run, gone_at, purge_after)
       SELECT value->>0, @store, value->>1, value->>2, value->>3, value->>4, @cause, @sweep, @run, value->>5, value->>6
       FROM json_each(@rows)`,
      {
        store,
        run,
        sweep,
        cause,
        rows: JSON.stringify(
          rows.map((row) => [
            row.id,
            row.key,
            row.state,
            row.revision.size,
            revisionText(row.revision),
            row.goneAt,
            row.purgeAfter,
          ]),
        ),
      },
    );
    for (const state of ['pending', 'restored'] as const) {
      const ofState = rows.filter((row) => row.state === state);
      const bytes = ofState.reduce((sum, { revision }) => sum + revision.size, 0);
      addToTally(this.#sql, store, state, { count: ofState.length, bytes });
    }
  }

  /** Lets windows begin later, never sooner. */
  delay(store: number, rows: readonly LaterWindow[]): void {
    for (const { id, goneAt, purgeAfter } of rows) {
      this.#sql.run(
        `UPDATE tombstones SET gone_at = max(gone_at, @goneAt), purge_after = max(purge_after, @purgeAfter)
         WHERE id = @id AND +store = @store AND +state IN ('pending', 'restored')
           AND (gone_at < @goneAt OR purge_after < @purgeAfter)`,
        { id, store, goneAt, purgeAfter },
      );
    }
  }

  /** Records of pending ones that their objects are back; says of how many. */
  markRestored(store: number, rows: readonly LaterWindow[]): number {
    let restored = 0;
    for (const { id, goneAt, purgeAfter } of rows) {
      const [row] = this.#sql.all(
        `UPDATE tombstones SET state = 'restored', gone_at = max(gone_at, @goneAt), purge_after = max(purge_after, @purgeAfter)
         WHERE id = @id AND +store = @store AND +state = 'pending' RETURNING size`,
        { id, store, goneAt, purgeAfter },
      );
      if (row === undefined) continue;
      const bytes = asNumber(row['size']);
      addToTally(this.#sql, store, 'pending', { count: -1, bytes: -bytes });
      addToTally(this.#sql, store, 'restored', { count: 1, bytes });
      restored += 1;
    }
    return restored;
  }

  /** Lets ids be greater from now on than one that was found (design, section 3); `at` is its time, ms. */
  noteNewest(store: number, at: number): void {
    this.#sql.run(`UPDATE stores SET last_batch_at = max(last_batch_at, ?) WHERE n = ?`, at, store);
  }

  /** Says from when to when a rebuild's tombstones are; part of its transaction. */
  noteTimes(sweep: number, first: number, last: number): void {
    this.#sql.run(
      `UPDATE sweeps SET first_batch_at = min(coalesce(first_batch_at, @first), @first),
         last_batch_at = max(coalesce(last_batch_at, @last), @last) WHERE n = @sweep`,
      { sweep, first, last },
    );
  }
}
