import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { expect } from 'chai';
import { builtProgram } from '../support/built-cli.ts';
import { filesBelow } from '../support/phases.ts';
import { seeded } from '../support/place.ts';
import { OLD, type TempStore } from '../support/temp-store.ts';
import { beforeAllBuild, ctl, ctlWith, ordinaryUser, tempStores } from './ctl.ts';

const DAY = 86_400_000;
const SEED = Number(process.env['KILLS_SEED'] ?? Date.now() % 1_000_000);

describe('tombstonectl fetch', () => {
  beforeAllBuild();
  const stores = tempStores();

  function target(store: TempStore): string {
    return path.join(store.directory, 'restored');
  }

  /** What is in the target, but for what is fetch's own. */
  function there(to: string): Record<string, string> {
    const names = filesBelow(to).filter((name) => !name.startsWith('.tombstoned/'));
    return Object.fromEntries(names.map((name) => [name, readFileSync(path.join(to, name), 'utf8')]));
  }

  function leases(store: TempStore): string[] {
    const directory = path.join(store.root, '.tombstoned/leases');
    return existsSync(directory) ? readdirSync(directory).filter((name) => name.endsWith('.json')) : [];
  }

  it('brings what is below prefixes, by the config, --url or $TOMBSTONED_URL', async () => {
    const store = await stores.make();
    store.write('a/1', 'one');
    store.write('a/b/2', 'two');
    store.write('c/3', 'three');
    store.write('d', 'not this');
    const to = target(store);
    const first = await ctl(store, '--json', 'fetch', 'a/', 'c/', '--to', to);
    expect(first, first.stderr).to.include({ code: 0, stderr: '' });
    expect(first.objects).to.deep.equal([
      {
        type: 'fetch',
        objects: 3,
        bytes: 11,
        fromPending: 0,
        missing: [],
        already: 0,
        isStopped: false,
      },
    ]);
    expect(there(to)).to.deep.equal({ 'a/1': 'one', 'a/b/2': 'two', 'c/3': 'three' });
    const second = await ctlWith({}, '--url', store.url, 'fetch', 'a/', 'c/', '--to', to);
    expect(second.stdout).to.equal(`3 objects, 11 B, in ${to} (3 were there already)\n`);
    const third = await ctlWith({ env: { TOMBSTONED_URL: store.url } }, 'fetch', '', `--to=${to}`);
    expect(third.stdout).to.include('4 objects');
    expect(leases(store)).to.deep.equal([]);
  });

  it('says so where there is nothing, and that is no error', async () => {
    const store = await stores.make();
    store.write('a/1', 'one');
    const answer = await ctl(store, '--json', 'fetch', 'b/', '--to', target(store));
    expect(answer.code).to.equal(0);
    expect(answer.stderr).to.equal('tombstonectl: nothing is live below "b/"\n');
    expect(answer.objects[0]).to.include({ objects: 0, bytes: 0 });
  });

  it('is refused without a prefix, without --to, and with odd numbers', async () => {
    const store = await stores.make();
    for (const args of [
      ['--to', target(store)],
      ['a/'],
      ['a/', '--to', target(store), '--concurrency', '0'],
      ['a/', '--to', target(store), '--concurrency', 'x'],
      ['a/', '--to', target(store), '--ttl', '5'],
      ['/etc/', '--to', target(store)],
      ['../', '--to', target(store)],
    ]) {
      const answer = await ctl(store, 'fetch', ...args);
      expect(answer.code, args.join(' ')).to.equal(2);
      expect(answer.errorLines).to.have.length(1);
    }
  });

  it('tells what is no object below the prefixes, and exits with 6', async () => {
    const store = await stores.make();
    store.write('a/1', 'one');
    symlinkSync('/etc/passwd', path.join(store.root, 'a/link'));
    symlinkSync('/etc', path.join(store.root, 'a/etc'));
    execFileSync('mkfifo', [path.join(store.root, 'a/fifo')]);
    writeFileSync(Buffer.concat([Buffer.from(`${store.root}/a/`), Buffer.from([0xff])]), 'odd');
    symlinkSync('/etc/passwd', path.join(store.root, 'elsewhere'));
    const answer = await ctl(store, 'fetch', 'a/', '--to', target(store));
    expect(answer.code).to.equal(6);
    for (const name of ['a/link', 'a/etc', 'a/fifo', 'a/\u{fffd}'])
      expect(answer.stderr).to.include(`${name} is no object`);
    expect(answer.errorLines).to.have.length(4);
    expect(there(target(store))).to.deep.equal({ 'a/1': 'one' });
    const json = await ctl(store, '--json', 'fetch', 'a/', '--to', target(store));
    expect(json.code).to.equal(6);
    expect(json.error).to.include({ code: 'incomplete' });
  });

  it("exits with 4 where somebody else's file is in the way, and leaves it", async () => {
    const store = await stores.make();
    store.write('a/1', 'one');
    store.write('a/2', 'two');
    const to = target(store);
    mkdirSync(path.join(to, 'a'), { recursive: true });
    writeFileSync(path.join(to, 'a/1'), 'theirs');
    const answer = await ctl(store, '--json', 'fetch', 'a/', '--to', to);
    expect(answer.code).to.equal(4);
    expect(answer.error).to.include({ code: 'conflict', key: 'a/1' });
    expect(there(to)).to.deep.equal({ 'a/1': 'theirs', 'a/2': 'two' });
  });

  it('fails in one line where it may not write', async function () {
    const store = await stores.make();
    store.write('a/1', 'one');
    mkdirSync(target(store));
    const user = await ordinaryUser(store);
    if (user === undefined) this.skip();
    chmodSync(target(store), 0o555);
    const answer = await ctlWith(user, '--url', store.url, 'fetch', 'a/', '--to', target(store));
    expect(answer).to.include({ code: 1, stdout: '' });
    expect(answer.errorLines).to.have.length(1);
    expect(answer.stderr).to.include(target(store)).and.include('EACCES');
    expect(leases(store)).to.deep.equal([]);
  });

  it('needs --no-lease where no lease can be written, and says what that means', async function () {
    const store = await stores.make();
    store.write('a/1', 'one');
    mkdirSync(path.join(store.root, '.tombstoned/leases'), { recursive: true });
    const user = await ordinaryUser(store);
    if (user === undefined) this.skip();
    for (const name of ['leases', 'tmp']) chmodSync(path.join(store.root, '.tombstoned', name), 0o555);
    const fetch = ['--url', store.url, 'fetch', 'a/', '--to', target(store)];
    const refused = await ctlWith(user, ...fetch);
    expect(refused).to.include({ code: 1, stdout: '' });
    expect(refused.stderr).to.include('--no-lease');
    const answer = await ctlWith(user, ...fetch, '--no-lease');
    expect(answer.code, answer.stderr).to.equal(0);
    expect(answer.stderr).to.include('nothing keeps sweeps and purges away');
    expect(there(target(store))).to.deep.equal({ 'a/1': 'one' });
  });

  it('reads what a sweep has moved since the listing only by what was listed', async () => {
    const store = await stores.make({ policies: [{ ...OLD, prefix: 'a/' }] });
    store.write('a/1', 'one', DAY);
    expect((await ctl(store, 'sweep')).code).to.equal(0);
    store.write('b/1', 'live');
    const answer = await ctl(store, '--json', 'fetch', '', '--to', target(store));
    expect(answer.objects[0]).to.include({ objects: 1, fromPending: 0 });
    expect(there(target(store))).to.deep.equal({ 'b/1': 'live' });
  });

  describe('that takes a while', () => {
    /** A file whose copy takes a while, and files after it. */
    async function slow(): Promise<TempStore> {
      const store = await stores.make();
      writeFileSync(path.join(store.root, 'a-big'), '');
      truncateSync(path.join(store.root, 'a-big'), 200 * 1024 * 1024);
      for (let i = 0; i < 20; i++) store.write(`z/${i}`, `content ${i}`);
      return store;
    }

    function begin(store: TempStore): { child: ChildProcess; ended: Promise<Ended> } {
      const where = ['--url', store.url, '--json', 'fetch', '', '--to', target(store)];
      const child = spawn(process.execPath, [builtProgram('cli'), ...where, '--concurrency', '1']);
      return { child, ended: endOf(child) };
    }

    /** Waits until the first file is being written: the listing is complete then. */
    async function underWay(store: TempStore): Promise<void> {
      const tmp = path.join(target(store), '.tombstoned/fetch/tmp');
      while (!(existsSync(tmp) && readdirSync(tmp).some((name) => statSync(path.join(tmp, name)).size > 0))) {
        await delay(2);
      }
    }

    it('lists every key that goes missing or changes meanwhile, and exits with 6', async () => {
      const store = await slow();
      const { ended } = begin(store);
      await underWay(store);
      rmSync(path.join(store.root, 'z/3'));
      store.write('z/5', 'another content');
      rmSync(path.join(store.root, 'z/7'));
      const { code, stdout, stderr } = await ended;
      expect(code, stderr).to.equal(6);
      expect(JSON.parse(stdout)).to.deep.include({ objects: 18, missing: ['z/3', 'z/5', 'z/7'] });
      for (const key of ['z/3', 'z/5', 'z/7']) {
        expect(stderr).to.include(`"key":"${key}"`);
        expect(existsSync(path.join(target(store), key))).to.equal(false);
      }
      expect(leases(store)).to.deep.equal([]);
    });

    it('exits with 5 when its lease was broken, and keeps what is whole', async () => {
      const store = await slow();
      const { ended } = begin(store);
      await underWay(store);
      const [lease = ''] = leases(store);
      writeFileSync(path.join(store.root, '.tombstoned/leases', lease.replace('.json', '.broken')), '{}\n');
      rmSync(path.join(store.root, 'z/3'));
      const { code, stderr } = await ended;
      expect(code, stderr).to.equal(5);
      expect(JSON.parse(stderr.trimEnd().split('\n').at(-1) ?? '')).to.include({
        code: 'blocked',
        reason: 'lease',
      });
      const all = there(target(store));
      expect(all['a-big']).to.have.length(200 * 1024 * 1024);
      delete all['a-big'];
      for (const [key, text] of Object.entries(all)) expect(text).to.equal(`content ${key.slice(2)}`);
    });

    for (const [signal, exit] of [
      ['SIGINT', 130],
      ['SIGTERM', 143],
    ] as const) {
      it(`ends at ${signal} after the file under way, and can go on from there`, async () => {
        const store = await slow();
        const { child, ended } = begin(store);
        await underWay(store);
        child.kill(signal);
        const { code, stdout, stderr } = await ended;
        expect(code, stderr).to.equal(exit);
        expect(JSON.parse(stdout)).to.include({ objects: 1, isStopped: true });
        expect(leases(store)).to.deep.equal([]);
        const again = await ctl(store, '--json', 'fetch', '', '--to', target(store));
        expect(again.objects[0]).to.include({ objects: 21, already: 1, isStopped: false });
      });
    }
  });

  it('is whole in the end, however often it is killed, and at no moment shows a file that is not', async function () {
    this.timeout(180_000);
    const store = await stores.make();
    const all: Record<string, string> = {};
    for (let i = 0; i < 2000; i++) {
      const key = `epoch-${i % 37}/${i % 3}/file-${i}`;
      all[key] = `content of ${key}\n`.repeat(i % 50);
      store.write(key, all[key], i);
    }
    const to = target(store);
    const random = seeded(SEED);
    let kills = 0;
    let partly = 0;
    for (;;) {
      const child = spawn(process.execPath, [
        builtProgram('cli'),
        '--url',
        store.url,
        'fetch',
        '',
        '--to',
        to,
      ]);
      const ended = endOf(child);
      // Later and later: it needs the time for what is left. The first as soon as anything is there.
      const wait = 300 + random(500 * (kills + 1));
      const timer = setTimeout(() => child.kill('SIGKILL'), kills === 0 ? 60_000 : wait);
      if (kills === 0) {
        while (child.exitCode === null && Object.keys(there(to)).length === 0) await delay(1);
        child.kill('SIGKILL');
      }
      const { signal, code, stderr } = await ended;
      clearTimeout(timer);
      const now = there(to);
      expect(all, `seed ${SEED}`).to.include(now);
      if (signal === null) {
        expect(code, `seed ${SEED}: ${stderr}`).to.equal(0);
        break;
      }
      const count = Object.keys(now).length;
      if (count > 0 && count < 2000) partly += 1;
      kills += 1;
      if (kills === 5) rmSync(path.join(to, 'epoch-1'), { recursive: true, force: true });
    }
    expect(there(to), `seed ${SEED}`).to.deep.equal(all);
    expect(partly, `seed ${SEED}: kills in the middle`).to.be.greaterThan(0);
    expect(readdirSync(path.join(to, '.tombstoned/fetch/tmp'))).to.deep.equal([]);
  });
});

interface Ended {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

async function endOf(child: ChildProcess): Promise<Ended> {
  let stdout = '';
  let stderr = '';
  child.stdout?.setEncoding('utf8').on('data', (text: string) => {
    stdout += text;
  });
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
  });
  const [code, signal] = (await once(child, 'close')) as [number | null, NodeJS.Signals | null];
  return { code, signal, stdout, stderr };
}
