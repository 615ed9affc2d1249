import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { appendFileSync, rmSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { expect } from 'chai';
import { Catalog } from '../../lib/catalog/catalog.ts';
import type { Place } from '../../lib/run/place.ts';
import { builtModule, builtProgram, type Ended, tombstonectl } from '../support/built-cli.ts';
import { FAST } from '../support/phases.ts';
import { DAY, seeded, TempPlace } from '../support/place.ts';
import { OLD, TempStore } from '../support/temp-store.ts';

/** More than a purge finds before it takes a thread for the catalog. */
const MANY = 7500;

function nameOf(i: number): string {
  return `many/${i % 10}/${String(i).padStart(5, '0')}`;
}

describe('a large purge, whose catalog is written by a thread', function () {
  this.timeout(60_000); // of real files by the thousand
  let temp: TempStore;

  beforeEach(async () => {
    temp = await TempStore.make({ policies: [OLD], limits: { maxFraction: null, maxObjects: null } }, FAST);
    for (let i = 0; i < MANY; i++) temp.write(nameOf(i), 'content', DAY);
    const swept = await ctl(temp, 'sweep');
    expect(JSON.parse(swept.stdout)).to.include({ moved: MANY });
  });
  afterEach(() => {
    temp.remove();
  });

  it('removes and records each copy once, and keeps and tells what a small one does', async () => {
    // The last keys are moved last, and so are due last.
    const [changed, gone] = temp.pending().slice(-2);
    appendFileSync(path.join(temp.root, 'pending_deletion', changed ?? ''), 'more');
    rmSync(path.join(temp.root, 'pending_deletion', gone ?? ''));
    const HELD = MANY / 10;
    await ctl(temp, 'hold', '--prefix', 'many/8/', '--reason', 'spec');
    const { code, stdout, stderr } = await ctl(temp, 'purge');
    expect(code, stderr).to.equal(0);
    expect(stderr).to.match(/is not purged: its pending copy is not what was tombstoned/);
    expect(stderr).to.match(/its pending copy was gone already/);
    const rest = HELD + 1;
    expect(JSON.parse(stdout)).to.deep.include({
      due: MANY,
      purged: MANY - rest,
      kept: { hold: HELD, changed: 1 },
      failed: 0,
      bytes: (MANY - rest) * 'content'.length,
    });
    expect(temp.pending()).to.have.length(rest);
    expectStates(temp, { pending: rest, purged: MANY - rest });
    const holds = JSON.parse((await ctl(temp, 'holds')).stdout) as { id: string };
    await ctl(temp, 'release', holds.id);
    const again = await ctl(temp, 'purge');
    expect(JSON.parse(again.stdout)).to.deep.include({ due: rest, purged: HELD, kept: { changed: 1 } });
    expectStates(temp, { pending: 1, purged: MANY - 1 });
    const log = await ctl(temp, 'log', '--check');
    expect(log.code, log.stderr).to.equal(0);
  });

  it('that is stopped ends with its batch, and leaves nothing taken', async () => {
    const args = [builtProgram('cli'), '--config', temp.configFile, '--json', 'purge'];
    const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'ignore'] });
    const ended = once(child, 'exit');
    let said = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      said += text;
    });
    while (child.exitCode === null && temp.pending().length > MANY - 6500) await delay(5);
    child.kill('SIGTERM');
    const [code] = await ended;
    const left = temp.pending().length;
    if (left > 0) {
      expect(code).to.equal(143);
      expect(JSON.parse(said)).to.include({ purged: MANY - left });
    }
    expectStates(temp, { pending: left, purged: MANY - left });
    const rest = await ctl(temp, 'purge');
    expect(JSON.parse(rest.stdout)).to.include({ purged: left });
  });

  for (const [what, wrong, message] of [
    ['that finds no catalog', { file: 'gone.db' }, 'there is no catalog at gone.db'],
    [
      'that finds another catalog in its place',
      { identity: '1:1' },
      'while it was in use: nothing more is done',
    ],
  ] as const)
    it(`ends with the error of its thread ${what}, as that would have been told here`, async () => {
      const { PurgeLedger } = (await builtModule('purge/ledger-thread.js')) as {
        PurgeLedger: typeof import('../../lib/purge/ledger-thread.ts').PurgeLedger;
      };
      const here = await TempPlace.make(FAST);
      const catalog = Catalog.open(temp.catalogFile);
      const elsewhere = new Proxy(catalog, {
        get: (target, name) => {
          const value: unknown = Reflect.get(target, name, target);
          if (name in wrong) return Reflect.get(wrong, name);
          return typeof value === 'function' ? value.bind(target) : value;
        },
      });
      const row = catalog.storeByName('main');
      if (row === undefined) throw new Error('not known');
      const place: Place = { ...here.open(), catalog: elsewhere, row, safetyWindow: 0, isThreaded: true };
      const ledger = new PurgeLedger(place, 1, null);
      try {
        const now = Date.now() + DAY;
        const found = await ledger.find({ now, after: undefined }, MANY - 1000);
        const error: unknown = await ledger.find({ now, after: found?.last }, 1).then(
          () => undefined,
          (thrown: unknown) => thrown,
        );
        expect(error).to.include({ code: 'failed' });
        expect((error as Error).message).to.include(message);
        // What was found here is taken here.
        const take = { page: found?.page ?? 0, now, leases: [], uncovered: new Map() };
        expect((await ledger.take(take)).copies).to.have.length(MANY - 1000);
      } finally {
        await ledger.close();
        catalog.close();
        here.remove();
      }
    });
});

/** Expects so many tombstones of each state, and nothing that is under way. */
function expectStates(temp: TempStore, states: Readonly<Record<string, number>>): void {
  const catalog = Catalog.open(temp.catalogFile);
  try {
    const store = catalog.storeByName('main')?.n ?? 0;
    const tallies = catalog.tombstones.tallies(store).map(({ state, count }) => [state, count]);
    expect(Object.fromEntries(tallies)).to.deep.equal(
      Object.fromEntries(Object.entries(states).filter(([, count]) => count > 0)),
    );
    expect(catalog.runs.open(store)).to.deep.equal([]);
  } finally {
    catalog.close();
  }
}

async function ctl(temp: TempStore, ...args: string[]): Promise<Ended> {
  return tombstonectl(['--config', temp.configFile, '--json', ...args]);
}

describe('a large purge that is killed at random moments', function () {
  this.timeout(180_000);
  const KILLS = 4;
  const COUNT = MANY + 2500;
  const seed = Number(process.env['KILLS_SEED'] ?? Date.now() % 1_000_000);
  let temp: TempStore;

  beforeEach(async () => {
    temp = await TempStore.make({ policies: [OLD], limits: { maxFraction: null, maxObjects: null } }, FAST);
    for (let i = 0; i < COUNT; i++) temp.write(nameOf(i), 'content', DAY);
    await ctl(temp, 'sweep');
  });
  afterEach(() => {
    temp.remove();
  });

  it(`records all that it has removed, and the next one finishes it (KILLS_SEED=${seed})`, async () => {
    const random = seeded(seed);
    for (let kill = 0; kill < KILLS; kill++) {
      const args = [builtProgram('cli'), '--config', temp.configFile, 'purge'];
      const child = spawn(process.execPath, args, { stdio: 'ignore' });
      const ended = once(child, 'exit');
      await delay(300 + random(1200));
      child.kill('SIGKILL');
      await ended;
    }
    const last = await ctl(temp, 'purge');
    expect(last.code, last.stderr).to.equal(0);
    expect(temp.pending()).to.deep.equal([]);
    expectStates(temp, { purged: COUNT });
    const log = await ctl(temp, 'log', '--check');
    expect(log.code, log.stderr).to.equal(0);
  });
});
