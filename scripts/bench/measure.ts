import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync, readFileSync } from 'node:fs';
import path from 'node:path';

export interface Usage {
  readonly seconds: number;
  readonly userSeconds: number;
  readonly systemSeconds: number;
  /** The most memory that the process, or one of those it started, held at once. */
  readonly peakKiB: number;
}

/** Runs whole processes and measures them. Its own files are in `directory`. */
export class Stopwatch {
  /** The helper, compiled on the spot. */
  readonly native: string;
  readonly #directory: string;

  constructor(directory: string) {
    this.#directory = directory;
    this.native = path.join(directory, 'native');
    execFileSync('cc', ['-O2', '-o', this.native, path.join(import.meta.dirname, 'native.c')], {
      stdio: ['ignore', 'inherit', 'inherit'],
    });
  }

  /** Runs a command with nothing of earlier ones left to write; its stdout comes back too. Throws unless it exits 0. */
  async run(
    command: readonly string[],
    env: Readonly<Record<string, string>> = {},
    before: () => void = () => undefined,
  ): Promise<Usage & { readonly stdout: string }> {
    execFileSync('sync');
    before();
    const result = path.join(this.#directory, 'usage.json');
    const stdout = path.join(this.#directory, 'stdout');
    const stderr = path.join(this.#directory, 'stderr');
    const outputs = [openSync(stdout, 'w'), openSync(stderr, 'w')];
    const child = spawn(this.native, ['measure', result, ...command], {
      stdio: ['ignore', ...outputs],
      env: { ...process.env, ...env },
    });
    for (const fd of outputs) closeSync(fd);
    const [code] = await once(child, 'close');
    if (code !== 0) {
      throw new Error(`${command.join(' ')}: exit code ${code}\n${readFileSync(stderr, 'utf8')}`);
    }
    return { ...usageIn(readFileSync(result, 'utf8')), stdout: readFileSync(stdout, 'utf8') };
  }
}

function usageIn(text: string): Usage {
  const value: unknown = JSON.parse(text);
  return {
    seconds: numberIn(value, 'seconds'),
    userSeconds: numberIn(value, 'userSeconds'),
    systemSeconds: numberIn(value, 'systemSeconds'),
    peakKiB: numberIn(value, 'peakKiB'),
  };
}

/** A number that a JSON object has to have. */
export function numberIn(value: unknown, name: string): number {
  const number: unknown = typeof value === 'object' && value !== null ? Reflect.get(value, name) : undefined;
  if (typeof number !== 'number') throw new Error(`no number "${name}" in ${JSON.stringify(value)}`);
  return number;
}
