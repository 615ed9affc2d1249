import { existsSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import Database from 'better-sqlite3';
import { expect } from 'chai';
import { type InitResult, initStore } from '../../lib/app/init.ts';
import { openPlace } from '../../lib/app/open.ts';
import { Catalog } from '../../lib/catalog/catalog.ts';
import type { StoreConfig } from '../../lib/config/config.ts';
import { storeConfigFromUrl } from '../../lib/config/store-url.ts';
import { exitCodeOf, TombstonedError } from '../../lib/domain/errors.ts';
import { FAST, filesBelow } from '../support/phases.ts';
import { ACTOR, START, seeded, TempPlace } from '../support/place.ts';

async function failure(work: () => Promise<unknown>): Promise<TombstonedError> {
  const error = await work().catch((e: unknown) => e);
  if (!(error instanceof TombstonedError)) throw new Error(`no clear error: ${String(error)}`);
  expect(error.message).not.to.include('\n');
  expect(error.hint, error.message).to.be.a('string');
  expect(error.key, error.message).to.be.a('string');
  return error;
}

describe('a store that is made known', () => {
  let temp: TempPlace;
  beforeEach(async () => {
    temp = await TempPlace.make(FAST);
  });
  afterEach(() => {
    temp.remove();
  });

  function at(directory: string, members: Partial<StoreConfig> = {}): StoreConfig {
    return { ...storeConfigFromUrl(`file://${directory}`), name: 'spec', ...members };
  }

  function surroundings() {
    return { clock: temp.clock, random: seeded(1), actor: ACTOR, report: () => undefined };
  }

  async function init(config: StoreConfig, catalog = temp.catalogFile): Promise<InitResult> {
    return initStore({ catalog }, config, surroundings());
  }

  async function open(config: StoreConfig): Promise<void> {
    const catalog = Catalog.open(temp.catalogFile);
    try {
      const place = await openPlace(catalog, config, surroundings());
      place.store.close();
    } finally {
      catalog.close();
    }
  }

  /** An empty directory beside the store. */
  function beside(name: string): string {
    const directory = path.join(temp.directory, name);
    mkdirSync(directory);
    return directory;
  }

  /** The bytes of everything in the store, by name. */
  function everything(root = temp.root): Record<string, string> {
    return Object.fromEntries(
      filesBelow(root).map((name) => [name, readFileSync(path.join(root, name), 'latin1')]),
    );
  }

  function control(name: string): string {
    return path.join(temp.root, '.tombstoned', name);
  }

  it('is the same when it is made known again: nothing is written', async () => {
    temp.write('a/b', 'content');
    const before = everything();
    const found = await init(at(temp.root));
    expect(found).to.include({ identity: 'exists', owner: 'exists', catalog: 'exists' });
    expect(JSON.parse(before['.tombstoned/store.json'] ?? '')).to.include({ uuid: found.uuid });
    expect(everything()).to.deep.equal(before);
    await open(at(temp.root));
  });

  it('is made known where init was cut short before, after each of its steps', async () => {
    const root = beside('cut');
    const config = at(root, { name: 'cut' });
    const first = await init(config);
    const names = ['owner.json', 'store.json'].map((name) => path.join(root, '.tombstoned', name));
    // The catalog does not know the name yet, so what is missing is made again.
    for (const missing of [names.slice(0, 1), names]) {
      const catalog = Catalog.open(temp.catalogFile);
      const uuid = catalog.storeByName('cut')?.uuid;
      catalog.close();
      forgetStore(temp.catalogFile, 'cut');
      for (const name of missing) rmSync(name);
      const again = await init(config);
      expect(again.uuid === uuid).to.equal(missing.length === 1);
      expect(again.owner).to.equal('created');
      await open(config);
    }
    expect(first.identity).to.equal('created');
  });

  it('gets its own directories and files as the design has them', async () => {
    const root = beside('fresh');
    const made = await init(at(root, { name: 'fresh', pendingPrefix: 'going/away/' }));
    expect(made).to.include({ identity: 'created', owner: 'created', catalog: 'exists' });
    expect(filesBelow(root)).to.deep.equal(['.tombstoned/owner.json', '.tombstoned/store.json']);
    const written = readFileSync(path.join(root, '.tombstoned/store.json'), 'utf8');
    expect(written).to.match(/^\{[^\n]*\}\n$/);
    const { createdAt, ...rest } = JSON.parse(written) as Record<string, unknown>;
    expect(String(createdAt).slice(0, 20)).to.equal(new Date(START).toISOString().slice(0, 20));
    const wanted = { uuid: made.uuid, layout: 1, minReader: 1, pendingPrefix: 'going/away/' };
    expect(rest).to.deep.equal(wanted);
    await open(at(root, { name: 'fresh', pendingPrefix: 'going/away/' }));
  });

  it('is refused below another store, around one, and below one through a link', async () => {
    const below = path.join(temp.root, 'a/b');
    mkdirSync(below, { recursive: true });
    symlinkSync(below, path.join(temp.directory, 'link'));
    for (const directory of [below, path.join(temp.directory, 'link'), temp.directory]) {
      const catalog = path.join(temp.directory, 'another.db');
      await failure(async () => init(at(directory, { name: 'other' }), catalog));
      expect(existsSync(path.join(directory, '.tombstoned'))).to.equal(false);
      expect(existsSync(catalog), 'a catalog is left behind').to.equal(false);
    }
  });

  it('is refused when another catalog owns it, with exit code 5, and nothing is written', async () => {
    const before = everything();
    const catalog = path.join(temp.directory, 'another.db');
    const error = await failure(async () => init(at(temp.root), catalog));
    expect(error).to.include({ code: 'blocked', reason: 'owner' });
    expect(exitCodeOf(error)).to.equal(5);
    expect(error.message).to.include('belongs to catalog').and.to.include('on spec-host');
    expect(everything()).to.deep.equal(before);
    expect(existsSync(catalog), 'a catalog is left behind').to.equal(false);
    Catalog.create(catalog, 'another-uuid', 1).close();
    expect((await failure(async () => init(at(temp.root), catalog))).code).to.equal('blocked');
    const other = Catalog.open(catalog);
    expect(other.storeByName('spec')).to.equal(undefined);
    other.close();
  });

  it('is refused where a foreign owner stands beside no identity', async () => {
    const root = beside('half');
    mkdirSync(path.join(root, '.tombstoned'));
    for (const owner of [
      '{"catalog":"theirs","host":"h","since":"2026-01-01T00:00:00.000Z"}\n',
      '',
      '{"catalog":',
    ]) {
      writeFileSync(path.join(root, '.tombstoned/owner.json'), owner);
      const error = await failure(async () => init(at(root, { name: 'half' })));
      expect(error).to.include({ code: 'blocked', reason: 'owner' });
      expect(filesBelow(root)).to.deep.equal(['.tombstoned/owner.json']);
    }
  });

  const DAMAGES: Record<string, { body: string; says: RegExp }> = {
    'is empty': { body: '', says: /not readable as a store's identity/ },
    'is cut short': { body: '{"uuid":"u","layout":1,"minRe', says: /not readable/ },
    'lacks its line end': { body: identity({}).trimEnd(), says: /not readable/ },
    'is a list': { body: '[]\n', says: /not readable/ },
    'lacks a member': { body: identity({ minReader: undefined }), says: /not readable/ },
    'has a layout of another type': { body: identity({ layout: '1' }), says: /not readable/ },
    'has a pending prefix that is none': { body: identity({ pendingPrefix: '../x/' }), says: /not readable/ },
    'has a newer layout': {
      body: identity({ layout: 2 }),
      says: /layout 2, and this program writes up to 1/,
    },
    'has a layout that must not be read': {
      body: identity({ layout: 3, minReader: 3 }),
      says: /layout 3, and this program (reads|writes) up to 1/,
    },
  };
  for (const [what, { body, says }] of Object.entries(DAMAGES)) {
    it(`is refused when its store.json ${what}, and nothing is written`, async () => {
      writeFileSync(control('store.json'), body);
      const before = everything();
      const another = path.join(temp.directory, 'another.db');
      for (const work of [
        async () => init(at(temp.root)),
        async () => init(at(temp.root), another),
        async () => open(at(temp.root)),
      ]) {
        const error = await failure(work);
        expect(error.message).to.match(says);
        expect(error.code).to.equal('failed');
        expect(error.key).to.equal('.tombstoned/store.json');
        expect(everything()).to.deep.equal(before);
      }
      expect(existsSync(another)).to.equal(false);
    });
  }

  it('is refused when the catalog knows its name as another store, or it is none any more', async () => {
    const root = beside('swapped');
    const none = await failure(async () => init(at(root)));
    expect(none.message).to.match(/the catalog knows spec as store .* is none yet$/);
    expect(filesBelow(root)).to.deep.equal([]);
    await failure(async () => open(at(root)));
    writeFileSync(control('store.json'), identity({ uuid: 'another' }));
    const before = everything();
    for (const work of [async () => init(at(temp.root)), async () => open(at(temp.root))]) {
      expect((await failure(work)).message)
        .to.include('another')
        .and.match(/the catalog knows/);
    }
    expect(everything()).to.deep.equal(before);
  });

  it('is refused with another pending prefix than it has', async () => {
    const before = everything();
    const other = at(temp.root, { pendingPrefix: 'elsewhere/' });
    for (const work of [async () => init(other), async () => open(other)]) {
      const error = await failure(work);
      expect(error.code).to.equal('config');
      expect(error.message).to.include('"pending_deletion/"').and.to.include('"elsewhere/"');
      expect(error.hint).to.equal('set pendingPrefix: pending_deletion/');
    }
    expect(everything()).to.deep.equal(before);
  });

  it('can’t be opened under a name that the catalog does not know', async () => {
    const error = await failure(async () => open(at(temp.root, { name: 'unknown' })));
    expect(error.code).to.equal('config');
    expect(error.hint).to.include('init --store unknown');
  });

  it('is refused when it is no directory, or not there', async () => {
    const file = path.join(temp.directory, 'file');
    writeFileSync(file, '');
    for (const missing of [file, path.join(temp.directory, 'missing')]) {
      const error = await failure(async () => init(at(missing, { name: 'other' })));
      expect(error.key).to.equal(missing);
      expect(error.hint).to.include('mounted');
    }
  });

  it('is refused where a file stands on the way to the catalog', async () => {
    const catalog = path.join(temp.directory, 'file/catalog.db');
    writeFileSync(path.join(temp.directory, 'file'), '');
    const root = beside('fresh');
    const error = await failure(async () => init(at(root), catalog));
    expect(error.key).to.equal(catalog);
    expect(filesBelow(root)).to.deep.equal([]);
  });
});

/** As if init had been cut short before it wrote the store's row. */
function forgetStore(catalog: string, name: string): void {
  const db = new Database(catalog);
  db.prepare('DELETE FROM stores WHERE name = ?').run(name);
  db.close();
}

function identity(members: Record<string, unknown>): string {
  const whole = {
    uuid: '11111111-1111-4111-8111-111111111111',
    layout: 1,
    minReader: 1,
    pendingPrefix: 'pending_deletion/',
    createdAt: '2026-11-22T10:00:00.000Z',
  };
  return `${JSON.stringify({ ...whole, ...members })}\n`;
}
