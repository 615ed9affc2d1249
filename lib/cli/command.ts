import { usageError } from './fail.ts';
import type { Output } from './output.ts';

/** An option that is there or not. What it says may have several lines. */
interface Flag {
  readonly says: string;
}

/** An option with a value, which `takes` names. */
interface Valued {
  readonly takes: string;
  readonly says: string;
  readonly default?: string;
}

/** An option that may be given several times, each with a value. */
interface Repeated {
  readonly takes: string;
  readonly says: string;
  readonly isRepeated: true;
}

/** Options by their names. */
export type OptionTable = Readonly<Record<string, Flag | Valued | Repeated>>;

/** The values of a table's options on one command line. */
export type Given<O extends OptionTable> = {
  readonly [K in keyof O]: O[K] extends { readonly isRepeated: true }
    ? readonly string[]
    : O[K] extends { readonly takes: string }
      ? O[K] extends { readonly default: string }
        ? string
        : string | undefined
      : boolean;
};

/** Options that every command takes. */
export const GLOBALS = {
  config: {
    takes: 'FILE',
    says: 'The config. Otherwise $TOMBSTONED_CONFIG, otherwise /etc/tombstoned/tombstoned.yaml.',
  },
  store: { takes: 'NAME', says: 'The store, by its name in the config.' },
  url: {
    takes: 'URL',
    says: 'The store, by itself: needs no config. For cat, keys, fetch, with-lease, lease, fence,\nhold, release, holds, pause, resume, explain and aptos.',
  },
  json: { says: 'One JSON object a line.' },
  key: { says: 'What looks like an id is a key.' },
  debug: { says: 'Shows where in the program an error comes from.' },
  help: { says: 'Shows this text.' },
} as const satisfies OptionTable;

/** A command's part of its help. */
export interface Page {
  /** Command lines, without the program's name. */
  readonly synopsis: readonly string[];
  readonly description: readonly string[];
  /** A command line, without the program's name, and what it is for. */
  readonly examples: readonly (readonly [string, string])[];
}

/** What a command's module exports. */
export interface Command<O extends OptionTable> {
  readonly manual: Page;
  readonly options: O;
  /** Does it; gives the exit code. What it throws is told as one line. */
  readonly run: (call: Call<O>) => Promise<number>;
}

/** A command line that was understood. */
export interface Call<O extends OptionTable = typeof GLOBALS> {
  readonly options: Given<O> & Given<typeof GLOBALS>;
  /** What is no option: keys, ids, a URL. */
  readonly operands: readonly string[];
  readonly out: Output;
}

/** The values of a table's options, from what a parser read. */
export function givenOf<O extends OptionTable>(table: O, read: Readonly<Record<string, unknown>>): Given<O> {
  const values: Record<string, unknown> = {};
  for (const [name, option] of Object.entries(table)) {
    const value = read[name];
    // Of one that is given twice by mistake, the last counts.
    values[name] = Array.isArray(value) && !('isRepeated' in option) ? value.at(-1) : value;
  }
  if (fits(table, values)) return values;
  throw new TypeError(`options read as ${JSON.stringify(values)}`);
}

function fits<O extends OptionTable>(table: O, values: object): values is Given<O> {
  const found = new Map(Object.entries(values));
  return Object.entries(table).every(([name, option]) => {
    const value: unknown = found.get(name);
    if (!('takes' in option)) return typeof value === 'boolean';
    if ('isRepeated' in option) return Array.isArray(value) && value.every((one) => typeof one === 'string');
    return typeof value === 'string' || (value === undefined && option.default === undefined);
  });
}

/** Refuses operands of a command that takes none; `hint` says what may have been meant. */
export function refuseOperands(call: Call, command: string, hint?: (first: string) => string): void {
  const [first] = call.operands;
  if (first === undefined) return;
  throw usageError(
    `${command} takes no ${JSON.stringify(first)}`,
    hint?.(first) ?? `see tombstonectl ${command} --help`,
    first,
  );
}
