import { existsSync, readdirSync, truncateSync } from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { loadConfig } from '../../lib/config/load.ts';
import { runDaemon } from '../../lib/daemon/daemon.ts';
import { Log } from '../../lib/daemon/log.ts';
import { systemClock } from '../../lib/domain/clock.ts';
import { systemRandom } from '../../lib/domain/ids.ts';
import { backupOf } from '../compact/aptos-place.ts';
import { ACTOR } from '../support/place.ts';
import { type StoreSettings, TempStore } from '../support/temp-store.ts';
import { Sink } from './sink.ts';

type Line = Record<string, unknown>;

describe('the daemon of a store with format aptos', function () {
  this.timeout(20_000);
  let store: TempStore;
  beforeEach(() => {
    store = new TempStore();
    for (const [name, content] of backupOf(10)) store.write(`metadata/${name}`, content, 7_200_000);
  });
  afterEach(() => store.remove());

  const factors = { epochEndings: 4, stateSnapshots: 4, transactions: 4 };

  /** Runs the daemon until a line holds; gives its lines, to the end. */
  async function runUntil(aptos: StoreSettings | undefined, holds: (line: Line) => boolean): Promise<Line[]> {
    const every = { sweepEvery: '10d', purgeEvery: '10d', safetyWindow: '1d' };
    const settings = { format: 'aptos', ...every, limits: { maxFraction: null } };
    store.configure({ main: aptos === undefined ? settings : { ...settings, aptos } });
    await store.init();
    const lines: Line[] = [];
    const stop = new AbortController();
    const out = new Sink();
    out.onText = (text) => {
      const line = JSON.parse(text) as Line;
      lines.push(line);
      if (holds(line)) stop.abort();
    };
    const config = loadConfig(store.configFile);
    const log = new Log(config.log, { out, noColor: true, now: () => Date.now() });
    const of = { config, clock: systemClock, random: systemRandom, actor: ACTOR, log, version: '1.2.3' };
    await runDaemon({ ...of, signal: stop.signal });
    return lines;
  }

  const names = (): string[] => readdirSync(path.join(store.root, 'metadata'));

  it('compacts it as the config says, and logs what that came to', async () => {
    const lines = await runUntil({ compactEvery: '1d', factors }, ({ type }) => type === 'compact');
    const line = lines.find(({ type }) => type === 'compact');
    expect(line).to.deep.include({
      store: 'main',
      written: 8,
      redone: 0,
      tombstoned: 0,
      failed: 0,
      kept: {},
    });
    expect(line?.['message']).to.equal(
      'compact: 25 lines in 25 files, 8 compacted files written, 0 of 0 replaced ones tombstoned',
    );
    expect(lines.map(({ message }) => message)).to.include(
      'no policy says what expires, so it is only purged every 10d, its metadata compacted every 1d',
    );
    expect(names()).to.include.members([
      'transaction_compacted_0-39.meta',
      'epoch_ending_compacted_8-9.meta',
    ]);
  });

  it('goes on from one turn to the next: what was replaced for long enough is tombstoned', async () => {
    const aptos = { compactEvery: '500ms', factors, removeAfter: '0s' };
    const lines = await runUntil(aptos, ({ type, tombstoned }) => type === 'compact' && tombstoned !== 0);
    const last = lines.findLast(({ type }) => type === 'compact');
    expect(last).to.deep.include({ written: 0, there: 8, failed: 0 });
    expect(Number(last?.['tombstoned'])).to.be.within(25, 26);
    expect(existsSync(path.join(store.root, 'metadata/transaction_0-9.meta'))).to.equal(false);
  });

  it('says which file it has written again', async () => {
    await runUntil({ compactEvery: '1d', factors }, ({ type }) => type === 'compact');
    truncateSync(path.join(store.root, 'metadata/transaction_compacted_0-39.meta'), 50);
    const lines = await runUntil({ compactEvery: '1d', factors }, ({ type }) => type === 'compact');
    expect(lines.find(({ level }) => level === 'warn')?.['message']).to.equal(
      'metadata/transaction_compacted_0-39.meta was written again: it did not hold all of its lines',
    );
  });

  it('logs why it can not, and goes on with its other tasks', async () => {
    truncateSync(path.join(store.root, 'metadata/transaction_0-9.meta'), 50);
    const lines = await runUntil({ compactEvery: '1d' }, ({ during }) => during === 'compact');
    const failure = lines.find(({ during }) => during === 'compact');
    expect(failure?.['message']).to.contain(
      'nothing is compacted: metadata file "metadata/transaction_0-9.meta"',
    );
  });

  it('leaves it alone where the config does not say so', async () => {
    const lines = await runUntil(undefined, ({ type }) => type === 'purge');
    expect(lines.filter(({ type }) => type === 'compact')).to.deep.equal([]);
    expect(names()).to.have.length(25);
  });
});
