import { type ChildProcess, spawn } from 'node:child_process';
import { builtProgram, type Ended } from '../support/built-cli.ts';

/** A line of the daemon's log. */
export type Line = Readonly<Record<string, unknown>> & { readonly level: string; readonly message: string };

/** The built daemon as a process, and what it has said. */
export class RunningDaemon {
  readonly process: ChildProcess;
  readonly ended: Promise<Ended>;
  stdout = '';
  stderr = '';
  #hasEnded = false;
  #wake: () => void = () => undefined;

  /** `through` is a program that runs the one it is given. */
  constructor(args: readonly string[], env: Readonly<Record<string, string>> = {}, through?: string) {
    const program = [process.execPath, builtProgram('daemon'), ...args];
    const [command = '', ...words] = through === undefined ? program : [through, ...program];
    const child = spawn(command, words, {
      env: { PATH: process.env['PATH'], LC_ALL: 'C.UTF-8', ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.process = child;
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      this.stdout += text;
      this.#wake();
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      this.stderr += text;
    });
    this.ended = new Promise((resolve, reject) => {
      child.once('error', reject);
      child.once('close', (code, signal) => {
        this.#hasEnded = true;
        this.#wake();
        resolve({ code, signal, stdout: this.stdout, stderr: this.stderr });
      });
    });
  }

  get pid(): number {
    return this.process.pid ?? Number.NaN;
  }

  /** What the log has so far, whole lines only. Throws for a line that is no JSON object. */
  lines(): Line[] {
    return this.stdout
      .slice(0, this.stdout.lastIndexOf('\n') + 1)
      .split('\n')
      .slice(0, -1)
      .map((line) => JSON.parse(line) as Line);
  }

  /** Waits for a line; those before `from` do not count. */
  async until(is: (line: Line) => boolean, from = 0): Promise<Line> {
    for (;;) {
      const woken = new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      const found = this.lines().slice(from).find(is);
      if (found !== undefined) return found;
      if (this.#hasEnded) throw new Error(`it ended without that line:\n${this.stdout}${this.stderr}`);
      await woken;
    }
  }

  kill(...signals: NodeJS.Signals[]): void {
    for (const signal of signals) this.process.kill(signal);
  }

  /** Ends it, however it is. */
  async remove(): Promise<void> {
    if (!this.#hasEnded) this.process.kill('SIGKILL');
    await this.ended;
  }
}

export const saysRuns = (line: Line): boolean => /^tombstoned \S+ runs$/.test(line.message);
export const isSweep = (line: Line): boolean => line['type'] === 'sweep';
export const isPurge = (line: Line): boolean => line['type'] === 'purge';
