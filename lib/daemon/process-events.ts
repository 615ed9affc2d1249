import { constants } from 'node:os';
import type { Clock } from '../domain/clock.ts';
import { messageOf } from '../domain/errors.ts';
import type { Log } from './log.ts';

/** How long the batch under way has after the first signal; a little less than the 10 s that are promised. ms. */
const GRACE_MS = 9500;

type StopSignal = 'SIGTERM' | 'SIGINT';

/** What is used of `process`. */
export interface HostProcess {
  readonly stdout: Listenable;
  readonly stderr: { write(text: string): unknown };
  on: Listenable['on'];
  off: Listenable['off'];
  exit(code: number): void;
}

interface Listenable {
  on(event: string, listener: (value: unknown) => void): unknown;
  off(event: string, listener: (value: unknown) => void): unknown;
}

/**
 * What happens to the process: a first SIGTERM or SIGINT aborts `signal`, a
 * second exits at once with 128 + its number. What nobody caught ends the
 * process with 1; every state it may leave is one that recovery handles.
 */
export class ProcessEvents {
  readonly #host: HostProcess;
  readonly #log: Log;
  readonly #stop = new AbortController();
  readonly #listeners: readonly [string, (value: unknown) => void][];
  readonly #clock: Clock;
  readonly #closed = new AbortController();
  #grace: Promise<void> = Promise.resolve();
  #exitCode = 0;

  constructor(host: HostProcess, log: Log, clock: Clock) {
    this.#host = host;
    this.#log = log;
    this.#clock = clock;
    this.#listeners = [
      ['SIGTERM', () => this.#onStop('SIGTERM')],
      ['SIGINT', () => this.#onStop('SIGINT')],
      ['SIGHUP', () => this.onHangup()],
      ['uncaughtException', (error) => this.#onFailure(error)],
      ['unhandledRejection', (reason) => this.#onFailure(reason)],
    ];
    for (const [event, listener] of this.#listeners) host.on(event, listener);
    // For good: the error of the last line comes after everything else.
    host.stdout.on('error', (error) => this.#onDeafOutput(error));
  }

  /** What a SIGHUP does. */
  onHangup: () => void = () => undefined;

  /** Aborts when the daemon is to stop after the batch that is under way. */
  get signal(): AbortSignal {
    return this.#stop.signal;
  }

  /** 0, unless something other than a signal stopped the daemon. */
  get exitCode(): number {
    return this.#exitCode;
  }

  async close(): Promise<void> {
    for (const [event, listener] of this.#listeners) this.#host.off(event, listener);
    this.#closed.abort();
    await this.#grace;
  }

  #onStop(name: StopSignal): void {
    if (!this.signal.aborted) {
      this.#log.write('info', `${name}: stopping after the batch that is under way`);
      this.#begin();
      return;
    }
    this.#log.write('warn', `${name} again: exiting at once, what is left is for the next start`);
    this.#host.exit(128 + constants.signals[name]);
  }

  #begin(): void {
    this.#grace = this.#giveUp();
    this.#stop.abort();
  }

  async #giveUp(): Promise<void> {
    await this.#clock.sleep(GRACE_MS, this.#closed.signal);
    if (this.#closed.signal.aborted) return;
    this.#log.write('error', 'the batch did not end in time: exiting, what is left is for the next start');
    this.#host.exit(1);
  }

  #onFailure(error: unknown): void {
    this.#exitCode = 1;
    try {
      this.#log.failure(error);
    } finally {
      this.#host.exit(1);
    }
  }

  /** Whoever read the log has gone: a daemon that nobody can hear stops. */
  #onDeafOutput(error: unknown): void {
    if (this.#exitCode !== 0) return;
    this.#exitCode = 1;
    this.#host.stderr.write(`tombstoned: the log can't be written, stopping: ${messageOf(error)}\n`);
    if (!this.signal.aborted) this.#begin();
  }
}
