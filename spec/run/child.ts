import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';

/** Another process of a spec: a `*.child.ts` file that says what it does in messages. */
export class Child {
  readonly #process: ChildProcess;
  readonly #said: unknown[] = [];
  readonly #ended: Promise<unknown>;

  constructor(file: string, args: readonly string[]) {
    this.#process = fork(file, args, {
      execArgv: ['--import', 'tsx'],
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    });
    this.#process.on('message', (message) => this.#said.push(message));
    this.#ended = once(this.#process, 'exit');
  }

  get pid(): number {
    return this.#process.pid ?? -1;
  }

  tell(message: object | string): void {
    this.#process.send(message);
  }

  /** What it says next. Throws when it ends instead. */
  async hear(): Promise<unknown> {
    while (this.#said.length === 0) {
      if (this.#process.exitCode !== null || this.#process.signalCode !== null) {
        throw new Error(
          `the child ended (${this.#process.exitCode ?? this.#process.signalCode}) and said nothing`,
        );
      }
      await Promise.race([once(this.#process, 'message'), this.#ended]);
    }
    return this.#said.shift();
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
