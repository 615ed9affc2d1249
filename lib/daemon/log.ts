import { appendFileSync } from 'node:fs';
import { Writable } from 'node:stream';
import { inspect } from 'node:util';
import { createLogger, format, type Logger, transports } from 'winston';
import type { Config } from '../config/config.ts';
import { messageOf, TombstonedError } from '../domain/errors.ts';
import { printable } from '../domain/key.ts';
import type { Report } from '../run/place.ts';
import { type Entry, type Fields, jsonLine, type Level, readableLine } from './log-line.ts';

const LEVELS = { error: 0, warn: 1, info: 2, debug: 3 } as const satisfies Record<Level, number>;
/** Of a new log file: it names keys, which are not for everybody. */
const FILE_MODE = 0o640;

/** Where lines go without a file. */
export type Output = NodeJS.WritableStream & { readonly isTTY?: boolean };

/**
 * The daemon's log, through winston: JSON lines to a file or a pipe, readable
 * ones to a terminal. A line is with the system when `write` returns, so that an
 * exit loses none. Throws `config` when the file can't be written.
 */
export class Log {
  readonly #logger: Logger;
  readonly #now: () => number;
  readonly #out: Output;
  readonly #paint: (of: Level, text: string) => string;
  #toLine: (entry: Entry) => string = jsonLine;

  /** `now` gives wall time, ms. */
  constructor(
    config: Config['log'],
    { out, noColor, now }: { out: Output; noColor: boolean; now: () => number },
  ) {
    const colors = format.colorize({
      colors: { error: 'red', warn: 'yellow', info: 'green', debug: 'gray' },
    });
    this.#paint = (of, text) => (noColor ? text : colors.colorize(of, text));
    this.#now = now;
    this.#out = out;
    this.#logger = createLogger({ levels: LEVELS, format: format.printf(({ message }) => String(message)) });
    this.use(config);
  }

  /** Goes on as a changed config says. Throws `config`, and nothing changes, when the file can't be written. */
  use({ level, file }: Config['log']): void {
    if (file !== null) checkFile(file);
    const out = this.#out;
    const isForPeople = file === null && out.isTTY === true;
    this.#toLine = isForPeople ? (entry) => readableLine(entry, this.#paint) : jsonLine;
    const stream = file === null ? out : this.#toFile(file, out);
    this.#logger.clear().add(new transports.Stream({ stream, eol: '\n' }));
    this.#logger.level = level;
  }

  write(level: Level, message: string, fields: Fields = {}): void {
    if (!this.#logger.isLevelEnabled(level)) return;
    this.#logger.log({ level, message: this.#toLine({ time: this.#now(), level, message, fields }) });
  }

  /** Whatever was thrown, as one line; with its stack where the level is `debug`. */
  failure(error: unknown, fields: Fields = {}): void {
    const known = error instanceof TombstonedError ? error : undefined;
    this.write('error', messageOf(error), {
      ...fields,
      key: known?.key,
      hint: known?.hint,
      code: known?.code ?? 'failed',
      reason: known?.reason,
      stack: this.#logger.isLevelEnabled('debug') ? inspect(error) : undefined,
    });
  }

  /** For what reports about one store. */
  reportFor(store: string): Report {
    return (level, message, fields) => this.write(level, message, { store, ...fields });
  }

  /** The file is opened for each line, so it may be renamed away; what it can't take goes to `out`. */
  #toFile(file: string, out: Output): Writable {
    let isTold = false;
    return new Writable({
      decodeStrings: false,
      write: (line: string, _encoding, done) => {
        try {
          append(file, line);
          isTold = false;
        } catch (error) {
          if (!isTold) out.write(`${this.#unwritable(file, error)}\n`);
          isTold = true;
          out.write(line);
        }
        done();
      },
    });
  }

  #unwritable(file: string, error: unknown): string {
    const message = `the log file ${printable(file)} can't be written, lines go here: ${messageOf(error)}`;
    return this.#toLine({ time: this.#now(), level: 'error', message, fields: { key: file } });
  }
}

function append(file: string, text: string): void {
  appendFileSync(file, text, { mode: FILE_MODE });
}

function checkFile(file: string): void {
  try {
    append(file, '');
  } catch (cause) {
    throw new TombstonedError(
      'config',
      `log.file: ${printable(file)} can't be written: ${messageOf(cause)}`,
      {
        key: file,
        hint: 'let this user write there, or remove log.file from the config',
        cause,
      },
    );
  }
}
