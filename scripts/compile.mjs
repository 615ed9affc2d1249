// Puts beside the files of `tombstonectl` what V8 compiles them to, of all that runs in the commands that restore and
// backup tools run for each file; lib/cli/loader.ts takes it where it fits. Only the Node that runs this can use it.
//   scripts/compile.mjs [DIRECTORY]    that scripts/bundle.mjs wrote to; dist otherwise
import { spawnSync } from 'node:child_process';
import { closeSync, mkdirSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { pathToFileURL } from 'node:url';

const cli = path.resolve(process.argv[2] ?? path.join(import.meta.dirname, '../dist'), 'cli');
const scratch = mkdtempSync(path.join(tmpdir(), 'tombstoned-compile-'));
try {
  for (const name of Object.keys(process.env)) if (name.startsWith('TOMBSTONED_')) delete process.env[name];
  for (const [name, code] of await codeOfCommands()) writeFileSync(path.join(cli, name), code);
} finally {
  rmSync(scratch, { recursive: true });
}

/** @returns {Promise<ReadonlyMap<string, Buffer>>} */
async function codeOfCommands() {
  const { url, config } = madeStore();
  // What the commands answer is not of interest.
  closeSync(1);
  openSync('/dev/null', 'w');
  const { Loader } = createRequire(import.meta.url)(path.join(cli, 'loader.js'));
  const loader = new Loader(cli);
  for (const words of [
    ['--url', url, 'cat', 'a'],
    ['--config', config, 'cat', 'a'],
    ['--url', url, 'keys', '--prefix', ''],
    ['--config', config, 'delete', '--reason', 'replaced', 'a'],
    ['--url', url, 'cat', 'a'],
  ]) {
    const code = await loader.program(words);
    if (code !== 0) throw new Error(`tombstonectl ${words.join(' ')} ended with ${code}`);
  }
  return loader.code();
}

/** A store with one object, initialised by a process of its own: not all that takes is to be loaded with the rest. */
function madeStore() {
  const store = path.join(scratch, 'store');
  const url = pathToFileURL(store).href;
  const config = path.join(scratch, 'tombstoned.yaml');
  mkdirSync(store);
  writeFileSync(path.join(store, 'a'), 'a');
  writeFileSync(
    config,
    `catalog: ${scratch}/catalog.db
metrics: null
stores:
  - name: main
    url: ${url}
    minimumAge: 0s
    limits: { maxFraction: null }
    policies:
      - { name: old, type: age, olderThan: 1d }
`,
  );
  const { status, stderr } = spawnSync(
    process.execPath,
    [path.join(cli, 'main.js'), '--config', config, 'init'],
    {
      encoding: 'utf8',
    },
  );
  if (status !== 0) throw new Error(`tombstonectl init ended with ${status}:\n${stderr}`);
  return { url, config };
}
