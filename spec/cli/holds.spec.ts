import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdirSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { Child } from '../run/child.ts';
import type { Errand } from '../run/place.child.ts';
import { builtProgram } from '../support/built-cli.ts';
import { Mounts, mayMount } from '../support/mounts.ts';
import { DAY as DRIVEN_DAY, TempPlace } from '../support/place.ts';
import { OLD, type TempStore } from '../support/temp-store.ts';
import { controlOf, listIn, putControl, putFence } from './claims.ts';
import { beforeAllBuild, ctl, ctlWith, NOBODY, ordinaryUser, tempStores } from './ctl.ts';

const DAY = 86_400_000;
const HOLD = /^h-\d{8}T\d{9}Z-[0-9a-z]{6}$/;
const FREE = { policies: [OLD], limits: { maxFraction: null } };

describe('tombstonectl hold', () => {
  beforeAllBuild();
  const stores = tempStores();

  async function filled(...keys: string[]): Promise<TempStore> {
    const store = await stores.make(FREE);
    for (const key of keys) store.write(key, key, DAY);
    return store;
  }

  it('on keys keeps those from sweeps, is listed, and ends with release', async () => {
    const store = await filled('a', 'b', 'c');
    const answer = await ctl(store, '--json', 'hold', 'a', 'b', '--reason', 'audit 17');
    expect(answer).to.include({ code: 0, stderr: '' });
    expect(answer.objects).to.have.length(1);
    const [held] = answer.objects;
    const id = String(held?.['id']);
    expect(id).to.match(HOLD);
    expect(held).to.deep.equal({
      type: 'held',
      id,
      store: 'main',
      kind: 'hold',
      blocks: 'sweep',
      keys: ['a', 'b'],
      prefix: null,
      ids: null,
      until: null,
      reason: 'audit 17',
      outcome: 'held',
      inForce: true,
    });
    await ctl(store, 'sweep');
    expect(Object.keys(store.live())).to.deep.equal(['a', 'b']);

    const { objects } = await ctl(store, '--json', 'holds');
    expect(objects).to.have.length(1);
    expect(objects[0]).to.include({ type: 'hold', id, store: 'main', kind: 'hold', problem: null });
    expect(objects[0]?.['by']).to.match(/^.+@.+$/);
    expect((await ctl(store, 'holds')).stdout).to.match(
      new RegExp(
        `^${id} {2}main {2}2 keys {2}\\(sweeps and purges, until it is released, .*: audit 17\\)\n$`,
      ),
    );

    const again = await ctl(store, 'hold', 'b', '--reason', 'audit 17');
    expect(again.code).to.equal(0);
    expect(again.stdout).to.include(id).and.include('in force already');
    const released = await ctl(store, '--json', 'release', id);
    expect(released.objects[0]).to.include({ type: 'released', id, outcome: 'released' });
    await ctl(store, 'sweep');
    expect(store.live()).to.deep.equal({});
    expect((await ctl(store, 'holds')).stderr).to.include('no holds');
  });

  it('on ids keeps those copies from purges, which say so, and until when', async () => {
    const store = await filled('a', 'b');
    await ctl(store, 'sweep');
    const listed = (await ctl(store, '--json', 'ls')).objects;
    const id = String(listed.find(({ key }) => key === 'a')?.['id']);
    const held = await ctl(store, '--json', 'hold', id, '--until', '2099-01-01', '--reason', 'x');
    expect(held.objects[0]).to.deep.include({
      blocks: 'purge',
      ids: [id],
      until: '2099-01-01T00:00:00.000Z',
    });
    const hold = String(held.objects[0]?.['id']);
    store.write('a', 'new', DAY);
    expect((await ctl(store, 'sweep')).code).to.equal(0);
    const dry = await ctl(store, 'purge', '--dry-run');
    expect(dry.stdout).to.include('would purge 2 of 3 due objects').and.include('kept 1 hold');
    expect(dry.stderr).to.match(
      new RegExp(`kept 1 object: hold ${hold} of \\S+: x, until 2099-01-01T00:00:00\\.000Z`),
    );
    const { objects } = await ctl(store, '--json', 'purge');
    expect(objects[0]).to.deep.include({ purged: 2, kept: { hold: 1 } });
    expect(objects[0]?.['keepers']).to.have.length(1);
    const [keeper] = listIn(objects[0], 'keepers');
    expect(keeper).to.include({ reason: 'hold', by: hold, count: 1, until: '2099-01-01T00:00:00.000Z' });
    expect(store.pending()).to.deep.equal([`a~${id}`]);
    const shown = await ctl(store, 'show', id);
    expect(shown.stdout).to.include(`kept by     hold until 2099-01-01T00:00:00.000Z (hold ${hold} of `);
    const row = (await ctl(store, 'ls', '--state', 'pending')).lines[1];
    expect(row).to.match(/ {2}kept: hold {2}a$/);
    const explained = await ctl(store, 'explain', id);
    expect(explained.stdout).to.include(`to change that: tombstonectl --store main release ${hold}`);
  });

  it('on what a sweep has moved keeps all of it', async () => {
    const store = await filled('a', 'b');
    await ctl(store, 'sweep');
    store.write('c', 'c', DAY);
    await ctl(store, 'tombstone', 'c');
    const sweeps = (await ctl(store, '--json', 'sweeps')).objects;
    const [held] = (
      await ctl(store, '--json', 'hold', '--sweep', String(sweeps[1]?.['sweep']), '--reason', 'x')
    ).objects;
    expect(held?.['ids']).to.have.length(2);
    const { objects } = await ctl(store, '--json', 'purge');
    expect(objects[0]).to.deep.include({ purged: 1, kept: { hold: 2 } });
    const url = await ctlWith({}, '--url', store.url, 'hold', '--sweep', 'last', '--reason', 'x');
    expect(url.code).to.equal(2);
    expect(url.stderr).to.include('--sweep needs the catalog');
    const none = await ctl(store, 'hold', '--sweep', 'last', '--reason', 'x');
    expect(none.code).to.equal(3);
    expect(none.stderr)
      .to.match(/1 object of sweep s-\S+ .*purged already/)
      .and.include('left to hold');
  });

  it('takes keys and ids from a file, goes on past what is purged, and says which', async () => {
    const store = await filled('gone', 'kept');
    await ctl(store, 'sweep');
    const { stdout: lines, objects } = await ctl(store, '--json', 'ls');
    const ids = new Map(objects.map((one) => [one['key'], String(one['id'])]));
    await ctl(store, 'hold', String(ids.get('kept')), '--reason', 'first');
    await ctl(store, 'purge');
    const input = `${lines}# a comment\nlive/key\n`;
    const answer = await ctlWith(
      { input },
      '--config',
      store.configFile,
      '--json',
      'hold',
      '--from-file',
      '-',
      '--reason',
      'second',
    );
    expect(answer.code).to.equal(3);
    expect(answer.error).to.include({ code: 'not-found', key: ids.get('gone') });
    expect(answer.objects.map(({ keys, ids: held }) => keys ?? held)).to.deep.equal([
      ['live/key'],
      [ids.get('kept')],
    ]);
    const unknown = '20261122T101500123Z-k3v0q8tzm2xj4d';
    const odd = await ctl(store, 'hold', unknown, '--reason', 'x');
    expect(odd.code).to.equal(0);
    expect(odd.stderr).to.include(`the catalog knows no tombstone ${unknown}`);
  });

  it('refuses what makes no sense, and writes nothing', async () => {
    const store = await filled('a');
    for (const [args, says] of [
      [['hold', 'a'], 'hold needs a --reason'],
      [['hold', 'a', '--reason', ' '], 'hold needs a --reason'],
      [['hold', '--reason', 'x'], 'hold needs a key, an id, --sweep or --prefix'],
      [['hold', 'a', '--prefix', 'b', '--reason', 'x'], 'not several of them'],
      [['hold', 'a', '--until', '2001-01-01', '--reason', 'x'], 'is over already'],
      [['hold', 'a', '--until', 'soon', '--reason', 'x'], 'is no time'],
      [['hold', 'a', '--fence-timeout', '1', '--reason', 'x'], 'is no duration'],
      [['hold', '/a', '--reason', 'x'], 'is not a key'],
      [['hold', 'pending_deletion/a', '--reason', 'x'], 'where pending copies are'],
      [['pause', 'a', '--reason', 'x'], 'pause takes no "a"'],
      [['pause'], 'pause needs a --reason'],
      [['release'], "release needs a hold's id"],
      [['resume', 'x'], 'resume takes no "x"'],
    ] as const) {
      const answer = await ctl(store, ...args);
      expect(answer.code, args.join(' ')).to.equal(2);
      expect(answer.stderr, args.join(' ')).to.include(says);
    }
    expect(controlOf(store, 'holds')).to.deep.equal([]);
  });

  it('is only shown by a dry run, as is what would be released', async () => {
    const store = await filled('a');
    const dry = await ctl(store, '--json', 'hold', '--prefix', 'a', '--dry-run', '--reason', 'x');
    expect(dry.objects[0]).to.include({ id: null, outcome: 'would be', inForce: false });
    expect(controlOf(store, 'holds')).to.deep.equal([]);
    const made = await ctl(store, '--json', 'hold', '--prefix', 'a', '--reason', 'x');
    const id = String(made.objects[0]?.['id']);
    expect((await ctl(store, 'release', id, '--dry-run')).stdout).to.include('would be released');
    expect(controlOf(store, 'holds')).to.deep.equal([`${id}.json`]);
  });

  it('is released past one that there is not, which is exit 3', async () => {
    const store = await filled('a');
    const ids: string[] = [];
    for (const key of ['a', 'b'])
      ids.push(String((await ctl(store, '--json', 'hold', key, '--reason', 'x')).objects[0]?.['id']));
    const unknown = 'h-20261122T101500123Z-k3v0q8';
    const answer = await ctl(store, '--json', 'release', ids[0] ?? '', unknown, ids[1] ?? '');
    expect(answer.code).to.equal(3);
    expect(answer.error).to.include({ code: 'not-found', key: unknown });
    expect(answer.objects.map(({ id }) => id)).to.deep.equal(ids);
    expect(controlOf(store, 'holds')).to.deep.equal([]);
  });

  it('works by the store’s URL alone, where there is neither config nor catalog', async () => {
    const store = await filled('a', 'b');
    await ctl(store, 'sweep');
    const id = String((await ctl(store, '--json', 'ls')).objects.find(({ key }) => key === 'a')?.['id']);
    const env = { TOMBSTONED_CONFIG: '/nowhere/at/all.yaml' };
    const far = async (...args: string[]) => ctlWith({ env }, '--url', store.url, '--json', ...args);
    expect((await far('hold', id, '--reason', 'x')).objects[0]).to.deep.include({
      ids: [id],
      store: store.url,
    });
    expect((await far('hold', '--prefix', 'z/', '--reason', 'y')).code).to.equal(0);
    expect((await far('pause', '--reason', 'z')).code).to.equal(0);
    expect((await far('holds')).objects.map(({ reason }) => reason)).to.have.members(['x', 'y', 'z']);
    expect((await ctl(store, '--json', 'purge')).objects[0]).to.deep.include({
      purged: 0,
      kept: { hold: 2 },
    });
    expect((await far('resume')).objects).to.have.length(1);
    expect((await ctl(store, '--json', 'purge')).objects[0]).to.deep.include({
      purged: 1,
      kept: { hold: 1 },
    });
    const explained = await far('explain', 'a');
    const [copy] = listIn(explained.objects[0], 'copies');
    expect(listIn(copy, 'kept')[0]?.['change']).to.match(/^tombstonectl --url file:\S+ release h-\S+$/);
    const ids = (await far('holds')).objects.map((one) => String(one['id']));
    expect((await far('release', ...ids)).code).to.equal(0);
    // As a command that with-lease runs has it.
    const inside = await ctlWith({ env: { TOMBSTONED_URL: store.url } }, 'holds');
    expect(inside).to.include({ code: 0 });
  });

  it('is of one store, and listed of all', async () => {
    const store = await stores.make();
    store.configure({ main: {}, other: {} });
    await store.init();
    for (const args of [
      ['pause', '--reason', 'x'],
      ['resume'],
      ['hold', 'a', '--reason', 'x'],
      ['release', 'h'],
    ]) {
      const answer = await ctl(store, ...args);
      expect(answer.code, args[0]).to.equal(2);
      expect(answer.stderr).to.include('add --store NAME: main, other');
    }
    for (const name of ['main', 'other']) await ctl(store, '--store', name, 'hold', 'a', '--reason', 'x');
    const { objects } = await ctl(store, '--json', 'holds');
    expect(objects.map((one) => one['store'])).to.deep.equal(['main', 'other']);
  });

  it('leaves exemptions to --all, and takes them away by name', async () => {
    const store = await filled('a');
    await ctl(store, 'sweep');
    await ctl(store, 'restore', 'a');
    expect((await ctl(store, '--json', 'holds')).objects).to.deep.equal([]);
    const [exemption] = (await ctl(store, '--json', 'holds', '--all')).objects;
    expect(exemption).to.deep.include({ kind: 'exempt', keys: ['a'] });
    await ctl(store, 'release', String(exemption?.['id']));
    await ctl(store, 'sweep');
    expect(store.live()).to.deep.equal({});
  });

  it('that can’t be read keeps everything, is named, and is no pause: release takes it', async () => {
    const store = await filled('a');
    putControl(store, 'holds/h-20261122T101500123Z-k3v0q8.json', '{"id":"h-2026');
    const file = '.tombstoned/holds/h-20261122T101500123Z-k3v0q8.json';
    expect((await ctl(store, 'holds')).stdout).to.include(`${file} is empty, cut short`);
    expect((await ctl(store, 'status')).stdout).to.include(
      `  paused      nothing is swept or purged until tombstonectl --store main release h-20261122T101500123Z-k3v0q8: ${file}`,
    );
    const resumed = await ctl(store, '--json', 'resume');
    expect(resumed.code).to.equal(5);
    expect(resumed.error).to.include({
      code: 'blocked',
      reason: 'hold',
      key: 'h-20261122T101500123Z-k3v0q8',
    });
    expect(resumed.error?.['message']).to.include(file);
    await ctl(store, 'sweep');
    expect(Object.keys(store.live())).to.deep.equal(['a']);
    expect((await ctl(store, 'release', 'h-20261122T101500123Z-k3v0q8')).code).to.equal(0);
    await ctl(store, 'sweep');
    expect(store.live()).to.deep.equal({});
  });

  it('says in one line that a user may not write there, or nobody may', async function () {
    const store = await filled('a');
    const user = process.geteuid?.() === 0 ? { uid: NOBODY, gid: NOBODY } : undefined;
    if (user === undefined || (await ctlWith(user, '--version')).code !== 0) return this.skip();
    for (const directory of [store.directory, store.root]) chmodSync(directory, 0o755);
    const answer = await ctlWith(user, '--json', '--url', store.url, 'pause', '--reason', 'x');
    expect(answer).to.include({ code: 1, stdout: '' });
    expect(answer.errorLines).to.have.length(1);
    expect(answer.error?.['message']).to.match(/\.tombstoned.*(EACCES|ermission denied)/);
    expect(answer.error?.['hint']).to.be.a('string');
    const looking = await ctlWith(user, '--url', store.url, 'holds');
    expect(looking).to.include({ code: 0 });
    if (!mayMount()) return;
    const mounts = new Mounts();
    try {
      const at = path.join(store.directory, 'mounted');
      mounts.bind(store.root, at);
      mounts.readonly(at);
      const readonly = await ctlWith({}, '--json', '--url', `file://${at}`, 'pause', '--reason', 'x');
      expect(readonly).to.include({ code: 1, stdout: '' });
      expect(readonly.error?.['message']).to.match(/\.tombstoned.*(EROFS|ead-only file system)/);
      expect((await ctlWith({}, '--url', `file://${at}`, 'holds')).code).to.equal(0);
    } finally {
      mounts.remove();
    }
  });

  it('as root leaves nothing behind that is root’s, by the config or by the URL', async function () {
    const store = await filled('a');
    if (process.geteuid?.() !== 0 || (await ordinaryUser(store)) === undefined) return this.skip();
    for (const where of [
      ['--config', store.configFile],
      ['--url', store.url],
    ]) {
      for (const args of [
        ['hold', `key of ${where[0]}`, '--reason', 'x'],
        ['pause', '--reason', 'x'],
        ['resume'],
      ]) {
        const answer = await ctlWith({}, ...where, ...args);
        expect(answer.code, answer.stderr).to.equal(0);
      }
    }
    for (const name of readdirSync(store.directory, { recursive: true, encoding: 'utf8' })) {
      expect(statSync(path.join(store.directory, name)).uid, name).to.equal(NOBODY);
    }
  });

  it('waits for a fence no longer than it is told, and says what is written', async () => {
    const store = await filled('logs/a');
    putFence(store);
    const answer = await ctl(store, '--json', 'hold', 'logs/a', '--fence-timeout', '0s', '--reason', 'x');
    expect(answer).to.include({ code: 5, stdout: '' });
    const [name = ''] = controlOf(store, 'holds');
    expect(answer.error).to.include({ code: 'blocked', reason: 'fence', key: name.replace('.json', '') });
    expect(answer.error?.['message']).to.include('is written and not yet in force');
    expect(answer.error?.['hint']).to.include('fence ls');
    expect((await ctl(store, 'hold', 'other/a', '--fence-timeout', '0s', '--reason', 'x')).code).to.equal(0);
  });
});

describe('tombstonectl pause beside a process in the middle of a batch', function () {
  beforeAllBuild();
  this.timeout(60_000);
  let temp: TempPlace;
  let children: (Child | ChildProcess)[];
  beforeEach(async () => {
    temp = await TempPlace.make();
    children = [];
  });
  afterEach(async () => {
    for (const child of children) {
      if (child instanceof Child) await child.kill();
      else child.kill('SIGKILL');
    }
    temp.remove();
  });

  it('says what it waits for, is in force when that is over, and nothing is moved after it', async () => {
    const keys = ['k/1', 'k/2', 'k/3'];
    for (const key of keys) temp.write(key, key, 3 * DRIVEN_DAY);
    // The first two make directories.
    const stop = { call: 'rename', nth: 3, when: 'after' } as const;
    const errand: Errand = {
      directory: temp.directory,
      now: temp.clock.wall,
      do: 'sweep',
      prefix: 'k/',
      stop,
    };
    const sweeping = new Child(path.join(import.meta.dirname, '../run/place.child.ts'), [
      JSON.stringify(errand),
    ]);
    children.push(sweeping);
    await sweeping.stop();

    const args = ['--url', `file://${temp.root}`, 'pause', '--reason', 'disk is being replaced'];
    const pausing = spawn(process.execPath, [builtProgram('cli'), ...args], {
      env: { PATH: process.env['PATH'] },
    });
    children.push(pausing);
    let said = '';
    let told = '';
    pausing.stdout.on('data', (text: Buffer) => (said += text.toString()));
    const ended = once(pausing, 'close');
    pausing.stderr.on('data', (text: Buffer) => (told += text.toString()));
    while (!told.includes('waiting for the batch that fence r-')) {
      await Promise.race([once(pausing.stderr, 'data'), ended]);
      expect(pausing.exitCode, `${said}${told}`).to.equal(null);
    }
    const holds = path.join(temp.root, '.tombstoned/holds');
    expect(readdirSync(holds)).to.have.length(1);
    expect(said).to.equal('');
    expect(keys.filter((key) => temp.live(key) !== undefined)).to.have.length(2);
    sweeping.wake();
    await sweeping.hear();
    await ended;
    expect(pausing.exitCode, told).to.equal(0);
    expect(said).to.match(/^h-\S+ {2}in force: everything, until it is released\n$/);
    expect(readdirSync(path.join(temp.root, '.tombstoned/fences'))).to.deep.equal([]);
    expect(keys.filter((key) => temp.live(key) !== undefined)).to.deep.equal([]);
  });

  it('that a signal ends is told as written and not in force', async () => {
    const file = path.join(temp.root, '.tombstoned/fences/r-20261122T101500123Z-k3v0q8-1.json');
    mkdirSync(path.dirname(file), { recursive: true });
    writeFileSync(file, ''); // as on a full disk: it covers everything
    const args = ['--json', '--url', `file://${temp.root}`, 'pause', '--reason', 'x'];
    const pausing = spawn(process.execPath, [builtProgram('cli'), ...args], {
      env: { PATH: process.env['PATH'] },
    });
    children.push(pausing);
    let told = '';
    const ended = once(pausing, 'close');
    pausing.stderr.on('data', (text: Buffer) => (told += text.toString()));
    while (!told.includes('waiting for')) await Promise.race([once(pausing.stderr, 'data'), ended]);
    pausing.kill('SIGINT');
    await ended;
    expect(pausing.exitCode, told).to.equal(130);
    const last = JSON.parse(told.trimEnd().split('\n').at(-1) ?? '') as Record<string, unknown>;
    expect(last).to.include({ code: 'blocked', reason: 'fence' });
    expect(last['message']).to.match(/^h-\S+ is written and not yet in force: the wait .* was ended$/);
    expect(readdirSync(path.join(temp.root, '.tombstoned/holds'))).to.deep.equal([
      `${String(last['key'])}.json`,
    ]);
  });
});
