import { lchownSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { builtProgram, type Ended, type RunOptions, tombstonectl } from '../support/built-cli.ts';
import { TempStore } from '../support/temp-store.ts';

type Json = Record<string, unknown>;

/** How `tombstonectl` ended, with its JSON read. */
export interface Answer extends Ended {
  /** Each line of stdout, where it is JSON. */
  readonly objects: Json[];
  /** The last line of stderr, where it is JSON. */
  readonly error: Json | undefined;
  readonly lines: string[];
  readonly errorLines: string[];
}

/** Builds the program before the specs of a file run; the compiler may take longer than a spec may. */
export function beforeAllBuild(): void {
  before(function () {
    this.timeout(120_000);
    builtProgram('cli');
  });
  beforeEach(function () {
    this.currentTest?.timeout(60_000); // a spec starts many processes
  });
}

/** Runs `tombstonectl` with a store's config. */
export async function ctl(store: TempStore, ...args: string[]): Promise<Answer> {
  return ctlWith({}, '--config', store.configFile, ...args);
}

/** Runs `tombstonectl` as it is. */
export async function ctlWith(options: RunOptions, ...args: string[]): Promise<Answer> {
  const ended = await tombstonectl(args, options);
  const lines = linesOf(ended.stdout);
  const errorLines = linesOf(ended.stderr);
  return {
    ...ended,
    lines,
    errorLines,
    objects: lines.map((line) => jsonOf(line)).filter((object) => object !== undefined),
    error: jsonOf(errorLines.at(-1) ?? ''),
  };
}

/** Stores of a spec file, gone after each spec. */
export function tempStores(): { make: (typeof TempStore)['make']; bare: () => TempStore } {
  const made: TempStore[] = [];
  afterEach(() => {
    for (const store of made.splice(0)) store.remove();
  });
  return {
    make: async (...args) => {
      const store = await TempStore.make(...args);
      made.push(store);
      return store;
    },
    bare: () => {
      const store = new TempStore();
      made.push(store);
      return store;
    },
  };
}

/** Puts a hold into a store, as another program would; gives its id. */
export function hold(store: TempStore, prefix: string): string {
  const id = 'h-20261122T101500123Z-k3v0q8';
  const directory = path.join(store.root, '.tombstoned/holds');
  mkdirSync(directory, { recursive: true });
  const body = {
    id,
    kind: 'hold',
    blocks: 'sweep',
    prefix,
    until: null,
    reason: 'audit',
    by: 'a@b',
    host: 'b',
    createdAt: '2026-11-22T10:15:00.123Z',
  };
  writeFileSync(path.join(directory, `${id}.json`), `${JSON.stringify(body)}\n`);
  return id;
}

/** The user that root's specs give their files to. */
export const NOBODY = 65_534;

/**
 * How to run as a user whom permissions bind: as root, gives the store's files
 * to another. Undefined when that one can't reach the program.
 */
export async function ordinaryUser(store: TempStore): Promise<RunOptions | undefined> {
  if (process.geteuid?.() !== 0) return {};
  const user = { uid: NOBODY, gid: NOBODY };
  giveAway(store);
  return (await ctlWith(user, '--version')).code === 0 ? user : undefined;
}

/** Gives all of a store's files to that user. */
export function giveAway(store: TempStore): void {
  for (const name of ['', ...readdirSync(store.directory, { recursive: true, encoding: 'utf8' })]) {
    lchownSync(path.join(store.directory, name), NOBODY, NOBODY);
  }
}

function linesOf(text: string): string[] {
  return text.split('\n').slice(0, -1);
}

function jsonOf(line: string): Json | undefined {
  if (!line.startsWith('{')) return undefined;
  return JSON.parse(line) as Json;
}
