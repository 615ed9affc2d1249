import { setImmediate } from 'node:timers/promises';
import { asText, type Sql } from './sql.ts';

/** How many rows a run gets, times its number, before others than those that come after it begin the next. */
const ROWS_A_RUN = 20;
/** Of so many rows the name of one is noted. */
const MARK_EVERY = 50;
/** How many notes one step goes on to: about 2000 rows, some ms. */
const STEP_MARKS = 40;

/**
 * Rows of a private database, which come in any order and are read in that of their
 * names. The last with a name counts. Each goes into its place in a run, which are few
 * and then become one, some rows at a time: neither blocks for long, however many they are.
 */
export class SortedRows {
  readonly #sql: Sql;
  readonly #names: readonly [string, ...string[]];
  readonly #columns: readonly string[];
  #run = 0;
  /** How many rows the run was given, and the greatest of their first names. */
  #given = 0;
  #top = '';
  #additions = 0;

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
    const columns = types.map((type) => `${type} NOT NULL`).join(', ');
    const key = names.join(', ');
    sql.db.exec(`CREATE TABLE runs (run INTEGER NOT NULL, ${columns}, PRIMARY KEY (run, ${key})) STRICT, WITHOUT ROWID;
                 CREATE TABLE sorted (${columns}, PRIMARY KEY (${key})) STRICT, WITHOUT ROWID;
                 CREATE TABLE begun (run INTEGER PRIMARY KEY) STRICT;
                 CREATE TABLE marks (name TEXT PRIMARY KEY) STRICT, WITHOUT ROWID`);
    this.#begin(1);
  }

  /** Each a list of its columns' values, names first. */
  add(rows: readonly (readonly [string, ...(string | number)[]])[]): void {
    const [first] = rows;
    if (first === undefined) return;
    let [least, greatest] = [first[0], first[0]];
    for (const [name] of rows) {
      if (name < least) least = name;
      if (name > greatest) greatest = name;
    }
    // In whatever order: where a name is put does not hang on it.
    if (least <= this.#top && this.#given >= ROWS_A_RUN * this.#run) this.#begin(this.#run + 1);
    this.#sql.run(
      `INSERT OR REPLACE INTO runs (run, ${this.#columns.join(', ')})
       SELECT ?, ${this.#columns.map((_, i) => `value->>${i}`).join(', ')} FROM json_each(?) ORDER BY 2, json_each.key`,
      this.#run,
      JSON.stringify(rows),
    );
    this.#mark(rows);
    this.#given += rows.length;
    if (greatest > this.#top) this.#top = greatest;
  }

  /** Notes some of these names. Which differs from time to time: so they are spread evenly. */
  #mark(rows: readonly (readonly [string, ...unknown[]])[]): void {
    const every = Math.min(MARK_EVERY, rows.length);
    this.#additions += 1;
    const some = rows.flatMap(([name], i) => (i % every === this.#additions % every ? name : []));
    this.#sql.run(`INSERT OR IGNORE INTO marks SELECT value FROM json_each(?)`, JSON.stringify(some));
  }

  #begin(run: number): void {
    this.#sql.run(`INSERT INTO begun VALUES (?)`, run);
    this.#run = run;
    this.#given = 0;
    this.#top = '';
  }

  /** Brings all into the table `sorted`; nothing is added after this. */
  async finish(): Promise<void> {
    for (let after: string | undefined = ''; after !== undefined; ) {
      after = this.#merge(after);
      if (after !== undefined) await setImmediate();
    }
  }

  /** Takes over from all runs what comes after a name, some of it; undefined when that was all. */
  #merge(after: string): string | undefined {
    const mark = this.#sql.all(
      `SELECT name FROM marks WHERE name > ? ORDER BY name LIMIT 1 OFFSET ${STEP_MARKS}`,
      after,
    )[0];
    const upTo = mark === undefined ? undefined : asText(mark['name']);
    const [name] = this.#names;
    const columns = this.#columns.map((column) => `r.${column}`).join(', ');
    this.#sql.run(
      `INSERT OR REPLACE INTO sorted SELECT ${columns} FROM begun b CROSS JOIN runs r
         ON r.run = b.run AND r.${name} > @after ${upTo === undefined ? '' : `AND r.${name} <= @upTo`}
       ORDER BY ${this.#names.map((one) => `r.${one}`).join(', ')}, r.run`,
      upTo === undefined ? { after } : { after, upTo },
    );
    return upTo;
  }
}
