import type { Argv } from 'yargs';
import yargs from 'yargs';
import { actVia } from '../app/actor.ts';
import { isNearWord } from '../domain/near-word.ts';
import { type Command, GLOBALS, givenOf, type OptionTable } from './command.ts';
import { usageError } from './fail.ts';
import { helpOf, helpOfAll } from './help.ts';
import type { Output } from './output.ts';

type Task = (out: Output) => Promise<number>;
type Read = Readonly<Record<string, unknown>>;

/**
 * Understands a command line, does it, and gives the exit code. `flags` are the
 * words before `--`.
 */
export async function tombstonectl(
  words: readonly string[],
  flags: readonly string[],
  out: Output,
): Promise<number> {
  // `help COMMAND` is `COMMAND --help`.
  const asked = words[0] === 'help' ? [...words.slice(1), '--help'] : words;
  const task = await understand(asked, flags);
  return task(out);
}

async function understand(words: readonly string[], flags: readonly string[]): Promise<Task> {
  const parser = strict(yargs([...words]));
  const commands: { names: readonly string[]; summary: string }[] = [];
  let task: Task | undefined;
  let command = '';
  let known: readonly string[] = Object.keys(GLOBALS);

  function add<O extends OptionTable>(
    names: readonly string[],
    summary: string,
    load: () => Promise<Command<O>>,
  ): void {
    commands.push({ names, summary });
    parser.command(
      names,
      false, // the help is our own: yargs lays its out with every command line
      async (inner: Argv) => {
        command = names[0] ?? '';
        const { options } = await load();
        known = [...Object.keys(options), ...Object.keys(GLOBALS)];
        return inner.options(forYargs(options));
      },
      async (read: Read) => {
        refuseOddFlags(flags, read);
        const { manual, options, run } = await load();
        task = async (out) => {
          if (read['help'] === true) return show(out, helpOf(names, summary, manual, options));
          actVia(`tombstonectl ${command}`);
          const values = { ...givenOf(options, read), ...givenOf(GLOBALS, read) };
          return run({ options: values, operands: operandsOf(read).slice(1), out });
        };
      },
    );
  }

  add(['init'], 'make a store known: config, identity, catalog', () => import('./commands/init.ts'));
  add(['sweep'], 'phase one, now: move what has expired', () => import('./commands/sweep.ts'));
  add(['sweeps'], 'past and waiting sweeps', () => import('./commands/sweeps.ts'));
  add(['approve'], 'move a plan that is over a limit', () => import('./commands/approve.ts'));
  add(['reject'], 'drop a plan that is over a limit', () => import('./commands/reject.ts'));
  add(['purge'], 'phase two, now: remove what has waited', () => import('./commands/purge.ts'));
  add(['tombstone', 'delete'], 'phase one for keys you name', () => import('./commands/tombstone.ts'));
  add(['ls', 'list'], 'tombstones, oldest first', () => import('./commands/ls.ts'));
  add(['show'], 'one tombstone, with its history', () => import('./commands/show.ts'));
  add(['explain'], 'where an object is, why, and when it goes', () => import('./commands/explain.ts'));
  add(['restore', 'undo'], 'bring tombstoned objects back', () => import('./commands/restore.ts'));
  add(['hold'], 'keep objects from sweeps and purges', () => import('./commands/hold.ts'));
  add(['release'], 'take holds away', () => import('./commands/release.ts'));
  add(['holds'], 'what is held, why, and until when', () => import('./commands/holds.ts'));
  add(['pause'], 'hold everything', () => import('./commands/pause.ts'));
  add(['resume'], 'end every pause', () => import('./commands/resume.ts'));
  add(['cat'], 'write an object, live or pending, to stdout', () => import('./commands/cat.ts'));
  add(['keys'], 'the keys of a store, complete', () => import('./commands/keys.ts'));
  add(['fetch'], 'bring what is below prefixes into a directory', () => import('./commands/fetch.ts'));
  add(['with-lease'], 'run a command while nothing is swept', () => import('./commands/with-lease.ts'));
  add(['lease'], 'leases of restores: list them, break one', () => import('./commands/lease.ts'));
  add(['fence'], 'announced batches: list them, break one', () => import('./commands/fence.ts'));
  add(['clock'], 'whether the clock is trusted; accept it', () => import('./commands/clock.ts'));
  add(['doctor'], 'examine this host, the catalog and the stores', () => import('./commands/doctor.ts'));
  add(['verify'], 'compare the catalog with the store', () => import('./commands/verify.ts'));
  add(['rebuild'], "bring the catalog up to the store's listing", () => import('./commands/rebuild.ts'));
  add(['adopt'], 'make this catalog the owner of a store', () => import('./commands/adopt.ts'));
  add(['catalog'], 'back the catalog up, while it is used', () => import('./commands/catalog.ts'));
  add(['log'], 'the audit trail: who did what, when', () => import('./commands/log.ts'));
  add(
    ['aptos'],
    'backups of Aptos-family nodes: what is restorable, compact',
    () => import('./commands/aptos.ts'),
  );
  add(['status'], 'how the stores stand, and what goes when', () => import('./commands/status.ts'));

  parser.fail((message: string | null, error: Error | undefined) => {
    throw error ?? misuse(message ?? '', command, known);
  });
  const read = await parser.parseAsync().catch((error: unknown) => {
    // A missing value gets past `fail` where a command is loaded first.
    const isMisuse = error instanceof Error && error.name === 'YError';
    throw isMisuse ? misuse(error.message, command, known) : error;
  });
  return task ?? (async (out) => withoutCommand(out, read, () => helpOfAll(commands)));
}

/** yargs' own help and version would take keys of these names for themselves. */
function strict(parser: Argv): Argv {
  return parser
    .scriptName('tombstonectl')
    .locale('en')
    .help(false)
    .version(false)
    .exitProcess(false)
    .parserConfiguration({
      'populate--': true,
      'boolean-negation': false,
      'camel-case-expansion': false,
      'dot-notation': false,
      'greedy-arrays': false,
      'parse-numbers': false,
      'parse-positional-numbers': false,
      'short-option-groups': false,
    })
    .strictOptions()
    .recommendCommands()
    .options(forYargs({ ...GLOBALS, version: { says: '' } }))
    .alias('h', 'help');
}

function forYargs(table: OptionTable) {
  return Object.fromEntries(
    Object.entries(table).map(([name, option]) => {
      if (!('takes' in option)) return [name, { type: 'boolean', default: false } as const];
      if ('isRepeated' in option)
        return [name, { type: 'string', array: true, requiresArg: true, default: [] }] as const;
      const standard = option.default === undefined ? {} : { default: option.default };
      return [name, { type: 'string', requiresArg: true, ...standard } as const];
    }),
  );
}

function show(out: Output, text: string): number {
  out.line(text.trimEnd());
  return 0;
}

const SEE_HELP = 'see tombstonectl --help';

/** A command line without a command that is known. */
async function withoutCommand(out: Output, read: Read, help: () => string): Promise<number> {
  if (read['version'] === true) {
    const { programVersion } = await import('../app/version.ts');
    return show(out, `tombstonectl ${programVersion()}`);
  }
  const [word] = operandsOf(read);
  if (word !== undefined) throw usageError(`there is no command ${JSON.stringify(word)}`, SEE_HELP, word);
  if (read['help'] === true) return show(out, help());
  throw usageError('no command is given', SEE_HELP);
}

/** The words that are no options, those after `--` included. */
function operandsOf(read: Read): string[] {
  return [read['_'], read['--']].flatMap((part) => (Array.isArray(part) ? part.map(String) : []));
}

/** `--dry-run=yes` would read as no. */
function refuseOddFlags(flags: readonly string[], read: Read): void {
  for (const flag of flags) {
    const [, name, value] = /^--([\w-]+)=(.*)$/s.exec(flag) ?? [];
    if (name === undefined || typeof read[name] !== 'boolean') continue;
    if (value !== 'true' && value !== 'false')
      throw usageError(`--${name} takes no value`, `write --${name}`);
  }
}

/** What yargs found wrong, in our words; `known` are the options there are. */
function misuse(message: string, command: string, known: readonly string[]): Error {
  const see = command === '' ? SEE_HELP : `see tombstonectl ${command} --help`;
  const [, unknown] = /^Unknown arguments?: (.*)$/s.exec(message) ?? [];
  if (unknown !== undefined) {
    const given = unknown.split(', ');
    const names = given.map((name) => `-${name.length > 1 ? '-' : ''}${name}`);
    const hint = `${see}; a key that begins with - goes after --`;
    const meant = known.find((one) => given.some((name) => name.length > 1 && isNearWord(one, name)));
    const mean = meant === undefined ? '' : `; did you mean --${meant}?`;
    return usageError(`there is no option ${names.join(', ')}${mean}`, hint);
  }
  const [, needy] = /^Not enough arguments following: (.*)$/s.exec(message) ?? [];
  if (needy !== undefined) return usageError(`--${needy} needs a value`, see);
  const [, meant] = /^Did you mean (.*)\?$/s.exec(message) ?? [];
  if (meant !== undefined) return usageError(`there is no such command; did you mean ${meant}?`, see);
  return usageError(message, see);
}
