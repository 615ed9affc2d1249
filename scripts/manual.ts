// Writes man pages and shell completion into a directory, from what --help says and the sample configs:
//   scripts/manual.ts DIRECTORY
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { HELP } from '../lib/daemon/arguments.ts';
import { completionOf } from './manual/completion.ts';
import { configPage } from './manual/config-page.ts';
import { helpsOfTombstonectl, parseHelp } from './manual/helps.ts';
import { commandBody, programPage, section } from './manual/roff.ts';

const root = path.resolve(import.meta.dirname, '..');
const read = (name: string): string => readFileSync(path.join(root, name), 'utf8');

const [directory] = process.argv.slice(2);
if (directory === undefined) {
  console.error('usage: scripts/manual.ts DIRECTORY');
  process.exit(2);
}
for (const [name, text] of await pages()) {
  const file = path.join(directory, name);
  mkdirSync(path.dirname(file), { recursive: true });
  writeFileSync(file, text);
}

/** Each file by its name. */
async function pages(): Promise<Map<string, string>> {
  const manifest: unknown = JSON.parse(read('package.json'));
  const version =
    typeof manifest === 'object' && manifest !== null && 'version' in manifest
      ? String(manifest.version)
      : '';
  // The same text from the same source: no time of the build.
  const [, date = ''] = /^## \[[^\]]+\] - (\d{4}-\d\d-\d\d)$/m.exec(read('CHANGELOG.md')) ?? [];
  const edition = { version, date };
  const { program, commands } = await helpsOfTombstonectl();
  const own = new Map([...program].filter(([title]) => title !== 'COMMANDS'));
  const inDetail = section('COMMANDS', commands.map(commandBody).join(''));
  const ctl = programPage('tombstonectl', 1, own, edition, '').replace(
    '.SH GLOBAL OPTIONS\n',
    `${inDetail}.SH GLOBAL OPTIONS\n`,
  );
  return new Map([
    ['man1/tombstonectl.1', ctl + see('.BR tombstoned (8)', '.BR tombstoned.yaml (5)')],
    [
      'man8/tombstoned.8',
      programPage(
        'tombstoned',
        8,
        parseHelp(HELP),
        edition,
        see('.BR tombstonectl (1)', '.BR tombstoned.yaml (5)'),
      ),
    ],
    [
      'man5/tombstoned.yaml.5',
      configPage({ main: read('config/tombstoned.yaml'), s3: read('config/s3.yaml') }, edition),
    ],
    ['completion/tombstonectl.bash', completionOf('bash', program, commands)],
    ['completion/_tombstonectl', completionOf('zsh', program, commands)],
  ]);
}

function see(...names: readonly string[]): string {
  return section('SEE ALSO', `${names.join(',\n')}\n`);
}
