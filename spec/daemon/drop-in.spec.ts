import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { loadConfig } from '../../lib/config/load.ts';
import { runDaemon } from '../../lib/daemon/daemon.ts';
import { Log } from '../../lib/daemon/log.ts';
import { systemClock } from '../../lib/domain/clock.ts';
import { systemRandom } from '../../lib/domain/ids.ts';
import { ACTOR, HOUR } from '../support/place.ts';
import { TempStore } from '../support/temp-store.ts';
import { Sink } from './sink.ts';

type Line = Record<string, unknown>;

/** Nothing here waits longer, except for what does not come. ms. */
const PATIENCE = 20_000;

describe('the daemon and drop-in directories', function () {
  this.timeout(60_000);

  let store: TempStore;
  let inbox: string;
  let lines: Line[];
  let stop: AbortController;
  let running: Promise<void>;
  let onLine: () => void;

  beforeEach(async () => {
    store = new TempStore();
    inbox = path.join(store.directory, 'requests');
    mkdirSync(inbox);
    const policies = [{ name: 'requests', type: 'drop-in', directory: inbox, limits: { maxFraction: null } }];
    store.configure({ main: { policies, sweepEvery: '10d', purgeEvery: '10d', safetyWindow: '1d' } });
    await store.init();
  });
  afterEach(async () => {
    stop.abort();
    await running;
    store.remove();
  });

  function start(): void {
    lines = [];
    onLine = () => undefined;
    stop = new AbortController();
    const config = loadConfig(store.configFile);
    const out = new Sink();
    out.onText = (text) => {
      lines.push(JSON.parse(text) as Line);
      onLine();
    };
    const log = new Log(config.log, { out, noColor: true, now: () => Date.now() });
    const of = { config, clock: systemClock, random: systemRandom, actor: ACTOR, log, version: '1.2.3' };
    running = runDaemon({ ...of, signal: stop.signal });
  }

  /** Resolves at the first line from here on, or so far, for which it holds. */
  async function until(holds: (all: Line[]) => boolean): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      const late = setTimeout(() => reject(new Error(`it was not said: ${JSON.stringify(lines)}`)), PATIENCE);
      onLine = () => {
        if (!holds(lines)) return;
        clearTimeout(late);
        resolve();
      };
      onLine();
    });
  }

  const sweeps = (all: Line[]): Line[] => all.filter(({ type }) => type === 'sweep');
  const moved = (all: Line[]): number => sweeps(all).reduce((sum, line) => sum + Number(line['moved']), 0);
  const files = (): string[] => readdirSync(inbox).toSorted();

  function drop(name: string, content: string): void {
    const outside = path.join(store.directory, `${name}.writing`);
    writeFileSync(outside, content);
    renameSync(outside, path.join(inbox, `${name}.keys`));
  }

  it('serves a request that lies there when it starts, and each that comes, at once', async () => {
    for (const key of ['a', 'b', 'c']) store.write(key, key, HOUR);
    drop('first', 'a\n');
    start();
    await until((all) => moved(all) === 1);
    expect(files()).to.deep.equal(['first.done']);
    drop('second', 'b\n');
    await until((all) => moved(all) === 2);
    drop('third', 'c\n');
    await until((all) => moved(all) === 3);
    stop.abort();
    await running;
    expect(files()).to.deep.equal(['first.done', 'second.done', 'third.done']);
    expect(lines.filter(({ level }) => level === 'error')).to.deep.equal([]);
  });

  it('serves thousands of files that come at once', async () => {
    const count = 1000;
    for (let i = 0; i < count; i++) store.write(`d/${i}`, 'x', HOUR);
    start();
    await until((all) => sweeps(all).length === 1);
    for (let i = 0; i < count; i++) drop(`r${i}`, `d/${i}\n`);
    await until((all) => moved(all) === count);
    stop.abort();
    await running;
    expect(files()).to.have.length(count);
    expect(files().every((name) => name.endsWith('.done'))).to.equal(true);
    expect(store.live()).to.deep.equal({});
  });

  it('says that a directory is missing, and serves it once it is there and a sweep has looked', async () => {
    rmSync(inbox, { recursive: true });
    store.write('a', 'a', HOUR);
    start();
    await until((all) => sweeps(all).length === 1);
    expect(lines.find(({ level }) => level === 'error')?.['message']).to.match(
      /^policy requests: the drop-in directory \S+ can't be used: ENOENT/,
    );
    mkdirSync(inbox);
    drop('mine', 'a\n');
    stop.abort();
    await running;
    start();
    await until((all) => moved(all) === 1);
    expect(JSON.parse(readFileSync(path.join(inbox, 'mine.done'), 'utf8'))).to.include({ key: 'a' });
  });
});
