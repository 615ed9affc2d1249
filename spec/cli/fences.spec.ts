import { expect } from 'chai';
import { Catalog } from '../../lib/catalog/catalog.ts';
import { type FileLock, runLockFile, takeLock } from '../../lib/catalog/run-lock.ts';
import { OLD, type TempStore } from '../support/temp-store.ts';
import { controlOf, listIn, partIn, putControl, putFence, RUN } from './claims.ts';
import { beforeAllBuild, ctl, ctlWith, tempStores } from './ctl.ts';

const DAY = 86_400_000;

describe('tombstonectl fence', () => {
  beforeAllBuild();
  const stores = tempStores();
  let locks: FileLock[];
  beforeEach(() => {
    locks = [];
  });
  afterEach(() => {
    for (const lock of locks) lock.release();
  });

  /** A run of this catalog, whose lock this process holds, with a fence. */
  function running(store: TempStore): { id: string; die: () => void } {
    const lock = takeLock(runLockFile(store.catalogFile, RUN));
    if (lock === undefined) throw new Error('the lock is taken');
    locks.push(lock);
    const catalog = Catalog.open(store.catalogFile);
    const n = catalog.storeByName('main')?.n ?? 0;
    const of = { pid: 4711, host: 'h2', boot: 'b', by: 'a@h2', now: Date.now(), lock: lock.identity };
    catalog.runs.begin({ id: RUN, store: n, kind: 'sweep', ...of });
    const id = putFence(store, { catalog: catalog.uuid });
    catalog.close();
    return {
      id,
      die: () => {
        locks = [];
        lock.release();
      },
    };
  }

  it('ls shows what is up, since when, and whether its run lives', async () => {
    const store = await stores.make();
    const none = await ctl(store, 'fence', 'ls');
    expect(none).to.include({ code: 0, stdout: '' });
    const { id, die } = running(store);
    putFence(store, { batch: 2, kind: 'purge', prefixes: [''] });
    putControl(store, `fences/${RUN}-3.json`, '');
    const lives = async (...where: string[]): Promise<unknown> =>
      (await ctlWith({}, ...where, '--json', 'fence', 'ls')).objects.map(({ life }) => life);
    const config = ['--config', store.configFile];
    // The third can't be read: its name says which run it is of.
    expect(await lives(...config)).to.deep.equal(['running', 'elsewhere', 'running']);
    expect(await lives('--url', store.url)).to.deep.equal(['elsewhere', 'elsewhere', 'unclear']);
    const [first] = (await ctl(store, '--json', 'fence', 'ls')).objects;
    expect(first).to.deep.include({ type: 'fence', store: 'main', id, run: RUN, kind: 'sweep' });
    expect(first).to.deep.include({ host: 'h2', pid: 4711, prefixes: ['logs/'], problem: null });
    expect(first?.['ageSeconds']).to.be.within(89, 3600);
    const text = await ctl(store, 'fence', 'ls');
    expect(text.lines[0]).to.match(
      /^r-\S+-1 {2}main {2}sweep of h2, pid 4711, since \S+ \(1m \d+s\) {2}\(below "logs\/", running\)$/,
    );
    expect(text.lines[2]).to.include(`.tombstoned/fences/${RUN}-3.json is empty, cut short`);
    die();
    expect(await lives(...config)).to.deep.equal(['died', 'elsewhere', 'died']);
  });

  it('is in status, with its age; and in explain, of what its batch is about', async () => {
    const store = await stores.make({ policies: [OLD] });
    store.write('logs/a', 'a', DAY);
    const { id, die } = running(store);
    const fences = async () => {
      const [one] = (await ctl(store, '--json', 'status')).objects;
      return listIn(listIn(one, 'stores')[0], 'fences');
    };
    expect(await fences()).to.have.length(1);
    expect((await fences())[0]).to.include({ id, life: 'running', kind: 'sweep' });
    expect((await ctl(store, 'status')).stdout).to.match(
      /^ {2}fence {7}sweep of h2, pid 4711, for 1m \d+s, running \(r-\S+-1\)$/m,
    );
    const why = async (...where: string[]): Promise<Readonly<Record<string, unknown>>> => {
      const [one] = (await ctlWith({}, ...where, '--json', 'explain', 'logs/a')).objects;
      const live = partIn(one, 'live');
      const kept = listIn(live, 'kept');
      expect(kept.map(({ reason }) => reason)).to.deep.equal(['fence']);
      // It keeps nothing from the next sweep.
      expect(live['takenBy']).to.equal(where[0] === '--url' ? null : 'old');
      return kept[0] ?? {};
    };
    const config = ['--config', store.configFile];
    expect((await why(...config))['detail'])
      .to.include('announces its batch')
      .and.include('under way');
    die();
    expect((await why(...config))['change']).to.include('any sweep, purge or restore finishes');
    expect((await why('--url', store.url))['change']).to.include(`fence break ${id} --reason TEXT --force`);
    expect((await fences())[0]).to.include({ life: 'died' });
  });

  it('break is refused while the lock of its run is held, whatever is vouched for, and allowed when it is free', async () => {
    const store = await stores.make();
    const { id, die } = running(store);
    const why = ['--reason', 'x'];
    for (const force of [[], ['--force']]) {
      const answer = await ctl(store, '--json', 'fence', 'break', id, ...why, ...force);
      expect(answer).to.include({ code: 5, stdout: '' });
      expect(answer.error).to.include({ code: 'blocked', reason: 'fence', key: `${id}.json` });
      expect(answer.error?.['message']).to.include('its lock is held');
    }
    die();
    const dry = await ctl(store, 'fence', 'break', id, '--dry-run', ...why);
    expect(dry.stdout).to.include('would be broken');
    expect(controlOf(store, 'fences')).to.deep.equal([`${id}.json`]);
    const answer = await ctl(store, '--json', 'fence', 'break', id, ...why);
    expect(answer.code).to.equal(0);
    expect(answer.objects[0]).to.include({ type: 'fence-broken', id, outcome: 'broken', life: 'died' });
    expect(answer.stderr).to.include('any sweep or purge recovers its run');
    expect(controlOf(store, 'fences')).to.deep.equal([]);
    expect((await ctl(store, 'fence', 'break', id, ...why)).code).to.equal(3);
  });

  it('break goes only by --force where its catalog is another, or is not at hand', async () => {
    const store = await stores.make();
    for (const where of [
      ['--config', store.configFile],
      ['--url', store.url],
    ]) {
      const id = putFence(store);
      const refused = await ctlWith({}, ...where, '--json', 'fence', 'break', id, '--reason', 'x');
      expect(refused).to.include({ code: 5, stdout: '' });
      expect(refused.error?.['message']).to.include('catalog another, on h2');
      expect(refused.error?.['hint']).to.include('--force');
      expect(controlOf(store, 'fences')).to.deep.equal([`${id}.json`]);
      const broken = await ctlWith({}, ...where, 'fence', 'break', id, '--reason', 'x', '--force');
      expect(broken.code, broken.stderr).to.equal(0);
      expect(controlOf(store, 'fences')).to.deep.equal([]);
    }
  });

  it('that a dead run left goes with the next purge, and whoever waited for it goes on', async () => {
    const store = await stores.make();
    const { die } = running(store);
    const hold = ['hold', 'logs/a', '--reason', 'x', '--fence-timeout', '0s'];
    expect((await ctl(store, ...hold)).code).to.equal(5);
    die();
    expect((await ctl(store, 'purge')).code).to.equal(0);
    expect(controlOf(store, 'fences')).to.deep.equal([]);
    const held = await ctl(store, ...hold);
    expect(held.code).to.equal(0);
    expect(held.stdout).to.include('in force already');
  });
});
