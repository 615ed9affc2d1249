import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import type { TempStore } from '../support/temp-store.ts';
import { beforeAllBuild, ctl, tempStores } from './ctl.ts';

describe('tombstonectl init', () => {
  beforeAllBuild();
  const stores = tempStores();

  function identityOf(root: string): Record<string, unknown> {
    return JSON.parse(readFileSync(path.join(root, '.tombstoned/store.json'), 'utf8')) as Record<
      string,
      unknown
    >;
  }

  async function init(store: TempStore, ...args: string[]) {
    return ctl(store, '--json', 'init', ...args);
  }

  it('writes a config that loads, and makes identity, owner and catalog', async () => {
    const store = stores.bare();
    const answer = await ctl(store, 'init', store.url, '--catalog', store.catalogFile);
    expect(answer.code, answer.stderr).to.equal(0);
    expect(answer.lines).to.have.length(4);
    for (const line of answer.lines) expect(line).to.match(/^made {8}the /);
    expect(answer.stderr).to.match(/^tombstonectl: next: say what expires in .*sweep --dry-run\n$/);
    expect(readFileSync(store.configFile, 'utf8')).to.match(/^# Config of tombstoned/);
    expect(identityOf(store.root)).to.include({ layout: 1, pendingPrefix: 'pending_deletion/' });
    expect(existsSync(store.catalogFile)).to.equal(true);
    expect((await ctl(store, 'sweep')).code).to.equal(0);
  });

  it('makes the directories of config and catalog', async () => {
    const store = stores.bare();
    const config = path.join(store.directory, 'etc/a/t.yaml');
    const catalog = path.join(store.directory, 'var/b/catalog.db');
    const answer = await ctl(
      store,
      '--config',
      config,
      'init',
      store.url,
      '--catalog',
      catalog,
      '--store',
      'x',
    );
    expect(answer.code, answer.stderr).to.equal(0);
    expect(readFileSync(config, 'utf8')).to.include('name: x');
    expect(existsSync(catalog)).to.equal(true);
  });

  it('may run again, by URL and by name, and changes nothing', async () => {
    const store = stores.bare();
    const first = await init(store, store.url, '--catalog', store.catalogFile);
    const config = readFileSync(store.configFile, 'utf8');
    const exists = { config: 'exists', identity: 'exists', owner: 'exists', catalog: 'exists' };
    const created = { config: 'created', identity: 'created', owner: 'created', catalog: 'created' };
    expect(first.objects).to.have.length(1);
    expect(first.objects[0]).to.include({ type: 'init', store: 'store', url: store.url, ...created });
    for (const args of [[store.url], [`${store.url}/`], ['--store', 'store'], []]) {
      const again = await init(store, ...args);
      expect(again.code, again.stderr).to.equal(0);
      expect(again.objects[0]).to.include({ uuid: first.objects[0]?.['uuid'], ...exists });
    }
    expect(readFileSync(store.configFile, 'utf8')).to.equal(config);
    const text = await ctl(store, 'init', store.url);
    for (const line of text.lines) expect(line).to.match(/^was there {3}the /);
  });

  it('proposes format: aptos where it sees the layout, and warns of a plain config', async () => {
    const store = stores.bare();
    store.write('metadata/epoch_ending_0-0.meta', 'x');
    const dry = await init(store, store.url, '--catalog', store.catalogFile, '--dry-run');
    expect(dry.objects[0]).to.include({ format: 'aptos', dryRun: true });
    const answer = await ctl(store, 'init', store.url, '--catalog', store.catalogFile);
    expect(answer.code, answer.stderr).to.equal(0);
    expect(answer.errorLines[0]).to.equal(
      `tombstonectl: it looks like a backup of an Aptos-family node: format is aptos in ${store.configFile} (docs/aptos.md)`,
    );
    const config = readFileSync(store.configFile, 'utf8');
    expect(config).to.include('\n    format: aptos\n');
    writeFileSync(store.configFile, config.replace('format: aptos', 'format: plain'));
    const again = await init(store, store.url);
    expect(again.objects[0]).to.include({ format: 'plain', config: 'exists' });
    expect(again.stderr).to.contain('its format is plain').and.contain('set format: aptos in the config');
    expect(readFileSync(store.configFile, 'utf8')).to.include('format: plain');
  });

  it('makes nothing with --dry-run, and says what it would', async () => {
    const store = stores.bare();
    const answer = await ctl(store, 'init', store.url, '--catalog', store.catalogFile, '--dry-run');
    expect(answer.code, answer.stderr).to.equal(0);
    for (const line of answer.lines) expect(line).to.match(/^would make {2}the /);
    expect(existsSync(store.configFile) || existsSync(store.catalogFile)).to.equal(false);
    expect(existsSync(path.join(store.root, '.tombstoned'))).to.equal(false);
  });

  it('leaves an existing config alone, and says which line it lacks', async () => {
    const store = await stores.make();
    const config = readFileSync(store.configFile, 'utf8');
    const answer = await init(store, 'file:///somewhere/else');
    expect(answer.code).to.equal(2);
    expect(answer.error).to.include({ code: 'config', key: store.configFile });
    expect(answer.error?.['hint']).to.equal(
      'add to its stores: - { name: else, url: "file:///somewhere/else" }',
    );
    const named = await init(store, store.url, '--store', 'other');
    expect(named).to.deep.include({ code: 2 });
    expect(named.error?.['message']).to.include('is called main');
    expect((await init(store, store.url, '--catalog', '/a/b.db')).code).to.equal(2);
    expect(readFileSync(store.configFile, 'utf8')).to.equal(config);
  });

  it('takes a new config back when the store can’t be made known', async () => {
    const store = stores.bare();
    const missing = await init(store, `${store.url}/missing`, '--catalog', store.catalogFile);
    expect(missing.code).to.equal(1);
    expect(missing.error).to.include({ code: 'failed' });
    expect(existsSync(store.configFile)).to.equal(false);
    const inside = await init(store, store.url, '--catalog', path.join(store.root, 'catalog.db'));
    expect(inside.code).to.equal(2);
    expect(inside.error?.['message']).to.include('lies inside the store');
    expect(existsSync(store.configFile)).to.equal(false);
    expect(existsSync(path.join(store.root, '.tombstoned'))).to.equal(false);
  });

  it('refuses a store inside another, and one around another', async () => {
    const store = await stores.make();
    const inner = path.join(store.root, 'inner');
    mkdirSync(inner);
    store.configure({ main: {} });
    rmSync(store.configFile);
    const answer = await init(store, `${store.url}/inner`, '--catalog', store.catalogFile);
    expect(answer.code).to.equal(2);
    expect(answer.error?.['message']).to.include(`inside the store ${store.root}`);
    mkdirSync(path.join(inner, '.tombstoned'), { recursive: true });
    writeFileSync(path.join(inner, '.tombstoned/store.json'), '{}\n');
    const around = await init(store, store.url, '--catalog', store.catalogFile);
    expect(around.code).to.equal(1);
    expect(around.error?.['message']).to.include('another store inside this one');
  });

  it('refuses a store of another catalog', async () => {
    const store = await stores.make();
    rmSync(store.configFile);
    const other = path.join(store.directory, 'other.db');
    const answer = await init(store, store.url, '--catalog', other);
    expect(answer.code).to.equal(5);
    expect(answer.error).to.include({ code: 'blocked', reason: 'owner' });
  });

  it('refuses a name that no config takes, and a bucket that it can’t ask for', async () => {
    const store = stores.bare();
    expect((await init(store, store.url, '--store', 'My Store')).code).to.equal(2);
    const s3 = await init(store, 's3://bucket/prefix', '--catalog', store.catalogFile);
    expect(s3.code).to.equal(1);
    expect(s3.error?.['message']).to.include('no region is set');
    expect(existsSync(store.configFile)).to.equal(false);
  });
});
