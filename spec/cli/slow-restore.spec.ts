import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import { expect } from 'chai';
import { builtProgram, tombstonectl } from '../support/built-cli.ts';
import { filesBelow } from '../support/phases.ts';
import { OLD, TempStore } from '../support/temp-store.ts';

const DAY = 86_400_000;
const FILES = 3000;

/** Reads a store as a restore tool does that takes its time: by the library, into a directory. */
const RESTORE = path.join(import.meta.dirname, 'slow-restore.child.ts');

/**
 * The case this program began with: a restore lists thousands of metadata files
 * and reads them slowly, while what has expired is moved away and removed at once.
 */
describe('a slow restore, while sweeps and purges without a safety window run all the time', () => {
  let store: TempStore;
  let to: string;
  let all: Record<string, string>;
  let cleaning: Cleaning;
  let frozen: ChildProcess | undefined;

  before(function () {
    this.timeout(120_000);
    builtProgram('cli');
  });
  beforeEach(async function () {
    this.timeout(60_000);
    this.currentTest?.timeout(180_000);
    store = await TempStore.make({ policies: [OLD], safetyWindow: '0s', exemptAfterRestore: '0s' });
    to = path.join(store.directory, 'restored');
    all = {};
  });
  afterEach(async function () {
    this.timeout(60_000);
    frozen?.kill('SIGKILL');
    await cleaning.end();
    store.remove();
  });

  /** Writes what is restored; all of it has expired. */
  function write(count = FILES): void {
    for (let i = 0; i < count; i++) {
      const key = `metadata/epoch_${i % 20}/transaction_${i}.meta`;
      all[key] = `content of ${key}\n`.repeat(1 + (i % 40));
      store.write(key, all[key], DAY);
    }
  }

  function restored(directory = to): Record<string, string> {
    const names = filesBelow(directory).filter((name) => !name.startsWith('.tombstoned/'));
    return Object.fromEntries(names.map((name) => [name, readFileSync(path.join(directory, name), 'utf8')]));
  }

  /** Whether no file is left in a directory of the store, whatever moves there meanwhile. */
  function isEmpty(directory: string): boolean {
    const place = path.join(store.root, directory);
    const { status, stdout } = spawnSync('find', [place, '-type', 'f'], { encoding: 'utf8' });
    return !existsSync(place) || (status === 0 && stdout === '');
  }

  /** Runs the slow restore tool; `how` is what it opens. */
  async function restore(
    how: 'session' | 'reader',
  ): Promise<{ code: unknown; stdout: string; stderr: string }> {
    mkdirSync(to);
    const library = pathToFileURL(path.join(builtProgram('cli'), '../../index.js')).href;
    const child = spawn(process.execPath, [
      '--import',
      'tsx',
      RESTORE,
      library,
      how,
      store.url,
      'metadata/',
      to,
    ]);
    let stdout = '';
    let stderr = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout += text;
      if (stdout.includes('listed')) cleaning.begin();
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr += text;
    });
    const [code]: unknown[] = await once(child, 'close');
    return { code, stdout, stderr };
  }

  it('has every byte by a session of the library', async () => {
    write();
    cleaning = new Cleaning(store);
    const { code, stdout, stderr } = await restore('session');
    expect(code, stderr).to.equal(0);
    expect(restored()).to.deep.equal(all);
    expect(Number(/(\d+) from pending/.exec(stdout)?.[1])).to.be.greaterThan(FILES / 2);
    // With the session gone, what it kept goes too.
    await cleaning.until(() => isEmpty('metadata') && isEmpty('pending_deletion'));
  });

  it('has every byte by fetch', async () => {
    write();
    cleaning = new Cleaning(store);
    const where = ['--url', store.url, '--json', 'fetch', 'metadata/'];
    const child = spawn(process.execPath, [builtProgram('cli'), ...where, '--to', to, '--concurrency', '1']);
    frozen = child;
    let stdout = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout += text;
    });
    const closed = once(child, 'close');
    const tmp = path.join(to, '.tombstoned/fetch/tmp');
    await cleaning.until(() => existsSync(tmp) && readdirSync(tmp).length > 0);
    child.kill('SIGSTOP'); // slower than all that is swept
    cleaning.begin();
    await cleaning.until(() => isEmpty('metadata'));
    child.kill('SIGCONT');
    const [code]: unknown[] = await closed;
    expect(code).to.equal(0);
    const result = JSON.parse(stdout) as Record<string, unknown>;
    expect(result).to.deep.include({ objects: FILES, missing: [] });
    expect(result['fromPending']).to.be.greaterThan(0);
    expect(restored()).to.deep.equal(all);
    await cleaning.until(() => isEmpty('metadata') && isEmpty('pending_deletion'));
  });

  it('has every byte by with-lease and cp -r', async () => {
    cleaning = new Cleaning(store);
    cleaning.begin();
    const [begun, written] = [path.join(store.directory, 'begun'), path.join(store.directory, 'written')];
    const script = 'touch "$1"; until [ -e "$2" ]; do sleep 0.05; done; cp -r "$3" "$4"';
    const command = ['bash', '--norc', '-c', script, 'bash', begun, written, store.root, to];
    const where = ['--url', store.url, 'with-lease', '--prefix', 'metadata/'];
    const ended = tombstonectl([...where, '--', ...command]);
    await cleaning.until(() => existsSync(begun));
    write();
    writeFileSync(written, '');
    const { code, stderr } = await ended;
    expect(code, stderr).to.equal(0);
    expect(restored(path.join(to, 'metadata'))).to.deep.equal(
      Object.fromEntries(Object.entries(all).map(([key, text]) => [key.replace('metadata/', ''), text])),
    );
    await cleaning.until(() => isEmpty('metadata') && isEmpty('pending_deletion'));
  });

  it('ends in an error without either, and names the key that is missing', async () => {
    write();
    cleaning = new Cleaning(store);
    const { code, stderr } = await restore('reader');
    expect(code).to.equal(1);
    const [, key = ''] = /(metadata\/\S+) is neither live nor pending/.exec(stderr) ?? [];
    expect(Object.keys(all)).to.include(key);
    expect(Object.keys(restored()).length).to.be.lessThan(FILES);
  });

  it('ends in an error with keys and cat, too', async () => {
    write(60);
    cleaning = new Cleaning(store);
    const listed = path.join(store.directory, 'listed');
    const script = `"$@" keys --prefix metadata/ > ${listed}.tmp || exit 99; mv ${listed}.tmp ${listed}
      while read -r key; do "$@" cat "$key" > /dev/null || exit; done < ${listed}`;
    const program = [process.execPath, builtProgram('cli'), '--url', store.url];
    const child = spawn('bash', ['--norc', '-c', script, 'bash', ...program]);
    let stderr = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr += text;
    });
    const closed = once(child, 'close');
    await cleaning.until(() => existsSync(listed));
    expect(readFileSync(listed, 'utf8').trimEnd().split('\n')).to.have.length(60);
    cleaning.begin();
    const [code]: unknown[] = await closed;
    expect(code, stderr).to.equal(3);
    expect(stderr).to.match(/^tombstonectl: metadata\/\S+ is neither live nor pending/m);
  });
});

/** Sweeps and purges, as processes of their own, back to back. */
class Cleaning {
  readonly #store: TempStore;
  readonly #children = new Set<ChildProcess>();
  readonly #failures: string[] = [];
  #loops: Promise<void>[] = [];
  #isOver = false;

  constructor(store: TempStore) {
    this.#store = store;
  }

  begin(): void {
    if (this.#loops.length === 0) this.#loops = [this.#again('sweep'), this.#again('purge')];
  }

  async #again(command: string): Promise<void> {
    while (!this.#isOver) {
      const args = [builtProgram('cli'), '--config', this.#store.configFile, command];
      const child = spawn(process.execPath, args, { stdio: ['ignore', 'ignore', 'pipe'] });
      this.#children.add(child);
      let stderr = '';
      child.stderr.setEncoding('utf8').on('data', (text: string) => {
        stderr += text;
      });
      const [code]: unknown[] = await once(child, 'close');
      this.#children.delete(child);
      if (code !== 0 && !this.#isOver) this.#failures.push(`${command}: ${String(code)} ${stderr}`);
    }
  }

  /** Waits for something that must come. */
  async until(isSo: () => boolean): Promise<void> {
    while (!isSo()) await delay(50);
  }

  /** Throws when one of them went wrong. */
  async end(): Promise<void> {
    this.#isOver = true;
    for (const child of this.#children) child.kill('SIGTERM');
    await Promise.all(this.#loops);
    expect(this.#failures).to.deep.equal([]);
  }
}
