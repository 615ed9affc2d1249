import { type CommandHelp, type Help, optionsOf } from './helps.ts';

/** What every page says of itself. */
export interface Edition {
  readonly version: string;
  /** As `2026-11-26`. */
  readonly date: string;
}

/** Sections that show command lines, as they are. */
const VERBATIM = ['EXAMPLES', 'SYNOPSIS'];

/** The beginning of a page. */
export function header(name: string, number: number, { version, date }: Edition): string {
  return `.TH ${name.toUpperCase()} ${number} "${date}" "tombstoned ${version}"\n`;
}

export function section(title: string, body: string): string {
  return `.SH ${title}\n${body}`;
}

/** The page of a program: its help, section by section. */
export function programPage(
  name: string,
  number: number,
  help: Help,
  edition: Edition,
  more: string,
): string {
  const sections = [...help].map(([title, lines]) => section(title, bodyOf(title, lines)));
  return header(name, number, edition) + sections.join('') + more;
}

/** A command within the page of its program. */
export function commandBody({ name, aliases, summary, help }: CommandHelp): string {
  const also = aliases.length === 0 ? '' : ` (also: ${aliases.join(', ')})`;
  const options = optionsOf(help, 'OPTIONS').map(({ name: option, takes, says }) =>
    entry(`.BR ${text(option)}${takes === null ? '' : ` " ${quoted(takes)}"`}`, prose(says)),
  );
  return [
    `.SS "${quoted(`${name}: ${summary}${also}`)}"\n`,
    verbatim(help.get('SYNOPSIS') ?? []),
    '.PP\n',
    prose(help.get('DESCRIPTION') ?? []),
    ...options,
    '.PP\n',
    verbatim(help.get('EXAMPLES') ?? []),
  ].join('');
}

/** Lines of a section, as they are laid out in a help. */
function bodyOf(title: string, lines: readonly string[]): string {
  return VERBATIM.includes(title) ? verbatim(lines) : prose(lines);
}

export function entry(term: string, body: string): string {
  return `.TP\n${term}\n${body === '' ? '\\ \n' : body}`;
}

export function verbatim(lines: readonly string[]): string {
  if (lines.length === 0) return '';
  return `.nf\n${lines.map((line) => (line === '' ? '.sp\n' : `${text(line)}\n`)).join('')}.fi\n`;
}

/** Text, with terms: a line above lines that are indented, or what stands far in front of its text. */
function prose(lines: readonly string[]): string {
  let out = '';
  let isInTerm = false;
  for (const [i, line] of lines.entries()) {
    const next = lines[i + 1] ?? '';
    const [, term, rest = ''] = /^(\S.*?) {2,}(\S.*)$/.exec(line) ?? [];
    if (line === '') {
      out += isInTerm ? '' : '.PP\n';
    } else if (line.startsWith(' ')) {
      out += `${text(line.trim())}\n`;
    } else if (term !== undefined) {
      out += `.TP\n.B ${text(term)}\n${text(rest)}\n`;
      isInTerm = true;
    } else if (next.startsWith(' ')) {
      out += `.TP\n.B ${text(line)}\n`;
      isInTerm = true;
    } else {
      out += `${isInTerm ? '.PP\n' : ''}${text(line)}\n`;
      isInTerm = false;
    }
  }
  return out;
}

/** A text as roff shows it. */
export function text(value: string): string {
  const shown = value.replaceAll('\\', '\\e').replaceAll('-', '\\-').replaceAll("'", '\\(aq');
  return shown.replace(/^([.])/, '\\&$1');
}

/** A text within the quotes of a macro's argument. */
function quoted(value: string): string {
  return text(value).replaceAll('"', '\\(dq');
}
