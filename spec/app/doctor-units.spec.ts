import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect } from 'chai';
import { examineUnits } from '../../lib/app/doctor/units.ts';
import { loadConfig } from '../../lib/config/load.ts';
import { takeDaemonLock } from '../../lib/daemon/lock.ts';
import { TempStore } from '../support/temp-store.ts';

/** What `systemctl show` says of a unit that is well; ME is whose the catalog is. */
const WELL = {
  LoadState: 'loaded',
  ActiveState: 'active',
  UnitFileState: 'enabled',
  NeedDaemonReload: 'no',
  User: 'ME',
  ProtectSystem: 'strict',
  ReadWritePaths: '-STORE',
  StateDirectory: '',
  LogsDirectory: 'tombstoned',
};

interface Case {
  readonly what: string;
  /** What differs of a unit that is well; STATE and STORE stand for those directories. */
  readonly unit?: Readonly<Record<string, string>>;
  readonly timers?: boolean;
  readonly found: Readonly<Record<string, RegExp>>;
}

const OPEN = { ReadWritePaths: 'STATE' };

const CASES: readonly Case[] = [
  {
    what: 'a unit that runs, and may write all that it must',
    unit: OPEN,
    found: { 'ok units': /tombstoned\.service is enabled and active/, 'ok sandbox': /may write all/ },
  },
  {
    what: 'a store and a state directory that the unit may not write',
    unit: { ReadWritePaths: '/srv/other', StateDirectory: 'tombstoned' },
    found: {
      'fail sandbox':
        /may not write the store .*in \/etc\/systemd\/system\/tombstoned\.service\.d\/main\.conf, below \[Service\]: ReadWritePaths=.*daemon-reload/,
    },
  },
  {
    what: 'a store of which only a part may be written',
    unit: { ReadWritePaths: 'STATE STORE/pending_deletion' },
    found: { 'fail sandbox': /inside the store main.*whole store in one/ },
  },
  {
    what: 'a unit without a sandbox',
    unit: { ProtectSystem: 'no', ReadWritePaths: '' },
    found: { 'ok sandbox': /ProtectSystem=no/ },
  },
  {
    what: 'a unit that is not enabled, and does not run',
    unit: { ...OPEN, ActiveState: 'inactive', UnitFileState: 'disabled' },
    found: {
      'warn units': /not enabled \(disabled\) and inactive.*systemctl enable --now tombstoned\.service/,
    },
  },
  {
    what: 'a unit that is not enabled because timers are',
    unit: { ...OPEN, ActiveState: 'inactive', UnitFileState: 'disabled' },
    timers: true,
    found: { 'ok units': /timers of sweep and purge are enabled/, 'ok daemon': /timers do its work/ },
  },
  {
    what: 'a unit that has failed',
    unit: { ...OPEN, ActiveState: 'failed' },
    found: { 'fail units': /has failed.*journalctl -e -u tombstoned\.service/ },
  },
  {
    what: 'a unit whose file has changed',
    unit: { ...OPEN, NeedDaemonReload: 'yes' },
    found: { 'warn units': /has changed on the disk.*systemctl daemon-reload/ },
  },
  {
    what: 'a unit of a user who does not own the catalog',
    unit: { ...OPEN, User: 'daemon' },
    found: { 'fail units': /runs as daemon, and the catalog belongs to uid \d+.*chown -R daemon/ },
  },
  {
    what: 'a unit of a user who is not there',
    unit: { ...OPEN, User: 'nobody-of-that-name' },
    found: { 'fail units': /no such user.*systemd-sysusers/ },
  },
  {
    what: 'no unit at all',
    unit: { LoadState: 'not-found' },
    found: { 'warn units': /not installed \(not-found\).*docs\/service\.md/ },
  },
];

describe('doctor, of the units', () => {
  const before = process.env['PATH'] ?? '';
  let store: TempStore;
  let bin: string;
  beforeEach(async () => {
    store = await TempStore.make();
    bin = mkdtempSync(path.join(tmpdir(), 'tombstoned-bin-'));
  });
  afterEach(() => {
    process.env['PATH'] = before;
    store.remove();
    rmSync(bin, { recursive: true });
  });

  /** A `systemctl` that says so. */
  function manager(unit: Readonly<Record<string, string>>, timers = false): void {
    const said = Object.entries({ ...WELL, ...unit }).map(([name, value]) => `${name}=${value}`);
    const text = said
      .join('\n')
      .replaceAll('STATE', store.directory)
      .replaceAll('STORE', store.root)
      .replace('User=ME', process.geteuid?.() === 0 ? 'User=root' : `User=${String(process.geteuid?.())}`);
    script(`case "$1" in show) cat <<'END'\n${text}\nEND\n;; is-enabled) exit ${timers ? 0 : 1};; esac`);
  }

  function script(body: string): void {
    mkdirSync(bin, { recursive: true });
    const file = path.join(bin, 'systemctl');
    writeFileSync(file, `#!/bin/sh\n${body}\n`);
    chmodSync(file, 0o755);
    process.env['PATH'] = `${bin}:${before}`;
  }

  async function found(file = '/etc/tombstoned/tombstoned.yaml'): Promise<Record<string, string>> {
    const lines: Record<string, string> = {};
    for await (const { level, check, text, remedy } of examineUnits({
      ...loadConfig(store.configFile),
      file,
    }))
      lines[`${level} ${check}`] = `${lines[`${level} ${check}`] ?? ''}${text} (${remedy ?? ''})\n`;
    return lines;
  }

  for (const { what, unit = {}, timers = false, found: wanted } of CASES) {
    it(`says of ${what}`, async () => {
      manager(unit, timers);
      const lines = await found();
      for (const [head, says] of Object.entries(wanted))
        expect(lines[head], JSON.stringify(lines)).to.match(says);
      const failures = Object.keys(lines).filter((head) => head.startsWith('fail'));
      expect(failures, JSON.stringify(lines)).to.deep.equal(
        Object.keys(wanted).filter((head) => head.startsWith('fail')),
      );
    });
  }

  it('says that there is no service manager, or that it does not answer, and never that all is well', async () => {
    script('echo "System has not been booted with systemd" >&2; exit 1');
    expect((await found())['warn units']).to.match(/no service manager here: System has not been booted/);
    process.env['PATH'] = bin;
    rmSync(path.join(bin, 'systemctl'));
    expect((await found())['warn units']).to.match(/there is no systemctl/);
  });

  it('asks for the unit of the config, and knows none of a config elsewhere', async () => {
    script('test "$1" = show && echo "LoadState=not-found"');
    expect((await found('/etc/tombstoned/site-b.yaml'))['warn units']).to.include(
      'tombstoned@site-b.service',
    );
    expect((await found('/home/a/t.yaml'))['warn units']).to.include('is no config of a unit');
  });

  it('finds the daemon that runs by its lock, and no other', async () => {
    manager(OPEN);
    expect((await found())['warn daemon']).to.match(
      /no tombstoned runs.*systemctl start tombstoned\.service/,
    );
    const release = takeDaemonLock(store.catalogFile, process.pid, () => undefined);
    expect((await found())['ok daemon']).to.include(`pid ${process.pid}`);
    release();
    writeFileSync(`${store.catalogFile}.daemon.pid`, '1\n'); // as one that was killed leaves it
    expect(await found()).to.have.property('warn daemon');
  });
});
