import { Output } from '../../lib/cli/output.ts';
import { tombstonectl } from '../../lib/cli/tombstonectl.ts';

/** A help as its sections, in order: a title and the lines below it, without their indent. */
export type Help = ReadonlyMap<string, readonly string[]>;

/** A command of tombstonectl. */
export interface CommandHelp {
  readonly name: string;
  readonly aliases: readonly string[];
  readonly summary: string;
  readonly help: Help;
}

/** One option of a help. */
export interface OptionHelp {
  /** With its dashes. */
  readonly name: string;
  /** What its value is called, or null of a flag. */
  readonly takes: string | null;
  readonly says: readonly string[];
}

/** Takes a help apart. */
export function parseHelp(text: string): Help {
  const sections = new Map<string, string[]>();
  let lines: string[] = [];
  for (const line of text.trimEnd().split('\n')) {
    if (/^[A-Z][A-Z ]+$/.test(line)) {
      lines = [];
      sections.set(line, lines);
    } else lines.push(line.replace(/^ {4}/, ''));
  }
  for (const body of sections.values()) while (body.at(-1) === '') body.pop();
  return sections;
}

/** The help of `tombstonectl`, and that of each command. */
export async function helpsOfTombstonectl(): Promise<{ program: Help; commands: readonly CommandHelp[] }> {
  const program = parseHelp(await ask('--help'));
  const commands: CommandHelp[] = [];
  for (const line of program.get('COMMANDS') ?? []) {
    const [, name = '', summary = '', aliases = ''] = /^(\S+) +(.*?)(?: \(also: (.*)\))?$/.exec(line) ?? [];
    const help = parseHelp(await ask(name, '--help'));
    commands.push({ name, summary, aliases: aliases.split(', ').filter((alias) => alias !== ''), help });
  }
  return { program, commands };
}

/** The options of a section. */
export function optionsOf(help: Help, title: string): OptionHelp[] {
  const options: { name: string; takes: string | null; says: string[] }[] = [];
  for (const line of help.get(title) ?? []) {
    const [, name, takes = null] = /^(--[\w-]+)(?: (.*))?$/.exec(line) ?? [];
    if (name !== undefined) options.push({ name, takes, says: [] });
    else options.at(-1)?.says.push(line.trim());
  }
  return options;
}

class Page extends Output {
  text = '';

  override line(text: string): void {
    this.text += `${text}\n`;
  }
}

async function ask(...words: string[]): Promise<string> {
  const page = new Page({ isJson: false, isDebug: false, isUnicode: true, isDumb: true, noColor: true });
  await tombstonectl(words, words, page);
  return page.text;
}
