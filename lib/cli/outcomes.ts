import { type ErrorCode, EXIT_CODES, TombstonedError, worstExitCode } from '../domain/errors.ts';
import type { KeptReason } from '../domain/kept-reason.ts';
import { printable } from '../domain/key.ts';
import type { Problem } from './failures.ts';
import type { Output } from './output.ts';

/** What became of one key or id of a bulk command. */
export interface Outcome {
  readonly type: 'tombstoned' | 'restored' | 'purged';
  readonly key: string | null;
  readonly id: string | null;
  readonly outcome: string;
  readonly detail: string | null;
  readonly reason: KeptReason | null;
  /** What its object of `--json` has besides. */
  readonly more?: Readonly<Record<string, unknown>>;
  /** What is told of it to people as a result, however it ended. */
  readonly proof?: string | undefined;
}

interface Failure {
  readonly code: ErrorCode;
  readonly name: string;
  readonly outcome: Outcome;
}

/** Tells outcomes as they come, and sums them up. Memory does not grow with their number. */
export class Outcomes {
  readonly #out: Output;
  readonly #counts = new Map<string, number>();
  #total = 0;
  #failed = 0;
  #worst: Failure | undefined;
  /** The first failure; told as the error when it stays alone. */
  #first: Failure | undefined;

  constructor(out: Output) {
    this.#out = out;
  }

  get total(): number {
    return this.#total;
  }

  /** `code` is null of what went well. */
  add(outcome: Outcome, code: ErrorCode | null): void {
    this.#total++;
    this.#counts.set(outcome.outcome, (this.#counts.get(outcome.outcome) ?? 0) + 1);
    const name = printable(outcome.key ?? outcome.id ?? '');
    this.#tellFirst();
    if (this.#out.isJson) {
      const { reason: _, more, proof: __, ...object } = outcome;
      this.#out.line(JSON.stringify({ ...object, ...more }));
    } else if (outcome.proof !== undefined) this.#out.line(outcome.proof);
    else if (code === null) this.#out.line(this.#text(name, outcome));
    if (code === null) return;
    const failure = { code, name, outcome };
    this.#failed++;
    if (this.#total === 1) this.#first = failure;
    else this.#tell(failure);
    if (this.#worst === undefined || isWorse(code, this.#worst.code)) this.#worst = failure;
  }

  #text(name: string, { outcome, id, detail }: Outcome): string {
    const about = [id, detail].filter((part) => part !== null).join(', ');
    return `${outcome.padEnd(10)}  ${name}${about === '' ? '' : `  (${about})`}`;
  }

  #tellFirst(): void {
    if (this.#first !== undefined) this.#tell(this.#first);
    this.#first = undefined;
  }

  #tell({ name, outcome }: Failure): void {
    if (!this.#out.isJson) this.#out.talk(failureText(name, outcome));
  }

  /**
   * Does work that adds outcomes, and sums them up: gives the error that the
   * command ends with, or none. `hints` says what can be done, by outcome.
   */
  async of(
    work: () => Promise<unknown>,
    hints: Readonly<Partial<Record<string, string>>>,
  ): Promise<Problem[]> {
    try {
      await work();
    } catch (error) {
      this.#tellFirst();
      throw error;
    }
    const error = this.#end(hints);
    return error === undefined ? [] : [{ error, isTold: false }];
  }

  #end(hints: Readonly<Partial<Record<string, string>>>): TombstonedError | undefined {
    const worst = this.#worst;
    if (!this.#out.isJson && this.#total > 1) {
      this.#out.talk([...this.#counts].map(([outcome, count]) => `${count} ${outcome}`).join(', '));
    }
    if (worst === undefined) return undefined;
    const { code, name, outcome } = worst;
    const message =
      this.#total === 1
        ? failureText(name, outcome)
        : `${this.#failed} of ${this.#total} failed, such as ${failureText(name, outcome)}`;
    return new TombstonedError(code, message, {
      reason: outcome.reason ?? undefined,
      key: outcome.key ?? outcome.id ?? undefined,
      hint: hints[outcome.outcome],
    });
  }
}

function isWorse(code: ErrorCode, than: ErrorCode): boolean {
  const [a, b] = [EXIT_CODES[code], EXIT_CODES[than]];
  return a !== b && worstExitCode(a, b) === a;
}

/** `KEY: OUTCOME: WHY`; errors about a key begin with it already. */
function failureText(name: string, { outcome, detail }: Outcome): string {
  if (detail === null) return `${name}: ${outcome}`;
  return `${name}: ${outcome}: ${detail.startsWith(`${name}: `) ? detail.slice(name.length + 2) : detail}`;
}
