import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createInterface, type Interface } from 'node:readline';
import { setImmediate } from 'node:timers/promises';

/** Another process of a spec: a `*.child.ts` file that says what it does, a line of JSON each. */
export class Child {
  readonly #process: ChildProcess;
  readonly #lines: Interface;
  readonly #said: unknown[] = [];
  readonly #ended: Promise<unknown>;
  #isOver = false;

  constructor(file: string, args: readonly string[], env: Readonly<Record<string, string>> = {}) {
    this.#process = fork(file, args, {
      execArgv: ['--import', 'tsx'],
      env: { ...process.env, ...env },
      stdio: ['ignore', 'pipe', 'inherit', 'ipc'],
    });
    const { stdout } = this.#process;
    if (stdout === null) throw new Error('no output');
    this.#ended = once(this.#process, 'exit');
    this.#lines = createInterface(stdout);
    this.#lines.on('line', (line) => this.#said.push(JSON.parse(line)));
    this.#lines.once('close', () => {
      this.#isOver = true;
    });
  }

  tell(message: object | string): void {
    this.#process.send(message);
  }

  /** What it says next. Throws when it ends instead. */
  async hear(): Promise<unknown> {
    while (this.#said.length === 0) {
      if (this.#isOver) throw new Error('the child ended, and said nothing');
      await Promise.race([once(this.#lines, 'line'), once(this.#lines, 'close')]);
    }
    return this.#said.shift();
  }

  /** Waits until it has said so and stopped itself. Throws when it says something else. */
  async stop(): Promise<void> {
    const said = await this.hear();
    if (said !== 'stopped') throw new Error(`the child did not stop, and said ${JSON.stringify(said)}`);
    while (!/\) T /.test(readFileSync(`/proc/${this.#process.pid}/stat`, 'utf8'))) await setImmediate();
  }

  /** Lets it go on after it has stopped itself. */
  wake(): void {
    this.#process.kill('SIGCONT');
  }

  /** Waits until it has ended by itself. */
  async end(): Promise<void> {
    await this.#ended;
  }

  /** Ends it as a crash would. */
  async kill(): Promise<void> {
    this.#process.kill('SIGKILL');
    await this.#ended;
  }
}
