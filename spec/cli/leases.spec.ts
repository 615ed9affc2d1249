import { readFileSync, rmSync } from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { OLD, type TempStore } from '../support/temp-store.ts';
import { controlOf, LEASE, listIn, partIn, putControl, putLease } from './claims.ts';
import { beforeAllBuild, ctl, ctlWith, tempStores } from './ctl.ts';

const DAY = 86_400_000;
const FREE = { policies: [OLD], limits: { maxFraction: null } };

describe('tombstonectl lease', () => {
  beforeAllBuild();
  const stores = tempStores();

  async function swept(...keys: string[]): Promise<TempStore> {
    const store = await stores.make(FREE);
    for (const key of keys) store.write(key, key, DAY);
    await ctl(store, 'sweep');
    return store;
  }

  it('ls shows each with these members, by the config and by the URL', async () => {
    const store = await stores.make(FREE);
    const none = await ctl(store, 'lease', 'ls');
    expect(none).to.include({ code: 0, stdout: '' });
    expect(none.stderr).to.include('no leases');
    const { renewal } = putLease(store, { prefixes: ['logs/'], blocks: 'purge' });
    const { objects, code } = await ctl(store, '--json', 'lease', 'ls');
    expect(code).to.equal(0);
    const still = objects[0]?.['stillSeconds'];
    expect(still).to.be.a('number');
    const lease = {
      type: 'lease',
      id: LEASE,
      store: 'main',
      holder: 'fetch',
      host: 'h2',
      pid: 4711,
      prefixes: ['logs/'],
      blocks: 'purge',
      ttlSeconds: 3600,
      acquiredAt: '2026-11-22T10:15:00.123Z',
      renewal,
      dead: false,
      stillSeconds: still,
      problem: null,
    };
    expect(objects).to.deep.equal([lease]);
    expect((await ctl(store, 'lease', 'ls')).stdout).to.match(
      /^l-\S+ {2}main {2}fetch on h2, pid 4711, since \S+ {2}\(below "logs\/", blocks purges, TTL 1h, renewed 7 times, unchanged for \d+m?s/,
    );
    const far = await ctlWith({}, '--url', store.url, '--json', 'lease', 'ls');
    // Nobody has watched it there.
    expect(far.objects).to.deep.equal([{ ...lease, store: store.url, dead: null, stillSeconds: null }]);
  });

  it('is told by purge, status, ls, show and explain where it keeps something', async () => {
    const store = await swept('logs/a', 'b');
    putLease(store, { prefixes: ['logs/'] });
    store.write('logs/live', 'x', DAY);
    const change = `it ends with its restore; if that is dead, tombstonectl --store main lease break ${LEASE} --reason TEXT`;

    const status = listIn((await ctl(store, '--json', 'status')).objects[0], 'stores');
    expect(status[0]).to.deep.include({ due: 2, kept: { lease: 1 }, leases: 1, holds: 0 });
    expect((await ctl(store, 'status')).stdout).to.include('in force    1 lease, 0 holds, 0 exemptions');

    const listed = (await ctl(store, '--json', 'ls')).objects;
    const a = listed.find(({ key }) => key === 'logs/a');
    expect(a?.['kept']).to.deep.equal(['lease']);
    const [keptBy] = listIn(a, 'keptBy');
    expect(keptBy).to.include({ reason: 'lease', by: LEASE, until: null });
    expect(keptBy?.['detail']).to.match(/^lease l-\S+ of fetch on h2, .*ends 1h after its last renewal$/);
    expect((await ctl(store, 'ls')).stdout).to.match(/ {2}kept: lease {1,2}logs\/a$/m);
    expect((await ctl(store, 'show', String(a?.['id']))).stdout).to.match(/kept by {5}lease \(lease l-/);

    for (const [where, ctlText] of [
      [['--config', store.configFile], change],
      [['--url', store.url], change.replace('--store main', `--url ${store.url}`)],
    ] as const) {
      const [copy] = (await ctlWith({}, ...where, '--json', 'explain', 'logs/a')).objects;
      const kept = listIn(listIn(copy, 'copies')[0], 'kept');
      expect(kept).to.have.length(1);
      expect(kept[0]).to.include({ reason: 'lease', until: null, change: ctlText });
      const [live] = (await ctlWith({}, ...where, '--json', 'explain', 'logs/live')).objects;
      expect(partIn(live, 'live')['takenBy']).to.equal(null);
      expect(listIn(partIn(live, 'live'), 'kept').map(({ reason }) => reason)).to.deep.equal(['lease']);
    }

    for (const dryRun of [['--dry-run'], []]) {
      const purged = await ctl(store, 'purge', ...dryRun);
      expect(purged.stdout).to.include('1 of 2 due objects').and.include('kept 1 lease');
      expect(purged.stderr).to.match(/kept 1 object: lease l-\S+ of fetch on h2, since 2026-11-22T10:15/);
    }
    expect(store.pending().map((name) => name.replace(/~.*/, ''))).to.deep.equal(['logs/a']);
  });

  it('that only blocks purges keeps no live object', async () => {
    const store = await stores.make(FREE);
    store.write('a', 'a', DAY);
    putLease(store, { blocks: 'purge' });
    for (const where of [
      ['--config', store.configFile],
      ['--url', store.url],
    ]) {
      const [one] = (await ctlWith({}, ...where, '--json', 'explain', 'a')).objects;
      expect(listIn(partIn(one, 'live'), 'kept')).to.deep.equal([]);
    }
    expect((await ctl(store, 'sweep')).stdout).to.include('moved 1 object');
  });

  it('break marks it, takes it away, and says so; a second time that it was', async () => {
    const store = await swept('a');
    putLease(store);
    const why = ['--reason', 'its host is gone'];
    const dry = await ctl(store, '--json', 'lease', 'break', LEASE, '--dry-run', ...why);
    expect(dry.objects[0]).to.include({ type: 'lease-broken', id: LEASE, outcome: 'would be' });
    expect(controlOf(store, 'leases')).to.deep.equal([`${LEASE}.json`]);
    const { objects, code } = await ctl(store, '--json', 'lease', 'break', LEASE, ...why);
    expect(code).to.equal(0);
    expect(objects[0]).to.include({ outcome: 'broken', holder: 'fetch', host: 'h2', marked: true });
    expect(controlOf(store, 'leases')).to.deep.equal([`${LEASE}.broken`]);
    const mark = path.join(store.root, `.tombstoned/leases/${LEASE}.broken`);
    expect(JSON.parse(readFileSync(mark, 'utf8'))).to.include({ reason: 'its host is gone' });
    const again = await ctl(store, 'lease', 'break', LEASE, ...why);
    expect(again).to.include({ code: 0, stdout: `${LEASE}  was broken already\n` });
    expect((await ctl(store, 'purge')).stdout).to.include('purged 1 of 1');
  });

  it('break goes by the URL alone, past what there is not, which is exit 3', async () => {
    const store = await stores.make();
    putLease(store);
    const unknown = 'l-20261122T101500123Z-000000';
    const input = `${unknown}\n{"type":"lease","id":"${LEASE}"}\n`;
    const args = ['--json', 'lease', 'break', '--from-file', '-', '--reason', 'x'];
    const answer = await ctlWith({ input }, '--url', store.url, ...args);
    expect(answer.code).to.equal(3);
    expect(answer.objects.map(({ outcome }) => outcome)).to.deep.equal(['broken']);
    expect(answer.error).to.include({ code: 'not-found', key: unknown });
  });

  it('that can’t be read is named by its file, and break takes it', async () => {
    const store = await swept('a');
    putControl(store, 'leases/README', 'not ours');
    const { objects } = await ctl(store, '--json', 'lease', 'ls');
    expect(objects[0]).to.include({ id: 'README', dead: false, renewal: null });
    expect(objects[0]?.['problem']).to.be.a('string');
    const purged = await ctl(store, 'purge');
    expect(purged.stderr).to.include('.tombstoned/leases/README');
    expect(purged.stdout).to.include('kept 1 lease');
    const broken = await ctl(store, 'lease', 'break', 'README', '--reason', 'x');
    expect(broken.code).to.equal(0);
    expect(broken.stdout).to.include('no holder can be told');
    expect((await ctl(store, 'purge')).stdout).to.include('purged 1 of 1');
  });

  it('is not known of a store that is away', async () => {
    const store = await swept('a');
    rmSync(store.root, { recursive: true });
    const { objects, code, stderr } = await ctl(store, '--json', 'status');
    expect(code).to.equal(0);
    expect(listIn(objects[0], 'stores')[0]).to.include({ leases: null });
    expect(stderr).to.include('leases are not known');
    expect((await ctl(store, 'status')).stdout).to.include('leases not known');
  });

  it('needs to be told what to do', async () => {
    const store = await stores.make();
    for (const [args, says] of [
      [['lease'], 'lease needs ls or break'],
      [['lease', 'rm'], 'there is no lease "rm"'],
      [['lease', 'ls', 'x'], 'lease ls takes no "x"'],
      [['lease', 'ls', '--reason', 'x'], 'lease ls takes no --reason'],
      [['lease', 'break', '--reason', 'x'], "lease break needs a lease's id"],
      [['lease', 'break', LEASE], 'lease break needs a --reason'],
      [['fence', 'ls', '--force'], 'fence ls takes no --force'],
      [['fence', 'break', 'x'], 'fence break needs a --reason'],
    ] as const) {
      const answer = await ctl(store, ...args);
      expect(answer.code, args.join(' ')).to.equal(2);
      expect(answer.stderr, args.join(' ')).to.include(says);
    }
  });
});
