import type { Database, Statement } from 'better-sqlite3';
import { TombstonedError } from '../domain/errors.ts';
import { asKey, type Key } from '../domain/key.ts';
import { parseRevision, type Revision } from '../domain/revision.ts';
import { STATES, type State } from '../domain/state.ts';
import { BRING_BACK, catalogError, withReserve } from './database.ts';

export type Row = Readonly<Record<string, unknown>>;

/** Statements of one connection, each prepared once; what SQLite throws comes out as our error. */
export class Sql {
  readonly db: Database;
  readonly #file: string;
  readonly #mayUseReserve: boolean;
  readonly #statements = new Map<string, Statement>();

  constructor(db: Database, file: string, mayUseReserve = false) {
    this.db = db;
    this.#file = file;
    this.#mayUseReserve = mayUseReserve;
  }

  run(sql: string, ...values: unknown[]): void {
    this.change(sql, ...values);
  }

  /** Runs a statement and says how many rows it changed. */
  change(sql: string, ...values: unknown[]): number {
    return this.guard(() => this.#statement(sql).run(...values).changes);
  }

  all(sql: string, ...values: unknown[]): Row[] {
    return this.guard(() =>
      this.#statement(sql)
        .all(...values)
        .filter(isRow),
    );
  }

  /** Rows as lists of their values: of many rows, a third of what objects cost. */
  lists(sql: string, ...values: unknown[]): unknown[][] {
    return this.guard(() =>
      this.#statement(sql)
        .raw()
        .all(...values)
        .filter((row) => Array.isArray(row)),
    );
  }

  /** The only value of the only row. */
  number(sql: string, ...values: unknown[]): number {
    const row = this.all(sql, ...values)[0];
    return asNumber(row === undefined ? undefined : Object.values(row)[0]);
  }

  /** Runs `work` in one `BEGIN IMMEDIATE` transaction; on a full disk perhaps twice. */
  transaction<T>(work: () => T): T {
    return this.guard(() => this.db.transaction(work).immediate());
  }

  /** Runs statements that must see the same state of the database. */
  snapshot<T>(work: () => T): T {
    return this.guard(() => this.db.transaction(work).deferred());
  }

  /** Translates what `work` throws; on a full disk does it again with the reserve's room, if this process may. */
  guard<T>(work: () => T): T {
    // Within a transaction only the whole of it can be done again.
    if (!this.#mayUseReserve || this.db.inTransaction) return this.#translated(work);
    return withReserve(this.#file, () => this.#translated(work));
  }

  #translated<T>(work: () => T): T {
    try {
      return work();
    } catch (error) {
      throw catalogError(this.#file, error);
    }
  }

  #statement(sql: string): Statement {
    let statement = this.#statements.get(sql);
    if (statement === undefined) {
      statement = this.db.prepare(sql);
      this.#statements.set(sql, statement);
    }
    return statement;
  }
}

function isRow(value: unknown): value is Row {
  return typeof value === 'object' && value !== null;
}

export function asText(value: unknown): string {
  if (typeof value !== 'string') throw damaged(value);
  return value;
}

export function asNumber(value: unknown): number {
  if (typeof value !== 'number') throw damaged(value);
  return value;
}

export function asTextOrNull(value: unknown): string | null {
  return value === null ? null : asText(value);
}

export function asNumberOrNull(value: unknown): number | null {
  return value === null ? null : asNumber(value);
}

export function asBytes(value: unknown): Buffer {
  if (!Buffer.isBuffer(value)) throw damaged(value);
  return value;
}

export function asBytesOrNull(value: unknown): Buffer | null {
  return value === null ? null : asBytes(value);
}

export function keyOf(value: unknown): Key {
  const key = asKey(asText(value));
  if (key === undefined) throw damaged(value);
  return key;
}

export function revisionOf(value: unknown): Revision {
  const revision = parseRevision(asText(value));
  if (revision === undefined) throw damaged(value);
  return revision;
}

export function stateOf(value: unknown): State {
  const state = STATES.find((known) => known === value);
  if (state === undefined) throw damaged(value);
  return state;
}

/** What the keys below a byte prefix are, as a condition. */
export function keyRange(prefix: string): { sql: string; values: Readonly<Record<string, unknown>> } {
  const bytes = Buffer.from(prefix);
  // UTF-8 has no byte 0xff: the last one can always be made greater.
  const end = Buffer.concat([bytes.subarray(0, -1), Buffer.from([(bytes.at(-1) ?? 0) + 1])]);
  if (prefix === '') return { sql: 'key >= @prefix', values: { prefix } };
  return { sql: 'key >= @prefix AND key < CAST(@end AS TEXT)', values: { prefix, end } };
}

function damaged(value: unknown): TombstonedError {
  return new TombstonedError(
    'failed',
    `the catalog holds a value it should not: ${JSON.stringify(value) ?? 'none'}`,
    {
      hint: BRING_BACK,
    },
  );
}
