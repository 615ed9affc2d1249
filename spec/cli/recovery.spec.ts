import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { Catalog } from '../../lib/catalog/catalog.ts';
import { isPurge, type Line, RunningDaemon } from '../daemon/running-daemon.ts';
import { builtProgram } from '../support/built-cli.ts';
import { HOUR } from '../support/place.ts';
import { OLD, type TempStore } from '../support/temp-store.ts';
import { beforeAllBuild, ctl, ctlWith, tempStores } from './ctl.ts';

/** Each is what docs/recovery.md tells an operator to do. */
describe('a catalog that is lost, brought back, or moved', () => {
  beforeAllBuild();
  before(function () {
    this.timeout(120_000);
    builtProgram('daemon');
  });
  const stores = tempStores();
  let store: TempStore;
  let daemons: RunningDaemon[];
  beforeEach(async () => {
    daemons = [];
    store = await stores.make({ safetyWindow: '7d', policies: [OLD], purgeEvery: '1s', sweepEvery: '1h' });
    for (const key of ['a', 'b', 'c']) store.write(key, key, 2 * HOUR);
    expect(await ctl(store, 'sweep')).to.include({ code: 0 });
  });
  afterEach(async () => {
    for (const daemon of daemons) await daemon.remove();
  });

  function start(config = store.configFile): RunningDaemon {
    const daemon = new RunningDaemon(['--config', config]);
    daemons.push(daemon);
    return daemon;
  }
  const isRefused = ({ level, reason }: Line): boolean => level === 'error' && reason === 'owner';
  const lose = (): void => {
    for (const more of ['', '-wal', '-shm']) rmSync(store.catalogFile + more, { force: true });
  };

  it('removed under the daemon: that ends, does not start again, and does after a rebuild', async () => {
    const daemon = start();
    await daemon.until(isPurge);
    lose();
    const { code, stderr } = await daemon.ended;
    expect(code).to.equal(1);
    expect(stderr).to.match(
      /^tombstoned: the catalog \S+ was removed while it was in use: .*rebuild --take-over.*\n$/,
    );
    expect(existsSync(store.catalogFile)).to.equal(false);
    expect(await start().ended).to.include({ code: 1 });
    // `init` makes no catalog for a store that has an owner.
    expect(await ctl(store, 'init', '--store', 'main', '--dry-run')).to.include({ code: 5 });
    expect(await ctl(store, 'init', '--store', 'main')).to.include({ code: 5 });
    expect(await ctl(store, 'rebuild')).to.include({ code: 1 });
    expect(existsSync(store.catalogFile)).to.equal(false);

    const { code: rebuilt, objects, errorLines } = await ctl(store, '--json', 'rebuild', '--take-over');
    expect(rebuilt).to.equal(0);
    const [object] = objects;
    expect(object).to.include({
      type: 'rebuild',
      store: 'main',
      copies: 3,
      added: 3,
      known: 0,
      interrupted: false,
      dryRun: false,
    });
    expect(object?.['left']).to.deep.equal({});
    expect(errorLines.at(-1)).to.contain('resume');
    expect(await ctl(store, 'verify')).to.include({ code: 0 });
    const again = start();
    store.write('d', 'd', 2 * HOUR);
    await again.until(isPurge);
    expect(Object.keys(store.live())).to.deep.equal(['d']); // nothing is swept while it is held
    expect(await ctl(store, 'resume')).to.include({ code: 0 });
    expect(await ctl(store, 'restore', 'a')).to.include({ code: 0 });
    expect((await ctl(store, 'sweep')).stdout).to.contain('moved 1 object');
  });

  it('replaced under the daemon by a backup: that ends, and moves nothing when it is started, until it is adopted', async () => {
    const backup = path.join(store.directory, 'backup.db');
    const daemon = start();
    await daemon.until(isPurge);
    const { code, objects } = await ctl(store, '--json', 'catalog', 'backup', backup);
    expect(code).to.equal(0);
    expect(objects[0])
      .to.include({ type: 'catalog-backup', file: backup })
      .and.property('bytes')
      .above(100_000);
    copyFileSync(backup, `${backup}.copy`);
    renameSync(`${backup}.copy`, store.catalogFile);
    const ended = await daemon.ended;
    expect(ended.code).to.equal(1);
    expect(ended.stderr).to.contain('was replaced by another while it was in use');
    for (const more of ['-wal', '-shm']) rmSync(store.catalogFile + more, { force: true });

    const second = start();
    store.write('d', 'd', 2 * HOUR);
    const line = await second.until(isRefused);
    expect(line['hint']).to.contain('rebuild --take-over');
    expect(Object.keys(store.live())).to.deep.equal(['d']);
    const adopted = await ctl(store, 'adopt');
    expect(adopted).to.include({ code: 0, stderr: '' });
    expect(adopted.stdout).to.match(
      /^main belongs to this catalog now; it belonged to catalog \S+ on \S+ since \S+\n$/,
    );
    await second.until(isPurge);
    expect((await ctl(store, 'sweep')).stdout).to.contain('moved 1 object');
  });

  it('moved to another host: what still runs on the old one does nothing more', async () => {
    const old = start();
    await old.until(isPurge);
    // Not stopped, as it should be; and something happens after the backup was made.
    const backup = path.join(store.directory, 'backup.db');
    expect(await ctl(store, 'catalog', 'backup', backup)).to.include({ code: 0 });
    store.write('d', 'd', 2 * HOUR);
    expect(await ctl(store, 'sweep')).to.include({ code: 0 });
    const there = path.join(store.directory, 'there');
    mkdirSync(there);
    const config = path.join(there, 'tombstoned.yaml');
    const catalog = path.join(there, 'catalog.db');
    writeFileSync(config, readFileSync(store.configFile, 'utf8').replace(store.catalogFile, catalog));
    const early = await ctlWith({}, '--config', config, 'adopt'); // before the copy is there
    expect(early.code).to.equal(1);
    expect(early.stderr).to.match(
      /^tombstonectl: there is no catalog at \S+, and .* \(bring the catalog here/,
    );
    expect(readdirSync(there)).to.deep.equal(['tombstoned.yaml']);
    copyFileSync(backup, catalog);
    const from = old.lines().length;
    const { code, stderr } = await ctlWith({}, '--config', config, 'adopt');
    expect(code).to.equal(0);
    expect(stderr).to.match(
      /nothing is swept or purged \(hold h-\S+\): the catalog is older than the store \(1 copy .*rebuild, then resume\n$/,
    );
    expect((await old.until(isRefused, from)).message).to.contain('not to this catalog');
    expect((await ctlWith({}, '--config', config, 'rebuild')).stdout).to.contain('1 added');
    expect(await ctlWith({}, '--config', config, 'resume')).to.include({ code: 0 });
    expect(await ctlWith({}, '--config', config, 'verify')).to.include({ code: 0 });
    expect(await ctl(store, 'purge')).to.include({ code: 5 });
    const status = await ctl(store, 'status');
    expect(status.stdout).to.match(
      /^ {2}owner {7}\S+ belongs to catalog \S+ .*: nothing is moved or purged\n {14}\(run /m,
    );
    expect((await ctlWith({}, '--config', config, 'status')).stdout).not.to.contain('owner');
  });

  it('says of a copy of which it can’t be sure what it is, and says in a dry run what it would do', async () => {
    writeFileSync(path.join(store.root, 'pending_deletion/note'), '');
    lose();
    const dry = await ctl(store, 'rebuild', '--take-over', '--dry-run');
    expect(dry).to.include({ code: 0 });
    expect(dry.lines).to.deep.equal([
      'malformed-name  pending_deletion/note: it is no pending copy: its name is no pending name',
      'main: 3 pending copies, 3 would be added (3 B), 0 known, left: 1 malformed-name',
    ]);
    expect(existsSync(store.catalogFile)).to.equal(false);
    const { code, objects } = await ctl(store, '--json', 'rebuild', '--take-over');
    expect(code).to.equal(0);
    expect(objects[0]).to.include({ type: 'left', store: 'main', problem: 'malformed-name', id: null });
    expect(objects[1]?.['left']).to.deep.equal({ 'malformed-name': 1 });
  });
});

describe('tombstonectl catalog backup', () => {
  beforeAllBuild();
  const stores = tempStores();
  let store: TempStore;
  let target: string;
  beforeEach(async () => {
    store = await stores.make({ safetyWindow: '7d' });
    target = path.join(store.directory, 'out/backup.db');
    mkdirSync(path.dirname(target));
  });

  it('writes a whole catalog that owns nothing, and replaces a file only with --force', async () => {
    writeFileSync(target, 'precious');
    const refused = await ctl(store, 'catalog', 'backup', target);
    expect(refused).to.include({ code: 4 });
    expect(refused.stderr).to.contain('add --force');
    expect(readFileSync(target, 'utf8')).to.equal('precious');
    expect(await ctl(store, 'catalog', 'backup', target, '--force')).to.include({ code: 0, stderr: '' });
    expect(readdirSync(path.dirname(target))).to.deep.equal(['backup.db']);
    const [uuid, stores_] = openedUuid(store.catalogFile);
    const [copied, known] = openedUuid(target);
    expect(copied).not.to.equal(uuid);
    expect(known).to.deep.equal(stores_);
  });

  it('refuses what it can’t do, in one line: no file, the catalog itself, a directory, no directory, a store, no catalog', async () => {
    const cases: [string[], number, RegExp][] = [
      [[], 2, /needs an action/],
      [['backup'], 2, /needs a FILE/],
      [['backup', target, 'more'], 2, /takes no "more"/],
      [['restore', target], 2, /there is no catalog "restore"/],
      [['backup', store.catalogFile, '--force'], 2, /is the catalog itself/],
      [['backup', store.directory], 2, /is not a file/],
      [['backup', path.join(store.directory, 'no/such/file')], 1, /its directory is not there/],
      [['backup', path.join(store.root, 'pending_deletion/b.db')], 2, /lies inside the store "main"/],
    ];
    for (const [words, code, says] of cases) {
      const ended = await ctl(store, 'catalog', ...words);
      expect({ code: ended.code, stdout: ended.stdout }, words.join(' ')).to.deep.equal({ code, stdout: '' });
      expect(ended.errorLines).to.have.length(1);
      expect(ended.stderr).to.match(says);
    }
    rmSync(store.catalogFile);
    expect(await ctl(store, 'catalog', 'backup', target)).to.include({ code: 1 });
    expect(existsSync(target)).to.equal(false);
  });
});

function openedUuid(file: string): [string, string | undefined] {
  const catalog = Catalog.open(file);
  try {
    return [catalog.uuid, catalog.storeByName('main')?.uuid];
  } finally {
    catalog.close();
  }
}
