import { execFileSync, spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { filesBelow, hasTool, quickPlace, script } from './staged.ts';

const STATE = 'var/lib/tombstoned/catalog.db';
const CONFIG = 'etc/tombstoned/tombstoned.yaml';

describe('the Debian package', function () {
  this.timeout(180_000);

  let directory: string;
  let root: string;
  let deb: string;
  let machine: string;

  before(function () {
    if (process.geteuid?.() !== 0 || !['dpkg', 'dpkg-deb', 'systemd-sysusers'].every(hasTool)) this.skip();
    directory = mkdtempSync(path.join(quickPlace(), 'tombstoned-deb-'));
    root = path.join(directory, 'root');
    for (const name of ['info', 'updates'])
      mkdirSync(path.join(root, 'var/lib/dpkg', name), { recursive: true });
    mkdirSync(path.join(root, 'etc'));
    for (const name of ['status', 'available']) writeFileSync(path.join(root, 'var/lib/dpkg', name), '');
    machine = stateOfMachine();
    const env = { DPKG_DEB_COMPRESSOR_TYPE: 'none', VERSION: '0.1.0' };
    deb = script('package-deb', [directory], env).trim();
  });
  after(() => {
    if (directory !== undefined) rmSync(directory, { recursive: true });
  });

  /** What of this machine a package could have changed by mistake. */
  function stateOfMachine(): string {
    const seen = ['/etc/passwd', '/etc/group', '/var/lib/dpkg/status'].map((name) => {
      const { mtimeMs, size } = statSync(name);
      return `${name} ${mtimeMs} ${size}`;
    });
    const own = ['/usr/lib/tombstoned', '/etc/tombstoned', '/usr/bin/tombstoned'].map((name) =>
      existsSync(name),
    );
    return JSON.stringify([seen, own]);
  }

  function dpkg(...args: string[]): string {
    const options = [
      '--force-script-chrootless',
      '--force-depends',
      '--force-unsafe-io',
      `--log=${path.join(directory, 'log')}`,
    ];
    const { status, stdout, stderr } = spawnSync('dpkg', [`--root=${root}`, ...options, ...args], {
      encoding: 'utf8',
      env: { ...process.env, LC_ALL: 'C' },
    });
    expect(status, stdout + stderr).to.equal(0);
    return stdout;
  }

  const files = (): string[] => filesBelow(root).filter((name) => !name.startsWith('var/lib/dpkg/'));
  const state = (): string =>
    execFileSync(
      'dpkg-query',
      [`--admindir=${root}/var/lib/dpkg`, '-W', '-f', '${Status} ${Version}', 'tombstoned'],
      {
        encoding: 'utf8',
      },
    );

  it('holds the program with its built packages, for this architecture and Node', () => {
    const field = (name: string): string =>
      execFileSync('dpkg-deb', ['--field', deb, name], { encoding: 'utf8' }).trim();
    expect(field('Architecture')).to.equal(
      execFileSync('dpkg', ['--print-architecture'], { encoding: 'utf8' }).trim(),
    );
    const major = Number(process.versions.node.split('.')[0]);
    expect(field('Depends'))
      .to.match(/^nodejs \(>= /)
      .and.include(`nodejs (<< ${major + 1})`);
    const list = execFileSync('dpkg-deb', ['--contents', deb], { encoding: 'utf8', maxBuffer: 1 << 26 });
    expect(list).to.include(
      './usr/lib/tombstoned/node_modules/better-sqlite3/build/Release/better_sqlite3.node',
    );
    expect(list).to.not.match(/node_modules\/(?:typescript|mocha|tsx)\//);
    for (const line of list.trim().split('\n')) expect(line).to.match(/^\S+ root\/root /);
  });

  it('installs, with its user and directories, and neither enables nor starts anything', () => {
    expect(dpkg('--install', deb)).to.include('next: tombstonectl init URL');
    expect(state()).to.equal('install ok installed 0.1.0');
    expect(readFileSync(path.join(root, 'etc/passwd'), 'utf8')).to.match(
      /^tombstoned:x:\d+:\d+:.*:\/usr\/sbin\/nologin$/m,
    );
    const { uid, mode } = statSync(path.join(root, 'var/lib/tombstoned'));
    expect({ isRoot: uid === 0, mode: mode & 0o777 }).to.deep.equal({ isRoot: false, mode: 0o750 });
    expect(existsSync(path.join(root, 'etc/systemd/system'))).to.equal(false);
    const main = path.join(root, 'usr/lib/tombstoned/dist/cli/main.js');
    expect(execFileSync(process.execPath, [main, '--version'], { encoding: 'utf8' })).to.match(
      /^tombstonectl /,
    );
  });

  it('is upgraded to the next version: what is old goes, config, state and what is enabled stay', () => {
    writeFileSync(path.join(root, CONFIG), 'stores: []\n');
    writeFileSync(path.join(root, STATE), 'catalog');
    writeFileSync(path.join(root, 'etc/default/tombstoned'), 'AWS_PROFILE=mine\n');
    const wants = path.join(root, 'etc/systemd/system/multi-user.target.wants');
    mkdirSync(wants, { recursive: true });
    symlinkSync('/usr/lib/systemd/system/tombstoned.service', path.join(wants, 'tombstoned.service'));

    const next = path.join(directory, 'next');
    mkdirSync(next);
    execFileSync('dpkg-deb', ['--control', deb, path.join(next, 'DEBIAN')]);
    const some = './etc ./usr/bin ./usr/lib/systemd ./usr/lib/sysusers.d ./usr/lib/tmpfiles.d';
    execFileSync('sh', ['-c', `dpkg-deb --fsys-tarfile "$1" | tar -x -C "$2" ${some}`, 'sh', deb, next]);
    const control = path.join(next, 'DEBIAN/control');
    writeFileSync(control, readFileSync(control, 'utf8').replace('Version: 0.1.0', 'Version: 0.2.0'));
    const upgrade = path.join(directory, 'next.deb');
    execFileSync('dpkg-deb', ['-Znone', '--root-owner-group', '--build', next, upgrade]);

    expect(dpkg('--install', upgrade)).to.not.include('next: tombstonectl init');
    expect(state()).to.equal('install ok installed 0.2.0');
    expect(files()).to.include.members([
      CONFIG,
      STATE,
      'etc/systemd/system/multi-user.target.wants/tombstoned.service',
    ]);
    expect(files().filter((name) => name.startsWith('usr/lib/tombstoned/'))).to.deep.equal([]);
    expect(readFileSync(path.join(root, 'etc/default/tombstoned'), 'utf8')).to.equal('AWS_PROFILE=mine\n');
  });

  it('is removed, and keeps config and state', () => {
    dpkg('--remove', 'tombstoned');
    expect(state()).to.equal('deinstall ok config-files 0.2.0');
    expect(
      files().filter((name) => !/^etc\/(?:\.pwd\.lock|g?shadow|group|passwd)-?$/.test(name)),
    ).to.deep.equal(['etc/default/tombstoned', CONFIG, STATE]);
  });

  it('is purged with its config, and keeps catalogs and the user', () => {
    writeFileSync(path.join(root, 'etc/tombstoned/aws-credentials'), 'mine');
    expect(dpkg('--purge', 'tombstoned')).to.include('catalogs stay in /var/lib/tombstoned');
    expect(
      files().filter((name) => !/^etc\/(?:\.pwd\.lock|g?shadow|group|passwd)-?$/.test(name)),
    ).to.deep.equal(['etc/tombstoned/aws-credentials', STATE]);
    expect(readFileSync(path.join(root, 'etc/passwd'), 'utf8')).to.match(/^tombstoned:/m);
  });

  it('has changed nothing of this machine', () => {
    expect(stateOfMachine()).to.equal(machine);
  });
});
