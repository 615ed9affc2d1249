import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { expect } from 'chai';
import { openForReading } from '../../lib/app/open-store.ts';
import { realSurroundings } from '../../lib/app/surroundings.ts';
import { Catalog } from '../../lib/catalog/catalog.ts';
import { storeConfigFromUrl } from '../../lib/config/store-url.ts';
import { parseKey } from '../../lib/domain/key.ts';
import { builtModule, builtProgram, type Ended, tombstonectl } from '../support/built-cli.ts';
import { FAST } from '../support/phases.ts';
import { DAY, seeded } from '../support/place.ts';
import { OLD, TempStore } from '../support/temp-store.ts';

/** More than a sweep plans before it takes a thread for the catalog. */
const MANY = 10_500;

function nameOf(i: number): string {
  return `many/${i % 20}/${i}`;
}

describe('a large sweep, whose catalog is written by a thread', function () {
  this.timeout(60_000); // of real files by the thousand
  let temp: TempStore;

  beforeEach(async () => {
    temp = await TempStore.make({ policies: [OLD], limits: { maxFraction: null, maxObjects: null } }, FAST);
    for (let i = 0; i < MANY; i++) temp.write(nameOf(i), `content ${i}`, DAY);
  });

  afterEach(() => {
    temp.remove();
  });

  it('moves and records each object once, and counts as a small one does', async () => {
    const { code, stdout, stderr } = await ctl(temp, 'sweep');
    expect(code, stderr).to.equal(0);
    const counts = { planned: MANY, moved: MANY, abandoned: 0, failed: 0 };
    expect(JSON.parse(stdout)).to.include(counts);
    expect(temp.live()).to.deep.equal({});
    expect(temp.pending()).to.have.length(MANY);
    const catalog = Catalog.open(temp.catalogFile);
    try {
      const store = catalog.storeByName('main')?.n ?? 0;
      expect(catalog.tombstones.tallies(store).map(({ state, count }) => [state, count])).to.deep.equal([
        ['pending', MANY],
      ]);
      expect(catalog.sweeps.latest(store, 1)[0]).to.include({ ...counts, state: 'done' });
      expect(catalog.runs.open(store)).to.deep.equal([]);
      const seen = new Set<string>();
      for (let after = ''; ; ) {
        const page = catalog.tombstones.page({ after, limit: 1000 });
        for (const { key, id } of page) {
          seen.add(key);
          after = id;
        }
        if (page.length === 0) break;
      }
      expect(seen.size).to.equal(MANY);
    } finally {
      catalog.close();
    }
    const again = await ctl(temp, 'sweep');
    expect(JSON.parse(again.stdout)).to.include({ planned: 0, moved: 0 });
  });

  it('that is stopped ends with its batch, and leaves no intents', async () => {
    const args = [builtProgram('cli'), '--config', temp.configFile, '--json', 'sweep'];
    const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'ignore'] });
    const ended = once(child, 'exit');
    let said = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      said += text;
    });
    while (child.exitCode === null && temp.pending().length === 0) await delay(5);
    child.kill('SIGTERM');
    const [code] = await ended;
    const moved = temp.pending().length;
    if (moved < MANY) {
      expect(code).to.equal(143);
      expect(JSON.parse(said)).to.include({ moved });
    }
    const catalog = Catalog.open(temp.catalogFile);
    try {
      const store = catalog.storeByName('main')?.n ?? 0;
      expect(catalog.runs.open(store)).to.deep.equal([]);
      expect(catalog.tombstones.page({ state: 'moving', limit: 10 })).to.deep.equal([]);
      const pending = catalog.tombstones.tallies(store).find(({ state }) => state === 'pending');
      expect(pending?.count).to.equal(moved);
    } finally {
      catalog.close();
    }
    const rest = await ctl(temp, 'sweep');
    expect(JSON.parse(rest.stdout)).to.include({ moved: MANY - moved });
  });

  it('ends with the error of its thread, as that would have been told here', async () => {
    const { SweepLedger } = (await builtModule('sweep/ledger-thread.js')) as {
      SweepLedger: typeof import('../../lib/sweep/ledger-thread.ts').SweepLedger;
    };
    const catalog = Catalog.open(temp.catalogFile);
    const row = catalog.storeByName('main');
    if (row === undefined) throw new Error('not known');
    const elsewhere = new Proxy(catalog, {
      get: (target, name) => (name === 'file' ? `${target.file}.gone` : Reflect.get(target, name, target)),
    });
    const surroundings = realSurroundings(() => undefined);
    const store = await openForReading(storeConfigFromUrl(temp.url));
    const place = {
      ...surroundings,
      store,
      catalog: elsewhere,
      row,
      format: 'plain' as const,
      safetyWindow: 0,
      isThreaded: true,
    };
    const ledger = new SweepLedger(place, 1);
    try {
      const item = {
        size: 1,
        revision: { kind: 'local', size: 1, mtimeNs: 1n },
        modifiedAt: 1,
        cause: 1,
      } as const;
      const items = Array.from({ length: MANY }, (_, i) => ({
        ...item,
        key: parseKey(nameOf(i)),
        unit: null,
        isKept: false,
      }));
      await ledger.plan(1, items);
      const error: unknown = await ledger.planned().then(
        () => undefined,
        (thrown: unknown) => thrown,
      );
      expect(error).to.include({
        code: 'failed',
        message: `there is no catalog at ${temp.catalogFile}.gone`,
      });
      expect(error).to.have.property('hint').that.contains('tombstonectl init');
    } finally {
      await ledger.close();
      store.close();
      catalog.close();
    }
  });
});

async function ctl(temp: TempStore, ...args: string[]): Promise<Ended> {
  return tombstonectl(['--config', temp.configFile, '--json', ...args]);
}

describe('a large sweep that is killed at random moments', function () {
  this.timeout(180_000);
  const KILLS = 8;
  const seed = Number(process.env['KILLS_SEED'] ?? Date.now() % 1_000_000);
  let temp: TempStore;

  beforeEach(async () => {
    temp = await TempStore.make({ policies: [OLD], limits: { maxFraction: null, maxObjects: null } });
    for (let i = 0; i < 2 * MANY; i++) temp.write(nameOf(i), `content ${i}`, DAY);
  });

  afterEach(() => {
    temp.remove();
  });

  it(`loses nothing, and the next one finishes it (KILLS_SEED=${seed})`, async () => {
    const random = seeded(seed);
    for (let kill = 0; kill < KILLS; kill++) {
      const args = [builtProgram('cli'), '--config', temp.configFile, 'sweep'];
      const child = spawn(process.execPath, args, { stdio: 'ignore' });
      const ended = once(child, 'exit');
      await delay(200 + random(1200));
      child.kill('SIGKILL');
      await ended;
    }
    const last = await ctl(temp, 'sweep');
    expect(last.code, last.stderr).to.equal(0);
    expect(temp.live()).to.deep.equal({});
    const names = temp.pending();
    expect(names).to.have.length(2 * MANY);
    const status = await ctl(temp, 'status');
    expect(JSON.parse(status.stdout)).to.have.nested.property('stores[0].counts.pending', 2 * MANY);
  });
});
