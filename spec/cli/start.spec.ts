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

  /** The packages that a command loads of a local store, and the program's own files. */
  async function loadedBy(
    store: TempStore,
    env: Readonly<Record<string, string>>,
    ...args: string[]
  ): Promise<{ packages: string[]; own: string[] }> {
    const directory = mkdtempSync(path.join(store.directory, 'loaded-'));
    const { code, stderr } = await ctlWith({ env: { ...env, NODE_V8_COVERAGE: directory } }, ...args);
    expect(code, stderr).to.equal(0);
    const files = readdirSync(directory).flatMap((name) => {
      const { result } = JSON.parse(readFileSync(path.join(directory, name), 'utf8')) as Coverage;
      return result.filter(({ url }) => url.startsWith('file:')).map(({ url }) => fileURLToPath(url));
    });
    rmSync(directory, { recursive: true });
    const packageOf = (file: string) => /.*\/node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(file)?.[1];
    return {
      packages: [...new Set(files.map(packageOf).filter((name) => name !== undefined))].toSorted(),
      own: files
        .filter((file) => packageOf(file) === undefined)
        .map((file) => path.basename(file, '.js'))
        .toSorted(),
    };
  }

  const SQLITE = ['better-sqlite3', 'bindings', 'file-uri-to-path'];
  const ACTING = ['acting', 'config', 'main', 'reading', 'rolldown-runtime', 'session', 'tombstone'];
  const toldByUrl = (store: TempStore) => ({
    TOMBSTONED_CONFIG: store.configFile,
    TOMBSTONED_URL: store.url,
  });

  // In config.js are YAML and the schema, in session.js scratch tables, in acting.js the catalog and a sweep; the
  // AWS SDK, winston and yargs would be packages.
  for (const { command, by, env, flags, packages, own } of [
    {
      command: ['cat', '--key', '--', 'metadata/a.meta'],
      by: '--url',
      flags: (store: TempStore) => ['--url', store.url],
      packages: [],
      own: ['cat', 'main', 'reading'],
    },
    {
      command: ['cat', 'metadata/a.meta'],
      by: '--config',
      flags: (store: TempStore) => ['--config', store.configFile],
      packages: [],
      own: ['cat', 'config', 'main', 'reading', 'rolldown-runtime', 'store-choice'],
    },
    {
      command: ['keys', '--prefix', 'metadata/'],
      by: '--url',
      flags: (store: TempStore) => ['--url', store.url],
      packages: SQLITE,
      own: ['keys', 'main', 'reading', 'session', 'sessions'],
    },
    {
      command: ['keys', '--prefix', 'metadata/'],
      by: '--config',
      flags: (store: TempStore) => ['--config', store.configFile],
      packages: SQLITE,
      own: ['config', 'keys', 'main', 'reading', 'rolldown-runtime', 'session', 'sessions', 'store-choice'],
    },
    {
      command: ['delete', '--reason', 'replaced', '--key', '--', 'metadata/a.meta'],
      by: '--config',
      flags: (store: TempStore) => ['--config', store.configFile],
      packages: [...SQLITE, 'picomatch'],
      own: ACTING,
    },
    {
      command: ['delete', 'metadata/a.meta'],
      by: '$TOMBSTONED_URL',
      env: toldByUrl,
      packages: [...SQLITE, 'picomatch'],
      own: ACTING,
    },
  ])
    it(`is ${own.length} files, and ${packages.join(', ') || 'no package'}, for ${command[0]} by ${by}`, async () => {
      const store = await stores.make({ limits: { maxFraction: null } });
      store.write('metadata/a.meta', 'a');
      const loaded = await loadedBy(store, env?.(store) ?? {}, ...(flags?.(store) ?? []), ...command);
      expect(loaded).to.deep.equal({ packages, own });
      expect(store.pending()).to.have.length(command[0] === 'delete' ? 1 : 0);
    });
});
