import type { Report } from './place.ts';

/** How many lines of a level one operation may log. */
export const MOST_LINES = 100;

/**
 * A report that passes on the first lines of each level and counts the others,
 * so that a store with a million files that can't be moved does not fill the log.
 */
export class BoundedReport {
  readonly #report: Report;
  readonly #most: number;
  readonly #counts = { error: 0, warn: 0, info: 0 };

  constructor(report: Report, most = MOST_LINES) {
    this.#report = report;
    this.#most = most;
  }

  readonly report: Report = (level, message, fields) => {
    this.#counts[level]++;
    if (this.#counts[level] <= this.#most) this.#report(level, message, fields);
  };

  /** Says how many lines were left out, a line a level. */
  finish(): void {
    for (const level of ['error', 'warn', 'info'] as const) {
      const more = this.#counts[level] - this.#most;
      if (more > 0) this.#report(level, `and ${more} more of level ${level}`, { more });
    }
  }
}
