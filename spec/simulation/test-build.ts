import { spawn } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { Edit, Mutation } from './mutations.ts';

const ROOT = path.resolve(import.meta.dirname, '../..');

/** What runs seeds in the sources as they are. */
export const COMMAND = commandIn(ROOT);

function commandIn(directory: string): string[] {
  return [process.execPath, '--import', 'tsx', path.join(directory, 'scripts/simulate.ts')];
}

/** A copy of the sources, with a mutation in it, and the simulation beside it. */
export class TestBuild {
  readonly directory: string;

  constructor(mutation: Mutation | undefined) {
    this.directory = mkdtempSync(path.join(tmpdir(), 'tombstoned-mutated-'));
    for (const name of ['lib', 'spec/simulation', 'scripts/simulate.ts'])
      cpSync(path.join(ROOT, name), path.join(this.directory, name), { recursive: true });
    mkdirSync(path.join(this.directory, 'scripts'), { recursive: true });
    for (const name of ['node_modules', 'package.json', 'tsconfig.json'])
      symlinkSync(path.join(ROOT, name), path.join(this.directory, name));
    for (const edit of mutation?.edits ?? []) this.#apply(edit);
  }

  #apply(edit: Edit): void {
    const file = path.join(this.directory, edit.file);
    writeFileSync(file, edited(readFileSync(file, 'utf8'), edit));
  }

  /** What runs seeds in it. */
  get command(): string[] {
    return commandIn(this.directory);
  }

  remove(): void {
    rmSync(this.directory, { recursive: true, force: true });
  }
}

/** A text with an edit in it; throws unless what it is about occurs exactly once. */
export function edited(text: string, { file, find, replace }: Edit): string {
  const parts = text.split(find);
  if (parts.length !== 2)
    throw new Error(`${file}: ${JSON.stringify(find)} occurs ${parts.length - 1} times`);
  return parts.join(replace);
}

/** Runs a command to its end. */
export async function run(
  command: readonly string[],
): Promise<{ code: number | null; wrote: string; said: string }> {
  const [program = '', ...args] = command;
  const child = spawn(program, args, { cwd: ROOT, stdio: ['ignore', 'pipe', 'pipe'] });
  let wrote = '';
  let said = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    wrote += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    said += text;
  });
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once('error', reject).once('close', resolve);
  });
  return { code, wrote, said };
}
