import type { ArgumentsCamelCase, Argv } from 'yargs';
import yargs from 'yargs';
import { readEnvironment, readTerminal } from '../config/environment.ts';
import { exitCodeOf } from '../domain/errors.ts';
import type { Command, Globals } from './command.ts';
import { usageError } from './fail.ts';
import { Output } from './output.ts';

/** Understands a command line, does it, and gives the exit code. */
export async function tombstonectl(words: readonly string[]): Promise<number> {
  const end = words.indexOf('--');
  const flags = end < 0 ? words : words.slice(0, end);
  const out = new Output({
    isJson: flags.includes('--json') || flags.includes('--json=true'),
    isDebug: flags.includes('--debug') || flags.includes('--debug=true'),
    noColor: readEnvironment().noColor,
    ...readTerminal(),
  });
  try {
    const code = await (await understand(words, flags))(out);
    out.finish();
    return code;
  } catch (error) {
    out.fail(error);
    return exitCodeOf(error);
  }
}

type Task = (out: Output) => Promise<number>;

async function understand(words: readonly string[], flags: readonly string[]): Promise<Task> {
  let task: Task | undefined;
  let command = '';
  const parser: Argv<Globals> = globals(yargs([...words]));

  function add<O extends Globals>(
    names: readonly string[],
    summary: string,
    load: () => Promise<Command<O>>,
  ): void {
    parser.command<O>(
      names,
      summary,
      async (inner: Argv<Globals>) => {
        command = names[0] ?? '';
        return (await load()).options(inner);
      },
      async (options: ArgumentsCamelCase<O>) => {
        refuseOddFlags(flags, options);
        const help = options['help'] === true ? await parser.getHelp() : undefined;
        task = async (out) => {
          if (help !== undefined) return show(out, help);
          const operands = [...options._.slice(1).map(String), ...afterDashes(options)];
          return (await load()).run({ options, operands, out });
        };
      },
    );
  }

  add(['init'], 'make a store known: config, identity, catalog', () => import('./commands/init.ts'));
  add(['sweep'], 'move what has expired to its pending place, now', () => import('./commands/sweep.ts'));
  add(['purge'], 'remove what has waited for its safety window, now', () => import('./commands/purge.ts'));
  add(['tombstone', 'delete'], 'tombstone keys by hand', () => import('./commands/tombstone.ts'));
  add(['ls', 'list'], 'list tombstones, oldest first', () => import('./commands/ls.ts'));
  add(['restore', 'undo'], 'bring tombstoned objects back', () => import('./commands/restore.ts'));
  add(['cat'], 'write an object, live or pending, to stdout', () => import('./commands/cat.ts'));

  parser.fail((message: string | null, error: Error | undefined) => {
    throw error ?? misuse(message ?? '', command);
  });
  const top = await parser.parseAsync();
  if (task !== undefined) return task;
  return async (out) => aboutAll(out, top, await parser.getHelp());
}

/** What holds for the whole program. yargs' own help and version would take keys of these names for themselves. */
function globals(parser: Argv): Argv<Globals> {
  const text = { type: 'string', requiresArg: true } as const;
  const flag = { type: 'boolean', default: false } as const;
  return parser
    .scriptName('tombstonectl')
    .locale('en')
    .help(false)
    .version(false)
    .exitProcess(false)
    .parserConfiguration({
      'populate--': true,
      'boolean-negation': false,
      'dot-notation': false,
      'duplicate-arguments-array': false,
      'parse-numbers': false,
      'parse-positional-numbers': false,
      'short-option-groups': false,
    })
    .strictOptions()
    .recommendCommands()
    .updateStrings({ 'Commands:': 'COMMANDS', 'Examples:': 'EXAMPLES', 'Options:': 'OPTIONS' })
    .wrap(Math.min(process.stdout.columns ?? 80, 100))
    .usage(ABOUT)
    .options({
      config: {
        ...text,
        describe: 'the config; else $TOMBSTONED_CONFIG, else /etc/tombstoned/tombstoned.yaml',
      },
      store: { ...text, describe: 'the store, by its name in the config' },
      url: { ...text, describe: 'the store, by its URL; needs no config (cat, keys, explain)' },
      json: { ...flag, describe: 'one JSON object a line' },
      key: { ...flag, describe: 'what looks like an id is a key' },
      debug: { ...flag, describe: 'stacks of errors' },
      help: { ...flag, alias: 'h', describe: 'this text' },
      version: { ...flag, describe: 'the version' },
    })
    .group(['config', 'store', 'url', 'json', 'key', 'debug', 'help', 'version'], 'GLOBAL OPTIONS')
    .epilogue(EXITS);
}

const ABOUT = `NAME
  tombstonectl - safe two-phase deletion for backup stores

SYNOPSIS
  tombstonectl [--config FILE] [--store NAME] [--url URL] [--json] COMMAND

DESCRIPTION
  A sweep moves what has expired to pending_deletion/, where it can still be
  read and restored. A purge removes it for good after a safety window.
  See tombstonectl COMMAND --help for each command.`;

const EXITS = `EXIT STATUS
  0 done; 1 failed (store, disk, permission); 2 usage or config; 3 no such key
  or tombstone; 4 conflict; 5 blocked (hold, limit, owner); 130, 143 stopped by
  a signal.`;

function show(out: Output, text: string): number {
  out.line(text.trimEnd());
  return 0;
}

/** A command line without a command that is known. */
async function aboutAll(out: Output, options: ArgumentsCamelCase<Globals>, help: string): Promise<number> {
  const [word] = [...options._.map(String), ...afterDashes(options)];
  if (options['version'] === true) {
    const { programVersion } = await import('../app/version.ts');
    return show(out, `tombstonectl ${programVersion()}`);
  }
  if (options['help'] === true || word === 'help') return show(out, help);
  if (word === undefined) throw usageError('no command is given', SEE_HELP);
  throw usageError(`there is no command ${JSON.stringify(word)}`, SEE_HELP, word);
}

const SEE_HELP = 'see tombstonectl --help';

function afterDashes(options: ArgumentsCamelCase<Globals>): string[] {
  const rest = options['--'];
  return Array.isArray(rest) ? rest.map(String) : [];
}

/** `--dry-run=yes` would read as no. */
function refuseOddFlags(flags: readonly string[], options: ArgumentsCamelCase<Globals>): void {
  for (const flag of flags) {
    const [, name, value] = /^--([\w-]+)=(.*)$/s.exec(flag) ?? [];
    if (name === undefined || typeof options[name] !== 'boolean') continue;
    if (value !== 'true' && value !== 'false')
      throw usageError(`--${name} takes no value`, `write --${name}`);
  }
}

/** What yargs found wrong, in our words. */
function misuse(message: string, command: string): Error {
  const see = command === '' ? SEE_HELP : `see tombstonectl ${command} --help`;
  const [, unknown] = /^Unknown arguments?: (.*)$/s.exec(message) ?? [];
  if (unknown !== undefined) {
    const names = unknown.split(', ').map((name) => `-${name.length > 1 ? '-' : ''}${name}`);
    return usageError(
      `there is no option ${names.join(', ')}`,
      `${see}; a key that begins with - goes after --`,
    );
  }
  const [, needy] = /^Not enough arguments following: (.*)$/s.exec(message) ?? [];
  if (needy !== undefined) return usageError(`--${needy} needs a value`, see);
  const [, meant] = /^Did you mean (.*)\?$/s.exec(message) ?? [];
  if (meant !== undefined) return usageError(`there is no such command; did you mean ${meant}?`, see);
  return usageError(message, see);
}
