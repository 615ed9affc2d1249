import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { expect } from 'chai';
import { builtProgram } from '../support/built-cli.ts';
import { OLD, type TempStore } from '../support/temp-store.ts';
import { beforeAllBuild, ctl, ctlWith, ordinaryUser, tempStores } from './ctl.ts';

const DAY = 86_400_000;

describe('tombstonectl cat', () => {
  beforeAllBuild();
  const stores = tempStores();

  async function swept(): Promise<TempStore> {
    const store = await stores.make({ policies: [{ ...OLD, prefix: 'logs/' }] });
    store.write('logs/a', 'pending\0bytes\n', DAY);
    store.write('live', 'live');
    expect((await ctl(store, 'sweep')).code).to.equal(0);
    return store;
  }

  it('writes the bytes, live or pending, by the config, --url or $TOMBSTONED_URL', async () => {
    const store = await swept();
    const { url, configFile } = store;
    const ways = [
      [{}, '--config', configFile],
      [{}, '--url', url],
      [{ TOMBSTONED_URL: url, TOMBSTONED_CONFIG: '/nowhere' }],
      [{ TOMBSTONED_CONFIG: configFile }],
      [{ TOMBSTONED_URL: 'file:///nowhere' }, '--config', configFile],
    ] as const;
    for (const [env, ...where] of ways) {
      const [live, pending] = [
        await ctlWith({ env }, ...where, 'cat', 'live'),
        await ctlWith({ env }, 'cat', ...where, '--', 'logs/a'),
      ];
      expect(live, JSON.stringify(env)).to.include({ code: 0, stdout: 'live', stderr: '' });
      expect(pending).to.include({ code: 0, stdout: 'pending\0bytes\n', stderr: '' });
    }
  });

  it('exits with 3 for a missing key: one line, empty stdout', async () => {
    const store = await swept();
    const [text, json] = await Promise.all([
      ctl(store, 'cat', 'logs/zz'),
      ctlWith({}, '--url', store.url, '--json', 'cat', 'logs/zz'),
    ]);
    expect(text).to.include({ code: 3, stdout: '' });
    expect(text.errorLines).to.have.length(1);
    expect(text.stderr).to.include('logs/zz is neither live nor pending');
    expect(json).to.include({ code: 3, stdout: '' });
    expect(json.error).to.include({ code: 'not-found', key: 'logs/zz' });
  });

  it('fails where there is no store, and does not say that the key is missing', async () => {
    const store = await swept();
    rmSync(path.join(store.root, '.tombstoned'), { recursive: true });
    for (const where of [
      ['--config', store.configFile],
      ['--url', store.url],
    ]) {
      const answer = await ctlWith({}, ...where, '--json', 'cat', 'logs/zz');
      expect(answer).to.include({ code: 1, stdout: '' });
      expect(answer.error?.['message']).to.include('no store');
    }
  });

  it('refuses what is no object', async () => {
    const store = await swept();
    symlinkSync('/etc/passwd', path.join(store.root, 'link'));
    const answer = await ctl(store, 'cat', 'link');
    expect(answer).to.include({ code: 1, stdout: '' });
    expect(answer.stderr).to.include('symbolic link');
  });

  it('takes any key', async () => {
    const store = await swept();
    for (const key of ['-x', '--help', 'help', 'cat', 'a\nb', '"q"', '20261122T101500123Z-k3v0q8tzm2xj4d']) {
      store.write(key, key);
      expect((await ctl(store, 'cat', '--key', '--', key)).stdout).to.equal(key);
    }
    expect((await ctl(store, 'cat', 'help')).stdout).to.equal('help');
  });

  it('writes a big object whole, in little memory', async () => {
    const store = await swept();
    const size = 128 * 1024 * 1024;
    writeFileSync(path.join(store.root, 'big'), '');
    truncateSync(path.join(store.root, 'big'), size);
    const child = spawn(process.execPath, [builtProgram('cli'), '--url', store.url, 'cat', 'big']);
    let got = 0;
    let peak = 0;
    for await (const chunk of child.stdout) {
      got += (chunk as Buffer).length;
      if (peak === 0 && got > size - 1024 * 1024) peak = peakOf(child.pid);
    }
    expect(got).to.equal(size);
    expect(peak).to.be.within(20_000, 200_000); // kB
  });

  it('ends quietly when nobody reads on', async () => {
    const store = await swept();
    writeFileSync(path.join(store.root, 'big'), 'x'.repeat(3_000_000));
    const script = `"$@" cat big 2>&1 | head -c 1; echo " \${PIPESTATUS[0]}"`;
    const args = [process.execPath, builtProgram('cli'), '--url', store.url];
    expect(execFileSync('bash', ['--norc', '-c', script, 'bash', ...args], { encoding: 'utf8' })).to.equal(
      'x 0\n',
    );
  });
});

/** The most memory that a process has had, kB. */
function peakOf(pid: number | undefined): number {
  const status = readFileSync(`/proc/${String(pid)}/status`, 'utf8');
  return Number(/^VmHWM:\s+(\d+) kB$/m.exec(status)?.[1]);
}

describe('tombstonectl keys', () => {
  beforeAllBuild();
  const stores = tempStores();

  async function swept(): Promise<TempStore> {
    const store = await stores.make({ policies: [{ ...OLD, prefix: 'logs/' }] });
    store.write('logs/a', 'first', DAY);
    store.write('logs/b\n', 'b', DAY);
    store.write('live/a', 'live');
    await ctl(store, 'sweep');
    return store;
  }

  it('lists live keys, and with --no-lease what is only pending too', async () => {
    const store = await swept();
    store.write('logs/a', 'second!');
    const live = await ctl(store, '--json', 'keys');
    expect(live.code, live.stderr).to.equal(0);
    expect(live.objects).to.deep.equal([
      { type: 'key', key: 'live/a', size: 4, location: 'live', id: null },
      { type: 'key', key: 'logs/a', size: 7, location: 'live', id: null },
    ]);
    const all = await ctlWith({}, '--url', store.url, '--json', 'keys', '--no-lease');
    expect(all.objects.map(({ key, location }) => [key, location])).to.deep.equal([
      ['live/a', 'live'],
      ['logs/a', 'live'],
      ['logs/b\n', 'pending'],
    ]);
    expect(all.objects[2]?.['id']).to.match(/^\d{8}T\d{9}Z-/);
    const text = await ctl(store, 'keys', '--no-lease', '--prefix', 'logs/');
    expect(text.lines).to.deep.equal(['logs/a', String.raw`"logs/b\n"`]);
    expect((await ctl(store, 'keys', '--prefix', 'zz')).stdout).to.equal('');
  });

  it('tells what is no object on stderr, and is complete without it', async () => {
    const store = await swept();
    symlinkSync('/etc/passwd', path.join(store.root, 'link'));
    writeFileSync(path.join(store.root, 'pending_deletion/odd'), '');
    const answer = await ctl(store, '--json', 'keys', '--no-lease');
    expect(answer.code).to.equal(0);
    expect(answer.objects).to.have.length(3);
    expect(answer.stderr).to.include('tombstonectl: link is no object: it is a symbolic link');
    expect(answer.stderr).to.include('pending_deletion/odd is no object');
  });

  describe('as a session', () => {
    const FENCE = 'r-20261122T101500123Z-k3v0q8-1.json';

    function fenceFile(store: TempStore): string {
      return path.join(store.root, '.tombstoned/fences', FENCE);
    }

    /** A batch of another host that is under way. */
    function fence(store: TempStore, prefix: string): void {
      const body = {
        run: FENCE.slice(0, -7),
        batch: 1,
        catalog: 'another',
        boot: 'another',
        kind: 'sweep',
        prefixes: [prefix],
        host: 'elsewhere',
        pid: 77,
        startedAt: '2026-11-22T10:15:00.123Z',
      };
      writeFileSync(fenceFile(store), `${JSON.stringify(body)}\n`);
    }

    function leases(store: TempStore): string[] {
      return readdirSync(path.join(store.root, '.tombstoned/leases'));
    }

    it('leaves no lease behind, and needs no config', async () => {
      const store = await swept();
      const answer = await ctlWith({}, '--url', store.url, 'keys');
      expect(answer).to.include({ code: 0, stdout: 'live/a\n', stderr: '' });
      expect(leases(store)).to.deep.equal([]);
    });

    it('waits for what is under way below its prefix, and says so, of each process once', async () => {
      const store = await swept();
      fence(store, 'live/');
      const next = fenceFile(store).replace('-1.json', '-2.json');
      writeFileSync(next, readFileSync(fenceFile(store), 'utf8').replace('"batch":1', '"batch":2'));
      expect(await ctl(store, 'keys', '--prefix', 'logs/')).to.include({ code: 0, stderr: '' });
      expect(await ctl(store, 'keys', '--no-lease')).to.include({ code: 0, stderr: '' });
      const child = spawn(process.execPath, [builtProgram('cli'), '--url', store.url, 'keys']);
      let listed = '';
      child.stdout.setEncoding('utf8').on('data', (text: string) => {
        listed += text;
      });
      const ended = once(child, 'close');
      const [said]: unknown[] = await once(child.stderr, 'data');
      expect(String(said)).to.equal(
        'tombstonectl: waiting for what is under way: a sweep on elsewhere, pid 77\n',
      );
      expect([leases(store).length, listed]).to.deep.equal([1, '']);
      rmSync(fenceFile(store));
      rmSync(next);
      expect(await ended).to.deep.equal([0, null]);
      expect(listed).to.equal('live/a\n');
    });

    it('exits with 5, with nothing listed and no lease left, when that is not over in time', async () => {
      const store = await swept();
      fence(store, '');
      const answer = await ctl(store, '--json', 'keys', '--fence-timeout', '100ms');
      expect(answer).to.include({ code: 5, stdout: '' });
      expect(answer.error).to.include({ code: 'blocked', reason: 'fence', key: FENCE });
      expect(leases(store)).to.deep.equal([]);
      rmSync(fenceFile(store));
      expect((await ctl(store, 'keys', '--fence-timeout', 'soon')).code).to.equal(2);
    });

    it('ends at a signal while it waits, and leaves no lease', async () => {
      const store = await swept();
      fence(store, '');
      const child = spawn(process.execPath, [builtProgram('cli'), '--url', store.url, 'keys'], {
        stdio: 'ignore',
      });
      const ended = once(child, 'exit');
      while (leases(store).length === 0) await delay(10);
      child.kill('SIGTERM');
      expect(await ended).to.deep.equal([143, null]);
      expect(leases(store)).to.deep.equal([]);
    });

    it('uses the lease around it, if that is of its store, and exits with 5 when that is lost', async () => {
      const store = await swept();
      const lost = 'l-20261122T101500123Z-k3v0q8';
      for (const [env, code] of [
        [{ TOMBSTONED_LEASE: lost }, 5],
        [{ TOMBSTONED_LEASE: lost, TOMBSTONED_URL: store.url }, 5],
        [{ TOMBSTONED_LEASE: lost, TOMBSTONED_URL: 'file:///another' }, 0],
        [{ TOMBSTONED_LEASE: '' }, 0],
        [{ TOMBSTONED_LEASE: 'x' }, 2],
      ] as const) {
        for (const command of [['keys'], ['cat', 'live/a']]) {
          const answer = await ctlWith({ env }, '--url', store.url, '--json', ...command);
          expect(answer.code, `${JSON.stringify(env)} ${command.join(' ')}`).to.equal(code);
          if (code === 5) expect(answer.error).to.include({ reason: 'lease', key: lost });
        }
        const unleased = await ctlWith({ env }, '--url', store.url, 'keys', '--no-lease');
        expect(unleased.code).to.equal(0);
      }
    });

    it('says how to do without where no lease can be written', async () => {
      const store = await swept();
      const user = await ordinaryUser(store);
      chmodSync(path.join(store.root, '.tombstoned/tmp'), 0o555);
      chmodSync(path.join(store.root, '.tombstoned/leases'), 0o555);
      const answer = await ctlWith({ ...user }, '--url', store.url, 'keys');
      expect(answer).to.include({ code: 1, stdout: '' });
      expect(answer.stderr).to.include('--no-lease');
      expect((await ctlWith({ ...user }, '--url', store.url, 'keys', '--no-lease')).code).to.equal(0);
    });
  });

  it('fails where there is no store', async () => {
    const store = await swept();
    rmSync(path.join(store.root, '.tombstoned/store.json'));
    const answer = await ctlWith({}, '--url', store.url, 'keys');
    expect(answer).to.include({ code: 1, stdout: '' });
    expect(answer.errorLines).to.have.length(1);
  });
});
