import { existsSync, mkdirSync, readdirSync, renameSync, rmSync, symlinkSync } from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { guardsOf, openPlace, policiesOf } from '../../lib/app/open.ts';
import { realSurroundings } from '../../lib/app/surroundings.ts';
import { Catalog } from '../../lib/catalog/catalog.ts';
import { loadConfig } from '../../lib/config/load.ts';
import { runDaemon } from '../../lib/daemon/daemon.ts';
import { Log } from '../../lib/daemon/log.ts';
import type { Clock } from '../../lib/domain/clock.ts';
import { TombstonedError } from '../../lib/domain/errors.ts';
import { systemRandom } from '../../lib/domain/ids.ts';
import type { State } from '../../lib/domain/state.ts';
import { sweep } from '../../lib/sweep/sweep.ts';
import { ACTOR, DAY, HOUR } from '../support/place.ts';
import { OLD, TempStore } from '../support/temp-store.ts';
import { Sink } from './sink.ts';

type Line = Record<string, unknown>;

/** A clock that goes on to the next who sleeps as soon as `loops` of them do: nobody waits for real. */
class IdleClock implements Clock {
  readonly #start = Date.now();
  readonly #loops: number;
  readonly #sleepers = new Set<{ until: number; wake: () => void }>();
  #time = 0;
  #sleeps = 0;

  constructor(loops: number) {
    this.#loops = loops;
  }

  now(): number {
    return this.#start + this.#time;
  }

  monotonic(): number {
    return this.#time;
  }

  uptime(): number {
    return this.#time;
  }

  sinceBoot(): { boot: string; ms: number } {
    return { boot: 'spec-boot', ms: this.#time };
  }

  async isSynced(): Promise<boolean> {
    return false;
  }

  async sleep(ms: number, signal?: AbortSignal): Promise<void> {
    if (signal?.aborted === true) return;
    if (++this.#sleeps > 10_000) throw new Error('what was waited for does not happen');
    await new Promise<void>((resolve) => {
      const sleeper = { until: this.#time + ms, wake: resolve };
      this.#sleepers.add(sleeper);
      signal?.addEventListener('abort', () => {
        this.#sleepers.delete(sleeper);
        resolve();
      });
      if (this.#sleepers.size < this.#loops) return;
      const [first] = [...this.#sleepers].toSorted((a, b) => a.until - b.until);
      if (first === undefined) return;
      this.#sleepers.delete(first);
      this.#time = first.until;
      first.wake();
    });
  }
}

describe('the daemon', function () {
  this.timeout(60_000); // of real disks

  let store: TempStore;
  let lines: Line[];

  beforeEach(() => {
    store = new TempStore();
  });
  afterEach(() => store.remove());

  /** Runs the daemon in this process until `onLine` says `stop`. */
  async function run(
    onLine: (line: Line, count: number) => 'stop' | undefined,
    random = systemRandom,
  ): Promise<void> {
    const config = loadConfig(store.configFile);
    const clock = new IdleClock(config.stores.length);
    const stop = new AbortController();
    const out = new Sink();
    lines = [];
    const failures: unknown[] = [];
    out.onText = (text) => {
      const line = JSON.parse(text) as Line;
      lines.push(line);
      try {
        if (onLine(line, lines.length) === 'stop') stop.abort();
      } catch (error) {
        failures.push(error);
        stop.abort();
      }
    };
    const log = new Log(config.log, { out, noColor: true, now: () => clock.now() });
    await runDaemon({ config, clock, random, actor: ACTOR, log, version: '1.2.3', signal: stop.signal });
    expect(failures).to.deep.equal([]);
  }

  const of = (name: string, type: string): Line[] =>
    lines.filter((line) => line['store'] === name && line['type'] === type);
  const errors = (name: string): Line[] =>
    lines.filter((line) => line['store'] === name && line['level'] === 'error');

  /** How many tombstones of a store are in each state. */
  function states(name = 'main'): Partial<Record<State, number>> {
    const catalog = Catalog.open(store.catalogFile);
    try {
      const row = catalog.storeByName(name);
      if (row === undefined) throw new Error('no such store');
      const counts: Partial<Record<State, number>> = {};
      for (const { state } of catalog.tombstones.page({ store: row.n, limit: 100_000 })) {
        counts[state] = (counts[state] ?? 0) + 1;
      }
      return counts;
    } finally {
      catalog.close();
    }
  }

  it('sweeps and purges each store on its own intervals, and says so in a line each', async () => {
    store.configure({
      main: { policies: [OLD], sweepEvery: '150m', purgeEvery: '3h', safetyWindow: '4h' },
      other: { policies: [OLD], sweepEvery: '5h', purgeEvery: '100d' },
    });
    await store.init();
    store.write('a', 'aaaa', 2 * HOUR);
    store.write('new', 'n');
    await run(() => (of('main', 'purge').length === 4 ? 'stop' : undefined));
    const began = Date.parse(String(lines[0]?.['time']));
    const hoursOf = (name: string, type: string): number[] =>
      of(name, type).map(({ time }) => (Date.parse(String(time)) - began) / HOUR);
    expect(hoursOf('main', 'sweep')).to.deep.equal([0, 2.5, 5, 7.5]);
    expect(hoursOf('main', 'purge')).to.deep.equal([0, 3, 6, 9]);
    expect(hoursOf('other', 'sweep')).to.deep.equal([0, 5]);
    expect(hoursOf('other', 'purge')).to.deep.equal([0]);
    expect(of('main', 'sweep')[0]).to.include({
      level: 'info',
      planned: 1,
      moved: 1,
      bytes: 4,
      interrupted: false,
    });
    expect(of('main', 'sweep')[0]?.['message']).to.match(/^sweep s-\S+: moved 1 of 1 planned, 4 B$/);
    expect(of('main', 'purge').map(({ purged }) => purged)).to.deep.equal([0, 0, 1, 1]);
    expect(of('main', 'purge')[2]?.['message']).to.equal('purge: removed 1 of 1 due, 4 B');
    expect(errors('main')).to.deep.equal([]);
    expect(states()).to.deep.equal({ purged: 2 });
  });

  it('says what it runs, and what in the config may surprise', async () => {
    store.configure({ main: { sweepEvery: '2h', purgeEvery: '90m' }, other: { policies: [OLD] } });
    await store.init();
    await run((_, count) => (count === 6 ? 'stop' : undefined));
    expect(lines[0]).to.include({ level: 'info', message: 'tombstoned 1.2.3 runs', pid: ACTOR.pid });
    expect(lines[0]?.['stores']).to.deep.equal(['main', 'other']);
    const messages = lines.map(({ message }) => message);
    expect(messages).to.include('no policy says what expires, so it is only purged every 1h 30m');
    expect(messages).to.include('swept every 1h, purged every 15m');
    expect(messages.filter((text) => String(text).includes('is under an hour'))).to.have.length(2);
    expect(messages.at(-1)).to.equal('tombstoned has stopped');
  });

  it('only purges a store without policies', async () => {
    store.configure({ main: { sweepEvery: '1m', purgeEvery: '1h' } });
    await store.init();
    await run(() => (of('main', 'purge').length === 3 ? 'stop' : undefined));
    expect(of('main', 'sweep')).to.deep.equal([]);
  });

  it('warns of each file that can’t be moved, up to a hundred, then of how many more', async () => {
    store.configure({ main: { policies: [OLD] } });
    await store.init();
    store.write('fine', 'x', 2 * HOUR);
    for (let i = 0; i < 142; i++) symlinkSync('fine', path.join(store.root, `link-${i}`));
    await run((line) => (String(line['message']).startsWith('and ') ? 'stop' : undefined));
    const refusals = lines.filter(({ key }) => String(key).startsWith('link-'));
    expect(refusals).to.have.length(100);
    for (const { key, level, message } of refusals) {
      expect(level).to.equal('warn');
      expect(message).to.equal(`${String(key)} stays: it is a symbolic link, not a regular file`);
    }
    const [more] = lines.filter((line) => line['more'] !== undefined);
    expect(more).to.include({ level: 'warn', message: 'and 42 more of level warn', more: 42, store: 'main' });
    expect(of('main', 'sweep')[0]).to.include({ moved: 1 });
  });

  it('warns of a tombstone that can’t be purged, and goes on with the others', async () => {
    store.configure({ main: { policies: [OLD], purgeEvery: '1h' } });
    await store.init();
    store.write('a', 'a', 2 * HOUR);
    store.write('b', 'b', 2 * HOUR);
    await run((line) => {
      if (line['type'] === 'sweep') {
        const name = store.pending().find((pending) => pending.startsWith('a~'));
        if (name !== undefined) store.write(`pending_deletion/${name}`, 'not what it was');
      }
      return line['type'] === 'purge' ? 'stop' : undefined;
    });
    const [warning] = lines.filter(({ key }) => key === 'a');
    expect(warning).to.include({ level: 'warn', store: 'main', reason: 'changed' });
    expect(warning?.['message']).to.match(/^a is not purged: its pending copy is not what was tombstoned/);
    expect(of('main', 'purge')[0]).to.deep.include({ due: 2, purged: 1, kept: { changed: 1 } });
    expect(of('main', 'purge')[0]?.['message']).to.equal('purge: removed 1 of 2 due, 1 B, kept 1 changed');
  });

  it('finishes what a process that died has left, before it sweeps', async () => {
    store.configure({ main: { policies: [OLD] } });
    await store.init();
    for (let i = 0; i < 20; i++) store.write(`k${i}`, `content ${i}`, 2 * HOUR);
    await dieInASweep();
    expect(states()).to.deep.equal({ moving: 20 });
    expect(Object.keys(store.live())).to.have.length(20);
    await run((line) => (line['type'] === 'sweep' ? 'stop' : undefined));
    const recovered = lines.findIndex(({ message }) =>
      /^recovered run r-\S+, whose process/.test(String(message)),
    );
    expect(lines[recovered]).to.include({ level: 'warn', store: 'main', moved: 0, abandoned: 20 });
    expect(lines.findIndex(({ type }) => type === 'sweep')).to.be.greaterThan(recovered);
    // What had not been moved was planned anew.
    expect(states()).to.deep.equal({ abandoned: 20, pending: 20 });
  });

  /** A sweep whose process dies when its intents are written: they stay, and the kernel frees its lock. */
  async function dieInASweep(): Promise<void> {
    const catalog = Catalog.open(store.catalogFile);
    const [config] = loadConfig(store.configFile).stores;
    if (config === undefined) throw new Error('no store');
    const surroundings = realSurroundings(() => undefined);
    const place = await openPlace(catalog, config, surroundings);
    place.store.move = async () => {
      throw new Error('died');
    };
    const options = { policies: policiesOf(config), guards: guardsOf(config), dryRun: false };
    expect(await sweep(place, options).catch(String)).to.equal('Error: died');
    place.store.close();
    catalog.close();
  }

  describe('when a store goes away', () => {
    const FILES = 2500; // two batches
    let isAway: boolean;
    let away: string;

    beforeEach(async () => {
      store.configure({
        main: { policies: [OLD], sweepEvery: '1h', purgeEvery: '1h', safetyWindow: '30d' },
        other: { policies: [OLD], sweepEvery: '1h', purgeEvery: '1h', safetyWindow: '30d' },
        foreign: { sweepEvery: '30d', purgeEvery: '30d' },
      });
      await store.init();
      for (let i = 0; i < FILES; i++) store.write(`d${i % 7}/f${i}`, `content ${i}`, 2 * HOUR);
      for (let i = 0; i < 10; i++) store.write(`o${i}`, 'other', 2 * HOUR, store.rootOf('other'));
      away = path.join(store.directory, 'away');
      isAway = false;
    });

    function goAway(put: () => void): void {
      renameSync(store.root, away);
      put();
      isAway = true;
    }

    function comeBack(): void {
      rmSync(store.root, { recursive: true, force: true });
      renameSync(away, store.root);
      isAway = false;
    }

    /** A source of randomness in whose 300th number, in the first batch, the store goes. */
    function untilBatch(go: () => void): (below: number) => number {
      let count = 0;
      return (below) => {
        if (++count === 300) go();
        return systemRandom(below);
      };
    }

    const empty = (): void => mkdirSync(store.root);
    const foreign = (): void => renameSync(store.rootOf('foreign'), store.root);

    for (const [what, put, refusal] of [
      ['an empty directory', empty, /has no \.tombstoned\/store\.json: not our store/],
      ['another store', foreign, /is store \S+, and the catalog knows it as \S+/],
      ['nothing', () => undefined, /can't be opened: ENOENT/],
    ] as const) {
      it(`refuses ${what} in its place in the middle of a sweep, and goes on when it is back`, async () => {
        let before: string[] = [];
        let stateWhileAway: Partial<Record<State, number>> = {};
        const go = (): void => {
          goAway(put);
          before = what === 'nothing' ? [] : readdirSync(store.root);
        };
        await run((line) => {
          if (isAway && errors('main').length === 4) {
            stateWhileAway = states();
            if (what !== 'nothing') expect(readdirSync(store.root)).to.deep.equal(before);
            if (what === 'another store') renameSync(store.root, store.rootOf('foreign'));
            comeBack();
          }
          return line['store'] === 'main' && line['type'] === 'sweep' && !isAway ? 'stop' : undefined;
        }, untilBatch(go));

        const [inTheMiddle, ...later] = errors('main');
        expect(inTheMiddle?.['during']).to.equal('sweep');
        expect(inTheMiddle?.['message']).to.match(/no longer the directory this run began with|ENOENT/);
        expect(later.map(({ during }) => during)).to.deep.equal(['purge', 'sweep', 'purge']);
        for (const { message, hint } of later) {
          expect(message).to.match(refusal);
          expect(hint).to.match(/mount/);
        }
        // The batch that was under way went on in the directory it had open; nothing else happened.
        expect(Object.keys(stateWhileAway)).to.deep.equal(['pending']);
        expect(states()).to.deep.equal({ pending: FILES });
        expect(store.live()).to.deep.equal({});
        expect(store.pending()).to.have.length(FILES);
        expect(of('other', 'sweep').length).to.be.at.least(2);
        expect(of('other', 'sweep')[0]).to.include({ moved: 10 });
        expect(errors('other')).to.deep.equal([]);
      });
    }

    it('tries a store that was never there again and again, beside the others', async () => {
      goAway(() => undefined);
      await run(() => {
        if (isAway && errors('main').length === 3) comeBack();
        return of('main', 'sweep').length === 1 ? 'stop' : undefined;
      });
      expect(errors('main')).to.have.length(3);
      expect(of('main', 'sweep')[0]).to.include({ moved: FILES });
      expect(of('other', 'sweep').length).to.be.at.least(1);
    });
  });

  it('tries a store that the catalog does not know again at its next interval', async () => {
    store.configure({ main: { policies: [OLD], purgeEvery: '1d' } });
    await store.init();
    store.configure({ late: { policies: [OLD], purgeEvery: '1d' } });
    await run(() => (errors('late').length === 3 ? 'stop' : undefined));
    expect(errors('late')[0]).to.include({ code: 'config', hint: 'run `tombstonectl init --store late`' });
  });

  it('moves nothing of a store whose pending prefix is not the config’s', async () => {
    store.configure({ main: { policies: [OLD] } });
    await store.init();
    store.write('a', 'a', 2 * HOUR);
    store.configure({ main: { policies: [OLD], pendingPrefix: 'elsewhere/' } });
    await run(() => (errors('main').length === 3 ? 'stop' : undefined));
    expect(errors('main')[0]?.['hint']).to.equal('set pendingPrefix: pending_deletion/');
    expect(Object.keys(store.live())).to.deep.equal(['a']);
  });

  it('ends, with an error, when the catalog is removed while it runs, and makes none', async () => {
    store.configure({ main: { policies: [OLD], sweepEvery: '1h', purgeEvery: '100d', safetyWindow: '1d' } });
    await store.init();
    store.write('a', 'a', 2 * HOUR);
    let error: unknown;
    try {
      await run((line) => {
        if (line['type'] !== 'purge') return undefined;
        for (const more of ['', '-wal', '-shm']) rmSync(store.catalogFile + more, { force: true });
        store.write('b', 'b', 2 * HOUR);
        return undefined;
      });
    } catch (thrown) {
      error = thrown;
    }
    expect(error).to.be.instanceOf(TombstonedError);
    expect(error).to.have.property('message').that.contains('was removed while it was in use');
    expect(error).to.have.property('hint').that.contains('rebuild --take-over');
    expect(existsSync(store.catalogFile)).to.equal(false);
    expect(store.live()).to.deep.equal({ b: 'b' });
  });

  it('warns of a plan that is over its limit, and moves nothing of it', async () => {
    store.configure({ main: { policies: [{ ...OLD, limits: { maxObjects: 2, maxFraction: null } }] } });
    await store.init();
    for (let i = 0; i < 3; i++) store.write(`k${i}`, 'x', 2 * HOUR + DAY);
    await run((line) => (line['type'] === 'sweep' ? 'stop' : undefined));
    const warning = lines.find(({ message }) => /policy old moves nothing/.test(String(message)));
    expect(warning).to.include({ level: 'warn', store: 'main' });
    const [swept] = of('main', 'sweep');
    expect(swept).to.deep.include({ moved: 0, overLimit: ['old'], waiting: [warning?.['sweep']] });
    expect(warning?.['hint']).to.include(`tombstonectl --store main approve ${String(warning?.['sweep'])}`);
    expect(Object.keys(store.live())).to.have.length(3);
  });
});
