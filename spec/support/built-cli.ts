import { spawn, spawnSync } from 'node:child_process';
import { chmodSync, copyFileSync, cpSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { pathToFileURL } from 'node:url';

const ROOT = path.resolve(import.meta.dirname, '../..');

let built: string | undefined;

/** The package as it is built, in a directory that goes with this process; built once. */
function builtPackage(): string {
  if (built !== undefined) return built;
  const directory = mkdtempSync(path.join(tmpdir(), 'tombstoned-built-'));
  chmodSync(directory, 0o755); // specs run it as other users too
  process.once('exit', () => rmSync(directory, { recursive: true, force: true }));
  const dist = path.join(directory, 'dist');
  const step = (program: string, ...args: readonly string[]): void => {
    const { status, stdout, stderr, error } = spawnSync(program, args, { encoding: 'utf8' });
    if (status !== 0) throw new Error(`the build failed:\n${stdout}${stderr}`, { cause: error });
  };
  const project = path.join(ROOT, 'tsconfig.build.json');
  symlinkSync(path.join(ROOT, 'node_modules'), path.join(directory, 'node_modules'));
  step(path.join(ROOT, 'node_modules/.bin/tsc'), '-p', project, '--outDir', dist);
  cpSync(dist, path.join(directory, 'modules'), { recursive: true });
  step(process.execPath, path.join(ROOT, 'scripts/bundle.mjs'), dist);
  step(process.execPath, path.join(ROOT, 'scripts/compile.mjs'), dist);
  copyFileSync(path.join(ROOT, 'package.json'), path.join(directory, 'package.json'));
  built = directory;
  return directory;
}

/** The built program of a command's name. */
export function builtProgram(name: 'cli' | 'daemon'): string {
  return path.join(builtPackage(), 'dist', name, 'main.js');
}

/** The directory of all modules as they are compiled, each a file: where other users can import them too. */
export function compiledModules(): string {
  return path.join(builtPackage(), 'modules');
}

/** A built module: threads begin with one, and can't be run from TypeScript. */
export async function builtModule(name: string): Promise<Record<string, unknown>> {
  const loaded: unknown = await import(pathToFileURL(path.join(builtPackage(), 'dist', name)).href);
  return loaded as Record<string, unknown>;
}

/** How a program ended, and what it said. */
export interface Ended {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunOptions {
  readonly input?: string | Buffer;
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  readonly uid?: number;
  readonly gid?: number;
}

/** Runs the built `tombstonectl` to its end. */
export async function tombstonectl(args: readonly string[], options: RunOptions = {}): Promise<Ended> {
  const { input, env = {}, cwd, uid, gid } = options;
  const child = spawn(process.execPath, [builtProgram('cli'), ...args], {
    env: { PATH: process.env['PATH'], LC_ALL: 'C.UTF-8', ...env },
    ...(cwd === undefined ? {} : { cwd }),
    ...(uid === undefined ? {} : { uid }),
    ...(gid === undefined ? {} : { gid }),
  });
  let stdout = '';
  let stderr = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
  });
  child.stdin.on('error', () => undefined); // it may end without reading
  child.stdin.end(input ?? '');
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, signal) => resolve({ code, signal, stdout, stderr }));
  });
}
