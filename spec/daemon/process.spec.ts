import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { guardsOf, type OpenPlace, openCatalog, openPlace, policiesOf } from '../../lib/app/open.ts';
import { recover } from '../../lib/app/recover.ts';
import { realSurroundings } from '../../lib/app/surroundings.ts';
import type { Sweep } from '../../lib/catalog/sweeps.ts';
import type { Tombstone } from '../../lib/catalog/tombstones.ts';
import { loadConfig } from '../../lib/config/load.ts';
import { parseKey } from '../../lib/domain/key.ts';
import { restore } from '../../lib/restore/restore.ts';
import { tombstoneByHand } from '../../lib/sweep/by-hand.ts';
import { sweep } from '../../lib/sweep/sweep.ts';
import { builtProgram } from '../support/built-cli.ts';
import { HOUR } from '../support/place.ts';
import { OLD, TempStore } from '../support/temp-store.ts';
import { isPurge, isSweep, type Line, RunningDaemon, saysRuns } from './running-daemon.ts';

const DEBUG = { log: { level: 'debug' } };

describe('tombstoned', function () {
  this.timeout(120_000);

  let store: TempStore;
  let daemons: RunningDaemon[];

  before(() => {
    builtProgram('daemon');
  });
  beforeEach(() => {
    store = new TempStore();
    daemons = [];
  });
  afterEach(async () => {
    for (const daemon of daemons) await daemon.remove();
    store.remove();
  });

  function start(...args: string[]): RunningDaemon {
    const daemon = new RunningDaemon(args);
    daemons.push(daemon);
    return daemon;
  }
  const startOn = (file = store.configFile): RunningDaemon => start('--config', file);

  /** Does something on the store as another process would. */
  async function beside<T>(act: (place: OpenPlace) => Promise<T> | T): Promise<T> {
    const config = loadConfig(store.configFile);
    const [first] = config.stores;
    if (first === undefined) throw new Error('no store');
    const catalog = openCatalog(config);
    try {
      const place = await openPlace(
        catalog,
        first,
        realSurroundings(() => undefined),
      );
      try {
        return await act(place);
      } finally {
        place.store.close();
      }
    } finally {
      catalog.close();
    }
  }

  interface Seen {
    readonly tombstones: readonly Tombstone[];
    readonly sweeps: readonly Sweep[];
    readonly openRuns: number;
  }

  const see = async (): Promise<Seen> =>
    beside(({ catalog, row }) => ({
      tombstones: catalog.tombstones.page({ store: row.n, limit: 100_000 }),
      sweeps: catalog.sweeps.latest(row.n, 100),
      openRuns: catalog.runs.open(row.n).length,
    }));

  const count = (seen: Seen, state: string): number =>
    seen.tombstones.filter((tombstone) => tombstone.state === state).length;

  /** Nothing is half-done, and the store is as the catalog says. */
  async function expectConsistent(files: number): Promise<Seen> {
    const seen = await see();
    const ends = ['pending', 'purged', 'restored', 'abandoned'];
    expect(seen.tombstones.filter(({ state }) => !ends.includes(state))).to.deep.equal([]);
    expect(seen.openRuns).to.equal(0);
    expect(readdirSync(`${store.catalogFile}.runs`)).to.deep.equal([]);
    expect(seen.sweeps.map(({ state }) => state)).to.not.include.members(['planning']);
    expect(store.pending()).to.have.length(count(seen, 'pending') + count(seen, 'restored'));
    expect(Object.keys(store.live()).length + count(seen, 'pending') + count(seen, 'purged')).to.equal(files);
    return seen;
  }

  function fill(files: number): void {
    for (let i = 0; i < files; i++) store.write(`d${i % 50}/f${i}`, `content ${i}`, 2 * HOUR);
  }

  const moved = (line: Line): boolean => /^sweep: [1-9]\d* of \d+ done$/.test(line.message);
  const removed = (line: Line): boolean => /^purge: [1-9]\d* done$/.test(line.message);

  describe('with another on the same catalog', () => {
    beforeEach(async () => {
      store.configure({ main: { policies: [OLD] } });
      await store.init();
    });

    it('refuses, with the pid of the first', async () => {
      const first = startOn();
      await first.until(saysRuns);
      const second = await startOn().ended;
      expect(second).to.deep.include({ code: 1, stdout: '' });
      expect(second.stderr).to.match(/^tombstoned: another tombstoned \(pid \d+\) runs on the catalog .*\n$/);
      expect(second.stderr).to.contain(`(pid ${first.pid})`);
    });

    it('refuses also when its config names the catalog by another path', async () => {
      const link = path.join(store.directory, 'link.db');
      symlinkSync(store.catalogFile, link);
      const config = path.join(store.directory, 'other.yaml');
      writeFileSync(config, readFileSync(store.configFile, 'utf8').replace(store.catalogFile, link));
      const first = startOn();
      await first.until(saysRuns);
      const second = await startOn(config).ended;
      expect(second.code).to.equal(1);
      expect(second.stderr).to.contain(`another tombstoned (pid ${first.pid})`);
    });

    it('starts when the first was killed, and takes its place', async () => {
      const first = startOn();
      await first.until(saysRuns);
      first.kill('SIGKILL');
      expect(await first.ended).to.include({ signal: 'SIGKILL' });
      expect(readFileSync(`${store.catalogFile}.daemon.pid`, 'utf8')).to.equal(`${first.pid}\n`);
      const second = startOn();
      await second.until(saysRuns);
      expect(readFileSync(`${store.catalogFile}.daemon.pid`, 'utf8')).to.equal(`${second.pid}\n`);
      const third = await startOn().ended;
      expect(third.stderr).to.contain(`(pid ${second.pid})`);
    });

    it('leaves no pid behind when it ends', async () => {
      const daemon = startOn();
      await daemon.until(saysRuns);
      expect(existsSync(`${store.catalogFile}.daemon.pid`)).to.equal(true);
      daemon.kill('SIGINT');
      expect((await daemon.ended).code).to.equal(0);
      expect(existsSync(`${store.catalogFile}.daemon.pid`)).to.equal(false);
    });
  });

  describe('told to stop', () => {
    /** So many that the catalog gets a thread; a purge begins with batches of 500. */
    const FILES = 12_000;

    it('finishes the batch of a sweep, exits with 0, and goes on at its next start', async () => {
      store.configure({ main: { policies: [OLD], safetyWindow: '1d' } }, DEBUG);
      await store.init();
      fill(FILES);
      const daemon = startOn();
      await daemon.until(moved);
      const told = performance.now();
      daemon.kill('SIGTERM');
      const { code, stderr } = await daemon.ended;
      expect({ code, stderr }).to.deep.equal({ code: 0, stderr: '' });
      expect(performance.now() - told).to.be.below(10_000);
      expect(daemon.lines().map(({ message }) => message)).to.include('tombstoned has stopped');
      const line = await daemon.until(isSweep);
      const seen = await expectConsistent(FILES);
      expect(line).to.include({ interrupted: true, moved: count(seen, 'pending'), failed: 0 });
      expect(line['moved']).to.be.within(1000, FILES - 1000);
      expect(seen.sweeps.map(({ state }) => state)).to.deep.equal(['interrupted']);

      const next = startOn();
      expect(await next.until(isSweep)).to.include({
        interrupted: false,
        planned: FILES - count(seen, 'pending'),
      });
      next.kill('SIGTERM');
      expect((await next.ended).code).to.equal(0);
      expect(count(await expectConsistent(FILES), 'pending')).to.equal(FILES);
    });

    it('stops a purge after its batch', async () => {
      store.configure({ main: { policies: [OLD] } }, DEBUG);
      await store.init();
      fill(FILES);
      const daemon = startOn();
      await daemon.until(removed);
      daemon.kill('SIGTERM');
      expect((await daemon.ended).code).to.equal(0);
      expect(await daemon.until(isPurge)).to.include({ interrupted: true, failed: 0 });
      const seen = await expectConsistent(FILES);
      expect(count(seen, 'purged')).to.be.within(500, FILES - 1000);
    });

    it('stops at once between two turns, however long they are apart', async () => {
      store.configure({ main: { policies: [OLD], sweepEvery: '90d', purgeEvery: '90d' } });
      await store.init();
      const daemon = startOn();
      await daemon.until(isPurge);
      daemon.kill('SIGTERM');
      expect(await daemon.ended).to.include({ code: 0, stderr: '' });
    });

    for (const [phase, trigger] of [
      ['a sweep', moved],
      ['a purge', removed],
    ] as const) {
      it(`twice, exits at once in the middle of ${phase}, and leaves only what recovery handles`, async () => {
        store.configure({ main: { policies: [OLD] } }, DEBUG);
        await store.init();
        fill(FILES);
        const daemon = startOn();
        await daemon.until(trigger);
        daemon.kill('SIGTERM', 'SIGINT'); // two of a kind could arrive as one
        const { code, signal } = await daemon.ended;
        expect(signal).to.equal(null);
        expect(code).to.be.oneOf([130, 143]);
        expect(daemon.lines().map(({ message }) => message)).to.not.include('tombstoned has stopped');
        await beside(recover);
        const seen = await expectConsistent(FILES);
        expect(count(seen, phase === 'a sweep' ? 'pending' : 'purged')).to.be.within(500, FILES - 1);
      });
    }

    it('is not stopped by SIGHUP', async () => {
      store.configure({ main: { policies: [OLD], sweepEvery: '0s', purgeEvery: '90d' } });
      await store.init();
      const daemon = startOn();
      await daemon.until(saysRuns);
      daemon.kill('SIGHUP');
      await daemon.until(({ message }) => message.startsWith('SIGHUP: '));
      await daemon.until(isSweep, daemon.lines().length);
    });
  });

  describe('beside other processes', () => {
    it('lets them work, and they leave what it is at alone', async () => {
      const FILES = 5000;
      store.configure({ main: { policies: [OLD], safetyWindow: '1d' } }, DEBUG);
      await store.init();
      fill(FILES);
      store.write('by-hand', 'x');
      const daemon = startOn();
      await daemon.until(moved);
      await beside(async (place) => {
        // Each command begins with a recovery.
        await recover(place);
        const [running] = place.catalog.runs.open(place.row.n);
        expect(running).to.include({ kind: 'sweep', pid: daemon.pid });
        const outcomes: string[] = [];
        await tombstoneByHand(place, {
          keys: [parseKey('by-hand')],
          reason: 'spec',
          guards: null,
          limits: { maxObjects: null, maxFraction: null, maxBytes: null },
          dryRun: false,
          onOutcome: ({ outcome }) => outcomes.push(outcome),
        });
        const pages = [place.catalog.tombstones.page({ store: place.row.n, state: 'pending', limit: 5 })];
        await restore(place, {
          pages,
          to: null,
          force: false,
          exemptFor: 24 * HOUR,
          dryRun: false,
          onOutcome: ({ outcome }) => outcomes.push(outcome),
        });
        expect(outcomes).to.deep.equal(['tombstoned', ...Array.from({ length: 5 }, () => 'restored')]);
      });
      expect(await daemon.until(isSweep)).to.include({ planned: FILES, moved: FILES, interrupted: false });
      daemon.kill('SIGTERM');
      expect((await daemon.ended).code).to.equal(0);
      const seen = await see();
      expect({ pending: count(seen, 'pending'), restored: count(seen, 'restored') }).to.deep.equal({
        pending: FILES + 1 - 5,
        restored: 5,
      });
      expect(seen.openRuns).to.equal(0);
      expect(Object.keys(store.live())).to.have.length(5);
    });

    it('sweeps at the same time as they do: each object is moved once', async () => {
      const FILES = 4000;
      store.configure({ main: { policies: [OLD], safetyWindow: '1d' } }, DEBUG);
      await store.init();
      fill(FILES);
      const daemon = startOn();
      await daemon.until(moved);
      const ours = await beside(async (place) =>
        sweep(place, { policies: policiesOf(place.config), guards: guardsOf(place.config), dryRun: false }),
      );
      const theirs = await daemon.until(isSweep);
      expect(Number(theirs['moved']) + ours.moved).to.equal(FILES);
      expect(count(await see(), 'pending')).to.equal(FILES);
      expect(store.pending()).to.have.length(FILES);
    });
  });

  it('refuses an empty directory where a store should be, and goes on when it is back', async () => {
    const every = { policies: [OLD], sweepEvery: '0s', purgeEvery: '1d', safetyWindow: '1d' };
    store.configure({ main: every, other: every });
    await store.init();
    store.write('a', 'a', 2 * HOUR);
    const away = path.join(store.directory, 'away');
    renameSync(store.root, away);
    mkdirSync(store.root);
    const daemon = startOn();
    const refusal = await daemon.until(({ level, store: name }) => level === 'error' && name === 'main');
    expect(refusal.message).to.match(/has no \.tombstoned\/store\.json: not our store/);
    expect(refusal['hint']).to.match(/is the disk mounted/);
    await daemon.until((line) => isSweep(line) && line['store'] === 'other', daemon.lines().length);
    expect(readdirSync(store.root)).to.deep.equal([]);
    rmSync(store.root, { recursive: true });
    renameSync(away, store.root);
    expect(await daemon.until((line) => isSweep(line) && line['store'] === 'main')).to.include({ moved: 1 });
  });

  it('writes JSON lines to a pipe, each with a time, a level and a message', async () => {
    store.configure({ main: { policies: [OLD] } });
    await store.init();
    const daemon = startOn();
    await daemon.until(isPurge);
    daemon.kill('SIGTERM');
    const { stdout, stderr } = await daemon.ended;
    expect(stdout.endsWith('\n')).to.equal(true);
    for (const line of daemon.lines()) {
      expect(String(line['time'])).to.match(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
      expect(line.level).to.be.oneOf(['info', 'warn']);
      expect(line.message).to.be.a('string').that.does.not.match(/\n/);
    }
    expect(stderr).to.equal('');
  });

  it('writes to the file that the config names, and nothing to stdout', async () => {
    const file = path.join(store.directory, 'tombstoned.log');
    store.configure({ main: { policies: [OLD] } }, { log: { file } });
    await store.init();
    const daemon = startOn();
    const pidFile = `${store.catalogFile}.daemon.pid`;
    await untilExists(pidFile);
    daemon.kill('SIGTERM');
    expect(await daemon.ended).to.deep.equal({ code: 0, signal: null, stdout: '', stderr: '' });
    expect(readFileSync(file, 'utf8')).to.match(
      /"message":"tombstoned \S+ runs".*"message":"tombstoned has stopped"/s,
    );
  });

  it('stops, with 1, when whoever reads its log goes away', async () => {
    store.configure({ main: { policies: [OLD], sweepEvery: '0s' } });
    await store.init();
    const daemon = startOn();
    await daemon.until(isSweep);
    daemon.process.stdout?.destroy();
    const { code, stderr } = await daemon.ended;
    expect(code).to.equal(1);
    expect(stderr).to.match(/^tombstoned: the log can't be written, stopping: .*(?:EPIPE|ECONNRESET).*\n$/);
    expect((await see()).openRuns).to.equal(0);
  });

  describe('that can’t start', () => {
    const failures: readonly (readonly [string, readonly string[], number, RegExp])[] = [
      [
        'an option it does not know',
        ['--fast'],
        2,
        /^tombstoned: Unknown option '--fast' \(see tombstoned --help\)\n$/,
      ],
      ['an argument', ['now'], 2, /^tombstoned: Unexpected argument 'now' \(see tombstoned --help\)\n$/],
      ['an option without its value', ['--config'], 2, /^tombstoned: .*--config.*\n$/],
      [
        'an option twice',
        ['--config=a', '--config=b'],
        2,
        /^tombstoned: --config is given more than once.*\n$/,
      ],
      ['an empty config name', ['--config='], 2, /^tombstoned: --config names no file\n$/],
      [
        'a config that is not there',
        ['--config', '/nowhere.yaml'],
        2,
        /^tombstoned: \/nowhere\.yaml: there is no such file.*\n$/,
      ],
    ];
    for (const [what, args, expected, says] of failures) {
      it(`says so in one line: ${what}`, async () => {
        const { code, stdout, stderr } = await start(...args).ended;
        expect({ code, stdout }).to.deep.equal({ code: expected, stdout: '' });
        expect(stderr).to.match(says);
      });
    }

    it('says so in one line: a config with a mistake in it', async () => {
      store.configure({ main: { sweepEvry: '1h' } });
      const { code, stdout, stderr } = await startOn().ended;
      expect({ code, stdout }).to.deep.equal({ code: 2, stdout: '' });
      expect(stderr).to.match(/^tombstoned: .*tombstoned\.yaml: stores\[0\]\.sweepEvry: .*\n$/);
    });

    it('says so in one line: a log file that can’t be written', async () => {
      store.configure({ main: {} }, { log: { file: path.join(store.directory, 'missing/log') } });
      await store.init();
      const { code, stderr } = await startOn().ended;
      expect(code).to.equal(2);
      expect(stderr).to.match(/^tombstoned: log\.file: .*missing\/log can't be written: ENOENT.*\n$/);
    });

    it('says so in one line: no catalog, and makes nothing', async () => {
      store.configure({ main: {} });
      const before = readdirSync(store.directory);
      const { code, stdout, stderr } = await startOn().ended;
      expect({ code, stdout }).to.deep.equal({ code: 1, stdout: '' });
      expect(stderr).to.match(/^tombstoned: there is no catalog at .*tombstonectl init.*\n$/);
      expect(readdirSync(store.directory)).to.deep.equal(before);
    });

    it('says so in one line: a catalog that is none, and does not touch the store', async () => {
      store.configure({ main: { policies: [OLD] } });
      await store.init();
      store.write('a', 'a', 2 * HOUR);
      writeFileSync(store.catalogFile, 'this is no database, whatever its name may be\n'.repeat(100));
      const { code, stdout, stderr } = await startOn().ended;
      expect({ code, stdout }).to.deep.equal({ code: 1, stdout: '' });
      expect(stderr).to.match(/^tombstoned: the catalog .*SQLITE_NOTADB.*\n$/);
      expect(Object.keys(store.live())).to.deep.equal(['a']);
    });
  });

  it('shows its help and its version', async () => {
    const help = await start('--help', '--config', '/nowhere').ended;
    expect(help).to.include({ code: 0, stderr: '' });
    for (const section of ['SYNOPSIS', 'OPTIONS', 'SIGNALS', 'LOG', 'EXIT STATUS', 'EXAMPLES']) {
      expect(help.stdout).to.contain(`\n${section}\n`);
    }
    expect(help.stdout.split('\n').filter((line) => line.length > 90)).to.deep.equal([]);
    const version = await start('--version').ended;
    const manifest = JSON.parse(readFileSync(path.resolve('package.json'), 'utf8')) as { version: string };
    expect(version).to.deep.equal({
      code: 0,
      signal: null,
      stdout: `tombstoned ${manifest.version}\n`,
      stderr: '',
    });
  });
});

/** Waits until another process has made a file. */
async function untilExists(file: string): Promise<void> {
  while (!existsSync(file)) await new Promise(setImmediate);
}
