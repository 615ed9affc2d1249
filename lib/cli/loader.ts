import { readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import { Script } from 'node:vm';
import { crc32 } from 'node:zlib';

/** What a file of the program gives others; the entry gives this. */
type Exports = Partial<typeof import('./program.ts')>;
type Body = (
  exports: Exports,
  require: (id: string) => unknown,
  module: { readonly exports: Exports },
  __filename: string,
  __dirname: string,
) => void;

const HEAD = '(function (exports, require, module, __filename, __dirname) { ';
const TAIL = '\n})';
/** Where the code begins in a file of it: at a multiple of 8, as V8 wants it. */
const CODE_AT = 256;
/** Modules of Node that take milliseconds to load, and that few commands use. */
const LATE: ReadonlySet<string> = new Set([
  'node:child_process',
  'node:crypto',
  'node:os',
  'node:tty',
  'node:worker_threads',
]);

/**
 * Loads the files that the build made of this program, with the code that V8 had compiled them to at the build
 * (`NAME.code` beside `NAME.js`): to compile them is most of what a short command would take. Code is only taken if it
 * was made of exactly this source by exactly this Node, and is whole, for V8 itself looks at no more than the length
 * of the source and its own version; otherwise the source is compiled, as if there were no code.
 */
export class Loader {
  readonly #directory: string;
  readonly #isMapped: boolean;
  readonly #loaded = new Map<string, { readonly exports: Exports }>();
  readonly #scripts = new Map<string, { readonly script: Script; readonly source: Buffer }>();
  #require: NodeJS.Require | undefined;
  #maker: string | null | undefined;

  /** `isMapped`: where something is thrown is told by the sources of the build; Node maps what it loads itself. */
  constructor(directory: string, isMapped = false) {
    this.#directory = directory;
    this.#isMapped = isMapped;
  }

  /** Runs the program, and gives its exit code. */
  async program(words: readonly string[]): Promise<number> {
    const { program }: Exports = this.#isMapped ? this.#byNode()('./program.js') : this.#load('program.js');
    if (program === undefined) throw new TypeError(`${this.#pathOf('program.js')} has no program`);
    return program(words);
  }

  /** What is to be in the files of code: that of all functions that have run by now. By the names of these files. */
  code(): ReadonlyMap<string, Buffer> {
    const files = new Map<string, Buffer>();
    for (const [name, { script, source }] of this.#scripts) {
      const code = script.createCachedData();
      const head = this.#headOf(source, code);
      if (head !== undefined) files.set(codeFile(name), Buffer.concat([Buffer.from(head), code]));
    }
    return files;
  }

  #load(name: string): Exports {
    const known = this.#loaded.get(name);
    if (known !== undefined) return known.exports;
    const source = readFileSync(this.#pathOf(name));
    const cachedData = this.#codeOf(name, source);
    const script = new Script(`${HEAD}${source.toString()}${TAIL}`, {
      // Code keeps the name that it was compiled under, wherever it is installed.
      filename: `dist/cli/${name}`,
      columnOffset: -HEAD.length,
      ...(cachedData === undefined ? {} : { cachedData }),
    });
    const module = { exports: {} };
    this.#loaded.set(name, module);
    this.#scripts.set(name, { script, source });
    try {
      const body: Body = script.runInThisContext();
      body(module.exports, (id) => this.#find(id), module, this.#pathOf(name), this.#directory);
    } catch (error) {
      this.#loaded.delete(name); // who tries again is told the same
      this.#scripts.delete(name);
      throw error;
    }
    return module.exports;
  }

  /** What a file requires: another, a module of Node, or of a package. */
  #find(id: string): unknown {
    if (id.startsWith('./')) return this.#load(path.basename(id));
    if (LATE.has(id)) return whenUsed(id);
    if (id.startsWith('node:')) return builtIn(id);
    return this.#byNode()(id);
  }

  /** Node's own way to load something. */
  #byNode(): NodeJS.Require {
    this.#require ??= process.getBuiltinModule('node:module').createRequire(this.#pathOf('main.js'));
    return this.#require;
  }

  #pathOf(name: string): string {
    return path.join(this.#directory, name);
  }

  /** The code that goes with a source, if it does. */
  #codeOf(name: string, source: Buffer): Buffer | undefined {
    try {
      const file = readFileSync(this.#pathOf(codeFile(name)));
      const code = file.subarray(CODE_AT);
      return file.toString('latin1', 0, CODE_AT) === this.#headOf(source, code) ? code : undefined;
    } catch {
      return undefined; // whatever is wrong with it, or can't be told of this Node: nothing needs it
    }
  }

  /**
   * What code is bound to. Node's binary is part of it, since builds of one version can differ; where V8 is a
   * library of its own that says nothing, and nothing goes with any code.
   */
  #headOf(source: Buffer, code: Buffer): string | undefined {
    if (this.#maker === undefined) this.#maker = makerOfCode();
    if (this.#maker === null) return undefined;
    return `${this.#maker} ${crc32(source)} ${crc32(code)}`.padEnd(CODE_AT);
  }
}

/** A module of Node that is loaded when something of it is used. */
function whenUsed(id: string): object {
  return new Proxy({}, { get: (_, member): unknown => Reflect.get(builtIn(id), member) });
}

function builtIn(id: string): object {
  const found = process.getBuiltinModule(id);
  if (found === undefined) throw new TypeError(`this Node has no ${id}`);
  return found;
}

function makerOfCode(): string | null {
  if (Reflect.get(process.config.variables, 'node_shared') === true) return null;
  const { size, mtimeMs } = statSync(process.execPath);
  return `${process.version} ${process.arch} ${size} ${mtimeMs}`;
}

function codeFile(name: string): string {
  return `${path.basename(name, '.js')}.code`;
}
