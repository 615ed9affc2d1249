import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect } from 'chai';
import type { TempStore } from '../support/temp-store.ts';
import { beforeAllBuild, ctlWith, tempStores } from './ctl.ts';

/** Notes each file that is compiled from its source, and which modules of Node are there that take long to load. */
const WATCH = `
const vm = require('node:vm');
const { appendFileSync } = require('node:fs');
const { Script } = vm;
vm.Script = class extends Script {
  constructor(source, options) {
    super(source, options);
    if (this.cachedDataRejected !== false) appendFileSync(process.env.NOTED, options.filename + '\\n');
  }
};
process.on('exit', () => {
  const loaded = process.moduleLoadList.join('\\n').matchAll(/^NativeModule (child_process|crypto|net|worker_threads|perf_hooks)$/gm);
  appendFileSync(process.env.NOTED, [...loaded].map(([, name]) => 'node:' + name + '\\n').join(''));
});
`;

interface Coverage {
  readonly result: readonly { readonly url: string }[];
}

describe('what a command loads that restore and backup tools run for each file', () => {
  beforeAllBuild();
  const stores = tempStores();

  /** What a command loads of a local store: packages, own files, which of these V8 compiles anew, slow modules of Node. */
  async function loadedBy(
    store: TempStore,
    env: Readonly<Record<string, string>>,
    ...args: string[]
  ): Promise<{ packages: string[]; own: string[]; compiled: string[]; slow: string[] }> {
    const directory = mkdtempSync(path.join(store.directory, 'loaded-'));
    const noted = path.join(store.directory, 'noted');
    const watch = path.join(store.directory, 'watch.cjs');
    writeFileSync(noted, '');
    writeFileSync(watch, WATCH);
    const { code, stderr } = await ctlWith(
      {
        env: { ...env, NODE_V8_COVERAGE: directory, NOTED: noted, NODE_OPTIONS: `--require=${watch}` },
      },
      ...args,
    );
    expect(code, stderr).to.equal(0);
    const files = readdirSync(directory).flatMap((name) => {
      const { result } = JSON.parse(readFileSync(path.join(directory, name), 'utf8')) as Coverage;
      return result
        .map(({ url }) => (url.startsWith('file:') ? fileURLToPath(url) : url))
        .filter((file) => file.startsWith('dist/') || (path.isAbsolute(file) && file !== watch));
    });
    rmSync(directory, { recursive: true });
    const watched = readFileSync(noted, 'utf8').split('\n').slice(0, -1);
    const packageOf = (file: string) => /.*\/node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(file)?.[1];
    return {
      packages: [...new Set(files.map(packageOf).filter((name) => name !== undefined))].toSorted(),
      own: files
        .filter((file) => packageOf(file) === undefined)
        .map((file) => path.basename(file, '.js'))
        .toSorted(),
      compiled: watched.filter((file) => !file.startsWith('node:')),
      slow: watched.filter((file) => file.startsWith('node:')).toSorted(),
    };
  }

  const SQLITE = ['better-sqlite3', 'bindings', 'file-uri-to-path'];
  const ACTING = ['acting', 'config', 'loader', 'main', 'program', 'reading', 'rolldown-runtime', 'session'];
  const toldByUrl = (store: TempStore) => ({
    TOMBSTONED_CONFIG: store.configFile,
    TOMBSTONED_URL: store.url,
  });

  // In config.js are YAML and the schema, in session.js scratch tables, in acting.js the catalog and a sweep; the
  // AWS SDK, winston and yargs would be packages.
  for (const { command, by, env, flags, packages, own, slow } of [
    {
      command: ['cat', '--key', '--', 'metadata/a.meta'],
      by: '--url',
      flags: (store: TempStore) => ['--url', store.url],
      packages: [],
      own: ['loader', 'main', 'program', 'reading', 'rolldown-runtime'],
      slow: [],
    },
    {
      command: ['cat', 'metadata/a.meta'],
      by: '--config',
      flags: (store: TempStore) => ['--config', store.configFile],
      packages: [],
      own: ['config', 'loader', 'main', 'program', 'reading', 'rolldown-runtime'],
      slow: [],
    },
    {
      command: ['keys', '--prefix', 'metadata/'],
      by: '--url',
      flags: (store: TempStore) => ['--url', store.url],
      packages: SQLITE,
      own: ['loader', 'main', 'program', 'reading', 'rolldown-runtime', 'session'],
      slow: ['node:crypto', 'node:worker_threads'],
    },
    {
      command: ['keys', '--prefix', 'metadata/'],
      by: '--config',
      flags: (store: TempStore) => ['--config', store.configFile],
      packages: SQLITE,
      own: ['config', 'loader', 'main', 'program', 'reading', 'rolldown-runtime', 'session'],
      slow: ['node:crypto', 'node:worker_threads'],
    },
    {
      command: ['delete', '--reason', 'replaced', '--key', '--', 'metadata/a.meta'],
      by: '--config',
      flags: (store: TempStore) => ['--config', store.configFile],
      packages: [...SQLITE, 'picomatch'],
      own: ACTING,
      slow: ['node:child_process', 'node:crypto', 'node:net', 'node:worker_threads'],
    },
    {
      command: ['delete', 'metadata/a.meta'],
      by: '$TOMBSTONED_URL',
      env: toldByUrl,
      packages: [...SQLITE, 'picomatch'],
      own: ACTING,
      slow: ['node:child_process', 'node:crypto', 'node:net', 'node:worker_threads'],
    },
  ])
    it(`is ${own.length} files, and ${packages.join(', ') || 'no package'}, for ${command[0]} by ${by}`, async () => {
      const store = await stores.make({ limits: { maxFraction: null } });
      store.write('metadata/a.meta', 'a');
      const loaded = await loadedBy(store, env?.(store) ?? {}, ...(flags?.(store) ?? []), ...command);
      expect(loaded).to.deep.equal({ packages, own, compiled: [], slow });
      expect(store.pending()).to.have.length(command[0] === 'delete' ? 1 : 0);
    });

  it('tells where something failed by the sources, for who asks Node for it', async () => {
    const store = stores.bare();
    const ended = await ctlWith(
      { env: { NODE_OPTIONS: '--enable-source-maps' } },
      '--debug',
      '--config',
      path.join(store.directory, 'none.yaml'),
      'cat',
      'a',
    );
    expect(ended.code).to.equal(2);
    expect(ended.stderr).to.match(/lib\/config\/load\.ts:\d+:\d+/);
  });
});
