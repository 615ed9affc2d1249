import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { recover } from '../../lib/app/recover.ts';
import { TombstonedError } from '../../lib/domain/errors.ts';
import { restore } from '../../lib/restore/restore.ts';
import type { Place } from '../../lib/run/place.ts';
import { waitForFences } from '../../lib/run/wait-for-fences.ts';
import { createHold } from '../../lib/store/holds.ts';
import { type LeaseBody, leasePath, leaseText } from '../../lib/store/leases.ts';
import { Faults } from '../support/faults.ts';
import {
  allTombstones,
  bringBack,
  FAST,
  keys,
  pendingFiles,
  purgeDue,
  readThrough,
  sweepOld,
  tombstonesOf,
} from '../support/phases.ts';
import { age, DAY, TempPlace } from '../support/place.ts';
import { errno, type FsCall, watchedFs } from '../support/watched-fs.ts';

const KEYS = ['a/one', 'a/two', 'b/three'];

describe('a batch', () => {
  let temp: TempPlace;

  beforeEach(async () => {
    temp = await TempPlace.make(FAST);
    for (const key of KEYS) temp.write(key, `content of ${key}`, 3 * DAY);
  });

  afterEach(() => {
    temp.remove();
  });

  function control(...names: string[]): string {
    return path.join(temp.root, '.tombstoned', ...names);
  }

  function fences(): string[] {
    return readdirSync(control('fences'));
  }

  function lease(settings: Partial<LeaseBody> = {}): LeaseBody {
    const body: LeaseBody = {
      id: 'l-20261122T100000000Z-000000',
      holder: 'a restore',
      host: 'restore-host',
      pid: 1,
      prefixes: [''],
      blocks: 'sweep',
      ttlSeconds: 3600,
      acquiredAt: new Date(temp.clock.wall).toISOString(),
      renewal: 0,
      ...settings,
    };
    writeFileSync(control(leasePath(body.id)), leaseText(body));
    return body;
  }

  function release({ id }: LeaseBody): void {
    rmSync(control(leasePath(id)));
  }

  /** A place whose disk lets somebody act before each rename of a live file. */
  function acting(act: (n: number) => void): Place {
    let n = 0;
    const isMove = ({ name, values }: FsCall): boolean =>
      name === 'rename' && /^(\.\/|.*\/)(one|two|three)$/.test(String(values[0]));
    return temp.open({ fs: watchedFs((call) => isMove(call) && act(++n)) });
  }

  async function failure(work: Promise<unknown>): Promise<TombstonedError> {
    const error: unknown = await work.then(
      () => undefined,
      (thrown: unknown) => thrown,
    );
    if (!(error instanceof TombstonedError)) throw new Error(`no clear error: ${String(error)}`);
    return error;
  }

  it('is announced while objects move, by its run, catalog and prefixes, and not after', async () => {
    const seen: unknown[] = [];
    const place = acting(() => {
      for (const name of fences()) {
        const text = readFileSync(control('fences', name), 'utf8');
        expect(text.endsWith('\n')).to.equal(true);
        seen.push({ name, ...JSON.parse(text) });
      }
    });
    await sweepOld(place, { policies: [age({ prefix: 'a/' }), age({ name: 'other', prefix: 'b/' })] });
    const run = place.catalog.runs.last(place.row.n, 'sweep')?.id;
    const [fence] = seen;
    expect(fence).to.deep.include({
      run,
      kind: 'sweep',
      catalog: place.catalog.uuid,
      prefixes: ['a/', 'b/'],
    });
    expect(fence).to.have.property('name', `${run}-1.json`);
    expect(fences()).to.deep.equal([]);
    expect(pendingFiles(temp)).to.have.length(KEYS.length);
  });

  it('is announced while copies are purged, and not after', async () => {
    const sweeping = temp.open();
    await sweepOld(sweeping);
    temp.clock.advance(temp.window + DAY);
    const seen: string[][] = [];
    const fs = watchedFs(({ name }) => {
      if (name === 'unlinkAsync') seen.push(fences());
    });
    const { purged } = await purgeDue(temp.open({ fs }));
    expect(purged).to.equal(KEYS.length);
    expect(seen).to.have.length(KEYS.length);
    for (const names of seen) expect(names).to.have.length(1);
    expect(fences()).to.deep.equal([]);
  });

  it('moves nothing that a lease on sweeps covers, and says so', async () => {
    lease({ prefixes: ['a/'] });
    const place = temp.open();
    const result = await sweepOld(place);
    expect(result).to.include({ planned: 3, moved: 1 });
    expect([...result.kept]).to.deep.equal([['lease', 2]]);
    expect(temp.live('a/one')).to.equal('content of a/one');
    expect(temp.live('b/three')).to.equal(undefined);
  });

  it('moves what a lease on purges covers, and purges nothing of it', async () => {
    const held = lease({ prefixes: ['a/'], blocks: 'purge' });
    const place = temp.open();
    expect((await sweepOld(place)).moved).to.equal(3);
    temp.clock.suspend(temp.window + DAY); // time in which no look has seen the lease stand still
    const kept: string[] = [];
    const result = await purgeDue(place, {
      onKept: ({ key }, reason, detail) => kept.push(`${key} ${reason} ${detail}`),
    });
    expect(result).to.include({ due: 3, purged: 1 });
    expect(kept).to.have.length(2);
    for (const line of kept)
      expect(line).to.match(/^a\/\w+ lease lease l-\S+ of a restore on restore-host, since /);
    expect((await purgeDue(place, { dryRun: true })).purged).to.equal(0);
    release(held);
    expect((await purgeDue(place)).purged).to.equal(2);
  });

  for (const [what, text] of Object.entries({
    empty: '',
    'cut short': '{"id":"l-2026',
    'of a future version': '{"id":"l-20261122T100000000Z-000000","prefixes":["x/"],"blocks":"reads"}\n',
    'without a line end': leaseText({
      id: 'l-20261122T100000000Z-000000',
      holder: '',
      host: '',
      pid: 1,
      prefixes: ['x/'],
      blocks: 'purge',
      ttlSeconds: 1,
      acquiredAt: '',
      renewal: 1,
    }).trimEnd(),
  })) {
    it(`takes a lease that is ${what} as one over everything that never dies, and names its file`, async () => {
      writeFileSync(control('leases/l-20261122T100000000Z-000000.json'), text);
      const place = temp.open();
      for (let look = 0; look < 3; look++) {
        expect((await sweepOld(place)).moved).to.equal(0);
        temp.clock.advance(400 * DAY);
      }
      const told = temp.talk.filter((line) =>
        line.startsWith('error: .tombstoned/leases/l-20261122T100000000Z-000000.json'),
      );
      expect(told).to.have.length(1);
      rmSync(control('leases/l-20261122T100000000Z-000000.json'));
      expect((await sweepOld(place)).moved).to.equal(3);
    });
  }

  it('waits once for a session that lists, and not for one that comes meanwhile', async () => {
    const listing = lease();
    const place = temp.open();
    let sleeps = 0;
    const sleep = temp.clock.sleep.bind(temp.clock);
    temp.clock.sleep = async (ms) => {
      if (fences().length > 0) sleeps++;
      // It has seen the fence, and waits for this batch.
      if (sleeps === 3) lease({ id: 'l-20261122T100000000Z-111111' });
      if (sleeps === 5) release(listing);
      await sleep(ms);
    };
    const result = await sweepOld(place, { batchSize: 2 });
    // The second batch has seen the second session's lease, and does not wait again.
    expect(result).to.include({ moved: 2 });
    expect([...result.kept]).to.deep.equal([['lease', 1]]);
    expect(sleeps).to.equal(5);
  });

  it('waits no longer than its patience for a lease that stays', async () => {
    lease();
    const began = temp.clock.mono;
    expect((await sweepOld(temp.open(), { batchSize: 1 })).moved).to.equal(0);
    expect(temp.clock.mono - began).to.be.within(20_000, 21_000);
    expect(fences()).to.deep.equal([]);
  });

  it('ends when its own fence is broken while it takes long, and recovery sees to the rest', async () => {
    for (let i = 0; i < 500; i++) temp.write(`many/${i}`, `content ${i}`, 3 * DAY);
    let renames = 0;
    const fs = watchedFs(({ name, values }) => {
      if (name !== 'rename' || !String(values[1]).includes('~')) return;
      renames++;
      if (renames !== 150) return;
      for (const fence of fences()) rmSync(control('fences', fence));
      temp.clock.advance(11_000);
    });
    const place = temp.open({ fs });
    const error = await failure(sweepOld(place));
    expect(error).to.include({ code: 'blocked', reason: 'fence' });
    expect(error.message).to.match(/^fence r-\S+-1\.json of this run was broken/);
    const moved = pendingFiles(temp).length;
    expect(moved).to.be.within(150, 300);
    const next = temp.open();
    await recover(next);
    expect(next.catalog.runs.open(next.row.n)).to.deep.equal([]);
    expect(allTombstones(next).filter(({ state }) => state === 'pending')).to.have.length(moved);
    for (let i = 0; i < 500; i += 50) expect(await readThrough(next, `many/${i}`)).to.equal(`content ${i}`);
    expect((await sweepOld(next)).moved).to.equal(503 - moved);
  });

  it('whose own fence has gone before it began moves nothing', async () => {
    const fs = watchedFs(({ name, values }) => {
      // The look at the leases: an operator breaks the fence just then.
      if (name !== 'opendir' || !existsSync(control('fences'))) return;
      if (!readdirSync(control('leases')).length && String(values[0]).endsWith('/.')) {
        for (const fence of fences()) rmSync(control('fences', fence));
      }
    });
    const error = await failure(sweepOld(temp.open({ fs })));
    expect(error).to.include({ code: 'blocked', reason: 'fence' });
    expect(pendingFiles(temp)).to.deep.equal([]);
  });

  it('is announced by an empty fence on a full disk, which covers everything', async () => {
    const seen: [string, number][] = [];
    const fs = watchedFs(({ name, values }) => {
      if (name === 'write' && String(values[1]).includes('"batch":')) throw errno('ENOSPC');
      if (name !== 'rename' || !String(values[1]).includes('~')) return;
      for (const fence of fences()) seen.push([fence, readFileSync(control('fences', fence)).length]);
    });
    const place = temp.open({ fs });
    expect((await sweepOld(place)).moved).to.equal(3);
    expect(seen).to.have.length(3);
    for (const [, size] of seen) expect(size).to.equal(0);
    expect(fences()).to.deep.equal([]);
    expect(readdirSync(control('tmp'))).to.deep.equal([]);
  });

  it('whose fence a power cut brings back after the end has it taken down by recovery, and nobody else has', async () => {
    const saved = new Map<string, Buffer>();
    const place = acting(() => {
      for (const name of fences()) saved.set(name, readFileSync(control('fences', name)));
    });
    await sweepOld(place);
    const [[name, body] = ['', Buffer.alloc(0)]] = saved;
    const foreign = 'r-20261122T100000000Z-ffffff-1.json';
    for (const up of [name, foreign]) writeFileSync(control('fences', up), body);
    await recover(place);
    expect(fences()).to.deep.equal([foreign]);
    expect(temp.talk.filter((text) => text.includes(`took down fence ${name}`))).to.have.length(1);
  });

  describe('of a run that died', () => {
    /** A sweep that is killed after its first rename. */
    async function killed(): Promise<void> {
      let renames = 0;
      const dying = new Faults();
      const fs = dying.fs();
      const place = temp.open({
        fs: {
          ...fs,
          rename: (from, to) => {
            fs.rename(from, to);
            if (to.includes('~') && ++renames === 1) {
              dying.end();
              throw new Error('killed');
            }
          },
        },
        catalog: (catalog) => dying.catalog(catalog),
      });
      await sweepOld(place).catch(() => undefined);
      temp.abandon(place);
    }

    async function hold(prefix: string): Promise<void> {
      const place = temp.open();
      await createHold(place.store.control, {
        id: 'h-20261122T100000000Z-000000',
        kind: 'hold',
        blocks: 'sweep',
        scope: { by: 'prefix', prefix },
        until: null,
        reason: 'spec',
        by: 'spec',
        host: 'spec',
        createdAt: new Date(temp.clock.wall).toISOString(),
        problem: null,
      });
      temp.close(place);
    }

    it('is finished under the fence that it left, whatever holds and leases say now; the fence goes last', async () => {
      await killed();
      expect(fences()).to.have.length(1);
      await hold('');
      lease();
      const place = temp.open();
      await recover(place);
      expect(fences()).to.deep.equal([]);
      expect(place.catalog.runs.open(place.row.n)).to.deep.equal([]);
      const states = allTombstones(place).map(({ state }) => state);
      expect(states.filter((state) => state === 'pending')).to.have.length(1);
      for (const key of KEYS) expect(await readThrough(place, key)).to.equal(`content of ${key}`);
    });

    it('keeps its fence while requests of it may still take effect, by the store’s own time', async () => {
      await killed();
      const place = temp.open();
      let storeTime = 1_000_000;
      Object.assign(place.store, {
        late: { for: 31 * 60_000, time: async () => storeTime, isQuiet: () => false },
      });
      for (const passed of [0, 60_000, 30 * 60_000]) {
        storeTime = 1_000_000 + passed;
        await recover(place);
        expect(fences(), `${passed} ms later`).to.have.length(1);
        expect(place.catalog.runs.open(place.row.n)).to.have.length(1);
        expect(allTombstones(place).filter(({ state }) => state === 'moving')).not.to.deep.equal([]);
      }
      temp.clock.advance(-DAY); // nobody's clock but the store's counts
      storeTime = 1_000_000 + 31 * 60_000;
      await recover(place);
      expect(fences()).to.deep.equal([]);
      expect(place.catalog.runs.open(place.row.n)).to.deep.equal([]);
    });

    it('is left for later where its fence was broken and a hold covers it, and finished when that is gone', async () => {
      await killed();
      for (const fence of fences()) rmSync(control('fences', fence));
      await hold('a/');
      const place = temp.open();
      await recover(place);
      expect(place.catalog.runs.open(place.row.n)).to.have.length(1);
      expect(allTombstones(place).filter(({ state }) => state === 'moving')).to.have.length(2);
      expect(temp.talk.some((line) => line.includes('kept by hold h-20261122T100000000Z-000000'))).to.equal(
        true,
      );
      rmSync(control('holds/h-20261122T100000000Z-000000.json'));
      await recover(place);
      expect(place.catalog.runs.open(place.row.n)).to.deep.equal([]);
      expect(fences()).to.deep.equal([]);
      for (const key of KEYS) expect(await readThrough(place, key)).to.equal(`content of ${key}`);
    });

    it('is not touched where its fence names another catalog', async () => {
      await killed();
      const [name = ''] = fences();
      const fence = JSON.parse(readFileSync(control('fences', name), 'utf8'));
      writeFileSync(control('fences', name), `${JSON.stringify({ ...fence, catalog: 'another' })}\n`);
      const place = temp.open();
      await recover(place);
      expect(fences()).to.deep.equal([name]);
      expect(place.catalog.runs.open(place.row.n)).to.have.length(1);
      expect(temp.talk.some((line) => line.includes('of catalog another'))).to.equal(true);
    });

    it('is waited for by a claimer, who goes on when recovery is through', async () => {
      await killed();
      const place = temp.open();
      let sleeps = 0;
      const sleep = temp.clock.sleep.bind(temp.clock);
      temp.clock.sleep = async (ms) => {
        await sleep(ms);
        if (++sleeps === 4) await recover(place);
      };
      await waitForFences(place.store, ['a/'], { clock: temp.clock });
      expect(sleeps).to.equal(4);
      expect(fences()).to.deep.equal([]);
    });
  });

  describe('that a claimer sees', () => {
    function fence(name: string, body: object | string): void {
      const text = typeof body === 'string' ? body : `${JSON.stringify(body)}\n`;
      writeFileSync(control('fences', name), text);
    }

    const ABOUT_B = {
      run: 'r-20261122T100000000Z-000000',
      batch: 1,
      catalog: 'c',
      boot: 'b',
      kind: 'purge',
      prefixes: ['b/'],
      host: 'elsewhere',
      pid: 7,
      startedAt: '2026-11-22T10:00:00.000Z',
    };
    const NAME = 'r-20261122T100000000Z-000000-1.json';

    it('is no matter where it is about other prefixes', async () => {
      fence(NAME, ABOUT_B);
      const began = temp.clock.mono;
      await waitForFences(temp.open().store, keys('a/one'), { clock: temp.clock });
      expect(temp.clock.mono).to.equal(began);
    });

    it('is waited for, and named when it is not over in time', async () => {
      fence(NAME, ABOUT_B);
      const error = await failure(
        waitForFences(temp.open().store, ['b'], { clock: temp.clock, timeout: 5000 }),
      );
      expect(error).to.include({ code: 'blocked', reason: 'fence', key: NAME });
      expect(error.message).to.include('a purge of elsewhere, pid 7, since 2026-11-22T10:00:00.000Z');
      expect(temp.clock.mono).to.be.within(5000, 6100);
    });

    it('is not waited for when it came after the first look', async () => {
      fence(NAME, ABOUT_B);
      const sleep = temp.clock.sleep.bind(temp.clock);
      temp.clock.sleep = async (ms) => {
        await sleep(ms);
        fence('r-20261122T100000000Z-000000-2.json', { ...ABOUT_B, batch: 2 });
        rmSync(control('fences', NAME), { force: true });
      };
      await waitForFences(temp.open().store, ['b/'], { clock: temp.clock, timeout: 5000 });
      expect(fences()).to.deep.equal(['r-20261122T100000000Z-000000-2.json']);
    });

    for (const [what, text] of Object.entries({
      empty: '',
      'cut short': '{"run"',
      'of a future kind': '{"kind":"merge"}\n',
    })) {
      it(`counts as one over everything when it is ${what}`, async () => {
        fence(NAME, text);
        const error = await failure(
          waitForFences(temp.open().store, keys('a/one'), { clock: temp.clock, timeout: 1000 }),
        );
        expect(error.message).to.include(NAME);
      });
    }
  });

  describe('where listings may be stale', () => {
    it('waits to settle before it looks, and is announced once for a minute of work', async () => {
      const place = temp.open({ settle: 65_000 });
      const began = temp.clock.mono;
      const result = await sweepOld(place, { batchSize: 1 });
      expect(result.moved).to.equal(3);
      expect(temp.clock.mono - began).to.be.within(65_000, 66_000);
      expect(fences()).to.deep.equal([]);
      temp.clock.advance(temp.window + DAY);
      const purging = temp.clock.mono;
      expect((await purgeDue(place)).purged).to.equal(3);
      expect(temp.clock.mono - purging).to.be.within(65_000, 66_000);
    });

    it('is not waited for by its own run: a forced restore of two pages goes through', async () => {
      for (const key of ['logs/1', 'logs/10']) temp.write(key, `old ${key}`, 3 * DAY);
      const place = temp.open({ settle: 65_000 });
      await sweepOld(place, { policies: [age({ prefix: 'logs/' })] });
      const pages = ['logs/1', 'logs/10'].map((key) => tombstonesOf(place, key));
      for (const key of ['logs/1', 'logs/10']) temp.write(key, `new ${key}`);
      const outcomes: string[] = [];
      await restore(place, {
        pages,
        to: null,
        force: true,
        exemptFor: DAY,
        dryRun: false,
        onOutcome: ({ key, outcome }) => outcomes.push(`${key} ${outcome}`),
      });
      expect(outcomes).to.deep.equal(['logs/1 restored', 'logs/10 restored']);
      expect(temp.live('logs/10')).to.equal('old logs/10');
      expect(fences()).to.deep.equal([]);
    });

    it('goes on without a dead lease only when its holder can find the mark', async () => {
      const held = lease({ ttlSeconds: 60 });
      const place = temp.open({ settle: 65_000 });
      await sweepOld(place);
      temp.clock.advance(60_000 + 65_000);
      const seen: string[] = [];
      const sleep = temp.clock.sleep.bind(temp.clock);
      temp.clock.sleep = async (ms) => {
        if (ms === 65_000) seen.push(readdirSync(control('leases')).join(' '));
        await sleep(ms);
      };
      expect((await sweepOld(place)).moved).to.equal(3);
      expect(seen).to.deep.equal([`${held.id}.json`, `${held.id}.broken ${held.id}.json`]);
      expect(readdirSync(control('leases'))).to.deep.equal([`${held.id}.broken`]);
    });

    it('keeps a claimer waiting for all that it may take, and not for ever', async () => {
      const name = 'r-20261122T100000000Z-000000-1.json';
      writeFileSync(control('fences', name), '');
      const { store } = temp.open({ settle: 65_000 });
      const began = temp.clock.mono;
      // The mover has just put it up: it settles, works for a minute, and this host's caches show it for 65 s more.
      const isUp = (): boolean => temp.clock.mono - began < 65_000 + 65_000 + 60_000 + 64_000;
      const sleep = temp.clock.sleep.bind(temp.clock);
      temp.clock.sleep = async (ms) => {
        await sleep(ms);
        if (!isUp()) rmSync(control('fences', name), { force: true });
      };
      await waitForFences(store, [''], { clock: temp.clock, timeout: 5000 });
      writeFileSync(control('fences', name), '');
      temp.clock.sleep = sleep;
      const error = await failure(waitForFences(store, [''], { clock: temp.clock, timeout: 5000 }));
      expect(error).to.include({ code: 'blocked', reason: 'fence' });
    });
  });

  it('that was taken and not begun, because somebody stops the sweep, counts as nothing', async () => {
    for (let i = 0; i < 40; i++) temp.write(`many/${String(i).padStart(2, '0')}`, 'x', 3 * DAY);
    const place = temp.open();
    const stop = new AbortController();
    const options = { batchSize: 5, signal: stop.signal, onProgress: () => stop.abort() };
    const result = await sweepOld(place, options);
    expect(result.isCut).to.equal(true);
    expect(result.moved).to.be.within(5, 15);
    expect(place.catalog.sweeps.latest(place.row.n, 1)[0]).to.include({
      moved: result.moved,
      failed: 0,
      abandoned: 0,
    });
    expect(pendingFiles(temp)).to.have.length(result.moved);
    expect(fences()).to.deep.equal([]);
  });

  it('is not begun after somebody stops a sweep that waits for a lease', async () => {
    lease();
    const stop = new AbortController();
    const sleep = temp.clock.sleep.bind(temp.clock);
    temp.clock.sleep = async (ms) => {
      if (fences().length > 0) stop.abort();
      await sleep(ms);
    };
    const began = temp.clock.mono;
    const result = await sweepOld(temp.open(), { signal: stop.signal });
    expect(result).to.include({ isCut: true, moved: 0 });
    expect(temp.clock.mono - began).to.be.below(2000);
    expect(fences()).to.deep.equal([]);
  });

  it('of a purge looks for its fence again when the catalog has kept it waiting', async () => {
    const place = temp.open();
    await sweepOld(place);
    temp.clock.advance(temp.window + DAY);
    const slow = new Proxy(place.catalog, {
      get: (target, name) => {
        const value: unknown = Reflect.get(target, name, target);
        if (name !== 'transaction') return typeof value === 'function' ? value.bind(target) : value;
        return (work: () => unknown): unknown => {
          const result = target.transaction(work);
          if (fences().length > 0) {
            for (const fence of fences()) rmSync(control('fences', fence));
            temp.clock.wall += 3_600_000; // the machine was suspended: only its wall clock shows that
          }
          return result;
        };
      },
    });
    const error = await failure(purgeDue({ ...place, catalog: slow }));
    expect(error).to.include({ code: 'blocked', reason: 'fence' });
    expect(pendingFiles(temp)).to.have.length(3);
  });

  it('of a dry run breaks no lease, however dead', async () => {
    const held = lease({ ttlSeconds: 60 });
    const place = temp.open();
    await purgeDue(place, { dryRun: true });
    temp.clock.advance(61_000);
    await purgeDue(place, { dryRun: true });
    expect(readdirSync(control('leases'))).to.deep.equal([`${held.id}.json`]);
    await purgeDue(place);
    temp.write('c', 'x', 3 * DAY);
    expect((await sweepOld(place)).moved).to.equal(4);
    expect(readdirSync(control('leases'))).to.deep.equal([`${held.id}.broken`]);
  });

  it('keeps from coming back only what it is about: the rest of a bulk restore goes on', async () => {
    const place = temp.open();
    await sweepOld(place);
    const fence = {
      run: 'r-20261122T100000000Z-000000',
      batch: 1,
      catalog: 'c',
      boot: 'b',
      kind: 'purge',
      prefixes: ['a/one'],
      host: 'h',
      pid: 1,
      startedAt: '',
    };
    writeFileSync(control('fences/r-20261122T100000000Z-000000-1.json'), `${JSON.stringify(fence)}\n`);
    const outcomes = await bringBack(place, allTombstones(place), { fenceTimeout: 1000 });
    expect(outcomes.map(({ key, outcome, reason }) => `${key} ${outcome} ${reason}`)).to.have.members([
      'a/one blocked fence',
      'a/two restored null',
      'b/three restored null',
    ]);
    expect(temp.live('a/one')).to.equal(undefined);
    expect(temp.live('a/two')).to.equal('content of a/two');
  });
});
