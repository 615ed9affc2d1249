import { spawnSync } from 'node:child_process';
import { chmodSync, lchownSync, mkdirSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { mayActAsOthers } from '../support/as-user.ts';
import { builtProgram } from '../support/built-cli.ts';
import { mayMount } from '../support/mounts.ts';
import { HOUR } from '../support/place.ts';
import { OLD, TempStore } from '../support/temp-store.ts';

const NOBODY = 65_534;

/** What the unit makes of the file system, by `ProtectSystem=strict` and `ReadWritePaths=`, and of the process. */
const CONFINED = `
  set -e
  for writable in "$1" "$2"; do mount --bind "$writable" "$writable"; done
  mount -o remount,bind,ro /
  ! touch "$3/nothing" 2>/dev/null || { echo 'the directory beside them can be written'; exit 9; }
  cd /
  shift 3
  exec setpriv --reuid ${NOBODY} --regid ${NOBODY} --clear-groups --no-new-privs --bounding-set=-all "$@"
`;

describe('tombstoned in a sandbox like its unit’s', function () {
  this.timeout(60_000);

  let store: TempStore;

  before(function () {
    const hasTools = ['unshare', 'setpriv'].every((name) => spawnSync(name, ['--version']).status === 0);
    if (!hasTools || !mayMount() || !mayActAsOthers()) this.skip();
  });
  beforeEach(() => {
    store = new TempStore();
  });
  afterEach(() => store.remove());

  it('sweeps and purges where only the store and the state directory can be written', async function () {
    const state = path.join(store.directory, 'state');
    mkdirSync(state);
    const catalog = path.join(state, 'catalog.db');
    store.configure({ main: { policies: [OLD], limits: { maxFraction: null } } }, { catalog });
    await store.init();
    for (const key of ['g/a', 'g/b', 'c']) store.write(key, key, 2 * HOUR);
    for (const top of [store.root, state]) {
      for (const name of ['', ...readdirSync(top, { recursive: true, encoding: 'utf8' })]) {
        lchownSync(path.join(top, name), NOBODY, NOBODY);
      }
    }
    chmodSync(store.directory, 0o755);
    chmodSync(path.join(store.root, 'g'), 0o2775); // its pending directory gets the setgid bit too
    for (const job of ['sweep', 'purge']) {
      const command = [process.execPath, builtProgram('cli'), '--config', store.configFile, '--json', job];
      const args = ['--mount', 'sh', '-c', CONFINED, 'sh', store.root, state, store.directory, ...command];
      const { status, stdout, stderr } = spawnSync('unshare', args, { encoding: 'utf8' });
      if (/the directory beside them can be written/.test(stdout)) return this.skip(); // a mount of its own
      expect(status, stdout + stderr).to.equal(0);
      expect(JSON.parse(stdout)).to.include(job === 'sweep' ? { moved: 3 } : { purged: 3 });
    }
    expect(store.live()).to.deep.equal({});
    expect(store.pending()).to.deep.equal([]);
  });
});
