// Puts what `tombstonectl` is made of into few files, in place of the one for each module that tsc wrote: what a
// command takes to start is mostly what its modules take to be found. They are CommonJS, as a main.js that loads
// them with the code that scripts/compile.mjs puts beside them. The daemon and the library stay as they are.
//   scripts/bundle.mjs [DIRECTORY]    that tsc wrote to; dist otherwise
import { readdirSync, rmSync, writeFileSync } from 'node:fs';
import { isBuiltin } from 'node:module';
import path from 'node:path';
import { rolldown } from 'rolldown';

const root = path.resolve(import.meta.dirname, '..');
const lib = path.join(root, 'lib');
const dist = path.resolve(process.argv[2] ?? path.join(root, 'dist'));

/** Packages that are many modules, of which a command needs few. */
const BUNDLED = /^(?:yaml|valibot)(?:\/|$)/;

/**
 * What is loaded together, with all that it imports and no file before it has: `cat`, which needs nothing else;
 * what a config needs; `keys`; and `delete`. Everything else is split by who imports it.
 */
const FILES = [
  { name: 'reading', of: ['cli/plain-task.ts', 'cli/commands/cat.ts', 'cli/output.ts'] },
  { name: 'config', of: ['cli/store-choice.ts'] },
  { name: 'session', of: ['cli/commands/keys.ts', 'app/sessions.ts'] },
  { name: 'acting', of: ['cli/commands/tombstone.ts'] },
];

/** Threads begin with a file of their own. */
const workers = readdirSync(lib, { recursive: true, encoding: 'utf8' })
  .filter((name) => name.endsWith('-worker.ts'))
  .map((name) => /** @type {const} */ ([path.basename(name, '.ts'), path.join(lib, name)]));

/** @type {Map<string, string> | undefined} */
let fileOf;

/** Which file each module is put into. @param {(id: string) => readonly string[]} importsOf */
function filesOfModules(importsOf) {
  /** @type {Map<string, string>} */
  const found = new Map();
  for (const { name, of } of FILES) {
    const left = of.map((module) => path.join(lib, module));
    for (let id = left.pop(); id !== undefined; id = left.pop()) {
      if (found.has(id)) continue;
      found.set(id, name);
      left.push(...importsOf(id));
    }
  }
  return found;
}

/** What is imported when it runs, and not put into a file. @param {string} id */
function isExternal(id) {
  if (id.startsWith('@oxc-project/runtime'))
    throw new Error(`something in lib is too new for Node 20.19, and needs ${id}: write it otherwise`);
  return isBuiltin(id) || !(/^[./]/.test(id) || BUNDLED.test(id));
}

/** @satisfies {import('rolldown').InputOptions} */
const input = {
  platform: 'node',
  transform: { target: 'node20.19' },
  tsconfig: path.join(root, 'tsconfig.build.json'),
  external: isExternal,
};
/** @satisfies {import('rolldown').OutputOptions} */
const output = {
  dir: path.join(dist, 'cli'),
  sourcemap: true,
  format: 'cjs',
  // One copy of each package: not that for `import` beside that for `require`.
  dynamicImportInCjs: false,
};
rmSync(output.dir, { recursive: true, force: true });

const bundle = await rolldown({
  ...input,
  input: { program: path.join(lib, 'cli/program.ts'), ...Object.fromEntries(workers) },
  // Both allow what a file imports to be exported from another than its own.
  preserveEntrySignatures: 'allow-extension',
});
await bundle.write({
  ...output,
  chunkFileNames: '[name].js',
  codeSplitting: {
    groups: [
      {
        debugName: 'quick',
        name: (id, context) => {
          fileOf ??= filesOfModules((module) => context.getModuleInfo(module)?.importedIds ?? []);
          return fileOf.get(id) ?? null;
        },
      },
    ],
    includeDependenciesRecursively: false,
  },
});
await bundle.close();

const starter = await rolldown({
  ...input,
  input: { main: path.join(lib, 'cli/main.ts'), loader: path.join(lib, 'cli/loader.ts') },
});
await starter.write(output);
await starter.close();
writeFileSync(path.join(output.dir, 'package.json'), '{ "type": "commonjs" }\n');
