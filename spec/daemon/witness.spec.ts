import { existsSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { loadConfig } from '../../lib/config/load.ts';
import { CatalogWatch } from '../../lib/daemon/catalog-watch.ts';
import { Log } from '../../lib/daemon/log.ts';
import { Service } from '../../lib/daemon/service.ts';
import type { Task } from '../../lib/daemon/store-loop.ts';
import { tasksOf } from '../../lib/daemon/store-tasks.ts';
import { type StoreWitness, Witness } from '../../lib/daemon/witness.ts';
import { type Clock, systemClock } from '../../lib/domain/clock.ts';
import { systemRandom } from '../../lib/domain/ids.ts';
import { putControl, putFence, putLease } from '../cli/claims.ts';
import { ask, samples } from '../metrics/scrape.ts';
import { ACTOR, DAY, HOUR } from '../support/place.ts';
import { freshBucket, s3ServerOrSkip } from '../support/s3-server.ts';
import { OLD, type StoreSettings, TempStore } from '../support/temp-store.ts';
import { Sink } from './sink.ts';

const SECRET = 'very-secret-name';
/** Every metric that is promised, and its labels. */
const PROMISED = {
  tombstoned_objects: ['state', 'store'],
  tombstoned_bytes: ['state', 'store'],
  tombstoned_due_objects: ['store'],
  tombstoned_due_bytes: ['store'],
  tombstoned_kept_objects: ['reason', 'store'],
  tombstoned_kept_bytes: ['reason', 'store'],
  tombstoned_oldest_due_timestamp_seconds: ['store'],
  tombstoned_last_success_timestamp_seconds: ['job', 'store'],
  tombstoned_runs_total: ['job', 'outcome', 'store'],
  tombstoned_run_duration_seconds_count: ['job', 'outcome', 'store'],
  tombstoned_waiting_sweeps: ['store'],
  tombstoned_paused: ['store'],
  tombstoned_leases: ['store'],
  tombstoned_oldest_lease_timestamp_seconds: ['store'],
  tombstoned_fence_age_seconds: ['store'],
  tombstoned_catalog_bytes: [],
  tombstoned_build_info: ['node', 'version'],
};

/** Real time, and more of it when a spec says so. */
class AheadClock implements Clock {
  ahead = 0;
  /** By how much wall time is wrong. */
  wrong = 0;
  now(): number {
    return systemClock.now() + this.ahead + this.wrong;
  }
  monotonic(): number {
    return systemClock.monotonic() + this.ahead;
  }
  uptime(): number {
    return systemClock.uptime() + this.ahead;
  }
  sinceBoot(): ReturnType<Clock['sinceBoot']> {
    const { boot, ms } = systemClock.sinceBoot();
    return { boot, ms: ms + this.ahead };
  }
  async isSynced(): Promise<boolean> {
    return false;
  }
  async sleep(ms: number, signal?: AbortSignal): Promise<void> {
    await systemClock.sleep(ms, signal);
  }
}

describe('metrics of the daemon', function () {
  this.timeout(30_000);

  let store: TempStore;
  let clock: AheadClock;
  let out: Sink;
  let witnesses: Witness[];
  const catalogs: CatalogWatch[] = [];
  let witness: Witness;
  let seen: StoreWitness;
  let stop: AbortController;
  let tasks: Task[];

  beforeEach(() => {
    store = new TempStore();
    clock = new AheadClock();
    witnesses = [];
    stop = new AbortController();
  });
  afterEach(async () => {
    for (const one of witnesses) await one.close();
    for (const one of catalogs.splice(0)) one.close();
    store.remove();
  });

  /** What the daemon does at its start, without its loop. */
  async function start(): Promise<void> {
    const config = loadConfig(store.configFile);
    out = new Sink();
    const log = new Log(config.log, { out, noColor: true, now: () => clock.now() });
    witness = new Witness({ config, clock, actor: ACTOR, log, version: '1.2.3' });
    witnesses.push(witness);
    const [first] = config.stores;
    if (first === undefined) throw new Error('no store');
    await witness.use(config);
    const service = new Service({ manager: undefined, clock, log });
    seen = witness.of(first, clock);
    const surroundings = { clock: seen.clock, random: systemRandom, actor: ACTOR };
    const catalog = new CatalogWatch(config.catalog);
    catalogs.push(catalog);
    const watch = service.watch(first.name);
    tasks = tasksOf({
      config,
      store: first,
      surroundings,
      log,
      watch,
      witness: seen,
      catalog,
      signal: stop.signal,
    });
  }

  async function setUp(settings: StoreSettings = {}, members: StoreSettings = {}): Promise<void> {
    store.configure(
      { main: { policies: [OLD], safetyWindow: '1d', ...settings } },
      {
        metrics: { listen: '127.0.0.1:0' },
        notify: `cat >> ${path.join(store.directory, 'told')}`,
        ...members,
      },
    );
    await store.init();
    await start();
  }

  /** A turn of the loop, and all that follows it in the background. */
  async function turn(which: 'sweep' | 'purge'): Promise<void> {
    await tasks[which === 'sweep' ? 0 : tasks.length - 1]?.run();
    await witness.idle();
  }

  async function scrape(): Promise<Record<string, number>> {
    clock.ahead += 6000; // older than that nothing may be that is cheap
    const { status, body } = await ask(`${witness.url ?? ''}/metrics`);
    expect(status).to.equal(200);
    return samples(body);
  }

  function told(): Record<string, unknown>[] {
    const file = path.join(store.directory, 'told');
    if (!existsSync(file)) return [];
    return readFileSync(file, 'utf8')
      .split('\n')
      .slice(0, -1)
      .map((line) => JSON.parse(line) as Record<string, unknown>);
  }

  const putPause = (): void =>
    putControl(
      store,
      'holds/h-20261122T101500123Z-k3v0q8.json',
      `${JSON.stringify({
        id: 'h-20261122T101500123Z-k3v0q8',
        kind: 'hold',
        blocks: 'sweep',
        prefix: '',
        until: null,
        reason: 'spec',
        by: 'spec',
        host: 'h',
        createdAt: '2026-11-22T10:15:00.123Z',
      })}\n`,
    );

  it('warn once of a plain store that holds an Aptos-family backup', async () => {
    store.write('metadata/transaction_0-99.meta', 'x');
    await setUp();
    await turn('sweep');
    await turn('sweep');
    const warned = out.text
      .split('\n')
      .filter((line) => line.includes('looks like a backup of an Aptos-family node'));
    expect(warned).to.have.length(1);
    expect(warned[0]).to.contain('set format: aptos');
  });

  it('say all that they promise, after a sweep and a purge', async () => {
    store.write(`${SECRET}/a`, 'aa', 2 * HOUR);
    store.write(`${SECRET}/b`, 'bbb', 2 * HOUR);
    await setUp();
    await turn('sweep');
    store.write('c', 'c', 2 * HOUR);
    clock.ahead += 12 * HOUR;
    await turn('sweep');
    clock.ahead += 13 * HOUR;
    putPause();
    putLease(store);
    putFence(store, {
      catalog: 'another',
      prefixes: ['elsewhere/'],
      startedAt: new Date(clock.now() - 90_000).toISOString(),
    });
    await turn('purge');
    const at = clock.now() / 1000;
    const found = await scrape();
    const shapes = new Map(
      Object.keys(found).map((name) => [
        name.replace(/\{.*/, ''),
        [...name.matchAll(/[{,](\w+)=/g)].map(([, label]) => label),
      ]),
    );
    for (const [name, labels] of Object.entries(PROMISED))
      expect(shapes.get(name), name).to.deep.equal(labels);
    const of = (name: string): number | undefined => found[`tombstoned_${name}{store="main"}`];
    expect(found['tombstoned_objects{state="pending",store="main"}']).to.equal(3);
    expect(found['tombstoned_bytes{state="pending",store="main"}']).to.equal(6);
    expect(found['tombstoned_objects{state="purged",store="main"}']).to.equal(0);
    expect(of('due_objects')).to.equal(2);
    expect(of('due_bytes')).to.equal(5);
    expect(of('oldest_due_timestamp_seconds')).to.be.within(at - HOUR / 1000 - 60, at - HOUR / 1000 + 60);
    expect(found['tombstoned_kept_objects{reason="hold",store="main"}']).to.equal(2);
    expect(found['tombstoned_kept_bytes{reason="hold",store="main"}']).to.equal(5);
    expect(found['tombstoned_kept_objects{reason="window",store="main"}']).to.equal(1);
    expect(found['tombstoned_last_success_timestamp_seconds{job="purge",store="main"}']).to.be.closeTo(
      at,
      20,
    );
    expect(found['tombstoned_runs_total{job="sweep",outcome="success",store="main"}']).to.equal(2);
    expect(found['tombstoned_runs_total{job="sweep",outcome="failure",store="main"}']).to.equal(0);
    expect(
      found['tombstoned_run_duration_seconds_count{job="purge",outcome="success",store="main"}'],
    ).to.equal(1);
    expect(of('waiting_sweeps')).to.equal(0);
    expect(of('paused')).to.equal(1);
    expect(of('leases')).to.equal(1);
    expect(of('oldest_lease_timestamp_seconds')).to.equal(Date.parse('2026-11-22T10:15:00.123Z') / 1000);
    expect(of('fence_age_seconds')).to.be.within(90, 120);
    expect(of('store_up')).to.equal(1);
    expect(of('store_wrong')).to.equal(0);
    expect(of('store_free_bytes')).to.be.above(0);
    expect(found['tombstoned_catalog_readable']).to.equal(1);
    expect(found['tombstoned_catalog_bytes']).to.be.at.least(statSync(store.catalogFile).size);
    expect(Object.keys(found).filter((name) => name.startsWith('tombstoned_build_info'))).to.deep.equal([
      `tombstoned_build_info{node="${process.version}",version="1.2.3"}`,
    ]);
  });

  it('name no key, whatever happens', async () => {
    store.write(`${SECRET}/a`, 'aa', 2 * HOUR);
    await setUp();
    await turn('sweep');
    const pending = path.join(store.root, 'pending_deletion', store.pending()[0] ?? '');
    writeFileSync(pending, 'changed');
    putLease(store, { prefixes: [SECRET] });
    clock.ahead += 2 * DAY;
    await turn('purge');
    rmSync(path.join(store.root, '.tombstoned/store.json'));
    await turn('purge');
    for (const page of ['/metrics', '/healthz', '/readyz', '/']) {
      const { body } = await ask(`${witness.url ?? ''}${page}`);
      expect(body, page).to.have.length.above(10).and.not.include(SECRET);
    }
    expect(JSON.stringify(out.lines())).to.include(SECRET); // the log does
  });

  it('count what is purged away beside it, and forget what is no longer so', async () => {
    store.write('a', 'a', 2 * HOUR);
    store.write('b', 'bb', 2 * HOUR);
    await setUp();
    await turn('sweep');
    const [first = ''] = store.pending();
    rmSync(path.join(store.root, 'pending_deletion', first));
    putPause();
    clock.ahead += 2 * DAY;
    await turn('purge');
    expect(await scrape()).to.include({
      'tombstoned_missing_copies_total{store="main"}': 0,
      'tombstoned_due_objects{store="main"}': 2,
    });
    rmSync(path.join(store.root, '.tombstoned/holds/h-20261122T101500123Z-k3v0q8.json'));
    await turn('purge');
    const found = await scrape();
    expect(found).to.include({
      'tombstoned_missing_copies_total{store="main"}': 1,
      'tombstoned_due_objects{store="main"}': 0,
      'tombstoned_paused{store="main"}': 0,
      'tombstoned_objects{state="purged",store="main"}': 2,
    });
    expect(found).to.not.have.any.keys(
      'tombstoned_kept_objects{reason="hold",store="main"}',
      'tombstoned_oldest_due_timestamp_seconds{store="main"}',
    );
    expect(told().map(({ event, detail }) => ({ event, detail }))).to.deep.equal([
      { event: 'missing', detail: { missing: 1 } },
    ]);
  });

  it('tell a disk that is another, or none', async () => {
    await setUp();
    const identity = path.join(store.root, '.tombstoned/store.json');
    const ours = readFileSync(identity, 'utf8');
    const other = JSON.stringify({ ...(JSON.parse(ours) as object), uuid: 'another' });
    writeFileSync(identity, `${other}\n`);
    await turn('purge');
    const wrong = 'tombstoned_store_wrong{store="main"}';
    const up = 'tombstoned_store_up{store="main"}';
    expect(await scrape()).to.include({
      [wrong]: 1,
      [up]: 0,
      'tombstoned_runs_total{job="purge",outcome="failure",store="main"}': 1,
    });
    expect(told()[0]).to.deep.include({ event: 'failure', store: 'main', about: 'purge' });
    expect(told()[0]?.['hint']).to.match(/mount the right disk/);
    renameSync(store.root, `${store.root}.away`);
    await turn('purge');
    expect(await scrape()).to.include({ [wrong]: 0, [up]: 0 });
    renameSync(`${store.root}.away`, store.root);
    writeFileSync(identity, ours);
    await turn('purge');
    expect(await scrape()).to.include({ [wrong]: 0, [up]: 1 });
    expect(told(), 'the same is told once an hour').to.have.length(1);
  });

  it('see what other processes do, at the next scrape, and look at the store only now and then', async () => {
    await setUp();
    await turn('purge');
    putLease(store, { blocks: 'purge' });
    expect(await scrape()).to.include({ 'tombstoned_leases{store="main"}': 0 });
    await witness.idle();
    expect(await scrape()).to.include({ 'tombstoned_leases{store="main"}': 0 });
    clock.ahead += 6 * 60_000;
    await scrape(); // asks for a look, and does not wait for it
    await witness.idle();
    expect(await scrape()).to.include({ 'tombstoned_leases{store="main"}': 1 });
    store.write('a', 'a', 2 * HOUR);
    const own = witness;
    await start();
    await turn('sweep');
    witness = own;
    expect(await scrape()).to.include({ 'tombstoned_objects{state="pending",store="main"}': 1 });
  });

  it('know the last success after a restart, and count runs anew', async () => {
    await setUp();
    await turn('purge');
    const name = 'tombstoned_last_success_timestamp_seconds{job="purge",store="main"}';
    const before = (await scrape())[name];
    await start();
    await scrape();
    await witness.idle();
    const found = await scrape();
    expect(found[name]).to.be.closeTo(before ?? 0, 1);
    expect(found).to.include({ 'tombstoned_runs_total{job="purge",outcome="success",store="main"}': 0 });
  });

  it('answer without a catalog, and say that it is gone', async () => {
    await setUp();
    await turn('purge');
    const away = `${store.catalogFile}.away`;
    for (const suffix of ['', '-wal', '-shm'])
      if (existsSync(store.catalogFile + suffix)) renameSync(store.catalogFile + suffix, away + suffix);
    const found = await scrape();
    expect(found).to.include({ tombstoned_catalog_readable: 0 });
    expect(found).to.not.have.any.keys('tombstoned_catalog_bytes');
    expect(existsSync(store.catalogFile), 'no scrape makes one').to.equal(false);
    renameSync(away, store.catalogFile);
    expect(await scrape()).to.include({ tombstoned_catalog_readable: 1 });
  });

  it('tell of a plan over its limit, which is no failure', async () => {
    for (const key of ['a', 'b', 'c']) store.write(key, key, 2 * HOUR);
    await setUp({ policies: [{ ...OLD, limits: { maxObjects: 2 } }] });
    await turn('sweep');
    clock.ahead += 2 * HOUR;
    await turn('sweep');
    expect(await scrape()).to.include({
      'tombstoned_waiting_sweeps{store="main"}': 1,
      'tombstoned_kept_objects{reason="limit",store="main"}': 3,
      'tombstoned_runs_total{job="sweep",outcome="failure",store="main"}': 0,
    });
    expect(told().map(({ event, about }) => [event, about])).to.deep.equal([['limit', 'old']]);
  });

  it('tell of a lease and a fence that are old', async () => {
    await setUp();
    clock.ahead += 10 * 365 * DAY;
    putLease(store, { acquiredAt: new Date(clock.now() - 23 * HOUR).toISOString(), ttlSeconds: 90_000 });
    putFence(store, { startedAt: new Date(clock.now() - 50 * 60_000).toISOString() });
    await turn('purge');
    expect(told()).to.deep.equal([]);
    clock.ahead += 2 * HOUR;
    await turn('purge');
    expect(
      told().map(({ event, message }) => `${String(event)}: ${String(message)}`.slice(0, 45)),
    ).to.deep.equal([
      'lease: an old lease keeps purges away: lease ',
      'fence: an old fence makes claims wait: a swee',
    ]);
  });

  it('tell of a clock that jumps, once, and of what it keeps', async () => {
    store.write('a', 'a', 2 * HOUR);
    await setUp();
    await turn('sweep');
    clock.ahead += 2 * DAY;
    clock.wrong = HOUR;
    await turn('purge');
    await turn('sweep');
    await turn('purge');
    expect(await scrape()).to.include({
      'tombstoned_clock_wrong{store="main"}': 1,
      'tombstoned_due_objects{store="main"}': 1,
      'tombstoned_kept_objects{reason="clock",store="main"}': 1,
    });
    expect(told().map(({ event }) => event)).to.deep.equal(['clock']);
    expect(told()[0]?.['hint']).to.match(/tombstonectl clock/);
    clock.wrong = 0;
    await turn('purge');
    expect(await scrape()).to.include({
      'tombstoned_clock_wrong{store="main"}': 0,
      'tombstoned_objects{state="purged",store="main"}': 1,
    });
  });

  it('tell of a lease that is taken as dead', async () => {
    store.write('a', 'a', 2 * HOUR);
    await setUp();
    await turn('sweep');
    clock.ahead += 2 * DAY;
    const acquiredAt = new Date(clock.now()).toISOString();
    const { id } = putLease(store, { ttlSeconds: 60, acquiredAt, blocks: 'purge' });
    await turn('purge');
    expect(told()).to.deep.equal([]);
    clock.ahead += 61_000;
    await turn('purge');
    expect(told()).to.have.length(1);
    expect(told()[0]).to.deep.include({ event: 'lease', about: id, store: 'main' });
    expect(told()[0]?.['message']).to.match(/not renewed for its TTL of 60 s: it is taken as dead$/);
    expect(store.pending()).to.deep.equal([]);
  });

  it('say when what the dead have left was seen to, and when a loop hangs', async () => {
    await setUp();
    const page = async (name: string) => {
      const { status, type, body } = await ask(`${witness.url ?? ''}/${name}`);
      expect(type).to.equal('application/json');
      return { status, ...(JSON.parse(body) as object) };
    };
    expect(await page('readyz')).to.deep.equal({ status: 503, ready: false, stores: { main: 'recovering' } });
    expect(await page('healthz')).to.deep.equal({ status: 200, alive: true, stores: { main: 'ok' } });
    await turn('purge');
    expect(await page('readyz')).to.deep.equal({ status: 200, ready: true, stores: { main: 'recovered' } });
    const wake = new AbortController();
    const sleeping = seen.clock.sleep(HOUR, wake.signal);
    clock.ahead += HOUR + 9 * 60_000;
    expect(await page('healthz'), 'who sleeps need not say so').to.include({ status: 200 });
    clock.ahead += 2 * 60_000;
    expect(await page('healthz')).to.deep.equal({
      status: 503,
      alive: false,
      stores: { main: 'silent for 11m' },
    });
    wake.abort();
    await sleeping;
    expect(await page('healthz')).to.include({ status: 200 });
    clock.ahead += 11 * 60_000;
    expect(await page('healthz')).to.include({ status: 503 });
    seen.leave();
    expect(await page('healthz'), 'its loop has ended').to.include({ status: 200 });
  });

  it('are not there, and nothing is read for them, when they are off', async () => {
    await setUp({}, { metrics: null, notify: null, log: { level: 'debug' } });
    expect(witness.url).to.equal(undefined);
    writeFileSync(path.join(store.root, '.tombstoned/leases/l-x.json'), ''); // a look would tell of it
    await turn('purge');
    expect(told()).to.deep.equal([]);
    expect(out.lines().filter(({ message }) => /while looking|metrics/.test(String(message)))).to.deep.equal(
      [],
    );
  });

  it('move with a changed config', async () => {
    await setUp();
    const config = loadConfig(store.configFile);
    const before = witness.url ?? '';
    await witness.use({ ...config, metrics: { listen: { host: '127.0.0.2', port: 0 } }, notify: null });
    expect(witness.url).to.match(/^http:\/\/127\.0\.0\.2:/);
    expect(await ask(`${witness.url ?? ''}/metrics`)).to.include({ status: 200 });
    const error = await ask(before).catch((refused: NodeJS.ErrnoException) => refused);
    expect(error).to.have.property('code', 'ECONNREFUSED');
    await witness.use({ ...config, metrics: { listen: null } });
    expect(witness.url).to.equal(undefined);
  });

  it('say once that their port is taken, and are there when it is free', async () => {
    await setUp();
    const { port } = new URL(witness.url ?? '');
    const other = witness;
    store.configure({ main: { safetyWindow: '1d' } }, { metrics: { listen: `127.0.0.1:${port}` } });
    await start();
    const problems = (): unknown[] =>
      out.lines().filter(({ level, key }) => level === 'error' && key === 'metrics.listen');
    expect(problems()).to.have.length(1);
    await turn('purge');
    expect(problems()).to.have.length(1);
    expect(witness.url).to.equal(undefined);
    await other.close();
    await turn('purge');
    expect(await scrape()).to.include({
      'tombstoned_runs_total{job="purge",outcome="success",store="main"}': 2,
    });
  });

  it('count the requests to a store in S3 by what became of them', async function () {
    const server = s3ServerOrSkip(this);
    const bucket = await freshBucket(server);
    process.env['AWS_ACCESS_KEY_ID'] = server.accessKeyId;
    process.env['AWS_SECRET_ACCESS_KEY'] = server.secretAccessKey;
    try {
      await setUp({
        url: `s3://${bucket.name}/x`,
        s3: { endpoint: server.endpoint, region: 'us-east-1', forcePathStyle: true },
      });
      await turn('purge');
      const found = await scrape();
      const of = (op: string, outcome: string): number =>
        found[`tombstoned_store_requests_total{op="${op}",outcome="${outcome}",store="main"}`] ?? 0;
      expect(of('GetObject', 'answered'), JSON.stringify(found)).to.be.above(0);
      expect(of('ListObjectsV2', 'answered')).to.be.above(0);
      expect(found).to.include({ 'tombstoned_store_up{store="main"}': 1 });
      expect(found).to.not.have.any.keys('tombstoned_store_free_bytes{store="main"}');
    } finally {
      delete process.env['AWS_ACCESS_KEY_ID'];
      delete process.env['AWS_SECRET_ACCESS_KEY'];
      await bucket.remove();
    }
  });
});
