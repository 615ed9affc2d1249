import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { builtProgram } from '../support/built-cli.ts';
import { OLD, type TempStore } from '../support/temp-store.ts';
import { beforeAllBuild, ctl, ctlWith, tempStores } from './ctl.ts';

const DAY = 86_400_000;
const ESCAPE = '\u001B[';

describe('the output of tombstonectl', () => {
  beforeAllBuild();
  const stores = tempStores();

  async function made(count: number, settings = {}): Promise<TempStore> {
    const store = await stores.make({ policies: [OLD], safetyWindow: '7d', ...settings });
    for (let i = 0; i < count; i++) store.write(`logs/${String(i).padStart(5, '0')}`, '', DAY);
    return store;
  }

  /** Runs a shell script in which `ctl` is the program with the store's config. */
  function shell(store: TempStore, script: string, env: Record<string, string> = {}): string {
    const program = `${process.execPath} ${builtProgram('cli')} --config ${store.configFile}`;
    return execFileSync('bash', ['--norc', '-c', `ctl() { ${program} "$@"; }; ${script}`], {
      encoding: 'utf8',
      env: { PATH: process.env['PATH'], LC_ALL: 'C.UTF-8', TERM: 'xterm', ...env },
    });
  }

  /** Runs a command on a terminal of its own; what it wrote there. */
  function onTerminal(store: TempStore, command: string, env: Record<string, string> = {}): string {
    const program = `${process.execPath} ${builtProgram('cli')} --config ${store.configFile} ${command}`;
    return shell(store, `script -qec '${program}' /dev/null </dev/null`, env);
  }

  it('ends quietly when nobody reads on', async () => {
    const store = await made(3000);
    await ctl(store, 'sweep');
    for (const command of ['ls --limit 0', '--json ls --limit 0', 'keys --no-lease', 'ls --help', 'status']) {
      const text = shell(store, `ctl ${command} 2>&1 | head -1; echo "\${PIPESTATUS[0]}"`);
      expect(text.split('\n'), command).to.have.length(3);
      expect(text, command).to.match(/\n0\n$/);
    }
  });

  it('does its work to the end when nobody reads on', async () => {
    const store = await made(1500);
    const text = shell(store, `ctl --json sweep | true; echo "\${PIPESTATUS[0]}"`);
    expect(text).to.equal('0\n');
    expect(store.pending()).to.have.length(1500);
    const back = shell(store, `ctl --json restore --prefix logs/ | head -1; echo "\${PIPESTATUS[0]}"`);
    expect(back).to.match(/^\{"type":"restored".*\}\n0\n$/);
    expect(Object.keys(store.live())).to.have.length(1500);
  });

  it('is told to be incomplete when the disk is full: exit 1', async () => {
    const store = await made(3);
    await ctl(store, 'sweep');
    for (const command of ['ls', '--json ls', 'keys --no-lease', 'cat logs/00000']) {
      writeFileSync(path.join(store.root, 'logs/00000'), 'content');
      const text = shell(store, `ctl ${command} 2>&1 >/dev/full; echo $?`);
      expect(text, command)
        .to.match(/stdout can't be written: ENOSPC/)
        .and.match(/\n1\n$/);
      expect(text.split('\n'), command).to.have.length(3);
    }
  });

  it('works with no stdout and no stderr at all', async () => {
    const store = await made(1);
    expect(shell(store, 'ctl sweep >&- 2>&-; echo $?')).to.equal('0\n');
    expect(shell(store, 'ctl frobnicate >&- 2>&-; echo $?')).to.equal('2\n');
    expect(store.pending()).to.have.length(1);
  });

  it('has colours on a terminal only, and not with NO_COLOR or TERM=dumb', async () => {
    const store = await made(2);
    await ctl(store, 'sweep');
    expect(onTerminal(store, 'ls')).to.include(`${ESCAPE}1mID`).and.include(`${ESCAPE}33mpending`);
    for (const env of [{ NO_COLOR: '1' }, { TERM: 'dumb' }]) {
      const text = onTerminal(store, 'ls', env);
      expect(text).to.include('pending').and.not.include(ESCAPE);
    }
    expect((await ctl(store, 'ls')).stdout).not.to.include(ESCAPE);
    expect((await ctlWith({}, '--config', store.configFile, '--json', 'ls')).stdout).not.to.include(ESCAPE);
  });

  it('has a progress bar on a terminal only, which leaves nothing behind', async () => {
    const store = await made(2500);
    const text = onTerminal(store, 'sweep');
    expect(text).to.match(/main [█░]+ \d+ of 2500/);
    expect(text.trimEnd()).to.match(/main: moved 2500 objects, 0 B \(sweep s-\S+\)$/);
    rmSync(store.root, { recursive: true });
    const other = await made(1500);
    const plain = onTerminal(other, 'sweep', { TERM: 'dumb' });
    expect(plain).to.include('moved 1500 objects').and.not.include(' of 1500\r');
    const store3 = await made(1200);
    expect((await ctl(store3, 'sweep')).stderr).to.equal('');
  });

  it('warns of what may surprise in the config, but not with --json', async () => {
    const store = await made(0, { safetyWindow: '1m' });
    const text = await ctl(store, 'status');
    expect(text.stderr).to.match(
      /^tombstonectl: warning: \S+: stores\[0\]\.safetyWindow: .*under an hour.*\n$/,
    );
    expect((await ctl(store, '--json', 'status')).stderr).to.equal('');
  });

  it('tells by $TOMBSTONED_CONFIG which config it means', async () => {
    const store = await made(0);
    const answer = await ctlWith({ env: { TOMBSTONED_CONFIG: store.configFile } }, '--json', 'status');
    expect(answer.code).to.equal(0);
    const missing = await ctlWith({ env: { TOMBSTONED_CONFIG: '/nowhere' } }, '--json', 'status');
    expect(missing.error).to.include({ code: 'config', key: '/nowhere' });
  });

  for (const [signal, code] of [
    ['SIGTERM', 143],
    ['SIGINT', 130],
  ] as const) {
    it(`of a command that ${signal} stops is complete: exit ${code}`, async () => {
      const store = await made(2);
      const args = ['--config', store.configFile, '--json', 'tombstone', '--from-file', '-'];
      const child = spawn(process.execPath, [builtProgram('cli'), ...args]);
      let stdout = '';
      let stderr = '';
      child.stdout.setEncoding('utf8').on('data', (text: string) => {
        stdout += text;
      });
      child.stderr.setEncoding('utf8').on('data', (text: string) => {
        stderr += text;
      });
      // What is there already is told at once: so the command has begun, and waits for more.
      child.stdin.write('logs/00000\nmissing\n');
      await once(child.stdout, 'data');
      child.kill(signal);
      const [ended] = (await once(child, 'close')) as [number];
      expect(ended, stderr).to.equal(code);
      expect(stderr).to.include(`${signal}: stopping after this batch`);
      expect(stdout).to.match(/^\{"type":"tombstoned","key":"missing","id":null,"outcome":"gone",.*\}\n$/);
      expect(Object.keys(store.live())).to.have.length(2);
      // Nothing is left for a recovery.
      const [status] = (await ctl(store, '--json', 'status')).objects;
      expect(JSON.stringify(status)).to.include('"openRuns":[]');
    });
  }

  it('stops at once at a second signal', async () => {
    const waiting = `
      process.on('exit', (code) => process.stdout.write('exit ' + code));
      const { untilSignalled } = await import(${JSON.stringify(source('cli/signals.ts'))});
      const { Output } = await import(${JSON.stringify(source('cli/output.ts'))});
      const out = new Output({ isJson: true, isDebug: false, isUnicode: true, isDumb: true, noColor: true });
      await untilSignalled(out, async () => {
        process.stdout.write('ready');
        await new Promise((resolve) => setTimeout(resolve, 600000));
      });`;
    const child = spawn(process.execPath, ['--import=tsx', '--input-type=module', '-e', waiting]);
    let stderr = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr += text;
      child.kill('SIGTERM');
    });
    await once(child.stdout, 'data');
    child.kill('SIGINT');
    const [code] = (await once(child, 'close')) as [number];
    expect(code, stderr).to.equal(143);
  });
});

function source(name: string): string {
  return path.resolve(import.meta.dirname, '../../lib', name);
}
