import { rmSync } from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { Catalog } from '../../lib/catalog/catalog.ts';
import { runLockFile, takeLock } from '../../lib/catalog/run-lock.ts';
import { OLD, type TempStore } from '../support/temp-store.ts';
import { beforeAllBuild, ctl, ctlWith, hold, tempStores } from './ctl.ts';

const DAY = 86_400_000;
const ID = /^\d{8}T\d{9}Z-[0-9a-z]{14}$/;
const ISO = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;
const UNKNOWN = '20261122T101500123Z-k3v0q8tzm2xj4d';

const MEMBERS = [
  'type',
  'id',
  'store',
  'key',
  'pendingKey',
  'state',
  'size',
  'revision',
  'reason',
  'policy',
  'sweep',
  'tombstonedAt',
  'purgeAfter',
  'dueAt',
  'kept',
  'keptBy',
];

describe('looking with tombstonectl', () => {
  beforeAllBuild();
  const stores = tempStores();

  async function swept(keys: readonly string[], settings = {}): Promise<TempStore> {
    const store = await stores.make({ policies: [OLD], safetyWindow: '7d', ...settings });
    for (const key of keys) store.write(key, key, DAY);
    await ctl(store, 'sweep');
    return store;
  }

  /** The objects in a member of the answer's objects. */
  function partsOf(objects: readonly Record<string, unknown>[], member: string) {
    return objects.flatMap((object) => object[member] as Record<string, unknown>[]);
  }

  describe('ls', () => {
    it('lists tombstones, oldest first, with these members', async () => {
      const store = await swept(['logs/a', 'logs/bb']);
      const answer = await ctl(store, '--json', 'ls');
      expect(answer).to.include({ code: 0, stderr: '' });
      expect(answer.objects).to.have.length(2);
      const [first, second] = answer.objects;
      expect(Object.keys(first ?? {})).to.deep.equal(MEMBERS);
      expect(first?.['id']).to.match(ID);
      expect(String(first?.['id']) < String(second?.['id'])).to.equal(true);
      const a = answer.objects.find(({ key }) => key === 'logs/a');
      expect(a).to.deep.include({
        type: 'tombstone',
        store: 'main',
        state: 'pending',
        size: 6,
        reason: 'older than 1h',
        policy: 'old',
        pendingKey: `pending_deletion/logs/a~${String(a?.['id'])}`,
        kept: ['window'],
      });
      expect(a?.['revision']).to.match(/^6\|\d+$/);
      for (const member of ['tombstonedAt', 'purgeAfter', 'dueAt']) expect(a?.[member]).to.match(ISO);
    });

    it('is a table for people, and says when it is empty', async () => {
      const store = await swept(['logs/a', 'a\tb']);
      const answer = await ctl(store, 'list');
      expect(answer.lines[0]).to.match(/^ID +STATE +SIZE +GOES +KEY$/);
      expect(answer.lines.slice(1).toSorted()).to.have.length(2);
      expect(answer.stdout).to.match(/^\S{34} {2}pending +6 B {2}in (?:7d|6d 23h) +logs\/a$/m);
      expect(answer.stdout).to.include(String.raw`"a\tb"`);
      const none = await ctl(store, 'ls', '--state', 'purged');
      expect(none).to.include({ code: 0, stdout: '', stderr: 'tombstonectl: no tombstones\n' });
      expect(await ctl(store, '--json', 'ls', '--state', 'purged')).to.include({ stdout: '', stderr: '' });
    });

    it('takes filters, and all of them at once', async () => {
      const store = await swept(['logs/a', 'logs/b', 'x/a']);
      await ctl(store, 'restore', 'logs/b');
      store.write('logs/c', 'c', DAY);
      await ctl(store, 'sweep');
      const keys = async (...filter: string[]): Promise<unknown> =>
        (await ctl(store, '--json', 'ls', ...filter)).objects.map(({ key }) => key);
      expect(await keys('--state', 'restored')).to.deep.equal(['logs/b']);
      expect(await keys('--prefix', 'logs/')).to.have.members(['logs/a', 'logs/b', 'logs/c']);
      expect(await keys('--sweep', 'last')).to.deep.equal(['logs/c']);
      expect(await keys('--due-before', '6d')).to.deep.equal([]);
      expect(await keys('--due-before', '8d')).to.have.length(4);
      const all = ['--prefix', 'logs/', '--state', 'pending', '--sweep', 'last', '--due-before', '8d'];
      expect(await keys(...all)).to.deep.equal(['logs/c']);
      const [oldest] = (await ctl(store, '--json', 'sweeps')).objects.slice(-1);
      expect(await keys('--sweep', String(oldest?.['sweep']))).to.have.members(['logs/a', 'logs/b', 'x/a']);
      expect((await ctl(store, 'ls', '--sweep', 's-20261122T101500123Z-k3v0q8')).code).to.equal(3);
    });

    it('goes by today’s window where that is longer than the recorded one', async () => {
      const store = await swept(['a'], { safetyWindow: '1h' });
      store.configure({ main: { policies: [OLD], safetyWindow: '30d' } });
      const due = await ctl(store, '--json', 'ls', '--due-before', '2d');
      expect(due.objects).to.deep.equal([]);
      const [one] = (await ctl(store, '--json', 'ls')).objects;
      const wait = Date.parse(String(one?.['dueAt'])) - Date.parse(String(one?.['purgeAfter']));
      expect(wait).to.equal(30 * DAY - 3_600_000);
    });

    it('is cut at the limit, says how to go on, and goes on there', async () => {
      const store = await swept(['a', 'b', 'c', 'd', 'e']);
      const all = await ctl(store, '--json', 'ls', '--limit', '0');
      const pages: unknown[] = [];
      let after: string[] = [];
      for (let page = 1; page <= 3; page++) {
        const answer = await ctl(store, '--json', 'ls', '--limit', '2', ...after);
        pages.push(...answer.objects.map(({ id }) => id));
        const [, next] = /there are more: add --after (\S+), /.exec(answer.stderr) ?? [];
        expect(next !== undefined, answer.stderr).to.equal(page < 3);
        after = ['--after', next ?? ''];
      }
      expect(pages).to.deep.equal(all.objects.map(({ id }) => id));
      expect((await ctl(store, 'ls', '--limit', '5')).stderr).to.equal('');
    });

    it('is of all stores, or of one', async () => {
      const store = await stores.make();
      store.configure({ main: { policies: [OLD] }, other: { policies: [OLD] } });
      await store.init();
      store.write('a', 'a', DAY);
      store.write('b', 'b', DAY, store.rootOf('other'));
      await ctl(store, 'sweep');
      const both = await ctl(store, '--json', 'ls');
      expect(both.objects.map((object) => object['store'])).to.deep.equal(['main', 'other']);
      const one = await ctl(store, '--json', '--store', 'other', 'ls');
      expect(one.objects.map(({ key }) => key)).to.deep.equal(['b']);
      expect((await ctl(store, 'ls')).stdout)
        .to.match(/^ID +STORE +STATE/)
        .and.match(/ other +pending /);
    });

    it('tells what a hold keeps, and works while the store is away', async () => {
      const store = await swept(['held/a', 'b'], { safetyWindow: '0s' });
      hold(store, 'held/');
      const kept = async () => {
        const { objects, ...answer } = await ctl(store, '--json', 'ls');
        return {
          ...answer,
          kept: Object.fromEntries(objects.map((one) => [String(one['key']), one['kept']])),
        };
      };
      expect((await kept()).kept).to.deep.equal({ 'held/a': ['hold'], b: [] });
      rmSync(store.root, { recursive: true });
      const away = await kept();
      expect(away.code).to.equal(0);
      expect(away.kept).to.deep.equal({ 'held/a': ['hold'], b: [] });
      expect(away.stderr).to.include('holds may be out of date');
    });
  });

  describe('show', () => {
    it('is one tombstone with its history', async () => {
      const store = await swept(['logs/a'], { safetyWindow: '0s' });
      const [listed] = (await ctl(store, '--json', 'ls')).objects;
      const id = String(listed?.['id']);
      await ctl(store, 'restore', id);
      const answer = await ctl(store, '--json', 'show', id);
      expect(answer).to.include({ code: 0, stderr: '' });
      const [object] = answer.objects;
      expect(Object.keys(object ?? {})).to.deep.equal([...MEMBERS, 'events']);
      expect(object).to.deep.include({ id, state: 'restored', kept: ['window', 'exempt'] });
      const events = partsOf(answer.objects, 'events');
      expect(events.map(({ what }) => what)).to.deep.equal(['moved', 'restored']);
      for (const event of events) {
        expect(Object.keys(event)).to.deep.equal(['at', 'what', 'by', 'detail']);
        expect(event['at']).to.match(ISO);
        expect(event['by']).to.match(/^.+@.+$/);
      }
      const text = await ctl(store, 'show', id);
      expect(text.stdout)
        .to.match(/^ {2}key +logs\/a$/m)
        .and.match(/^ {2}kept by +window until \S+, exempt until/m);
      expect(text.stdout).to.match(/^ {2}\S+ {2}moved +by \S+@\S+, in a batch of 1$/m);
    });

    it('tells when and by whom it was purged', async () => {
      const store = await swept(['a', 'b'], { safetyWindow: '0s' });
      await ctl(store, 'purge');
      const [one] = (await ctl(store, '--json', 'ls')).objects;
      const { objects } = await ctl(store, '--json', 'show', String(one?.['id']));
      expect(objects[0]).to.deep.include({ state: 'purged', pendingKey: null, dueAt: null, kept: [] });
      const events = partsOf(objects, 'events');
      expect(events.map(({ what }) => what)).to.deep.equal(['moved', 'purged']);
      expect(events[1]?.['by']).to.match(/^.+@.+$/);
    });

    it('exits with 3 for one that there is not', async () => {
      const store = await swept(['a']);
      const answer = await ctl(store, '--json', 'show', UNKNOWN);
      expect(answer).to.include({ code: 3, stdout: '' });
      expect(answer.error).to.include({ code: 'not-found', key: UNKNOWN });
    });
  });

  describe('sweeps', () => {
    it('are listed newest first, and shown one by one', async () => {
      const store = await swept(['a'], { limits: { maxFraction: null } });
      store.write('b', 'b', DAY);
      await ctl(store, 'tombstone', 'b', '--reason', 'why not');
      const { objects } = await ctl(store, '--json', 'sweeps');
      expect(objects).to.have.length(2);
      expect(objects[0]).to.include({
        type: 'sweep',
        store: 'main',
        state: 'done',
        moved: 1,
        reason: 'why not',
      });
      expect(objects[1]).to.include({
        moved: 1,
        planned: 1,
        bytes: 1,
        failed: 0,
        dryRun: false,
        reason: null,
      });
      for (const one of objects) {
        expect(one['startedAt']).to.match(ISO);
        expect(one['endedAt']).to.match(ISO);
      }
      expect((await ctl(store, '--json', 'sweeps', '--limit', '1')).objects).to.deep.equal([objects[0]]);
      expect((await ctl(store, '--json', 'sweeps', 'last')).objects).to.deep.equal([objects[0]]);
      const text = await ctl(store, 'sweeps');
      expect(text.lines).to.have.length(3);
      expect(text.lines[1]).to.match(/^s-\S{26} {2}main +done +1 +0 +1 B {2}\S+Z$/);
      const one = await ctl(store, 'sweeps', String(objects[1]?.['sweep']));
      expect(one.stdout).to.include('moved    1 of 1 planned object, 1 B');
    });

    it('are not what only pretended', async () => {
      const store = await swept(['a']);
      store.write('b', 'b', DAY);
      await ctl(store, 'sweep', '--dry-run');
      await ctl(store, 'tombstone', 'b', '--dry-run');
      await ctl(store, 'tombstone', 'zz', '--dry-run');
      expect((await ctl(store, '--json', 'sweeps')).objects).to.have.length(1);
    });

    it('may be none', async () => {
      const store = await stores.make();
      expect((await ctl(store, 'sweeps')).stderr).to.include('no sweeps yet');
      expect((await ctl(store, 'sweeps', 'last')).code).to.equal(3);
      expect((await ctl(store, 'sweeps', 's-20261122T101500123Z-k3v0q8')).code).to.equal(3);
      expect((await ctl(store, 'sweeps', 'x')).code).to.equal(2);
    });
  });

  describe('status', () => {
    it('sums a store up', async () => {
      const store = await swept(['held/a', 'b', 'c'], { safetyWindow: '0s' });
      hold(store, 'held/');
      await ctl(store, 'restore', 'c');
      const { objects, code } = await ctl(store, '--json', 'status');
      expect(code).to.equal(0);
      expect(objects).to.have.length(1);
      expect(objects[0]?.['type']).to.equal('status');
      const [one] = partsOf(objects, 'stores');
      expect(one).to.deep.include({ name: 'main', url: store.url, due: 2, kept: { hold: 1 }, leases: 0 });
      expect(one).to.deep.include({ holds: 1, exemptions: 1, lastPurge: null, openRuns: [] });
      expect(one?.['counts']).to.include({ pending: 2, restored: 1, purged: 0 });
      expect(one?.['bytes']).to.include({ pending: 7, restored: 1 });
      expect(one?.['nextPurge']).to.match(ISO);
      expect(one?.['lastSweep']).to.include({ type: 'sweep', moved: 3 });
      const goes = one?.['goes'] as { label: string; count: number; bytes: number }[];
      expect(goes.map(({ label }) => label)).to.deep.equal([
        'now',
        '1h',
        '6h',
        '1d',
        '3d',
        '7d',
        '30d',
        'later',
      ]);
      expect(goes.filter(({ count }) => count > 0)).to.deep.equal([
        { label: 'now', count: 2, bytes: 7 },
        { label: '1h', count: 1, bytes: 1 },
      ]);
      await ctl(store, 'purge');
      const [after] = partsOf((await ctl(store, '--json', 'status')).objects, 'stores');
      expect(after?.['lastPurge']).to.include({ kind: 'purge', outcome: 'done' });
      expect(after?.['counts']).to.include({ pending: 1, purged: 1 });
    });

    it('says that nothing is swept or purged, by which hold, and what ends that', async () => {
      const store = await stores.make();
      const paused = async (...more: string[]): Promise<string | undefined> => {
        expect((await ctl(store, 'pause', '--reason', 'a new disk', ...more)).code).to.equal(0);
        return /^ {2}paused .*$/m.exec((await ctl(store, 'status')).stdout)?.[0];
      };
      expect(await paused()).to.match(
        /nothing is swept or purged until tombstonectl --store main resume: hold h-\S+ of .*: a new disk$/,
      );
      const [one] = partsOf((await ctl(store, '--json', 'status')).objects, 'stores');
      expect(partsOf([one ?? {}], 'pauses')).to.have.length(1);
      expect(partsOf([one ?? {}], 'pauses')[0]).to.include({
        reason: 'a new disk',
        until: null,
        problem: null,
      });
      expect((await ctl(store, 'resume')).code).to.equal(0);
      expect(await paused('--until', '2100-01-01T00:00:00Z')).to.include('until 2100-01-01T00:00:00.000Z: ');
      hold(store, 'a/');
      expect((await ctl(store, 'resume')).code).to.equal(0);
      expect((await ctl(store, 'status')).stdout).not.to.include('paused');
    });

    it('tells a run whose process lives from what a dead one has left', async () => {
      const store = await swept(['a']);
      const id = 'r-20261122T101500123Z-k3v0q8';
      const file = runLockFile(store.catalogFile, id);
      const held = takeLock(file);
      const catalog = Catalog.open(store.catalogFile);
      const n = catalog.storeByName('main')?.n ?? 0;
      const of = { pid: 4711, host: 'h', boot: 'b', by: 'a@h', now: Date.now(), lock: held?.identity ?? '' };
      catalog.runs.begin({ id, store: n, kind: 'sweep', ...of });
      catalog.close();
      const life = async (): Promise<unknown> => {
        const [one] = partsOf((await ctl(store, '--json', 'status')).objects, 'stores');
        return partsOf([one ?? {}], 'openRuns').map((run) => run['life']);
      };
      expect(await life()).to.deep.equal(['running']);
      expect((await ctl(store, 'status')).stdout).to.match(
        /^ {2}running {5}sweep by a@h, pid 4711, since \S+$/m,
      );
      held?.release();
      expect(await life()).to.deep.equal(['died']);
      expect((await ctl(store, 'status')).stdout).to.match(
        /^ {2}died {8}sweep by .*: the next sweep, purge/m,
      );
      rmSync(file);
      expect(await life()).to.deep.equal(['unclear']);
    });

    it('draws what goes when, in the characters of the locale', async () => {
      const store = await swept(['a', 'b']);
      store.configure({ main: { policies: [OLD], safetyWindow: '40d' } });
      const draw = async (env: Record<string, string>): Promise<string> =>
        (await ctlWith({ env }, '--config', store.configFile, 'status')).stdout;
      expect(await draw({ LC_ALL: 'C.UTF-8' })).to.match(/^ {4}later {2}2 {2}2 B {2}█{40}$/m);
      for (const env of [{ LC_ALL: 'C' }, { LC_ALL: 'C.UTF-8', TERM: 'dumb' }]) {
        const text = await draw(env);
        expect(text)
          .to.match(/^ {4}later {2}2 {2}2 B {2}#{40}$/m)
          .and.match(/^ {4}now {4}0$/m);
      }
    });

    it('is of an empty store too, of all stores, and while a store is away', async () => {
      const store = await stores.make();
      store.configure({ main: {}, other: {} });
      await store.init();
      rmSync(path.join(store.directory, 'other'), { recursive: true });
      const text = await ctl(store, 'status');
      expect(text.code).to.equal(0);
      expect(text.stdout).to.match(/^main {2}file:.*\n {2}no tombstones\n {2}due +0\n/);
      expect(text.stdout)
        .to.match(/^other {2}file:/m)
        .and.match(/last sweep {2}never\n {2}last purge {2}never/);
      expect(text.stderr).to.include('other: holds may be out of date');
      const { objects } = await ctl(store, '--json', '--store', 'main', 'status');
      expect(partsOf(objects, 'stores')[0]).to.include({
        name: 'main',
        nextPurge: null,
        lastSweep: null,
      });
    });
  });
});
