// Puts the built program with the packages it needs at run time into a directory, which must not be there yet:
//   scripts/stage.mjs DIRECTORY
import { cpSync, existsSync, mkdirSync, readFileSync } from 'node:fs';
import path from 'node:path';

const root = path.resolve(import.meta.dirname, '..');
const [directory] = process.argv.slice(2);
if (directory === undefined) throw new Error('usage: scripts/stage.mjs DIRECTORY');
if (existsSync(directory)) throw new Error(`${directory} is there already`);
if (!existsSync(path.join(root, 'dist/cli/main.js'))) throw new Error('nothing is built: npm run build');

mkdirSync(directory, { recursive: true });
cpSync(path.join(root, 'dist'), path.join(directory, 'dist'), {
  recursive: true,
  filter: (source) => !/\.(?:map|d\.ts)$/.test(source),
});
for (const name of ['package.json', 'LICENSE', 'CHANGELOG.md']) {
  cpSync(path.join(root, name), path.join(directory, name));
}
for (const name of productionPackages()) copyPackage(name);

/** Where the lock file has packages that are not only for development, on this platform. */
function productionPackages() {
  /** @type {{ packages: Record<string, { dev?: boolean, devOptional?: boolean, optional?: boolean }> }} */
  const lock = JSON.parse(readFileSync(path.join(root, 'package-lock.json'), 'utf8'));
  return Object.entries(lock.packages).flatMap(([name, { dev, devOptional, optional }]) => {
    if (name === '' || dev === true || devOptional === true) return [];
    if (existsSync(path.join(root, name))) return [name];
    if (optional === true) return [];
    throw new Error(`${name} is not installed: npm ci`);
  });
}

/** @param {string} name as `node_modules/yargs` */
function copyPackage(name) {
  const source = path.join(root, name);
  cpSync(source, path.join(directory ?? '', name), {
    recursive: true,
    filter: (file) => isNeeded(path.relative(source, file), name),
  });
}

/** What of a package is needed at run time; packages within it are copied by themselves. @param {string} file @param {string} name */
function isNeeded(file, name) {
  if (file === '') return true;
  if (/(?:^|\/)node_modules$/.test(file) || /\.(?:map|d\.[cm]?ts)$/.test(file)) return false;
  if (/^dist-types(?:\/|$)/.test(file)) return false;
  if (!name.endsWith('/better-sqlite3')) return true;
  // Its sources, and what its build has left beside the module.
  if (/^(?:deps|src|binding\.gyp)(?:\/|$)/.test(file)) return false;
  return (
    !file.startsWith('build/') || file === 'build/Release' || file === 'build/Release/better_sqlite3.node'
  );
}
