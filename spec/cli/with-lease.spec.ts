import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { expect } from 'chai';
import { builtProgram } from '../support/built-cli.ts';
import { OLD, type TempStore } from '../support/temp-store.ts';
import { putFence } from './claims.ts';
import { beforeAllBuild, ctl, ctlWith, tempStores } from './ctl.ts';

const DAY = 86_400_000;

describe('tombstonectl with-lease', () => {
  beforeAllBuild();
  const stores = tempStores();

  function leases(store: TempStore): string[] {
    const directory = path.join(store.root, '.tombstoned/leases');
    return existsSync(directory) ? readdirSync(directory).filter((name) => name.endsWith('.json')) : [];
  }

  /** Runs a shell script under a lease; `$CTL` is the program, `$ROOT` the store. */
  function underLease(store: TempStore, script: string, ...options: string[]): Promise<Ended> {
    return started(store, script, ...options).ended;
  }

  function started(
    store: TempStore,
    script: string,
    ...options: string[]
  ): { child: ChildProcess; ended: Promise<Ended> } {
    const words = ['--url', store.url, 'with-lease', ...options, '--', 'bash', '--norc', '-c', script];
    const env = {
      PATH: process.env['PATH'],
      CTL: `${process.execPath} ${builtProgram('cli')}`,
      ROOT: store.root,
    };
    const child = spawn(process.execPath, [builtProgram('cli'), ...words], { env });
    child.stdin.end();
    return { child, ended: endOf(child) };
  }

  /** Waits until the script says so, by making a file. */
  async function made(file: string): Promise<void> {
    while (!existsSync(file)) await delay(5);
  }

  it('runs a command while a lease is there, with its exit code, arguments and input', async () => {
    const store = await stores.make();
    const script = 'cat; echo "$TOMBSTONED_LEASE $TOMBSTONED_URL"; cat "$ROOT/.tombstoned/leases/"*; exit 7';
    const run = ['with-lease', '--prefix', 'a/', '--', 'bash', '--norc', '-c', script];
    const answer = await ctlWith(
      { input: 'input\n', env: { ROOT: store.root } },
      '--config',
      store.configFile,
      ...run,
    );
    expect(answer.code, answer.stderr).to.equal(7);
    const [input, exported, text] = answer.lines;
    const lease = JSON.parse(text ?? '') as Record<string, unknown>;
    expect(input).to.equal('input');
    expect(exported).to.equal(`${String(lease['id'])} ${store.url}`);
    expect(lease).to.deep.include({ prefixes: ['a/'], blocks: 'sweep', ttlSeconds: 3600 });
    expect(answer.stderr).to.equal('');
    expect(leases(store)).to.deep.equal([]);
  });

  it("takes a command's options, and --json, for the command's own", async () => {
    const store = await stores.make();
    const answer = await ctl(store, 'with-lease', '--', 'echo', '--json', '--prefix', 'x', '--', '-n');
    expect(answer).to.include({ code: 0, stdout: '--json --prefix x -- -n\n' });
  });

  it('exits with 127 where there is no such command, with 126 where it can not be run', async () => {
    const store = await stores.make();
    const plain = path.join(store.directory, 'plain');
    writeFileSync(plain, 'no program');
    const [missing, plainFile, directory, nothing] = [
      await ctl(store, 'with-lease', '--', 'there-is-no-such-command'),
      await ctl(store, 'with-lease', '--', plain),
      await ctl(store, 'with-lease', '--', store.directory),
      await ctl(store, 'with-lease'),
    ];
    expect([missing.code, plainFile.code, directory.code, nothing.code]).to.deep.equal([127, 126, 126, 2]);
    expect(missing.stderr).to.include('there-is-no-such-command');
    for (const answer of [missing, plainFile, directory, nothing])
      expect(answer.errorLines).to.have.length(1);
    expect(leases(store)).to.deep.equal([]);
  });

  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT', 'SIGUSR1', 'SIGUSR2'] as const) {
    it(`passes ${signal} on, and exits as the command does`, async () => {
      const store = await stores.make();
      const ready = path.join(store.directory, 'ready');
      const script = `trap 'exit 42' ${signal.slice(3)}; touch ${ready}; while :; do sleep 0.05; done`;
      const { child, ended } = started(store, script);
      await made(ready);
      child.kill(signal);
      expect(await ended).to.include({ code: 42, stderr: '' });
      expect(leases(store)).to.deep.equal([]);
    });
  }

  it('exits with 128 and the number when a signal ends the command', async () => {
    const store = await stores.make();
    expect(await underLease(store, 'kill -KILL $$')).to.include({ code: 137 });
    const ready = path.join(store.directory, 'ready');
    const { child, ended } = started(store, `touch ${ready}; exec sleep 30`);
    await made(ready);
    child.kill('SIGTERM');
    expect(await ended).to.include({ code: 143 });
    expect(leases(store)).to.deep.equal([]);
  });

  it('keeps sweeps and purges away below each of its prefixes', async () => {
    const store = await stores.make({ policies: [OLD] });
    for (const key of ['a/1', 'b/1', 'c/1']) store.write(key, key, DAY);
    const config = `--config ${store.configFile}`;
    const script = `$CTL ${config} sweep && $CTL ${config} purge && ls -R "$ROOT"/[abc]`;
    const { code, stdout, stderr } = await underLease(store, script, '--prefix', 'a/', '--prefix', 'b/');
    expect(code, stderr).to.equal(0);
    expect(Object.keys(store.live())).to.deep.equal(['a/1', 'b/1']);
    expect(stdout).not.to.include('c:\n1');
    expect(store.pending()).to.deep.equal([]);
    expect((await ctl(store, 'sweep')).code).to.equal(0);
    expect(store.live()).to.deep.equal({});
  }).timeout(60_000);

  it('keeps only purges away with --allow-sweeps', async () => {
    const store = await stores.make({ policies: [OLD] });
    store.write('a/1', 'content', DAY);
    const config = `--config ${store.configFile}`;
    const script = `$CTL ${config} sweep && $CTL ${config} purge && $CTL cat a/1`;
    const { code, stdout, stderr } = await underLease(store, script, '--allow-sweeps');
    expect(code, stderr).to.equal(0);
    expect(stdout).to.match(/content$/);
    expect(store.live()).to.deep.equal({});
    expect(store.pending()).to.have.length(1);
  });

  it('waits for a batch under way, and does not run the command when that is not over in time', async () => {
    const store = await stores.make();
    const fence = putFence(store, { prefixes: ['a/'] });
    const refused = await underLease(store, 'echo run', '--fence-timeout', '0s');
    expect(refused).to.include({ code: 5, stdout: '' });
    expect(refused.stderr).to.include('waiting for').and.include('is not over');
    expect(await underLease(store, 'echo run', '--fence-timeout', '0s', '--prefix', 'b/')).to.include({
      code: 0,
      stdout: 'run\n',
    });
    const { child, ended } = started(store, 'echo run');
    await once(child.stderr ?? child, 'data');
    rmSync(path.join(store.root, '.tombstoned/fences', `${fence}.json`));
    expect(await ended).to.include({ code: 0, stdout: 'run\n' });
    expect(leases(store)).to.deep.equal([]);
  });

  it('ends at a signal while it waits, without running the command', async () => {
    const store = await stores.make();
    putFence(store, { prefixes: ['a/'] });
    for (const [signal, code] of [
      ['SIGINT', 130],
      ['SIGTERM', 143],
      ['SIGHUP', 129],
    ] as const) {
      const { child, ended } = started(store, 'echo run');
      await once(child.stderr ?? child, 'data');
      child.kill(signal);
      expect(await ended).to.include({ code, stdout: '' });
      expect(leases(store)).to.deep.equal([]);
    }
  });

  describe('whose lease is lost', () => {
    const BREAK = 'echo {} > "$ROOT/.tombstoned/leases/$TOMBSTONED_LEASE.broken"';

    it('ends the command by SIGTERM, and exits with 5', async () => {
      const store = await stores.make();
      const script = `trap 'echo told; exit 0' TERM; ${BREAK}; while :; do sleep 0.05; done`;
      const { code, stdout, stderr } = await underLease(store, script, '--ttl', '3s');
      expect(code, stderr).to.equal(5);
      expect(stdout).to.equal('told\n');
      expect(stderr).to.match(/lease l-\S+ is lost: somebody took it as dead/);
      expect(leases(store)).to.deep.equal([]);
    });

    it('kills the command ten seconds later', async () => {
      const store = await stores.make();
      const script = `trap '' TERM; ${BREAK}; while :; do sleep 0.05; done`;
      const began = Date.now();
      const { code } = await underLease(store, script, '--ttl', '3s');
      expect(code).to.equal(5);
      expect(Date.now() - began).to.be.within(10_000, 30_000);
    });

    it('exits with 5 also when that is seen only after the command has ended well', async () => {
      const store = await stores.make();
      for (const lose of [BREAK, 'rm "$ROOT/.tombstoned/leases/$TOMBSTONED_LEASE.json"']) {
        const { code, stderr } = await underLease(store, `${lose}; exit 0`);
        expect(code, stderr).to.equal(5);
        expect(stderr).to.include('is lost');
      }
    });

    it('lets keys, cat and fetch inside it say so, and not that something is missing', async () => {
      const store = await stores.make();
      store.write('a/1', 'one');
      const to = path.join(store.directory, 'restored');
      for (const command of ['keys', 'cat a/2', `fetch a/ --to ${to}`]) {
        const { stdout, stderr } = await underLease(store, `${BREAK}; $CTL ${command}; echo $?`);
        expect(stdout, stderr).to.equal('5\n');
        expect(stderr).to.match(/lease l-\S+ .*lost/);
      }
    });
  });

  it('gives keys, cat and fetch inside it its lease', async () => {
    const store = await stores.make();
    store.write('a/1', 'one');
    const to = path.join(store.directory, 'restored');
    // A lease of their own would have to wait for this.
    const script = `mkdir -p "$ROOT/.tombstoned/fences"; touch "$ROOT/.tombstoned/fences/later"
      $CTL keys --fence-timeout 0s && $CTL cat a/1 && echo && $CTL fetch a/ --to ${to} --fence-timeout 0s; code=$?
      rm "$ROOT/.tombstoned/fences/later"
      ls "$ROOT/.tombstoned/leases" | wc -l; exit $code`;
    const { code, stdout, stderr } = await underLease(store, script);
    expect(code, stderr).to.equal(0);
    expect(stdout).to.equal(`a/1\none\n1 object, 3 B, in ${to}\n1\n`);
    expect(readFileSync(path.join(to, 'a/1'), 'utf8')).to.equal('one');
  });

  it('renews its lease while the command runs', async () => {
    const store = await stores.make();
    const script = 'sleep 4; cat "$ROOT/.tombstoned/leases/$TOMBSTONED_LEASE.json"';
    const { code, stdout } = await underLease(store, script, '--ttl', '3s');
    expect(code).to.equal(0);
    expect(Number((JSON.parse(stdout) as Record<string, unknown>)['renewal'])).to.be.within(2, 6);
  });

  it('fails where there is no store, and where no lease can be written', async () => {
    const store = await stores.make();
    mkdirSync(path.join(store.directory, 'empty'));
    const url = `file://${store.directory}/empty`;
    const answer = await ctlWith({}, '--url', url, 'with-lease', '--', 'echo', 'run');
    expect(answer).to.include({ code: 1, stdout: '' });
    expect(answer.stderr).to.include('no store');
    rmSync(path.join(store.root, '.tombstoned/leases'), { recursive: true, force: true });
    writeFileSync(path.join(store.root, '.tombstoned/leases'), '');
    const blocked = await underLease(store, 'echo run');
    expect(blocked).to.include({ code: 1, stdout: '' });
  });
});

interface Ended {
  readonly code: number | null;
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
  const [code] = (await once(child, 'close')) as [number | null];
  return { code, stdout, stderr };
}
