import { asNumber, asNumberOrNull, asText, asTextOrNull, type Row, type Sql } from './sql.ts';

export type RunKind = 'sweep' | 'purge' | 'restore';

/** One process's turn at moving, purging or restoring. */
export interface RunRow {
  /** Its row number: what tombstones refer to. */
  readonly n: number;
  readonly id: string;
  readonly store: number;
  readonly kind: RunKind;
  readonly pid: number;
  readonly host: string;
  readonly by: string;
  /** What tells its lock file from a copy; null of a run that did not say. */
  readonly lock: string | null;
  readonly startedAt: number;
  readonly endedAt: number | null;
  readonly outcome: string | null;
}

const COLUMNS = `n, id, store, kind, pid, host, by, started_at AS startedAt, ended_at AS endedAt, outcome, lock`;

/** All statements about runs. */
export class Runs {
  readonly #sql: Sql;

  constructor(sql: Sql) {
    this.#sql = sql;
  }

  /** Opens a run's row. Its lock must be held already (design, section 5). */
  begin(run: {
    id: string;
    store: number;
    kind: RunKind;
    pid: number;
    host: string;
    boot: string;
    by: string;
    /** The user that started the process, and the program with its command. */
    uid?: number | undefined;
    via?: string | undefined;
    now: number;
    lock?: string;
  }): number {
    return this.#sql.number(
      `INSERT INTO runs (id, store, kind, pid, host, boot, by, started_at, lock, uid, via)
       VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING n`,
      run.id,
      run.store,
      run.kind,
      run.pid,
      run.host,
      run.boot,
      run.by,
      run.now,
      run.lock ?? null,
      run.uid ?? null,
      run.via ?? null,
    );
  }

  /** Closes a run's row; it may be closed already. */
  end(n: number, outcome: string, now: number): void {
    this.#sql.run(
      `UPDATE runs SET ended_at = ?, outcome = ? WHERE n = ? AND ended_at IS NULL`,
      now,
      outcome,
      n,
    );
  }

  /** Since when a run has been known to be dead, by its store's time; `now`, ms, if that is news. */
  deadSince(n: number, now: number): number {
    return this.#sql.number(
      `UPDATE runs SET dead_since = coalesce(dead_since, ?) WHERE n = ? RETURNING dead_since`,
      now,
      n,
    );
  }

  /** Somebody acts for a dead run: when it has died itself is not known any more. */
  actsAgain(n: number): void {
    this.#sql.run(`UPDATE runs SET dead_since = NULL WHERE n = ?`, n);
  }

  /** Takes any lock file for a run's own: nobody uses this catalog elsewhere. */
  forgetLock(n: number): void {
    this.#sql.run(`UPDATE runs SET lock = NULL WHERE n = ?`, n);
  }

  /** A store's runs that are not closed, oldest first: living ones, and dead ones for recovery. */
  open(store: number): RunRow[] {
    return this.#sql
      .all(
        `SELECT ${COLUMNS} FROM runs INDEXED BY runs_open WHERE store = ? AND ended_at IS NULL ORDER BY n LIMIT 10000`,
        store,
      )
      .map(toRun);
  }

  get(n: number): RunRow | undefined {
    return this.#sql.all(`SELECT ${COLUMNS} FROM runs WHERE n = ?`, n).map(toRun)[0];
  }

  byId(id: string): RunRow | undefined {
    return this.#sql.all(`SELECT ${COLUMNS} FROM runs WHERE id = ?`, id).map(toRun)[0];
  }

  /** When the newest run of a kind ended that did what it was to do, ms; undefined where there is none. */
  lastDone(store: number, kind: RunKind): number | undefined {
    const row = this.#sql.all(
      `SELECT ended_at AS endedAt FROM runs INDEXED BY runs_ended
       WHERE store = ? AND kind = ? AND ended_at IS NOT NULL AND outcome = 'done' ORDER BY n DESC LIMIT 1`,
      store,
      kind,
    )[0];
    return row === undefined ? undefined : asNumber(row['endedAt']);
  }

  /** The newest closed run of a kind, or undefined. */
  last(store: number, kind: RunKind): RunRow | undefined {
    return this.#sql
      .all(
        `SELECT ${COLUMNS} FROM runs WHERE store = ? AND kind = ? AND ended_at IS NOT NULL ORDER BY n DESC LIMIT 1`,
        store,
        kind,
      )
      .map(toRun)[0];
  }
}

const KINDS = ['sweep', 'purge', 'restore'] as const satisfies RunKind[];

function toRun(row: Row): RunRow {
  return {
    n: asNumber(row['n']),
    id: asText(row['id']),
    store: asNumber(row['store']),
    kind: KINDS.find((kind) => kind === row['kind']) ?? 'sweep',
    pid: asNumber(row['pid']),
    host: asText(row['host']),
    by: asText(row['by']),
    lock: asTextOrNull(row['lock']),
    startedAt: asNumber(row['startedAt']),
    endedAt: asNumberOrNull(row['endedAt']),
    outcome: asTextOrNull(row['outcome']),
  };
}
