import { spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { filesBelow, hasTool, quickPlace, script, verifyUnits } from './staged.ts';

const LIB = 'opt/tombstoned/lib/tombstoned';

describe('scripts/install', function () {
  this.timeout(180_000);

  let dest: string;

  before(() => {
    dest = mkdtempSync(path.join(quickPlace(), 'tombstoned-dest-'));
    install();
  });
  after(() => rmSync(dest, { recursive: true }));

  const env = (): Record<string, string> => ({ DESTDIR: dest, PREFIX: '/opt/tombstoned' });
  function install(): void {
    script('install', [], env());
  }
  const read = (name: string): string => readFileSync(path.join(dest, name), 'utf8');
  const outside = (): string[] => filesBelow(dest).filter((name) => !name.startsWith(`${LIB}/`));

  it('puts program, units, user, config, man pages and completion below what it was asked for, and nothing else', () => {
    const p = 'opt/tombstoned';
    expect(outside().filter((name) => !name.includes('/share/doc/'))).to.deep.equal(
      [
        'etc/default/tombstoned',
        `${p}/bin/tombstonectl`,
        `${p}/bin/tombstoned`,
        `${p}/lib/systemd/system/tombstoned-purge.service`,
        `${p}/lib/systemd/system/tombstoned-purge.timer`,
        `${p}/lib/systemd/system/tombstoned-sweep.service`,
        `${p}/lib/systemd/system/tombstoned-sweep.timer`,
        `${p}/lib/systemd/system/tombstoned.service`,
        `${p}/lib/systemd/system/tombstoned@.service`,
        `${p}/lib/sysusers.d/tombstoned.conf`,
        `${p}/lib/tmpfiles.d/tombstoned.conf`,
        `${p}/share/bash-completion/completions/tombstonectl`,
        `${p}/share/man/man1/tombstonectl.1`,
        `${p}/share/man/man5/tombstoned.yaml.5`,
        `${p}/share/man/man8/tombstoned.8`,
        `${p}/share/zsh/site-functions/_tombstonectl`,
      ].toSorted(),
    );
    expect(read(`${LIB}/installed`)).to.not.include(dest);
    for (const name of ['tombstonectl', 'tombstoned']) {
      expect(statSync(path.join(dest, p, 'bin', name)).mode & 0o777).to.equal(0o755);
    }
  });

  it('installs programs that run with the packages they brought along, and no others', () => {
    for (const [room, name] of [
      ['cli', 'tombstonectl'],
      ['daemon', 'tombstoned'],
    ] as const) {
      const main = path.join(dest, LIB, `dist/${room}/main.js`);
      const { stdout, stderr } = spawnSync(process.execPath, [main, '--version'], { encoding: 'utf8' });
      expect(stdout + stderr).to.match(new RegExp(`^${name} \\d+\\.\\d+\\.\\d+\\n$`));
    }
    const packages = path.join(dest, LIB, 'node_modules');
    for (const name of ['typescript', 'mocha', 'tsx'])
      expect(existsSync(path.join(packages, name))).to.equal(false);
    const root = mkdtempSync(path.join(quickPlace(), 'tombstoned-root-'));
    mkdirSync(path.join(root, 'store'));
    for (const name of ['a', 'b', 'c']) {
      writeFileSync(path.join(root, 'store', name), name);
      utimesSync(path.join(root, 'store', name), 0, 0);
    }
    const ctl = (...args: string[]): string => {
      const words = [
        path.join(dest, LIB, 'dist/cli/main.js'),
        '--config',
        path.join(root, 'c.yaml'),
        ...args,
      ];
      const { stdout, stderr, status } = spawnSync(process.execPath, words, { encoding: 'utf8' });
      expect(status, stderr).to.equal(0);
      return stdout;
    };
    ctl('init', `file://${root}/store`, '--catalog', path.join(root, 'catalog.db'));
    ctl('tombstone', 'a');
    expect(ctl('--json', 'ls')).to.match(/"key":"a".*"state":"pending"/);
    const loadsSdk = `await import(${JSON.stringify(path.join(dest, LIB, 'dist/store/s3/open.js'))})`;
    const sdk = spawnSync(process.execPath, ['--input-type=module', '--eval', loadsSdk], {
      encoding: 'utf8',
    });
    expect(sdk.status, sdk.stderr).to.equal(0);
    rmSync(root, { recursive: true });
  });

  it('installs units that start what was installed, and that systemd takes without a word', function () {
    const unit = read('opt/tombstoned/lib/systemd/system/tombstoned.service');
    expect(unit).to.include(
      'ExecStart=/opt/tombstoned/lib/tombstoned/notify-exec /opt/tombstoned/bin/tombstoned --config /etc/tombstoned/tombstoned.yaml\n',
    );
    if (!hasTool('systemd-analyze')) this.skip();
    expect(verifyUnits(dest, 'opt/tombstoned')).to.equal('');
  });

  it('may run again: it keeps what the operator wrote, and takes away what an older version had', () => {
    const before = filesBelow(dest);
    writeFileSync(path.join(dest, 'etc/default/tombstoned'), 'AWS_PROFILE=mine\n');
    writeFileSync(path.join(dest, 'etc/tombstoned/tombstoned.yaml'), 'stores: []\n');
    const old = 'opt/tombstoned/lib/systemd/system/tombstoned-old.service';
    writeFileSync(path.join(dest, old), '');
    writeFileSync(path.join(dest, LIB, 'dist/old.js'), '');
    writeFileSync(path.join(dest, LIB, 'installed'), `${read(`${LIB}/installed`)}/${old}\n`);
    install();
    expect(filesBelow(dest)).to.deep.equal([...before, 'etc/tombstoned/tombstoned.yaml'].toSorted());
    expect(read('etc/default/tombstoned')).to.equal('AWS_PROFILE=mine\n');
  });

  it('is undone by scripts/uninstall, but for config, state and what is not its own; twice too', () => {
    mkdirSync(path.join(dest, 'var/lib/tombstoned'), { recursive: true });
    writeFileSync(path.join(dest, 'var/lib/tombstoned/catalog.db'), 'catalog');
    writeFileSync(path.join(dest, 'opt/tombstoned/bin/other'), '');
    script('uninstall', [], env());
    const left = [
      'etc/default/tombstoned',
      'etc/tombstoned/tombstoned.yaml',
      'opt/tombstoned/bin/other',
      'var/lib/tombstoned/catalog.db',
    ];
    expect(filesBelow(dest)).to.deep.equal(left);
    expect(existsSync(path.join(dest, LIB))).to.equal(false);
    expect(script('uninstall', [], env())).to.match(/nothing is installed below/);
    expect(filesBelow(dest)).to.deep.equal(left);
  });
});
