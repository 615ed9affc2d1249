import { execFileSync, spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect } from 'chai';
import {
  CONFIG_DEFAULTS,
  LIMITS_DEFAULTS,
  POLICY_DEFAULTS,
  S3_DEFAULTS,
  STORE_DEFAULTS,
} from '../../lib/config/defaults.ts';
import { readSample } from '../../scripts/manual/config-page.ts';
import { helpsOfTombstonectl, optionsOf } from '../../scripts/manual/helps.ts';
import { builtProgram } from '../support/built-cli.ts';
import { HOUR } from '../support/place.ts';
import { OLD, TempStore } from '../support/temp-store.ts';
import { hasTool } from './staged.ts';

const ROOT = path.resolve(import.meta.dirname, '../..');
const PAGES = ['man1/tombstonectl.1', 'man5/tombstoned.yaml.5', 'man8/tombstoned.8'];

describe('the manual', function () {
  this.timeout(60_000);

  let directory: string;

  before(() => {
    directory = mkdtempSync(path.join(tmpdir(), 'tombstoned-manual-'));
    execFileSync(path.join(ROOT, 'node_modules/.bin/tsx'), [path.join(ROOT, 'scripts/manual.ts'), directory]);
  });
  after(() => rmSync(directory, { recursive: true }));

  const read = (name: string): string => readFileSync(path.join(directory, name), 'utf8');
  /** A page as roff was given it, with its dashes and quotes as they are read. */
  const plain = (name: string): string =>
    read(name).replaceAll('\\-', '-').replaceAll('\\(aq', "'").replaceAll('\\(dq', '"');

  for (const page of PAGES) {
    it(`${page} is what groff and mandoc take without a warning`, function () {
      const checkers = [
        ['groff', '-man', '-ww', '-z', '-Tutf8'],
        ['mandoc', '-Tlint', '-Werror'],
      ].filter(([tool = '']) => hasTool(tool));
      if (checkers.length === 0) this.skip();
      for (const [tool = '', ...args] of checkers) {
        const { status, stdout, stderr } = spawnSync(tool, [...args, path.join(directory, page)], {
          encoding: 'utf8',
        });
        expect({ status, said: stdout + stderr }, tool).to.deep.equal({ status: 0, said: '' });
      }
    });
  }

  it('has every command with every option, as --help has them', async () => {
    const { program, commands } = await helpsOfTombstonectl();
    expect(commands).to.have.length.above(15);
    const page = plain('man1/tombstonectl.1');
    for (const { name, summary, help } of commands) {
      const own = page.slice(page.indexOf(`.SS "${name}: ${summary}`));
      const part = own.slice(0, own.indexOf('\n.S', 1));
      expect(part, name).to.include(help.get('SYNOPSIS')?.[0] ?? 'no synopsis');
      for (const option of optionsOf(help, 'OPTIONS')) {
        expect(part, name).to.include(`.BR ${option.name}`);
        expect(part, name).to.include(option.says[0] ?? 'nothing said');
      }
    }
    for (const { name } of optionsOf(program, 'GLOBAL OPTIONS')) expect(page).to.include(name);
  });

  it('has every setting of the sample configs, with what is said of it', () => {
    const page = plain('man5/tombstoned.yaml.5');
    const settings = ['tombstoned', 's3'].flatMap(
      (name) => readSample(readFileSync(path.join(ROOT, `config/${name}.yaml`), 'utf8')).settings,
    );
    const paths = settings.flatMap(({ members }) => members.map((member) => member.path));
    const defaults = [
      ...Object.keys(STORE_DEFAULTS),
      ...Object.keys(S3_DEFAULTS).map((name) => `s3.${name}`),
      ...Object.keys(LIMITS_DEFAULTS).map((name) => `limits.${name}`),
      ...Object.keys(POLICY_DEFAULTS).map((name) => `policies[].${name}`),
    ];
    expect(paths).to.include.members(defaults.map((name) => `stores[].${name}`));
    const tops = paths.map((name) => name.replace(/\..*$/, ''));
    expect(tops).to.include.members(Object.keys(CONFIG_DEFAULTS));
    for (const { members, says } of settings) {
      for (const member of members) expect(page).to.include(`\n.B ${member.path}`);
      if (members.some((member) => member.path === 'stores[].safetyWindow')) {
        expect(page).to.include(says.join('\n'));
      }
    }
    expect(
      settings.filter(({ says }) => says.length === 0).flatMap(({ members }) => members),
    ).to.have.length.below(6);
  });

  it('of the daemon has every section of its help', () => {
    const page = read('man8/tombstoned.8');
    for (const title of ['OPTIONS', 'SIGNALS', 'SERVICE', 'LOG', 'EXIT STATUS', 'FILES', 'SEE ALSO']) {
      expect(page).to.include(`.SH ${title}\n`);
    }
  });

  describe('and the completion', () => {
    let store: TempStore;
    let bin: string;

    before(async () => {
      store = new TempStore();
      store.configure({ main: { policies: [OLD], safetyWindow: '1d' } });
      await store.init();
      for (const key of ['logs/a one', 'logs/b', 'state/x:1']) store.write(key, 'x', 2 * HOUR);
      bin = path.join(store.directory, 'bin');
      mkdirSync(bin);
      const program = `#!/bin/sh\nexec '${process.execPath}' '${builtProgram('cli')}' "$@"\n`;
      writeFileSync(path.join(bin, 'tombstonectl'), program);
      chmodSync(path.join(bin, 'tombstonectl'), 0o755);
      execFileSync(path.join(bin, 'tombstonectl'), ['--config', store.configFile, 'tombstone', 'state/x:1'], {
        stdio: 'pipe',
      });
    });
    after(() => store.remove());

    /** What bash would offer for the last of these words. */
    function offered(...words: string[]): string[] {
      const { stdout, stderr, status } = spawnSync(
        'bash',
        [
          '--norc',
          '-euc',
          'source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _tombstonectl; printf "%s\\n" "${COMPREPLY[@]}"',
          'bash',
          path.join(directory, 'completion/tombstonectl.bash'),
          'tombstonectl',
          ...words,
        ],
        {
          encoding: 'utf8',
          env: {
            PATH: `${bin}:${process.env['PATH']}`,
            TOMBSTONED_CONFIG: store.configFile,
            TOMBSTONED_COMPLETION_SECONDS: '60',
          },
        },
      );
      expect({ status, stderr }).to.deep.equal({ status: 0, stderr: '' });
      return stdout.split('\n').filter((line) => line !== '');
    }

    it('offers commands, aliases too', () => {
      expect(offered('un')).to.deep.equal(['undo']);
      expect(offered('s')).to.include.members(['show', 'status', 'sweep', 'sweeps']);
      expect(offered('--config', '/x', 'pur')).to.deep.equal(['purge']);
    });

    it('offers the options of a command, and those of all', () => {
      expect(offered('undo', '--f')).to.deep.equal(['--force', '--from-file']);
      expect(offered('ls', '--')).to.include.members(['--state', '--prefix', '--json', '--store']);
      expect(offered('ls', '--')).not.to.include('--force');
      expect(offered('--v')).to.deep.equal(['--version']);
      expect(offered('ls', '--state', 'pur')).to.deep.equal(['purging', 'purged']);
      expect(offered('lease', '')).to.deep.equal(['ls', 'break']);
      expect(offered('catalog', '')).to.deep.equal(['backup']);
      expect(offered('aptos', '')).to.deep.equal(['status', 'plan', 'fetch', 'compact']);
    });

    it('offers keys, ids and stores, as tombstonectl knows them', () => {
      expect(offered('explain', 'logs/')).to.deep.equal(['logs/a\\ one', 'logs/b']);
      expect(offered('restore', 'state/')).to.deep.equal(['state/x:1']);
      const [id = '', ...more] = offered('show', '2');
      expect(id).to.match(/^\d{8}T\d{9}Z-[a-z0-9]+$/);
      expect(more).to.deep.equal([]);
      expect(offered('sweeps', 's-')).to.have.length(1);
      expect(offered('--store', 'm')).to.deep.equal(['main']);
    });

    it('of zsh asks the same', function () {
      const zsh = read('completion/_tombstonectl');
      expect(zsh).to.match(/^#compdef tombstonectl\n/);
      const shared = read('completion/tombstonectl.bash').split('\n').slice(1, -30).join('\n');
      const ofBash = shared.slice(0, shared.indexOf('\n_tombstonectl() {'));
      expect(ofBash).to.have.length.above(1000);
      expect(zsh).to.include(ofBash);
      if (!hasTool('zsh')) return;
      const { status, stderr } = spawnSync('zsh', ['-n', path.join(directory, 'completion/_tombstonectl')]);
      expect({ status, said: String(stderr) }).to.deep.equal({ status: 0, said: '' });
    });
  });
});
