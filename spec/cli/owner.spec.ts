import { existsSync, lchownSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { OLD } from '../support/temp-store.ts';
import { beforeAllBuild, ctl, ctlWith, giveAway, NOBODY, ordinaryUser, tempStores } from './ctl.ts';

const DAY = 86_400_000;

describe('tombstonectl as root', () => {
  beforeAllBuild();
  const stores = tempStores();

  before(function () {
    if (process.geteuid?.() !== 0) this.skip();
  });

  it('acts as the owner of the catalog, and leaves nothing behind that is root’s', async function () {
    const store = await stores.make({ policies: [OLD], limits: { maxFraction: null } });
    for (const key of ['logs/a', 'logs/b', 'x']) store.write(key, key, DAY);
    if ((await ordinaryUser(store)) === undefined) return this.skip();
    for (const args of [
      ['sweep'],
      ['restore', 'logs/a'],
      ['tombstone', 'logs/a'],
      ['restore', 'x', '--to', 'y'],
      ['status'],
      ['ls'],
      ['init'],
    ]) {
      const answer = await ctl(store, ...args);
      expect(answer.code, `${args.join(' ')}: ${answer.stderr}`).to.equal(0);
    }
    expect(store.live()).to.deep.equal({ y: 'x' });
    for (const name of readdirSync(store.directory, { recursive: true, encoding: 'utf8' })) {
      expect(statSync(path.join(store.directory, name)).uid, name).to.equal(NOBODY);
    }
  });

  it('is bound by what the owner may do, and reads a list of keys that only root may read', async function () {
    const store = await stores.make({ policies: [OLD], limits: { maxFraction: null } });
    store.write('a', 'a', DAY);
    store.write('b', 'b', DAY);
    if ((await ordinaryUser(store)) === undefined) return this.skip();
    const list = path.join(store.directory, 'keys.txt');
    writeFileSync(list, 'a\n', { mode: 0o600 });
    expect((await ctl(store, 'tombstone', '--from-file', list)).code).to.equal(0);
    lchownSync(store.root, 0, 0);
    const answer = await ctl(store, '--json', 'sweep');
    expect(answer.code).to.equal(1);
    expect(store.live()).to.deep.equal({ b: 'b' });
  });

  it('makes a catalog as the owner of its directory, who is to use it', async function () {
    const store = stores.bare();
    lchownSync(store.directory, NOBODY, NOBODY);
    lchownSync(store.root, NOBODY, NOBODY);
    if ((await ordinaryUser(store)) === undefined) return this.skip();
    const made = await ctl(store, 'init', store.url, '--catalog', store.catalogFile);
    expect(made.code, made.stderr).to.equal(0);
    for (const name of readdirSync(store.directory, { recursive: true, encoding: 'utf8' })) {
      const { uid } = statSync(path.join(store.directory, name));
      expect(uid, name).to.equal(path.join(store.directory, name) === store.configFile ? 0 : NOBODY);
    }
  });

  it('stays root where the catalog is root’s, or the directory that it is made in', async () => {
    const store = stores.bare();
    const made = await ctl(store, 'init', store.url, '--catalog', store.catalogFile);
    expect(made.code, made.stderr).to.equal(0);
    expect(statSync(store.catalogFile).uid).to.equal(0);
    expect((await ctl(store, 'sweep')).code).to.equal(0);
  });

  it('leaves another user’s catalog to that user', async function () {
    const store = await stores.make();
    giveAway(store);
    const user = await ordinaryUser(store);
    if (user === undefined) return this.skip();
    const answer = await ctlWith({ uid: NOBODY - 1, gid: NOBODY - 1 }, '--config', store.configFile, 'ls');
    expect(answer.code).to.equal(2);
    expect(answer.stderr).to.include('may not be read by this user');
    expect(existsSync(`${store.catalogFile}-wal`)).to.equal(false);
  });
});
