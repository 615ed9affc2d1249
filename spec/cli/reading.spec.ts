import { execFileSync, spawn } from 'node:child_process';
import { readFileSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { builtProgram } from '../support/built-cli.ts';
import { OLD, type TempStore } from '../support/temp-store.ts';
import { beforeAllBuild, ctl, ctlWith, tempStores } from './ctl.ts';

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
    expect(live.objects).to.have.deep.members([
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

  it('fails where there is no store', async () => {
    const store = await swept();
    rmSync(path.join(store.root, '.tombstoned/store.json'));
    const answer = await ctlWith({}, '--url', store.url, 'keys');
    expect(answer).to.include({ code: 1, stdout: '' });
    expect(answer.errorLines).to.have.length(1);
  });
});
