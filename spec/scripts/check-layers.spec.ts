import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect } from 'chai';

const SCRIPT = path.resolve(import.meta.dirname, '../../scripts/check-layers.mjs');

describe('check-layers', () => {
  let root: string;

  beforeEach(() => {
    root = mkdtempSync(path.join(tmpdir(), 'layers-'));
  });

  afterEach(() => {
    rmSync(root, { recursive: true });
  });

  function check(files: Readonly<Record<string, string>>): { status: number | null; problems: string[] } {
    for (const [name, text] of Object.entries(files)) {
      mkdirSync(path.join(root, path.dirname(name)), { recursive: true });
      writeFileSync(path.join(root, name), text);
    }
    const { status, stderr } = spawnSync(process.execPath, [SCRIPT, '.'], { cwd: root, encoding: 'utf8' });
    return { status, problems: stderr.split('\n').filter((line) => line !== '') };
  }

  it('accepts what the tables allow', () => {
    const { status, problems } = check({
      'index.ts': `export { open } from './app/open.ts';`,
      'domain/key.ts': `import { hash } from 'node:crypto'; export const key = hash;`,
      'config/load.ts': `import { parse } from 'yaml'; export const home = [parse, process.env['HOME']];`,
      'catalog/open.ts': `import Database from 'better-sqlite3'; import '../domain/key.ts'; export { Database };`,
      'app/open.ts': `import type { Key } from '../domain/key.ts'; import '../store/local/x.ts'; import './y.ts';`,
      'cli/main.ts': `import yargs from 'yargs/yargs'; const a = await import('./commands/a.ts'); process.exit(a);`,
    });
    expect(problems).to.deep.equal([]);
    expect(status).to.equal(0);
  });

  it('names each file and line that breaks them', () => {
    const { status, problems } = check({
      'a.js': ``,
      'app/daemon.ts': `\n\nimport '../daemon/loop.ts';`,
      'catalog/lazy.ts': `const a = await import('../domain/key.ts');`,
      'cli/computed.ts': `const name = './commands/a.ts';\nawait import(name);`,
      'cli/local.ts': `await import('../store/local/x.ts');`,
      'domain/env-destructured.ts': `const { env } = process;`,
      'domain/env-global.ts': `globalThis.process['env'];`,
      'domain/env-import.ts': `import { env } from 'node:process';`,
      'domain/env.ts': `export const home =\n  process.env.HOME;`,
      'domain/export-all.ts': `export * from '../store/store.ts';`,
      'domain/export.ts': `export { x as y } from '../store/store.ts';`,
      'domain/extension.ts': `import './key.js';`,
      'domain/owned.ts': `import type { Database } from 'better-sqlite3';`,
      'domain/package.ts': `import 'lodash/fp.js';`,
      'domain/parse.ts': `import {`,
      'domain/require.ts': `import { createRequire } from 'node:module';`,
      'domain/type-only.ts': `import type { Store } from '../store/store.ts';`,
      'domain/type-query.ts': `export type S = import('../store/store.ts').Store;`,
      'index.ts': `import './catalog/open.ts';`,
      'misc/x.ts': ``,
      'store/outside.ts': `import '../../scripts/x.ts';`,
      'store/s3/sub.ts': `import '@aws-sdk/client-s3';`,
      'sweep/purge.ts': `import '../purge/purge.ts';`,
    });
    expect(problems.map((line) => line.replace(/(cannot be parsed): .*/, '$1'))).to.deep.equal([
      'a.js:1: sources are .ts files',
      'app/daemon.ts:3: app may not import daemon',
      'catalog/lazy.ts:1: only cli, app, store/s3 may import dynamically',
      'cli/computed.ts:2: a dynamic import names its module literally',
      'cli/local.ts:1: cli may not import store/local',
      'domain/env-destructured.ts:1: domain may not read process.env: only config does',
      'domain/env-global.ts:1: domain may not read process.env: only config does',
      'domain/env-import.ts:1: domain may not read process.env: only config does',
      'domain/env.ts:2: domain may not read process.env: only config does',
      'domain/export-all.ts:1: domain may not import store',
      'domain/export.ts:1: domain may not import store',
      'domain/extension.ts:1: ./key.js does not end in .ts',
      'domain/owned.ts:1: only catalog may import better-sqlite3',
      "domain/package.ts:1: lodash/fp.js is in no folder's care: add it to the table of packages",
      'domain/parse.ts:1: cannot be parsed',
      'domain/require.ts:1: node:module would hide imports from this check',
      'domain/type-only.ts:1: domain may not import store',
      'domain/type-query.ts:1: domain may not import store',
      'index.ts:1: . may not import catalog',
      "misc/x.ts:1: folder 'misc' is not in the table",
      'store/outside.ts:1: store may not import ../scripts',
      'sweep/purge.ts:1: sweep may not import purge',
    ]);
    expect(status).to.equal(1);
  });

  it('does not take an empty directory for a clean one', () => {
    expect(check({}).status).to.equal(1);
  });
});
