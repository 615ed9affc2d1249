import { expect } from 'chai';
import { beforeAllBuild, ctlWith } from './ctl.ts';

const COMMANDS = [
  'init',
  'sweep',
  'sweeps',
  'approve',
  'reject',
  'purge',
  'tombstone',
  'ls',
  'show',
  'explain',
  'restore',
  'hold',
  'release',
  'holds',
  'pause',
  'resume',
  'cat',
  'keys',
  'fetch',
  'with-lease',
  'lease',
  'fence',
  'clock',
  'doctor',
  'verify',
  'rebuild',
  'adopt',
  'catalog',
  'log',
  'aptos',
  'status',
];

describe('the help of tombstonectl', () => {
  beforeAllBuild();

  it('of the program names every command once, on stdout', async () => {
    const { code, stdout, stderr } = await ctlWith({}, '--help');
    expect(code).to.equal(0);
    expect(stderr).to.equal('');
    const [, list] = /COMMANDS\n((?: {4}.*\n)+)/.exec(stdout) ?? [];
    const names = (list ?? '').split('\n').flatMap((line) => /^ {4}([\w-]+)/.exec(line)?.[1] ?? []);
    expect(names).to.deep.equal(COMMANDS);
    expect(stdout).to.include('EXAMPLES\n');
  });

  for (const command of COMMANDS) {
    it(`of ${command} says what it does, with an example`, async () => {
      const { code, stdout, lines } = await ctlWith({}, command, '--help');
      expect(code).to.equal(0);
      expect(lines[1]).to.match(new RegExp(`^ {4}tombstonectl ${command} - .{10}`));
      for (const title of ['SYNOPSIS', 'DESCRIPTION', 'GLOBAL OPTIONS', 'EXIT STATUS', 'EXAMPLES']) {
        expect(lines, title).to.include(title);
      }
      const [, examples] = stdout.split('\nEXAMPLES\n');
      expect(examples).to.match(new RegExp(`^ {4}tombstonectl .*\\b${command}\\b`, 'm'));
      for (const line of lines) expect(line.length, line).to.be.at.most(100);
    });
  }

  it('of an alias is that of its command', async () => {
    for (const [alias, command] of [
      ['delete', 'tombstone'],
      ['list', 'ls'],
      ['undo', 'restore'],
    ] as const) {
      const [a, b] = await Promise.all([ctlWith({}, alias, '-h'), ctlWith({}, 'help', command)]);
      expect(a.stdout).to.include(`tombstonectl ${command} - `).and.include(`also: ${alias}`);
      expect(b.stdout).to.equal(a.stdout);
    }
  });

  it('and the version need no config', async () => {
    const env = { TOMBSTONED_CONFIG: '/nowhere/at/all.yaml' };
    const answer = await ctlWith({ env }, '--version');
    expect(answer).to.include({ code: 0, stderr: '' });
    expect(answer.stdout).to.match(/^tombstonectl \d+\.\d+\.\d+\n$/);
    expect((await ctlWith({ env }, 'sweep', '--help')).code).to.equal(0);
  });
});
