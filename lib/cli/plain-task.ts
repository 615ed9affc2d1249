import { parseArgs } from 'node:util';
import { actVia } from '../app/actor.ts';
import { type Command, GLOBALS, givenOf, type OptionTable } from './command.ts';
import type { Output } from './output.ts';

type Task = (out: Output) => Promise<number>;

/**
 * What a command line asks for, where it has nothing special about it and is of a command that programs run once
 * for each file: yargs takes longer to load than all that `cat` needs. Undefined of every other, which yargs is
 * to read, and to explain.
 */
export async function plainTask(words: readonly string[]): Promise<Task | undefined> {
  for (const word of words) {
    switch (word) {
      case 'cat':
        return taskOf(words, word, 'cat', await import('./commands/cat.ts'));
      case 'keys':
        return taskOf(words, word, 'keys', await import('./commands/keys.ts'));
      case 'tombstone':
      case 'delete':
        return taskOf(words, word, 'tombstone', await import('./commands/tombstone.ts'));
      default:
    }
  }
  return undefined;
}

function taskOf<O extends OptionTable>(
  words: readonly string[],
  word: string,
  name: string,
  { options, run }: Command<O>,
): Task | undefined {
  const read = readPlainly(words, { ...options, ...GLOBALS });
  if (read === undefined || read.positionals[0] !== word) return undefined;
  const given = { ...givenOf(options, read.values), ...givenOf(GLOBALS, read.values) };
  if (given.help) return undefined;
  return async (out) => {
    actVia(`tombstonectl ${name}`);
    return run({ options: given, operands: read.positionals.slice(1), out });
  };
}

function readPlainly(words: readonly string[], table: OptionTable) {
  const options = Object.fromEntries(
    Object.entries(table).map(([name, option]) => {
      if (!('takes' in option)) return [name, { type: 'boolean', default: false } as const];
      if ('isRepeated' in option) return [name, { type: 'string', multiple: true, default: [] } as const];
      const standard = option.default === undefined ? {} : { default: option.default };
      return [name, { type: 'string', ...standard } as const];
    }),
  );
  try {
    return parseArgs({ args: [...words], options, allowPositionals: true });
  } catch {
    return undefined; // yargs says what is wrong with it
  }
}
