import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { loadConfig } from '../../lib/config/load.ts';
import { runDaemon } from '../../lib/daemon/daemon.ts';
import { Log } from '../../lib/daemon/log.ts';
import { Reloads } from '../../lib/daemon/reloads.ts';
import { systemClock } from '../../lib/domain/clock.ts';
import { systemRandom } from '../../lib/domain/ids.ts';
import { ACTOR, HOUR } from '../support/place.ts';
import { OLD, type StoreSettings, TempStore } from '../support/temp-store.ts';
import { Sink } from './sink.ts';

type Line = Record<string, unknown>;

/** Nothing here waits longer, except for what does not come. ms. */
const PATIENCE = 20_000;
const RARELY = { sweepEvery: '10d', purgeEvery: '10d', safetyWindow: '1d' };

describe('the daemon whose config changes', function () {
  this.timeout(60_000);

  let store: TempStore;
  let lines: Line[];
  let reloads: Reloads;
  let stop: AbortController;
  let running: Promise<void>;
  let onLine: () => void;

  beforeEach(async () => {
    store = new TempStore();
    store.configure({ main: { ...RARELY, policies: [OLD] } });
    await store.init();
  });
  afterEach(async () => {
    stop.abort();
    await running;
    store.remove();
  });

  async function start(file = store.configFile): Promise<void> {
    lines = [];
    onLine = () => undefined;
    stop = new AbortController();
    reloads = new Reloads();
    const config = loadConfig(file);
    const out = new Sink();
    out.onText = (text) => {
      lines.push(JSON.parse(text) as Line);
      onLine();
    };
    const log = new Log(config.log, { out, noColor: true, now: () => Date.now() });
    const of = {
      config,
      clock: systemClock,
      random: systemRandom,
      actor: ACTOR,
      log,
      version: '1.2.3',
      reloads,
    };
    running = runDaemon({ ...of, signal: stop.signal });
    await until(() => ofType('purge').length === config.stores.length);
  }

  async function until(holds: () => boolean): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      const late = setTimeout(() => reject(new Error(`it was not said: ${JSON.stringify(lines)}`)), PATIENCE);
      onLine = () => {
        if (!holds()) return;
        clearTimeout(late);
        resolve();
      };
      onLine();
    });
  }

  const ofType = (type: string): Line[] => lines.filter((line) => line['type'] === type);
  const saying = (text: RegExp): Line[] => lines.filter(({ message }) => text.test(String(message)));
  const inForce = (): number => saying(/^the changed config is in force$/).length;

  /** Gives the text of a config without touching the file. */
  function textOf(settings: StoreSettings, members: StoreSettings = {}): string {
    const before = readFileSync(store.configFile);
    const keep = path.join(store.directory, 'keep.yaml');
    renameSync(store.configFile, keep);
    store.configure({ main: { ...RARELY, policies: [OLD], ...settings } }, members);
    const text = readFileSync(store.configFile, 'utf8');
    rmSync(store.configFile);
    renameSync(keep, store.configFile);
    expect(readFileSync(store.configFile)).to.deep.equal(before);
    return text;
  }

  function replace(text: string): void {
    const next = path.join(store.directory, 'next.yaml');
    writeFileSync(next, text);
    renameSync(next, store.configFile);
  }

  it('uses a config that is written in place, and says what has changed', async () => {
    await start();
    const text = textOf({ safetyWindow: '2d', minimumAge: '5m' });
    writeFileSync(store.configFile, text);
    await until(() => inForce() === 1);
    expect(saying(/^the config has changed/)[0]?.['changes']).to.deep.equal([
      'stores.main.safetyWindow: 1d -> 2d',
      'stores.main.minimumAge: 0s -> 5m',
    ]);
    stop.abort();
    await running;
    expect(ofType('sweep'), 'no turn is due').to.have.length(1);
  });

  it('uses one that is replaced by a rename, again and again', async () => {
    await start();
    for (const [i, window] of ['2d', '3d', '4d'].entries()) {
      replace(textOf({ safetyWindow: window }));
      await until(() => inForce() === i + 1);
    }
    expect(saying(/^the config has changed/).map(({ changes }) => changes)).to.deep.equal([
      ['stores.main.safetyWindow: 1d -> 2d'],
      ['stores.main.safetyWindow: 2d -> 3d'],
      ['stores.main.safetyWindow: 3d -> 4d'],
    ]);
  });

  it('uses one whose directory is swapped by a symbolic link, as configuration managers do', async () => {
    const mounted = path.join(store.directory, 'mounted');
    const put = (version: string, text: string): void => {
      mkdirSync(path.join(mounted, version), { recursive: true });
      writeFileSync(path.join(mounted, version, 'tombstoned.yaml'), text);
      symlinkSync(version, path.join(mounted, '..data.new'));
      renameSync(path.join(mounted, '..data.new'), path.join(mounted, '..data'));
    };
    put('..v1', textOf({}));
    symlinkSync('..data/tombstoned.yaml', path.join(mounted, 'tombstoned.yaml'));
    await start(path.join(mounted, 'tombstoned.yaml'));
    put('..v2', textOf({ safetyWindow: '2d' }));
    await until(() => inForce() === 1);
    put('..v3', textOf({ safetyWindow: '3d' }));
    await until(() => inForce() === 2);
  });

  it('refuses a bad one with its error, and goes on with the one before', async () => {
    await start();
    replace('stores: [');
    await until(() => saying(/not reloaded/).length === 1);
    expect(saying(/not reloaded/)[0]).to.include({ level: 'error', code: 'config' });
    expect(saying(/not reloaded/)[0]?.['message']).to.match(
      /^the config is not reloaded, and the one before stays in force: .*tombstoned\.yaml: line 1/,
    );
    reloads.ask('SIGHUP');
    await until(() => saying(/not reloaded/).length === 2);
    replace(textOf({ safetyWindow: '2d' }));
    await until(() => inForce() === 1);
    expect(saying(/^the config has changed/)[0]?.['changes']).to.deep.equal([
      'stores.main.safetyWindow: 1d -> 2d',
    ]);
  });

  it('refuses another catalog, and all else in that config, until it is restarted', async () => {
    await start();
    replace(textOf({ safetyWindow: '2d' }, { catalog: path.join(store.directory, 'other.db') }));
    await until(() => saying(/not reloaded/).length === 1);
    expect(saying(/not reloaded/)[0]).to.include({ hint: 'restart the daemon' });
    expect(saying(/not reloaded/)[0]?.['message']).to.match(/catalog: ".*" can't become ".*other\.db"/);
    expect(existsSync(path.join(store.directory, 'other.db'))).to.equal(false);
    expect(inForce()).to.equal(0);
  });

  it('serves stores that are added, and leaves those that are removed', async () => {
    await start();
    store.configure({ main: { ...RARELY, policies: [OLD] }, other: { ...RARELY, policies: [OLD] } });
    await store.init();
    store.write('a', 'a', 2 * HOUR, store.rootOf('other'));
    reloads.ask('SIGHUP');
    await until(() => ofType('sweep').some((line) => line['store'] === 'other'));
    expect(store.pending(store.rootOf('other'))).to.have.length(1);
    expect(ofType('sweep').filter((line) => line['store'] === 'main')).to.have.length(1);
    store.configure({ other: { ...RARELY, policies: [OLD] } });
    await until(() => inForce() === 2);
    expect(saying(/is in the config no more/)).to.have.length(1);
    expect(saying(/^the config has changed/).map(({ changes }) => changes)).to.deep.equal([
      ['stores.other: added'],
      ['stores.main: removed'],
    ]);
  });

  it('says nothing secret', async () => {
    await start();
    replace(textOf({}, { notify: 'curl https://token@example.org' }));
    await until(() => inForce() === 1);
    expect(saying(/^the config has changed/)[0]?.['changes']).to.deep.equal(['notify: changed']);
    expect(JSON.stringify(lines)).to.not.contain('token');
  });

  it('logs as the changed config says', async () => {
    const file = path.join(store.directory, 'new.log');
    await start();
    replace(textOf({ safetyWindow: '2d' }, { log: { file, level: 'debug' } }));
    const written = async (): Promise<void> => {
      for (
        let i = 0;
        i < 200 && !(existsSync(file) && readFileSync(file, 'utf8').includes('in force'));
        i++
      ) {
        await systemClock.sleep(50);
      }
    };
    await written();
    expect(readFileSync(file, 'utf8')).to.contain('the changed config is in force');
    expect(inForce(), 'where it logged before').to.equal(0);
  });

  it('tells others when a reload begins and ends, and answers a SIGHUP also when nothing has changed', async () => {
    await start();
    const told: unknown[] = [];
    reloads.on('begin', () => told.push('begin'));
    reloads.on('end', ({ config, isChanged }) => told.push([config.stores[0]?.safetyWindow, isChanged]));
    reloads.ask('SIGHUP');
    await until(() => saying(/^SIGHUP: .* is as it was$/).length === 1);
    replace(textOf({ safetyWindow: '2d' }));
    await until(() => inForce() === 1);
    replace('');
    await until(() => saying(/not reloaded/).length === 1);
    stop.abort();
    await running;
    const day = 24 * HOUR;
    expect(told).to.deep.equal(['begin', [day, false], 'begin', [2 * day, true], 'begin', [2 * day, false]]);
  });

  it('cuts a sweep after the batch that is under way, and goes on at once as the new config says', async () => {
    await start();
    const files = 2000;
    for (let i = 0; i < files; i++) store.write(`d${i % 10}/f${i}`, 'x', 2 * HOUR);
    // At this pace it goes on for seconds: what the next config protects is still live then.
    const paced = { sweepEvery: '1s', throttle: { requestsPerSecond: 500 } };
    store.configure({ main: { ...RARELY, ...paced, policies: [OLD] } });
    await until(() => inForce() === 1);
    for (let i = 0; i < 2000 && store.pending().length === 0; i++) await systemClock.sleep(10);
    store.configure({ main: { ...RARELY, policies: [OLD], protect: ['d9/**'] } });
    await until(() => inForce() === 2);
    const isProtected = (key: string): boolean => key.startsWith('d9/');
    const kept = Object.keys(store.live()).filter(isProtected);
    expect(kept).not.to.deep.equal([]);
    const cut = ofType('sweep').findIndex(({ interrupted }) => interrupted === true);
    expect(cut).to.be.greaterThan(0);
    await until(() => ofType('sweep').length > cut + 1);
    stop.abort();
    await running;
    const moved = ofType('sweep').reduce((sum, line) => sum + Number(line['moved']), 0);
    const live = Object.keys(store.live());
    expect(moved + live.length).to.equal(files);
    expect(live).to.have.members(kept);
    expect(ofType('sweep').slice(cut + 1)).to.have.lengthOf(1);
  });
});
