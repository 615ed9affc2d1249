import { chmodSync, chownSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { OLD } from '../support/temp-store.ts';
import { beforeAllBuild, ctl, ctlWith, NOBODY, ordinaryUser, tempStores } from './ctl.ts';

const SETTINGS = { safetyWindow: '7d', policies: [OLD] };

describe('tombstonectl doctor', () => {
  beforeAllBuild();
  const stores = tempStores();

  it('has a line for each thing, with what to do, and exits with 7 when one is a fail', async () => {
    const store = await stores.make(SETTINGS);
    const well = await ctl(store, 'doctor');
    expect(well.code, well.stdout).to.equal(0);
    expect(well.stderr).to.equal('');
    for (const line of well.lines.slice(0, -1))
      expect(line).to.match(/^(ok {2}|warn) {2}(-|main) {2}[\w ]+: \S/);
    expect(well.lines.at(-1)).to.match(/^\d+ ok, \d+ to be warned of, 0 failed$/);
    rmSync(store.catalogFile);
    const ill = await ctl(store, 'doctor');
    expect(ill.code).to.equal(7);
    expect(ill.stdout).to.match(/^fail {2}- {2}catalog: there is no catalog at .*tombstonectl init/m);
    expect(ill.stderr).to.equal('');
  });

  it('says with --json what it says without', async () => {
    const store = await stores.make(SETTINGS);
    const { code, objects, lines } = await ctl(store, '--json', '--store', 'main', 'doctor');
    expect(code).to.equal(0);
    expect(objects).to.have.length(lines.length);
    for (const one of objects.slice(0, -1)) {
      expect(Object.keys(one)).to.deep.equal(['type', 'store', 'check', 'level', 'text', 'remedy']);
      expect(one['type']).to.equal('finding');
    }
    const count = (level: string): number => objects.filter((one) => one['level'] === level).length;
    expect(objects.at(-1)).to.deep.equal({ type: 'doctor', ok: count('ok'), warn: count('warn'), fail: 0 });
  });

  it('makes a line of a config that is not there, or is none', async () => {
    const store = await stores.make(SETTINGS);
    for (const [make, says] of [
      [
        (): void => writeFileSync(store.configFile, 'stores: []'),
        /^fail {2}- {2}config: .*at least one store/m,
      ],
      [(): void => rmSync(store.configFile), /^fail {2}- {2}config: .*no such file.*tombstonectl init URL/m],
    ] as const) {
      make();
      const { code, stdout, stderr } = await ctl(store, 'doctor');
      expect({ code, stderr }).to.deep.equal({ code: 7, stderr: '' });
      expect(stdout)
        .to.match(says)
        .and.to.match(/^ok {4}- {2}versions: /m);
    }
  });

  it('is refused like other commands when it is misused', async () => {
    const store = await stores.make(SETTINGS);
    expect((await ctl(store, 'doctor', 'main')).code).to.equal(2);
    expect((await ctl(store, '--store', 'none', 'doctor')).code).to.equal(2);
    expect((await ctl(store, '--url', store.url, 'doctor')).code).to.equal(2);
  });

  it('names what its user may not do, each with the command that changes it', async function () {
    const store = await stores.make(SETTINGS);
    store.write('logs/a', 'a');
    const requests = path.join(store.directory, 'requests');
    mkdirSync(requests);
    store.configure({ main: { policies: [{ name: 'asked', type: 'drop-in', directory: requests }] } });
    const user = await ordinaryUser(store);
    if (user === undefined) return this.skip();
    chmodSync(requests, 0o500);
    chmodSync(path.join(store.root, '.tombstoned/holds'), 0o555);
    chmodSync(path.join(store.root, 'logs'), 0o555);
    chmodSync(path.dirname(store.catalogFile), 0o555);
    const leases = path.join(store.root, '.tombstoned/leases');
    if (process.geteuid?.() === 0) {
      chownSync(leases, 0, 0);
      chmodSync(leases, 0o1777);
    }
    const { code, stdout, stderr } = await ctlWith(user, '--config', store.configFile, 'doctor');
    expect({ code, stderr }, stdout).to.deep.equal({ code: 7, stderr: '' });
    for (const [check, what] of [
      ['permissions', 'holds'],
      ['policy asked', 'requests'],
      ['permissions', path.basename(store.directory)],
    ]) {
      expect(stdout).to.match(
        new RegExp(`^fail .*${check}: .* may not write .*${what} .*chmod u\\+rwx .*${what}`, 'm'),
      );
    }
    if (process.geteuid?.() === 0)
      expect(stdout).to.match(/^fail .*permissions: .*leases is sticky, and of uid 0: .*chmod -t /m);
    expect(stdout)
      .to.match(/^warn .*objects: 1 of the first 1 can't be moved, such as logs\/a: .*chown \S+ \S+logs,/m)
      .and.to.match(/^warn {2}- {2}config: .*safetyWindow: 0s is under an hour/m);
  });

  it('as root looks with the eyes of the catalog’s owner, and leaves nothing behind that is root’s', async function () {
    if (process.geteuid?.() !== 0) return this.skip();
    const store = await stores.make(SETTINGS);
    if ((await ordinaryUser(store)) === undefined) return this.skip();
    chownSync(store.root, 0, 0);
    const { code, stdout } = await ctl(store, 'doctor');
    expect(code).to.equal(7);
    expect(stdout).to.match(/^fail .*permissions: \S+ may not write .*store \(of uid 0/m);
    expect(readdirSync(store.directory).filter((name) => name.includes('-wal'))).to.deep.equal([]);
  });

  it('warns another user that it is not who does the work', async function () {
    const store = await stores.make(SETTINGS);
    if ((await ordinaryUser(store)) === undefined || process.geteuid?.() !== 0) return this.skip();
    for (const directory of [store.directory, store.root]) chmodSync(directory, 0o755);
    chmodSync(store.configFile, 0o644);
    const other = { uid: NOBODY - 1, gid: NOBODY - 1 };
    const { code, stdout, stderr } = await ctlWith(other, '--config', store.configFile, 'doctor');
    expect({ code, stderr }, stdout).to.deep.equal({ code: 7, stderr: '' });
    expect(stdout).to.match(/^warn .*user: .*belongs to uid 65534.*as root: sudo tombstonectl doctor/m);
  });
});
