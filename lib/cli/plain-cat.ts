import { parseArgs } from 'node:util';
import { type Call, GLOBALS, givenOf } from './command.ts';
import type { Output } from './output.ts';

const OPTIONS = Object.fromEntries(
  Object.entries(GLOBALS).map(([name, option]) => {
    if ('takes' in option) return [name, { type: 'string' } as const];
    return [name, { type: 'boolean', default: false } as const];
  }),
);

/**
 * The call of a command line that is `cat KEY` with nothing special about it;
 * undefined of every other, which yargs is to read, and to explain. Restore
 * tools run `cat` for each file, and yargs takes longer to load than all the rest.
 */
export function plainCat(words: readonly string[], out: Output): Call | undefined {
  if (!words.includes('cat')) return undefined;
  try {
    const { values, positionals } = parseArgs({ args: [...words], options: OPTIONS, allowPositionals: true });
    const call = { options: givenOf(GLOBALS, values), operands: positionals.slice(1), out };
    const isPlain = positionals[0] === 'cat' && call.operands.length === 1 && !call.options.help;
    return isPlain ? call : undefined;
  } catch {
    return undefined; // yargs says what is wrong with it
  }
}
