import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect } from 'chai';
import type { TempStore } from '../support/temp-store.ts';
import { beforeAllBuild, ctlWith, tempStores } from './ctl.ts';

interface Coverage {
  readonly result: readonly { readonly url: string }[];
}

describe('what a command loads that restore and backup tools run for each file', () => {
  beforeAllBuild();
  const stores = tempStores();

  /** The packages that a command loads of a local store, and how many modules of its own. */
  async function loadedBy(store: TempStore, ...args: string[]): Promise<{ packages: string[]; own: number }> {
    const directory = mkdtempSync(path.join(store.directory, 'loaded-'));
    const { code, stderr } = await ctlWith({ env: { NODE_V8_COVERAGE: directory } }, ...args);
    expect(code, stderr).to.equal(0);
    const files = readdirSync(directory).flatMap((name) => {
      const { result } = JSON.parse(readFileSync(path.join(directory, name), 'utf8')) as Coverage;
      return result.filter(({ url }) => url.startsWith('file:')).map(({ url }) => fileURLToPath(url));
    });
    rmSync(directory, { recursive: true });
    const packages = files.map((file) => /.*\/node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(file)?.[1]);
    return {
      packages: [...new Set(packages.filter((name) => name !== undefined))].toSorted(),
      own: packages.filter((name) => name === undefined).length,
    };
  }

  it('is no package at all for cat by --url, and little of its own', async () => {
    const store = await stores.make();
    store.write('metadata/a.meta', 'a');
    const { packages, own } = await loadedBy(
      store,
      '--url',
      store.url,
      'cat',
      '--key',
      '--',
      'metadata/a.meta',
    );
    expect(packages).to.deep.equal([]);
    expect(own).to.be.within(20, 45);
  });

  it('is what reads the config for cat by a config', async () => {
    const store = await stores.make();
    store.write('metadata/a.meta', 'a');
    const { packages } = await loadedBy(store, '--config', store.configFile, 'cat', 'metadata/a.meta');
    expect(packages).to.deep.equal(['valibot', 'yaml']);
  });

  it('is SQLite for keys by --url, and not the catalog', async () => {
    const store = await stores.make();
    const { packages, own } = await loadedBy(store, '--url', store.url, 'keys', '--prefix', 'metadata/');
    expect(packages).to.deep.equal(['better-sqlite3', 'bindings', 'file-uri-to-path']);
    expect(own).to.be.within(30, 70);
  });

  it('is no SDK, no log and no yargs for delete', async () => {
    const store = await stores.make({ limits: { maxFraction: null } });
    store.write('metadata/a.meta', 'a');
    const args = [
      '--config',
      store.configFile,
      'delete',
      '--reason',
      'replaced',
      '--key',
      '--',
      'metadata/a.meta',
    ];
    const { packages } = await loadedBy(store, ...args);
    expect(packages).to.deep.equal([
      'better-sqlite3',
      'bindings',
      'file-uri-to-path',
      'picomatch',
      'valibot',
      'yaml',
    ]);
    expect(store.live()).to.deep.equal({});
  });
});
