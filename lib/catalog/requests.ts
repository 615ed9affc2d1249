import type { KeptReason } from '../domain/kept-reason.ts';
import { KEPT_REASONS } from '../domain/kept-reason.ts';
import type { Key } from '../domain/key.ts';
import { asNumber, asNumberOrNull, asText, asTextOrNull, keyOf, type Row, type Sql } from './sql.ts';
import { type WaitingState, waitingStateOf } from './waiting.ts';

/**
 * `reading` until all of its lines are here; `waiting`: it is over a limit; `done`
 * when it is known what became of each key; `told` when its result is in place.
 */
export type RequestState = 'reading' | 'taken' | 'waiting' | 'done' | 'told';

/** What a file in a drop-in directory asks for. */
export interface RequestRow {
  /** Its row number: what its lines refer to. */
  readonly n: number;
  readonly id: string;
  readonly policy: string;
  readonly directory: string;
  /** The file's name, without `.keys`. */
  readonly name: string;
  readonly state: RequestState;
  /** The last sweep that was to move its keys: its row number, and its id. */
  readonly sweep: number | null;
  readonly sweepId: string | null;
  /** How its plan stands, where it was over a limit and waits for approval, or waited. */
  readonly plan: WaitingState | null;
}

/** Requests of one policy and directory. */
export interface RequestGroup {
  readonly policy: string;
  readonly directory: string;
  readonly count: number;
}

/** A line as it was read. */
export interface RequestLine {
  readonly line: number;
  readonly key: Key;
  /** The revision that it names, as it was written. */
  readonly wanted: string | null;
  readonly reason: string | null;
}

/** A line of which it is not known what becomes. */
export interface OpenLine extends RequestLine {
  /** The revision when it was first planned. */
  readonly seen: string | null;
}

/** A line that stays open for a while, and why. */
export interface KeptLine extends LineOf {
  readonly detail: string | null;
  readonly reason: KeptReason | null;
}

/** Which line of which request. */
export interface LineOf {
  readonly request: number;
  readonly line: number;
}

/** A line that is to be moved. */
export interface SeenLine extends LineOf {
  readonly revision: string;
  /** Bytes. */
  readonly size: number;
  /** ms since 1970. */
  readonly modifiedAt: number;
  readonly cause: number;
}

/** What became of a key. */
export interface KeyOutcome {
  readonly outcome: string;
  /** The tombstone's id, where there is one. */
  readonly id: string | null;
  readonly detail: string | null;
  readonly reason: KeptReason | null;
}

const COLUMNS = `n, id, policy, directory, name, state, sweep,
  (SELECT w.id FROM sweeps w WHERE w.n = requests.sweep) AS sweepId,
  (SELECT q.state FROM waiting_plans q WHERE q.sweep = requests.sweep) AS plan`;

/** Those whose plan waits are the plan's: who takes that has them. */
const IS_OF_NO_PLAN = `NOT EXISTS (SELECT 1 FROM waiting_plans q WHERE q.sweep = requests.sweep AND q.state = 'waiting')`;

/** Rows that no living run has: `@run` itself may go on with its own. */
const IS_FREE =
  'run = @run OR EXISTS (SELECT 1 FROM runs u WHERE u.n = requests.run AND u.ended_at IS NOT NULL)';

/** All statements about requests of drop-in directories. */
export class Requests {
  readonly #sql: Sql;

  constructor(sql: Sql) {
    this.#sql = sql;
  }

  /** Makes rows for files; those whose name is in use already are left out. */
  begin(
    of: { store: number; run: number; policy: string; directory: string; isDry: boolean; now: number },
    files: readonly { id: string; name: string }[],
  ): RequestRow[] {
    const { store, run, policy, directory, isDry, now } = of;
    return this.#sql
      .all(
        `INSERT INTO requests (id, store, policy, directory, name, state, dry, run, taken_at)
         SELECT value->>0, @store, @policy, @directory, value->>1, 'reading', @dry, @run, @now
         FROM json_each(@files) WHERE true
         ON CONFLICT DO NOTHING RETURNING ${COLUMNS}`,
        {
          store,
          run,
          policy,
          directory,
          dry: isDry ? 1 : 0,
          now,
          files: JSON.stringify(files.map(({ id, name }) => [id, name])),
        },
      )
      .map(toRequest);
  }

  /**
   * A policy's requests that no other living run has, and no plan that waits,
   * oldest first; they are this run's from here on.
   */
  claim(of: { store: number; run: number; policy: string; directory: string }): RequestRow[] {
    return this.#sql
      .all(
        `UPDATE requests SET run = @run
         WHERE store = @store AND policy = @policy AND directory = @directory AND dry = 0 AND (${IS_FREE})
           AND ${IS_OF_NO_PLAN}
         RETURNING ${COLUMNS}`,
        of,
      )
      .map(toRequest)
      .toSorted((a, b) => a.n - b.n);
  }

  /** A policy's requests, whoever has them, oldest first. */
  all(of: { store: number; policy: string; directory: string }): RequestRow[] {
    return this.#sql
      .all(
        `SELECT ${COLUMNS} FROM requests
         WHERE store = @store AND policy = @policy AND directory = @directory AND dry = 0 ORDER BY n`,
        of,
      )
      .map(toRequest);
  }

  /** What a store's requests are of, but those whose plan waits, and how many of each. */
  groups(store: number): RequestGroup[] {
    return this.#sql
      .all(
        `SELECT policy, directory, count(*) AS count FROM requests
         WHERE store = ? AND dry = 0 AND ${IS_OF_NO_PLAN} GROUP BY policy, directory ORDER BY policy, directory`,
        store,
      )
      .map((row) => ({
        policy: asText(row['policy']),
        directory: asText(row['directory']),
        count: asNumber(row['count']),
      }));
  }

  /** Requests by their row numbers. */
  rows(requests: readonly number[]): RequestRow[] {
    return this.#sql
      .all(
        `SELECT ${COLUMNS} FROM requests WHERE n IN (SELECT value FROM json_each(?)) ORDER BY n`,
        JSON.stringify(requests),
      )
      .map(toRequest);
  }

  /** The requests that a plan which waits, or waited, is made of, oldest first. */
  ofPlan(sweep: number): RequestRow[] {
    return this.#sql
      .all(
        `SELECT ${COLUMNS} FROM requests WHERE sweep = ? AND dry = 0 AND EXISTS (
           SELECT 1 FROM waiting_plans q WHERE q.sweep = requests.sweep) ORDER BY n`,
        sweep,
      )
      .map(toRequest);
  }

  /** Gives the requests of a plan to the run that has taken it. */
  handOver(sweep: number, run: number): void {
    this.#sql.run(`UPDATE requests SET run = ? WHERE sweep = ? AND dry = 0`, run, sweep);
  }

  /** Whether a name in a directory is in use. */
  has(directory: string, name: string): boolean {
    return (
      this.#sql.number(
        `SELECT count(*) FROM requests WHERE directory = ? AND name = ? AND dry = 0`,
        directory,
        name,
      ) > 0
    );
  }

  /** Row numbers of what dry runs that are over have left. */
  leftByDryRuns(store: number): number[] {
    return this.#sql
      .all(
        `SELECT r.n FROM requests r JOIN runs u ON u.n = r.run
         WHERE r.store = ? AND r.dry = 1 AND u.ended_at IS NOT NULL`,
        store,
      )
      .map((row) => asNumber(row['n']));
  }

  setState(requests: readonly number[], state: RequestState): void {
    this.#sql.run(
      `UPDATE requests SET state = ? WHERE n IN (SELECT value FROM json_each(?))`,
      state,
      JSON.stringify(requests),
    );
  }

  /** Says which sweep is to move their keys: at once, or when its plan is approved. */
  bind(requests: readonly number[], sweep: number, state: 'taken' | 'waiting'): void {
    this.#sql.run(
      `UPDATE requests SET sweep = ?, state = ? WHERE n IN (SELECT value FROM json_each(?))`,
      sweep,
      state,
      JSON.stringify(requests),
    );
  }

  /** Drops some of requests that are done with, last their rows; says whether there is more. */
  drop(requests: readonly number[], limit: number): boolean {
    return this.#sql.transaction(() => {
      let left = limit;
      for (const request of requests) {
        left -= this.#dropLines(request, left);
        if (left <= 0) return true;
        this.#sql.run(`DELETE FROM requests WHERE n = ?`, request);
      }
      return false;
    });
  }

  /** Drops some of the lines; says whether there are more. */
  dropLines(request: number, limit: number): boolean {
    return this.#dropLines(request, limit) === limit;
  }

  #dropLines(request: number, limit: number): number {
    return this.#sql.change(
      `DELETE FROM request_keys WHERE request = @request
       AND line IN (SELECT line FROM request_keys WHERE request = @request LIMIT @limit)`,
      { request, limit },
    );
  }

  addLines(lines: readonly (RequestLine & { readonly request: number })[]): void {
    this.#sql.run(
      `INSERT INTO request_keys (request, line, key, wanted, reason)
       SELECT value->>0, value->>1, value->>2, value->>3, value->>4 FROM json_each(?)`,
      JSON.stringify(lines.map((l) => [l.request, l.line, l.key, l.wanted, l.reason])),
    );
  }

  /** Copies the lines of a request that are still open to another one. */
  copyOpen(from: number, to: number): void {
    this.#sql.run(
      `INSERT INTO request_keys (request, line, key, wanted, reason, seen)
       SELECT ?, line, key, wanted, reason, seen FROM request_keys WHERE request = ? AND outcome IS NULL`,
      to,
      from,
    );
  }

  /** A page of the lines that are open, after a line. */
  openLines(request: number, after: number, limit: number): OpenLine[] {
    return this.#sql
      .all(
        `SELECT line, key, wanted, reason, seen FROM request_keys
         WHERE request = ? AND line > ? AND outcome IS NULL ORDER BY line LIMIT ?`,
        request,
        after,
        limit,
      )
      .map(toOpenLine);
  }

  /** Notes what the lines to be moved are. */
  see(lines: readonly SeenLine[]): void {
    if (lines.length === 0) return;
    this.#sql.run(
      `UPDATE request_keys AS k
       SET seen = j.value->>2, size = j.value->>3, modified_at = j.value->>4, cause = j.value->>5,
         kept = NULL, detail = NULL
       FROM json_each(?) j WHERE k.request = j.value->>0 AND k.line = j.value->>1`,
      JSON.stringify(
        lines.map((l) => [l.request, l.line, l.revision, l.size, Math.trunc(l.modifiedAt), l.cause]),
      ),
    );
  }

  /** Notes what became of lines. */
  resolve(lines: readonly (KeyOutcome & LineOf)[]): void {
    if (lines.length === 0) return;
    this.#sql.run(
      `UPDATE request_keys AS k
       SET outcome = j.value->>2, tombstone = j.value->>3, detail = j.value->>4, kept = j.value->>5
       FROM json_each(?) j WHERE k.request = j.value->>0 AND k.line = j.value->>1 AND k.outcome IS NULL`,
      JSON.stringify(lines.map((l) => [l.request, l.line, l.outcome, l.id, l.detail, l.reason])),
    );
  }

  /** Notes why lines are not to be moved for now; what becomes of them stays open. */
  keep(lines: readonly KeptLine[]): void {
    if (lines.length === 0) return;
    this.#sql.run(
      `UPDATE request_keys AS k SET detail = j.value->>2, kept = j.value->>3
       FROM json_each(?) j WHERE k.request = j.value->>0 AND k.line = j.value->>1 AND k.outcome IS NULL`,
      JSON.stringify(lines.map((l) => [l.request, l.line, l.detail, l.reason])),
    );
  }

  /** The open lines that name a key, of the requests that a sweep is about. */
  linesOf(sweep: number, keys: readonly string[]): (LineOf & { readonly key: string })[] {
    return this.#sql
      .all(
        `SELECT k.request, k.line, k.key FROM json_each(?) j
         CROSS JOIN request_keys k INDEXED BY request_keys_open ON k.key = j.value AND k.outcome IS NULL
         CROSS JOIN requests r ON r.n = k.request AND r.sweep = ?`,
        JSON.stringify(keys),
        sweep,
      )
      .map((row) => ({
        request: asNumber(row['request']),
        line: asNumber(row['line']),
        key: asText(row['key']),
      }));
  }

  /** Open lines whose key a sweep has moved after all, with the tombstone; a page, after a line. */
  movedBy(
    of: { store: number; sweep: number; request: number },
    after: number,
    limit: number,
  ): { line: number; id: string; isOther: boolean }[] {
    return this.#sql
      .all(
        `SELECT k.line, t.id, EXISTS (SELECT 1 FROM events e
           WHERE e.tombstone = t.id AND e.what IN ('put-back', 'moved-other')) AS other
         FROM request_keys k JOIN tombstones t INDEXED BY tombstones_by_key
           ON t.store = @store AND t.key = k.key AND t.sweep = @sweep AND t.state <> 'abandoned'
         WHERE k.request = @request AND k.line > @after AND k.outcome IS NULL ORDER BY k.line LIMIT @limit`,
        { ...of, after, limit },
      )
      .map((row) => ({ line: asNumber(row['line']), id: asText(row['id']), isOther: row['other'] === 1 }));
  }

  /** The open lines of a store's requests that name a key, oldest request first, each with its request. */
  naming(store: number, key: string): (OpenLine & { readonly request: RequestRow })[] {
    const lines = this.#sql.all(
      `SELECT request, line, key, wanted, reason, seen FROM request_keys INDEXED BY request_keys_open
       WHERE key = ? AND outcome IS NULL AND EXISTS (
         SELECT 1 FROM requests r WHERE r.n = request AND r.store = ? AND r.dry = 0)
       ORDER BY request, line`,
      key,
      store,
    );
    const rows = new Map(this.rows(lines.map((row) => asNumber(row['request']))).map((row) => [row.n, row]));
    return lines.flatMap((row) => {
      const request = rows.get(asNumber(row['request']));
      return request === undefined ? [] : [{ ...toOpenLine(row), request }];
    });
  }

  /** How many keys, and bytes, requests would move. */
  planned(requests: readonly number[]): { objects: number; bytes: number } {
    const row = this.#sql.all(
      `SELECT count(*) AS count, coalesce(sum(size), 0) AS bytes FROM (
         SELECT DISTINCT key, size FROM request_keys
         WHERE request IN (SELECT value FROM json_each(?)) AND outcome IS NULL AND kept IS NULL)`,
      JSON.stringify(requests),
    )[0];
    return { objects: asNumber(row?.['count']), bytes: asNumber(row?.['bytes']) };
  }

  /** The first and last key that requests would move, or undefined. */
  span(requests: readonly number[]): { first: Key; last: Key } | undefined {
    const row = this.#sql.all(
      `SELECT min(key) AS first, max(key) AS last FROM request_keys
       WHERE request IN (SELECT value FROM json_each(?)) AND outcome IS NULL AND kept IS NULL`,
      JSON.stringify(requests),
    )[0];
    if (row === undefined || row['first'] === null) return undefined;
    return { first: keyOf(row['first']), last: keyOf(row['last']) };
  }

  /** Adds some of what a request would move to a sweep's plan; gives the last line, or undefined: there is no more. */
  plan(request: number, sweep: number, after: number, limit: number): number | undefined {
    return this.#eachPart({ request, after, limit }, (part) =>
      this.#sql.run(
        `INSERT OR IGNORE INTO plan_items (sweep, key, size, revision, modified_at, cause, unit, kept)
         SELECT @sweep, key, size, seen, modified_at, cause, NULL, 0 FROM request_keys WHERE ${TO_MOVE}`,
        { ...part, sweep },
      ),
    );
  }

  /** The same, to a plan that is being filed. */
  file(request: number, sweep: number, after: number, limit: number): number | undefined {
    return this.#eachPart({ request, after, limit }, (part) =>
      this.#sql.run(
        `INSERT OR IGNORE INTO waiting_items (sweep, key, size, revision)
         SELECT @sweep, key, size, seen FROM request_keys WHERE ${TO_MOVE}`,
        { ...part, sweep },
      ),
    );
  }

  /** Does something with some of the lines that are open. */
  #eachPart(
    { request, after, limit }: { request: number; after: number; limit: number },
    work: (part: { request: number; after: number; to: number }) => void,
  ): number | undefined {
    const last = this.#sql.all(
      `SELECT max(line) AS last FROM (SELECT line FROM request_keys
         WHERE request = ? AND line > ? AND outcome IS NULL ORDER BY line LIMIT ?)`,
      request,
      after,
      limit,
    )[0];
    const to = asNumberOrNull(last?.['last'] ?? null);
    if (to === null) return undefined;
    work({ request, after, to });
    return to;
  }

  /** Those of the requests of which it is known what became of each key. */
  resolved(requests: readonly number[]): number[] {
    return this.#sql
      .all(
        `SELECT value AS n FROM json_each(?) WHERE NOT EXISTS
           (SELECT 1 FROM request_keys WHERE request = value AND outcome IS NULL)`,
        JSON.stringify(requests),
      )
      .map((row) => asNumber(row['n']));
  }

  /** A page of what became of a request's keys, in the order of its lines; `outcome` is null of one that is open. */
  results(
    request: number,
    after: number,
    limit: number,
  ): (Omit<KeyOutcome, 'outcome'> & { line: number; key: string; outcome: string | null })[] {
    return this.#sql
      .all(
        `SELECT line, key, outcome, tombstone, detail, kept FROM request_keys
         WHERE request = ? AND line > ? ORDER BY line LIMIT ?`,
        request,
        after,
        limit,
      )
      .map((row) => ({
        line: asNumber(row['line']),
        key: asText(row['key']),
        outcome: asTextOrNull(row['outcome']),
        id: asTextOrNull(row['tombstone']),
        detail: asTextOrNull(row['detail']),
        reason: KEPT_REASONS.find((reason) => reason === row['kept']) ?? null,
      }));
  }
}

/** The lines of a part that are to be moved: open, and not kept for now. */
const TO_MOVE = `request = @request AND line > @after AND line <= @to AND outcome IS NULL AND kept IS NULL`;

const STATES = ['reading', 'taken', 'waiting', 'done', 'told'] as const satisfies RequestState[];

function toOpenLine(row: Row): OpenLine {
  return {
    line: asNumber(row['line']),
    key: keyOf(row['key']),
    wanted: asTextOrNull(row['wanted']),
    reason: asTextOrNull(row['reason']),
    seen: asTextOrNull(row['seen']),
  };
}

function toRequest(row: Row): RequestRow {
  return {
    n: asNumber(row['n']),
    id: asText(row['id']),
    policy: asText(row['policy']),
    directory: asText(row['directory']),
    name: asText(row['name']),
    state: STATES.find((state) => state === row['state']) ?? 'reading',
    sweep: asNumberOrNull(row['sweep']),
    sweepId: asTextOrNull(row['sweepId']),
    plan: waitingStateOf(row['plan']),
  };
}
