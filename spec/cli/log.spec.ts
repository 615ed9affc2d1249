import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, constants, openSync, readSync, renameSync } from 'node:fs';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import Database from 'better-sqlite3';
import { expect } from 'chai';
import { Catalog } from '../../lib/catalog/catalog.ts';
import { errnoOf } from '../../lib/domain/errors.ts';
import { builtProgram } from '../support/built-cli.ts';
import { TempStore } from '../support/temp-store.ts';
import { beforeAllBuild, ctl } from './ctl.ts';

const MEMBERS =
  'type n at what store run by uid via tombstone key count bytes cause detail rows prev hash'.split(' ');
const NASTY = 'a/\u001B[2J\u202Eb';

describe('tombstonectl log', () => {
  beforeAllBuild();
  let store: TempStore;

  /** A store in which something was tombstoned, restored and held: four entries. */
  before(async function () {
    this.timeout(60_000);
    store = await TempStore.make({ safetyWindow: '7d', limits: { maxFraction: null } });
    for (const key of ['a/x', NASTY]) store.write(key, key);
    await ctl(store, 'tombstone', 'a/x', NASTY, '--reason', 'too\nold');
    await ctl(store, 'restore', 'a/x');
    await ctl(store, 'hold', 'a/x', '--reason', 'audit');
  });
  after(() => {
    store.remove();
  });

  /** Adds entries as another process would. */
  function add(count: number, about: { detail?: string; key?: string } = {}): void {
    const catalog = Catalog.open(store.catalogFile);
    const row = catalog.storeByName('main');
    const event = { store: row?.n ?? null, run: null, what: 'held' as const, now: Date.now() };
    const { detail = 'more', ...rest } = about;
    catalog.events.addAll(
      Array.from({ length: count }, (_, i) => ({ ...event, ...rest, detail: `${detail} ${i}` })),
    );
    catalog.close();
  }

  /** What the log shows, as one member of each entry. */
  async function told(member: string, ...args: string[]): Promise<unknown[]> {
    const { objects, code } = await ctl(store, '--json', 'log', ...args);
    expect(code).to.equal(0);
    return objects.map((object) => object[member]);
  }

  it('says who did what, when, why and how it ended, oldest first, and nothing that steers a terminal', async () => {
    const { code, objects, stderr } = await ctl(store, '--json', 'log');
    expect({ code, stderr }).to.deep.equal({ code: 0, stderr: '' });
    for (const object of objects) expect(Object.keys(object)).to.deep.equal(MEMBERS);
    expect(objects.map(({ what }) => what)).to.deep.equal(['store-added', 'moved', 'restored', 'held']);
    const [, moved, restored, held] = objects;
    expect(moved).to.include({ type: 'event', n: 2, store: 'main', count: 2, cause: 'by hand: too\nold' });
    expect(moved).to.include({ uid: process.getuid?.(), via: 'tombstonectl tombstone' });
    expect(moved?.['by']).to.match(/^.+@.+$/);
    expect(restored).to.include({ key: 'a/x', via: 'tombstonectl restore', prev: moved?.['hash'] });
    expect(held).to.include({ key: 'a/x', via: 'tombstonectl hold' });
    expect(held?.['detail']).to.match(/^hold h-\S+ on a\/x: audit$/);
    add(1, { key: NASTY });
    const { lines, stdout } = await ctl(store, 'log', '--limit', '0');
    expect(lines).to.have.length(5);
    expect(lines[1]).to.match(
      /^ +2 {2}\S+Z {2}main {2}moved +2 objects, \d+ B, "by hand: too\\nold", by \S+@/,
    );
    expect(stdout).to.include('\\u001b[2J\\u202eb').and.not.include('\u001B').and.not.include('\u202E');
  });

  it('of a key or an id tells what was done to it, and to the batches it was in', async () => {
    expect(await told('what', '--key', 'a/x')).to.deep.equal(['moved', 'restored', 'held']);
    expect((await told('what', NASTY))[0]).to.equal('moved');
    const one = (await ctl(store, '--json', 'ls')).objects.find(({ key }) => key === 'a/x');
    expect(await told('what', String(one?.['id']))).to.deep.equal(['moved', 'restored']);
  });

  it('--check ends with 0 when it is unbroken, and else with 7 and the first broken entry', async () => {
    const good = await ctl(store, '--json', 'log', '--check');
    expect(good).to.include({ code: 0, stderr: '' });
    const [object] = good.objects;
    expect(object).to.deep.include({ type: 'log-check', removed: 0, broken: null });
    const seen = `${String(object?.['head'])}:${String(object?.['hash'])}`;
    const { stdout } = await ctl(store, 'log', '--check', '--seen', seen);
    expect(stdout).to.match(/^unbroken: \d+ entries are as written, /);
    expect(stdout).to.include(`the newest is ${seen}\n`);
    const db = new Database(store.catalogFile);
    db.exec(`DROP TRIGGER events_append_only; UPDATE events SET by = by || 'x' WHERE n = 3`);
    const bad = await ctl(store, '--json', 'log', '--check');
    db.exec(`UPDATE events SET by = substr(by, 1, length(by) - 1) WHERE n = 3`);
    db.close();
    expect(bad.code).to.equal(7);
    expect(bad.error).to.include({ code: 'unwell', key: '3' });
    expect(bad.error?.['message']).to.match(/^log entry 3: it was changed: /);
    expect(bad.objects[0]?.['broken']).to.include({ n: 3 });
  });

  it('shows the newest so many, from and up to a time, of a store', async () => {
    add(700);
    const last = Number((await told('n', '--limit', '1'))[0]);
    expect(await told('n', '--limit', '0')).to.have.length(last);
    const three = ['--limit', '3', '--since', '1h', '--store', 'main'];
    expect(await told('n', ...three)).to.deep.equal([last - 2, last - 1, last]);
    expect((await ctl(store, 'log', '--limit', '2')).stderr).to.include('older ones: add --limit 0');
    const none = await ctl(store, 'log', '--until', '1h');
    expect(none).to.include({ code: 0, stdout: '' });
    expect(none.stderr).to.include('no entries');
  });

  it('refuses what does not go together, with 2', async () => {
    const lines = [
      ['--check', '--follow'],
      ['--check', '--seen', '1'],
      ['--follow', '--until', 'now'],
      ['--key'],
    ];
    for (const args of lines) expect((await ctl(store, 'log', ...args)).code, args.join(' ')).to.equal(2);
  });

  describe('--follow', () => {
    const running: ChildProcess[] = [];
    afterEach(() => {
      for (const child of running.splice(0)) child.kill('SIGKILL');
    });

    function follow(args: string[], stdout: 'pipe' | number = 'pipe'): ChildProcess {
      const line = [builtProgram('cli'), '--config', store.configFile, 'log', '--follow', ...args];
      const child = spawn(process.execPath, line, { stdio: ['ignore', stdout, 'pipe'] });
      running.push(child);
      return child;
    }

    function linesOf(child: ChildProcess): () => Promise<string> {
      if (child.stdout === null) throw new Error('no pipe');
      const lines = createInterface(child.stdout)[Symbol.asyncIterator]();
      return async () => String((await lines.next()).value);
    }

    async function codeOf(child: ChildProcess): Promise<unknown> {
      const [code] = (await once(child, 'exit')) as unknown[];
      return code;
    }

    function hasRead(fd: number): boolean {
      try {
        return readSync(fd, Buffer.alloc(4096)) > 0;
      } catch (error) {
        if (errnoOf(error) !== 'EAGAIN') throw error;
        return false;
      }
    }

    for (const [signal, code] of [
      ['SIGINT', 130],
      ['SIGTERM', 143],
    ] as const) {
      it(`goes on with what others add, until ${signal}, and holds up nobody`, async () => {
        const child = follow(['--limit', '1']);
        const next = linesOf(child);
        expect(await next()).to.include(' held ');
        add(2, { detail: signal });
        expect(await next()).to.include(`${signal} 0`);
        expect(await next()).to.include(`${signal} 1`);
        const db = new Database(store.catalogFile);
        const [checkpoint] = db.pragma('wal_checkpoint(TRUNCATE)') as { busy: number }[];
        db.close();
        expect(checkpoint?.busy, 'nobody reads').to.equal(0);
        const ended = codeOf(child);
        child.kill(signal);
        expect(await ended).to.equal(code);
      });
    }

    it('is ended by a signal while nobody empties its pipe', async () => {
      add(3000, { detail: 'x'.repeat(100) });
      const fifo = path.join(store.directory, 'fifo');
      execFileSync('mkfifo', [fifo]);
      const reader = openSync(fifo, constants.O_RDONLY | constants.O_NONBLOCK);
      const writer = openSync(fifo, constants.O_WRONLY);
      const child = follow(['--limit', '0'], writer);
      while (!hasRead(reader)) await delay(20);
      const ended = codeOf(child);
      child.kill('SIGTERM');
      expect(await ended).to.equal(143);
      for (const fd of [reader, writer]) closeSync(fd);
    });

    it('ends in peace when its reader has gone', async () => {
      const child = follow(['--limit', '1']);
      await linesOf(child)();
      const ended = codeOf(child);
      child.stdout?.destroy();
      add(1);
      expect(await ended).to.equal(0);
    });

    it('of a key tells what happens to that one, and says so when the catalog is taken away', async () => {
      const child = follow(['--key', 'a/x']);
      const next = linesOf(child);
      for (const what of ['moved', 'restored', 'held']) expect(await next()).to.include(` ${what} `);
      add(1);
      add(1, { key: 'a/x', detail: 'once more' });
      expect(await next()).to.include('a/x, once more 0');
      let stderr = '';
      child.stderr?.setEncoding('utf8').on('data', (text: string) => {
        stderr += text;
      });
      const ended = codeOf(child);
      renameSync(store.catalogFile, `${store.catalogFile}.away`);
      expect(await ended).to.equal(1);
      renameSync(`${store.catalogFile}.away`, store.catalogFile);
      expect(stderr).to.match(/^tombstonectl: the catalog \S+ was taken away or replaced \(/m);
    });
  });
});
