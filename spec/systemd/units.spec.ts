import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';

const UNITS = path.resolve('systemd');
const SERVICES = [
  'tombstoned.service',
  'tombstoned@.service',
  'tombstoned-sweep.service',
  'tombstoned-purge.service',
];

const text = (name: string): string => readFileSync(path.join(UNITS, name), 'utf8');

/** What a service may do: the rest of its section, from the user it runs as. */
function confinementOf(name: string): string[] {
  const lines = text(name).split('\n');
  return lines
    .slice(lines.indexOf('User=tombstoned'))
    .join('\n')
    .replace(/\n\[Install\].*$/s, '')
    .trim()
    .split('\n');
}

describe('the units', function () {
  this.timeout(20_000);

  const hasAnalyze = spawnSync('systemd-analyze', ['security', '--help']).status === 0;

  for (const name of SERVICES) {
    it(`${name} is exposed by at most 1.5`, function () {
      if (!hasAnalyze) this.skip();
      const { stdout, stderr } = spawnSync(
        'systemd-analyze',
        ['security', '--offline=true', '--no-pager', path.join(UNITS, name)],
        { encoding: 'utf8', env: { ...process.env, LC_ALL: 'C.UTF-8' } },
      );
      const [, level] = /Overall exposure level for \S+: ([\d.]+)/.exec(stdout) ?? [];
      expect(Number(level), stdout + stderr).to.be.at.most(1.5);
    });

    it(`${name} runs as a user of its own, that may write in its state directory only`, () => {
      const confinement = confinementOf(name);
      expect(confinement).to.deep.equal(confinementOf('tombstoned.service'));
      expect(confinement).to.include.members([
        'User=tombstoned',
        'StateDirectory=tombstoned',
        'ProtectSystem=strict',
        'ProtectHome=yes',
        'CapabilityBoundingSet=',
        'NoNewPrivileges=yes',
        'IPAddressAllow=localhost',
      ]);
      expect(text(name)).not.to.match(/^(?:ReadWritePaths|BindPaths)=/m);
    });
  }

  it('give the daemon more time to stop than a batch has, and the watchdog more than any silence', () => {
    for (const name of ['tombstoned.service', 'tombstoned@.service']) {
      expect(text(name))
        .to.match(/^Type=notify$/m)
        .and.match(/^NotifyAccess=main$/m);
      expect(text(name))
        .to.match(/^TimeoutStopSec=30s$/m)
        .and.match(/^WatchdogSec=10min$/m);
      expect(text(name))
        .to.match(/^Restart=on-failure$/m)
        .and.match(/^ExecReload=\/bin\/kill -HUP \$MAINPID$/m);
    }
    expect(text('tombstoned@.service')).to.include('--config /etc/tombstoned/%i.yaml');
  });

  it('have a timer for each job that runs once', () => {
    const timers = readdirSync(UNITS).filter((name) => name.endsWith('.timer'));
    expect(timers.map((name) => name.replace('.timer', '.service')).toSorted()).to.deep.equal(
      SERVICES.filter((name) => /^Type=oneshot$/m.test(text(name))).toSorted(),
    );
  });
});
