import type { ArgumentsCamelCase, Argv } from 'yargs';
import { usageError } from './fail.ts';
import type { Output } from './output.ts';

/** Options that every command takes. */
export interface Globals {
  readonly config: string | undefined;
  readonly store: string | undefined;
  readonly url: string | undefined;
  readonly json: boolean;
  readonly debug: boolean;
  readonly key: boolean;
}

/** What a command's module exports. */
export interface Command<O extends Globals> {
  /** Its help and its options. */
  options(yargs: Argv<Globals>): Argv<O>;
  /** Does it; gives the exit code. What it throws is told as one line. */
  run(call: Call<O>): Promise<number>;
}

/** A command line that was understood. */
export interface Call<O = Globals> {
  readonly options: ArgumentsCamelCase<O>;
  /** What is no option: keys, ids, a URL. */
  readonly operands: readonly string[];
  readonly out: Output;
}

/** The options of a command, from its `options` function. */
export type OptionsOf<F> = F extends (yargs: Argv<Globals>) => Argv<infer O> ? O : never;

/** A command's help, as far as yargs does not write it. */
export function manual(page: {
  name: string;
  summary: string;
  synopsis: readonly string[];
  description: readonly string[];
}): string {
  return [
    'NAME',
    `  tombstonectl ${page.name} - ${page.summary}`,
    '',
    'SYNOPSIS',
    ...page.synopsis.map((line) => `  tombstonectl ${line}`),
    '',
    'DESCRIPTION',
    ...page.description.map((line) => `  ${line}`),
  ].join('\n');
}

/** Refuses operands of a command that takes none. */
export function refuseOperands(call: Call, command: string): void {
  const [first] = call.operands;
  if (first === undefined) return;
  throw usageError(
    `${command} takes no ${JSON.stringify(first)}`,
    `see tombstonectl ${command} --help`,
    first,
  );
}
