import { chmodSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { OLD } from '../support/temp-store.ts';
import { beforeAllBuild, ctl, ctlWith, hold, ordinaryUser, tempStores } from './ctl.ts';

const DAY = 86_400_000;
const FREE = { maxFraction: null };

describe('tombstonectl sweep', () => {
  beforeAllBuild();
  const stores = tempStores();

  it('moves what has expired, and says so', async () => {
    const store = await stores.make({ policies: [OLD] });
    store.write('logs/a', 'aa', DAY);
    store.write('logs/b', 'bbb', DAY);
    store.write('logs/new', 'n');
    const answer = await ctl(store, '--json', 'sweep');
    expect(answer.code, answer.stderr).to.equal(0);
    expect(answer.stderr).to.equal('');
    expect(answer.objects).to.have.length(1);
    const [summary] = answer.objects;
    expect(summary?.['sweep']).to.match(/^s-\d{8}T\d{9}Z-[0-9a-z]{6}$/);
    expect({ ...summary, sweep: '' }).to.deep.equal({
      type: 'sweep',
      sweep: '',
      store: 'main',
      planned: 2,
      moved: 2,
      abandoned: 0,
      failed: 0,
      bytes: 5,
      dryRun: false,
      waiting: [],
      kept: {},
      plans: [],
    });
    expect(store.live()).to.deep.equal({ 'logs/new': 'n' });
    expect(store.pending()).to.have.length(2);
    const text = await ctl(store, 'sweep');
    expect(text.lines[0]).to.equal('main: old takes 0 of 1 object');
    expect(text.lines[1]).to.match(/^main: moved 0 objects, 0 B \(sweep s-.*\)$/);
  });

  it('moves nothing with --dry-run, and lists what it would', async () => {
    const store = await stores.make({ policies: [{ ...OLD, keepLast: 1 }], protect: ['b'] });
    store.write('a\nb', 'aa', 3 * DAY);
    store.write('b', 'b', 2 * DAY);
    store.write('c', 'c', DAY);
    const answer = await ctl(store, '--json', 'sweep', '--dry-run');
    expect(answer.code, answer.stderr).to.equal(0);
    expect(answer.objects.slice(0, -1)).to.deep.equal([
      { type: 'planned', key: 'a\nb', size: 2, policy: 'old', reason: 'older than 1h' },
    ]);
    expect(answer.objects.at(-1)).to.deep.include({
      sweep: null,
      planned: 1,
      moved: 0,
      bytes: 2,
      dryRun: true,
      kept: { protected: 1, 'keep-last': 1 },
    });
    expect(Object.keys(store.live())).to.have.length(3);
    const text = await ctl(store, 'sweep', '--dry-run');
    expect(text.lines[0]).to.equal(String.raw`"a\nb"  2 B, old: older than 1h`);
    expect(text.lines.at(-1)).to.equal('main: would move 1 object, 2 B; nothing was moved');
  });

  it('is of one policy with --policy', async () => {
    const store = await stores.make({
      policies: [
        { ...OLD, name: 'a', prefix: 'a/' },
        { ...OLD, name: 'b', prefix: 'b/' },
      ],
    });
    store.write('a/1', '1', DAY);
    store.write('b/1', '1', DAY);
    expect((await ctl(store, 'sweep', '--policy', 'b')).code).to.equal(0);
    expect(store.live()).to.deep.equal({ 'a/1': '1' });
  });

  it('exits with 5 when a policy is over a limit, and says so once', async () => {
    const store = await stores.make({ policies: [{ ...OLD, limits: { maxObjects: 1 } }] });
    store.write('a', 'a', DAY);
    store.write('b', 'b', DAY);
    const [text, json] = [await ctl(store, 'sweep'), await ctl(store, '--json', 'sweep')];
    expect(text.code).to.equal(5);
    expect(text.stderr.match(/maxObjects is 1/g)).to.have.length(1);
    expect(json.code).to.equal(5);
    expect(json.objects[0]).to.deep.include({ moved: 0, waiting: ['old'], kept: { limit: 2 } });
    expect(json.error).to.include({ code: 'blocked', reason: 'limit', key: 'old' });
    expect(Object.keys(store.live())).to.have.length(2);
  });

  it('tells what is no object, and goes on', async () => {
    const store = await stores.make({ policies: [OLD] });
    store.write('a', 'a', DAY);
    symlinkSync('/etc/passwd', path.join(store.root, 'link'));
    const answer = await ctl(store, 'sweep');
    expect(answer.code).to.equal(0);
    expect(answer.stderr).to.include('link stays: it is a symbolic link');
    expect(store.pending()).to.have.length(1);
  });

  it('goes on past a store that can’t be used, and ends with its code', async () => {
    const store = await stores.make();
    store.configure({ main: { policies: [OLD] }, other: { policies: [OLD] } });
    await store.init();
    store.write('a', 'a', DAY, store.rootOf('other'));
    rmSync(path.join(store.root, '.tombstoned'), { recursive: true });
    const text = await ctl(store, 'sweep');
    expect(text.code).to.equal(1);
    expect(text.stderr).to.include('store.json');
    expect(store.pending(store.rootOf('other'))).to.have.length(1);
    const json = await ctl(store, '--json', 'sweep');
    expect(json.objects.map((object) => object['store'])).to.deep.equal(['other']);
    expect(json.error).to.include({ type: 'error', code: 'failed' });
    expect((await ctl(store, '--store', 'other', 'sweep')).code).to.equal(0);
  });

  it('is blocked where another catalog owns the store', async () => {
    const store = await stores.make({ policies: [OLD] });
    store.write('a', 'a', DAY);
    const owner = { catalog: 'b2b7a7d8-0000-4000-8000-000000000000', host: 'elsewhere', since: 'then' };
    writeFileSync(path.join(store.root, '.tombstoned/owner.json'), `${JSON.stringify(owner)}\n`);
    for (const command of ['sweep', 'purge']) {
      const answer = await ctl(store, '--json', command);
      expect(answer.code).to.equal(5);
      expect(answer.error).to.include({ code: 'blocked', reason: 'owner' });
    }
    expect(store.live()).to.deep.equal({ a: 'a' });
  });

  it('exits with 1 when an expired object can’t be moved, and moves the others', async function () {
    const store = await stores.make({ policies: [OLD] });
    store.write('stuck/a', 'a', DAY);
    store.write('b', 'b', DAY);
    const user = await ordinaryUser(store);
    if (user === undefined) return this.skip();
    chmodSync(path.join(store.root, 'stuck'), 0o555);
    const answer = await ctlWith(user, '--config', store.configFile, '--json', 'sweep');
    expect(answer.code, answer.stderr).to.equal(1);
    expect(answer.stderr).to.include('stuck/a stays: ');
    expect(answer.objects[0]).to.deep.include({ moved: 1, kept: { error: 1 } });
    expect(answer.error).to.include({ code: 'failed', reason: 'error' });
    expect(store.live()).to.deep.equal({ 'stuck/a': 'a' });
  });
});

describe('tombstonectl purge', () => {
  beforeAllBuild();
  const stores = tempStores();

  it('removes what is due, and says so', async () => {
    const store = await stores.make({ policies: [OLD] });
    store.write('logs/a', 'aa', DAY);
    await ctl(store, 'sweep');
    const dry = await ctl(store, 'purge', '--dry-run');
    expect(dry.lines[0]).to.match(/^\d{8}T\d{9}Z-[0-9a-z]{14} {2}logs\/a {2}2 B$/);
    expect(dry.lines[1]).to.equal('main: would purge 1 of 1 due object, 2 B; nothing was removed');
    expect(store.pending()).to.have.length(1);
    const answer = await ctl(store, '--json', 'purge');
    expect(answer.code, answer.stderr).to.equal(0);
    expect(answer.objects).to.deep.equal([
      {
        type: 'purge',
        store: 'main',
        due: 1,
        purged: 1,
        left: 0,
        kept: {},
        failed: 0,
        bytes: 2,
        dryRun: false,
        keepers: [],
      },
    ]);
    expect(store.pending()).to.deep.equal([]);
    expect(readdirSync(path.join(store.root, 'logs'))).to.deep.equal([]);
    expect((await ctl(store, 'purge')).stdout).to.equal('main: purged 0 of 0 due objects, 0 B\n');
  });

  it('leaves what is not due, and what a hold covers', async () => {
    const store = await stores.make({ policies: [OLD], limits: FREE });
    store.write('held/a', 'a', DAY);
    store.write('free/a', 'a', DAY);
    await ctl(store, 'sweep');
    store.configure({ main: { policies: [OLD], safetyWindow: '7d' } });
    expect((await ctl(store, '--json', 'purge')).objects[0]).to.include({ due: 0, purged: 0 });
    store.configure({ main: { policies: [OLD] } });
    hold(store, 'held/');
    const answer = await ctl(store, '--json', 'purge');
    expect(answer.code).to.equal(0);
    expect(answer.objects[0]).to.deep.include({ due: 2, purged: 1, kept: { hold: 1 } });
    expect(store.pending().join()).to.match(/^held\/a~/);
  });

  it('leaves a pending copy that is not what was tombstoned, and tells it', async () => {
    const store = await stores.make({ policies: [OLD] });
    store.write('a', 'a', DAY);
    await ctl(store, 'sweep');
    const [name = ''] = store.pending();
    writeFileSync(path.join(store.root, 'pending_deletion', name), 'other');
    const answer = await ctl(store, 'purge');
    expect(answer.stdout).to.equal('main: purged 0 of 1 due object, 0 B, kept 1 changed\n');
    expect(answer.stderr).to.include('a is not purged: its pending copy is not what was tombstoned');
    expect(store.pending()).to.deep.equal([name]);
  });
});
