import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { OLD, type TempStore } from '../support/temp-store.ts';
import { beforeAllBuild, ctl, tempStores } from './ctl.ts';

const DAY = 86_400_000;
const FREE = { limits: { maxFraction: null } };

describe('tombstonectl restore', () => {
  beforeAllBuild();
  const stores = tempStores();

  /** A store with these keys tombstoned in one sweep. */
  async function swept(...keys: string[]): Promise<TempStore> {
    const store = await stores.make({ ...FREE, policies: [OLD] });
    for (const key of keys) store.write(key, key, DAY);
    await ctl(store, 'sweep');
    return store;
  }

  async function idsOf(store: TempStore, ...filter: string[]): Promise<string[]> {
    const { objects } = await ctl(store, '--json', 'ls', ...filter);
    return objects.map(({ id }) => String(id));
  }

  async function outcomes(store: TempStore, ...args: string[]) {
    const answer = await ctl(store, '--json', 'restore', ...args);
    return { ...answer, outcomes: answer.objects.map(({ key, outcome }) => [key, outcome].join(' ')) };
  }

  it('brings a key back by its name, and by its id', async () => {
    const store = await swept('logs/a', 'logs/b');
    const [id = ''] = await idsOf(store, '--prefix', 'logs/b');
    const byKey = await ctl(store, '--json', 'restore', 'logs/a');
    expect(byKey.code, byKey.stderr).to.equal(0);
    expect(Object.keys(byKey.objects[0] ?? {})).to.deep.equal(['type', 'key', 'id', 'outcome', 'detail']);
    expect(byKey.objects[0]).to.include({
      type: 'restored',
      key: 'logs/a',
      outcome: 'restored',
      detail: null,
    });
    const byId = await ctl(store, 'undo', id);
    expect(byId.stdout).to.equal(`restored    logs/b  (${id})\n`);
    expect(store.live()).to.deep.equal({ 'logs/a': 'logs/a', 'logs/b': 'logs/b' });
    expect(store.pending()).to.have.length(2);
    expect((await outcomes(store, 'logs/a')).outcomes).to.deep.equal(['logs/a unchanged']);
  });

  it('is left alone by the next sweep', async () => {
    const store = await swept('a');
    await ctl(store, 'restore', 'a');
    expect((await ctl(store, '--json', 'sweep')).objects[0]).to.deep.include({
      moved: 0,
      kept: { exempt: 1 },
    });
  });

  it('changes nothing with --dry-run', async () => {
    const store = await swept('a', 'b');
    const answer = await outcomes(store, '--sweep', 'last', '--dry-run');
    expect(answer.code).to.equal(0);
    expect(answer.outcomes).to.have.members(['a restored', 'b restored']);
    expect(store.live()).to.deep.equal({});
  });

  it('never puts anything over a live object: exit 4', async () => {
    const store = await swept('a', 'b');
    store.write('a', 'new');
    const text = await ctl(store, 'restore', 'a');
    expect(text.code).to.equal(4);
    expect(text.stdout).to.equal('');
    expect(text.errorLines.at(-1)).to.match(/^tombstonectl: a: conflict: .*--force/);
    const both = await outcomes(store, 'a', 'b');
    expect(both.code).to.equal(4);
    expect(both.outcomes).to.have.members(['a conflict', 'b restored']);
    expect(both.error).to.include({ code: 'conflict', key: 'a' });
    expect(store.live()).to.deep.equal({ a: 'new', b: 'b' });
  });

  it('tombstones what is in the way with --force, so that both survive', async () => {
    const store = await swept('a');
    store.write('a', 'new');
    const answer = await outcomes(store, 'a', '--force');
    expect(answer.code, answer.stderr).to.equal(0);
    expect(store.live()).to.deep.equal({ a: 'a' });
    const { objects } = await ctl(store, '--json', 'ls', '--state', 'pending');
    expect(objects).to.have.length(1);
    expect(objects[0]?.['reason']).to.match(/^made way for the restore of /);
    expect((await ctl(store, 'restore', String(objects[0]?.['id']), '--to', 'b')).code).to.equal(0);
    expect(store.live()).to.deep.equal({ a: 'a', b: 'new' });
  });

  it('makes another key with --to, and leaves the tombstone pending', async () => {
    const store = await swept('a');
    const made = await outcomes(store, 'a', '--to', 'other/a');
    expect(made.outcomes).to.deep.equal(['a restored']);
    expect(made.objects[0]).to.include({ detail: 'as other/a' });
    expect((await ctl(store, 'restore', 'a', '--to', 'other/a')).stdout).to.match(
      /^unchanged .*, as other\/a\)$/m,
    );
    const dry = await ctl(store, 'restore', 'a', '--to', 'b', '--dry-run');
    expect(dry.stdout).to.match(/^restored .*, would be as b\)$/m);
    expect(store.live()).to.deep.equal({ 'other/a': 'a' });
    expect(await idsOf(store, '--state', 'pending')).to.have.length(1);
  });

  it('exits with 3 for what was purged, and for what nobody has heard of', async () => {
    const store = await swept('a');
    await ctl(store, 'purge');
    const gone = await outcomes(store, 'a');
    expect(gone.code).to.equal(3);
    expect(gone.outcomes).to.deep.equal(['a gone']);
    expect(gone.objects[0]).to.include({ detail: 'it is purged' });
    const id = '20261122T101500123Z-k3v0q8tzm2xj4d';
    const unknown = await outcomes(store, 'zz', id);
    expect(unknown.code).to.equal(3);
    expect(unknown.objects).to.deep.equal([
      { type: 'restored', key: 'zz', id: null, outcome: 'gone', detail: 'there is no tombstone of this key' },
      { type: 'restored', key: null, id, outcome: 'gone', detail: 'there is no tombstone of this id' },
    ]);
    expect((await outcomes(store, '--prefix', 'zz/')).code).to.equal(3);
    expect((await outcomes(store, '--sweep', 's-20261122T101500123Z-k3v0q8')).code).to.equal(3);
    expect((await outcomes(store, '--sweep', 'x')).code).to.equal(2);
  });

  it('undoes a whole sweep, and no other', async () => {
    const store = await swept('a', 'b');
    const [first] = (await ctl(store, '--json', 'sweeps')).objects;
    store.write('c', 'c', DAY);
    await ctl(store, 'sweep');
    expect((await outcomes(store, '--sweep', 'last')).outcomes).to.deep.equal(['c restored']);
    const answer = await outcomes(store, '--sweep', String(first?.['sweep']));
    expect(answer.outcomes).to.have.members(['a restored', 'b restored']);
    expect(Object.keys(store.live())).to.have.length(3);
  });

  it('takes of each key below a prefix only the newest', async () => {
    const store = await swept('logs/a', 'logs/b', 'x');
    store.write('logs/a', 'second', DAY);
    await ctl(store, 'tombstone', 'logs/a');
    const answer = await outcomes(store, '--prefix', 'logs/');
    expect(answer.code, answer.stderr).to.equal(0);
    expect(answer.outcomes).to.have.members(['logs/a restored', 'logs/b restored']);
    expect(store.live()).to.deep.equal({ 'logs/a': 'second', 'logs/b': 'logs/b' });
  });

  it('takes with --since only what was tombstoned since then', async () => {
    const store = await swept('logs/a');
    const since = new Date(Date.now() + 1).toISOString();
    store.write('logs/b', 'b', DAY);
    await ctl(store, 'sweep');
    expect((await outcomes(store, '--prefix', '', '--since', since)).outcomes).to.deep.equal([
      'logs/b restored',
    ]);
    expect((await outcomes(store, '--prefix', '', '--since', '1h')).outcomes).to.have.members([
      'logs/a restored',
      'logs/b unchanged',
    ]);
  });

  it('brings back every one of many', async () => {
    const keys = Array.from({ length: 1200 }, (_, i) => `logs/${i}`);
    const store = await swept(...keys);
    const answer = await outcomes(store, '--prefix', 'logs/');
    expect(answer.code).to.equal(0);
    expect(answer.outcomes).to.have.length(1200);
    expect(Object.keys(store.live())).to.have.length(1200);
  });

  it('reads what ls has listed from a file, by ids: each key once or more', async () => {
    const store = await swept('a', 'b');
    store.write('a', 'second', DAY);
    await ctl(store, 'sweep');
    const listed = await ctl(store, '--json', 'ls');
    expect(listed.objects).to.have.length(3);
    const file = path.join(store.directory, 'ids');
    writeFileSync(file, listed.stdout);
    const answer = await outcomes(store, '--from-file', file);
    expect(answer.code).to.equal(4);
    expect(answer.outcomes).to.have.members(['a restored', 'b restored', 'a conflict']);
    expect(store.live()).to.deep.equal({ a: 'a', b: 'b' });
    expect((await ctl(store, 'restore', '--from-file', '/dev/null')).stderr).to.include('nothing to restore');
  });

  it('of an id of another store says which', async () => {
    const store = await stores.make();
    store.configure({ main: { policies: [OLD] }, other: { policies: [OLD] } });
    await store.init();
    store.write('a', 'a', DAY);
    await ctl(store, 'sweep');
    const [id = ''] = await idsOf(store);
    const answer = await ctl(store, '--store', 'other', '--json', 'restore', id);
    expect(answer.code).to.equal(2);
    expect(answer.error).to.include({ hint: 'add --store main' });
    expect((await ctl(store, '--store', 'main', 'restore', id)).code).to.equal(0);
  });
});
