import { GLOBALS, type OptionTable, type Page } from './command.ts';

const EXIT_STATUS = `EXIT STATUS
    0    Done.
    1    Failed: the store, the disk, a permission.
    2    Bad arguments, or a bad config.
    3    No such key or tombstone.
    4    A conflict: a live object is in the way, or was changed.
    5    Blocked: by a lease, a hold, a fence, a limit, the owner, the clock.
    6    A restore is incomplete: every missing key is on stderr.
    7    Checked, and not well.
    130, 143
         Stopped by SIGINT or SIGTERM, after the batch that was under way.
    Of several, the first of 1, 6, 5, 4, 3.
`;

/** A command's help. */
export function helpOf(names: readonly string[], summary: string, page: Page, options: OptionTable): string {
  const [name = '', ...aliases] = names;
  const also = aliases.length === 0 ? '' : ` (also: ${aliases.join(', ')})`;
  return [
    section('NAME', [`tombstonectl ${name} - ${summary}${also}`]),
    section(
      'SYNOPSIS',
      page.synopsis.map((line) => `tombstonectl ${line}`),
    ),
    section('DESCRIPTION', page.description),
    ...(Object.keys(options).length === 0 ? [] : [section('OPTIONS', optionLines(options))]),
    section('GLOBAL OPTIONS', optionLines(GLOBALS)),
    EXIT_STATUS,
    section(
      'EXAMPLES',
      page.examples.flatMap(([line, why]) => [...(why === '' ? [] : [`# ${why}`]), `tombstonectl ${line}`]),
    ),
  ].join('\n');
}

/** The program's help. */
export function helpOfAll(commands: readonly { names: readonly string[]; summary: string }[]): string {
  const lines = commands.map(({ names, summary }) => {
    const [name = '', ...aliases] = names;
    const also = aliases.length === 0 ? '' : ` (also: ${aliases.join(', ')})`;
    return `${name.padEnd(10)} ${summary}${also}`;
  });
  return [
    section('NAME', ['tombstonectl - safe two-phase deletion for backup stores']),
    section('SYNOPSIS', [
      'tombstonectl [--config FILE] [--store NAME] [--url URL] [--json] COMMAND',
      'tombstonectl COMMAND --help',
      'tombstonectl --version',
    ]),
    section('DESCRIPTION', [
      'A sweep moves what has expired to pending_deletion/, where it can still be read and',
      'restored. A purge removes it for good after a safety window. Results go to stdout,',
      'everything else to stderr.',
    ]),
    section('COMMANDS', lines),
    section('GLOBAL OPTIONS', optionLines(GLOBALS)),
    EXIT_STATUS,
    section('EXAMPLES', [
      '# a new store',
      'tombstonectl init file:///srv/backups/mainnet',
      '# what would go',
      'tombstonectl sweep --dry-run',
      '# undo the last sweep',
      'tombstonectl restore --sweep last',
    ]),
  ].join('\n');
}

function section(title: string, lines: readonly string[]): string {
  return `${[title, ...lines.map((line) => (line === '' ? '' : `    ${line}`))].join('\n')}\n`;
}

function optionLines(options: OptionTable): string[] {
  return Object.entries(options).flatMap(([name, option]) => {
    const value = 'takes' in option ? ` ${option.takes}` : '';
    const standard =
      'default' in option && option.default !== undefined && option.default !== ''
        ? ` Otherwise ${option.default}.`
        : '';
    const lines = `${option.says}${standard}`.split('\n');
    return [`--${name}${value}`, ...lines.map((line) => `    ${line}`)];
  });
}
