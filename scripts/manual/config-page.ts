import { type Edition, entry, header, section, text, verbatim } from './roff.ts';

/** Settings that are told together: their paths with their defaults, and what is said of them. */
interface Setting {
  readonly members: readonly { readonly path: string; readonly standard: string }[];
  readonly says: readonly string[];
}

/** A commented sample, taken apart. */
export interface Sample {
  /** The comment that stands by itself, first. */
  readonly about: readonly string[];
  readonly settings: readonly Setting[];
}

/**
 * Reads a commented sample: a comment is about the members below it, up to the next
 * comment or empty line. The example policy, which is commented out, counts too.
 */
export function readSample(sample: string): Sample {
  const about: string[] = [];
  const settings: { members: { path: string; standard: string }[]; says: string[] }[] = [];
  const above: { indent: number; name: string; isList: boolean }[] = [];
  let comment: string[] = [];
  let isBelow = false;
  for (const given of sample.split('\n')) {
    const line = given.replace(/^#(?= {6})/, '');
    const [, said] = /^ *#(?: (.*))?$/.exec(line) ?? [];
    const [, spaces = '', dash = '', name, standard = ''] =
      /^( *)(- )?([A-Za-z0-9]+):(?: (.*))?$/.exec(line) ?? [];
    if (line === '') {
      if (settings.length === 0) about.push(...comment);
      comment = [];
      isBelow = false;
    } else if (name === undefined) {
      comment.push(said ?? '');
    } else {
      const indent = spaces.length + dash.length;
      while ((above.at(-1)?.indent ?? -1) >= indent) above.pop();
      const parent = above.at(-1);
      if (parent !== undefined && dash !== '') parent.isList = true;
      const names = above.map((one) => `${one.name}${one.isList ? '[]' : ''}.`).join('');
      above.push({ indent, name, isList: false });
      const member = { path: `${names}${name}`, standard };
      if (comment.length > 0) settings.push({ members: [member], says: comment });
      else if (standard !== '' && isBelow) settings.at(-1)?.members.push(member);
      else if (standard !== '') settings.push({ members: [member], says: [] });
      isBelow = comment.length > 0 || isBelow;
      comment = [];
    }
  }
  return { about, settings };
}

/** The page of the config's file. */
export function configPage(samples: { main: string; s3: string }, edition: Edition): string {
  const main = readSample(samples.main);
  const known = new Set(main.settings.flatMap(({ members }) => members.map(({ path }) => path)));
  const more = readSample(samples.s3).settings.filter(
    ({ members }) => !members.every(({ path }) => known.has(path)),
  );
  return [
    header('tombstoned.yaml', 5, edition),
    section('NAME', 'tombstoned.yaml \\- the config of tombstoned and tombstonectl\n'),
    section('DESCRIPTION', told(main.about)),
    section('SETTINGS', main.settings.map(settingEntry).join('')),
    section('STORES IN S3', more.map(settingEntry).join('')),
    section('EXAMPLE', verbatim(withoutComments(samples.main))),
    section(
      'FILES',
      entry('.I /etc/tombstoned/tombstoned.yaml', 'Where programs look without \\-\\-config.\n') +
        entry('.I /etc/tombstoned/NAME.yaml', 'The config of tombstoned@NAME.service.\n'),
    ),
    section('SEE ALSO', '.BR tombstoned (8),\n.BR tombstonectl (1)\n'),
  ].join('');
}

function settingEntry({ members, says }: Setting): string {
  const terms = members.map(
    ({ path, standard }) => `.B ${text(path)}${standard === '' ? '' : ` \\fR= ${text(standard)}`}\n`,
  );
  return `.TP\n${terms.join('.TQ\n')}${says.length === 0 ? '\\ \n' : told(says)}`;
}

/** Comments; an empty one begins a new paragraph. */
function told(lines: readonly string[]): string {
  return lines.map((line) => (line === '' ? '.PP\n' : `${text(line)}\n`)).join('');
}

function withoutComments(sample: string): string[] {
  return sample
    .split('\n')
    .map((line) => line.replace(/^#(?= {6})/, ''))
    .filter((line) => !/^ *(?:#|$)/.test(line));
}
