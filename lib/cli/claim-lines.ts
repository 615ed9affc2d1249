import { quote } from '../domain/key.ts';
import type { Call, Given, OptionTable } from './command.ts';
import { usageError } from './fail.ts';

/** `ls`, which takes nothing more, or `break` with what it names. `forBreak` are options that only that takes. */
export function subcommandOf<O extends OptionTable>(
  { operands, options }: Call<O>,
  command: string,
  forBreak: readonly (keyof O)[],
): { action: 'ls' | 'break'; rest: readonly string[] } {
  const [action, ...rest] = operands;
  const see = `see tombstonectl ${command} --help`;
  if (action !== 'ls' && action !== 'break') {
    const what =
      action === undefined ? `${command} needs ls or break` : `there is no ${command} ${quote(action)}`;
    throw usageError(what, see, action);
  }
  if (action === 'break') return { action, rest };
  const given: Given<O> = options;
  const odd = forBreak.find((name) => given[name] !== undefined && given[name] !== false);
  if (rest[0] !== undefined || odd !== undefined)
    throw usageError(
      `${command} ls takes no ${rest[0] === undefined ? `--${String(odd)}` : quote(rest[0])}`,
      see,
    );
  return { action, rest };
}

/** Prefixes that something covers, in words. */
export function prefixesText(prefixes: readonly string[]): string {
  if (prefixes.length === 0 || prefixes.includes('')) return 'everything';
  return `below ${prefixes.map((prefix) => quote(prefix)).join(', ')}`;
}
