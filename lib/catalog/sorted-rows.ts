import { setImmediate } from 'node:timers/promises';
import { asText, type Sql } from './sql.ts';

/** From how many rows on a run ends before what does not come after all of it: so many stay in SQLite's cache. */
const RUN_ROWS = 10_000;
/** Every so many rows of those that come together, the name of one is noted. */
const MARK_EVERY = 50;
/** How many notes one step goes on to: about 2000 rows, some ms. */
const STEP_MARKS = 40;

/** Of a run: the first that is added to, and the one of all where they are several. */
const FIRST = 1;
const MERGED = 0;

/**
 * Rows of a private database, which come in any order and are read in that of their
 * names. The last with a name counts. Each goes into its place in a run, which are few
 * and then become one, some rows at a time: neither blocks for long, however many they are.
 */
export class SortedRows {
  readonly #sql: Sql;
  readonly #names: readonly [string, ...string[]];
  readonly #columns: readonly string[];
  #run = FIRST;
  /** How many rows the run was given, and the greatest of their first names. */
  #given = 0;
  #top = '';

  /** `names` are columns of text, the first of which has few equals; `rest` are others, with their types. */
  constructor(
    sql: Sql,
    names: readonly [string, ...string[]],
    rest: Readonly<Record<string, 'TEXT' | 'INTEGER'>> = {},
  ) {
    this.#sql = sql;
    this.#names = names;
    this.#columns = [...names, ...Object.keys(rest)];
    const types = [
      ...names.map((name) => `${name} TEXT`),
      ...Object.entries(rest).map((one) => one.join(' ')),
    ];
    sql.db.exec(`CREATE TABLE sorted (run INTEGER NOT NULL, ${types.map((type) => `${type} NOT NULL`).join(', ')},
                   PRIMARY KEY (run, ${names.join(', ')})) STRICT, WITHOUT ROWID;
                 CREATE TABLE runs (n INTEGER PRIMARY KEY) STRICT;
                 CREATE TABLE marks (name TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;
                 INSERT INTO runs VALUES (${this.#run})`);
  }

  /** Where all are after `finish`. */
  get run(): number {
    return this.#run;
  }

  /** Each a list of its columns' values, names first. */
  add(rows: readonly (readonly [string, ...(string | number)[]])[]): void {
    // Rows that lie together are written together. Any order will do.
    const sorted = rows.toSorted(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));
    const [first, last] = [sorted[0]?.[0], sorted.at(-1)?.[0]];
    if (first === undefined || last === undefined) return;
    if (this.#given >= RUN_ROWS && first <= this.#top) this.#begin(this.#run + 1);
    const text = JSON.stringify(sorted);
    this.#sql.run(
      `INSERT OR REPLACE INTO sorted (run, ${this.#columns.join(', ')})
       SELECT ?, ${this.#columns.map((_, i) => `value->>${i}`).join(', ')} FROM json_each(?)`,
      this.#run,
      text,
    );
    this.#sql.run(
      `INSERT OR IGNORE INTO marks SELECT value->>0 FROM json_each(?) WHERE key % ${MARK_EVERY} = 0`,
      text,
    );
    this.#given += rows.length;
    if (last > this.#top) this.#top = last;
  }

  #begin(run: number): void {
    this.#sql.run(`INSERT INTO runs VALUES (?)`, run);
    this.#run = run;
    this.#given = 0;
    this.#top = '';
  }

  /** Makes one run of all; nothing is added after this. */
  async finish(): Promise<void> {
    if (this.#run === FIRST) return;
    this.#run = MERGED;
    for (let after: string | undefined = ''; after !== undefined; after = this.#merge(after))
      await setImmediate();
  }

  /** Takes over from all runs what comes after a name, some of it; undefined when that was all. */
  #merge(after: string): string | undefined {
    const mark = this.#sql.all(
      `SELECT name FROM marks WHERE name > ? ORDER BY name LIMIT 1 OFFSET ${STEP_MARKS}`,
      after,
    )[0];
    const upTo = mark === undefined ? undefined : asText(mark['name']);
    const [name] = this.#names;
    const names = this.#names.map((one) => `s.${one}`).join(', ');
    this.#sql.run(
      `INSERT OR REPLACE INTO sorted (run, ${this.#columns.join(', ')})
       SELECT ${MERGED}, ${this.#columns.map((column) => `s.${column}`).join(', ')}
       FROM runs CROSS JOIN sorted s ON s.run = runs.n AND s.${name} > @after ${upTo === undefined ? '' : `AND s.${name} <= @upTo`}
       ORDER BY ${names}, s.run`,
      upTo === undefined ? { after } : { after, upTo },
    );
    return upTo;
  }
}
