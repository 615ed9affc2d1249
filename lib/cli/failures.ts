import { exitCodeOf, worstExitCode } from '../domain/errors.ts';
import type { Output } from './output.ts';

/** Something that went wrong without stopping the command. */
export interface Problem {
  readonly error: Error;
  /** Whether a line about it is out already. */
  readonly isTold: boolean;
}

/**
 * What went wrong in a command that goes on past a failure. Each is told as it
 * comes; with `--json` the worst is told last, as that line is what a program reads.
 */
export class Failures {
  readonly #out: Output;
  #held: unknown;
  #code = 0;

  constructor(out: Output) {
    this.#out = out;
  }

  /** `isTold`: a line about it is out already. */
  add(error: unknown, isTold = false): void {
    const code = exitCodeOf(error);
    if (!this.#out.isJson) {
      if (!isTold) this.#out.fail(error);
    } else if (this.#code === 0) this.#held = error;
    else if (code !== this.#code && worstExitCode(this.#code, code) === code) {
      this.#out.fail(this.#held);
      this.#held = error;
    } else this.#out.fail(error);
    this.#code = worstExitCode(this.#code, code);
  }

  /** Tells what was held back, and gives the exit code. */
  end(): number {
    if (this.#held !== undefined) this.#out.fail(this.#held);
    this.#held = undefined;
    return this.#code;
  }
}
