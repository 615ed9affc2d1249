import { spawn } from 'node:child_process';
import { environmentOfHook } from '../config/environment.ts';
import { type Clock, isoTime } from '../domain/clock.ts';
import { errnoOf, messageOf } from '../domain/errors.ts';
import { printable } from '../domain/key.ts';
import { formatDuration } from '../domain/quantities.ts';
import type { Log } from './log.ts';

/** What somebody is told of: docs/metrics.md says what each is. */
type NoticeEvent = 'failure' | 'limit' | 'clock' | 'missing' | 'lease' | 'fence';

export interface Notice {
  readonly event: NoticeEvent;
  readonly store: string;
  /** What it is about beside the store: it is told once in an hour of each. */
  readonly about: string;
  readonly message: string;
  readonly hint?: string | undefined;
  /** More for programs. */
  readonly detail?: Readonly<Record<string, unknown>>;
}

/** The same is told again only after so long. ms */
const AGAIN_MS = 3_600_000;
/** How long the command may take. ms */
const LIMIT_MS = 60_000;
/** How long what runs at the end may still take. ms */
const LAST_MS = 1000;
const MOST_WAITING = 100;
/** Of what the command says when it fails. Characters. */
const MOST_SAID = 500;
/** An environment has room for so much; the whole stands in the JSON. Characters. */
const MOST_IN_ENVIRONMENT = 4000;

export interface HookOptions {
  /** The config's file, which the command is told. */
  readonly config: string;
  readonly host: string;
  readonly clock: Clock;
  readonly log: Log;
  /** ms; only specs ask for less. */
  readonly limit?: number;
}

/**
 * Runs the config's `notify` command for each notice, one at a time, while the work
 * goes on. What a notice says reaches it as JSON on stdin and as environment
 * variables, never as a part of the command. A command that fails, or takes too
 * long, is logged, and that is all.
 */
export class Hook {
  readonly #options: HookOptions;
  #command: string | null = null;
  readonly #told = new Map<string, { readonly at: number; more: number }>();
  readonly #waiting: { readonly notice: Notice; readonly at: number; readonly repeated: number }[] = [];
  #working: Promise<void> | undefined;
  #stop: (() => void) | undefined;
  #isClosed = false;

  constructor(options: HookOptions) {
    this.#options = options;
  }

  /** From now on this is the command; null: nobody is told. */
  use(command: string | null): void {
    this.#command = command;
  }

  /** Tells it, soon, unless the same was told within the hour. Never throws, never waits. */
  tell(notice: Notice): void {
    if (this.#command === null || this.#isClosed) return;
    const { clock, log } = this.#options;
    const name = JSON.stringify([notice.event, notice.store, notice.about]);
    const now = clock.monotonic();
    const before = this.#told.get(name);
    if (before !== undefined && now - before.at < AGAIN_MS) {
      before.more++;
      return;
    }
    if (this.#waiting.length >= MOST_WAITING) {
      log.write('warn', `notify: ${MOST_WAITING} notices wait for the command: one more is not told`, {
        store: notice.store,
        event: notice.event,
      });
      return;
    }
    for (const [old, { at }] of this.#told) if (now - at >= AGAIN_MS) this.#told.delete(old);
    this.#told.set(name, { at: now, more: 0 });
    this.#waiting.push({ notice, at: clock.now(), repeated: before?.more ?? 0 });
    this.#working ??= this.#work();
  }

  /** Resolves when nothing waits to be told. */
  async idle(): Promise<void> {
    await this.#working;
  }

  /** Gives what runs a moment, then ends it; what waits is not told. */
  async close(): Promise<void> {
    this.#isClosed = true;
    this.#waiting.length = 0;
    const timer = setTimeout(() => this.#stop?.(), LAST_MS);
    await this.#working;
    clearTimeout(timer);
  }

  async #work(): Promise<void> {
    for (let next = this.#waiting.shift(); next !== undefined; next = this.#waiting.shift()) {
      const command = this.#command;
      if (command !== null) await this.#run(command, next.notice, next.at, next.repeated);
    }
    this.#working = undefined;
  }

  async #run(command: string, notice: Notice, at: number, repeated: number): Promise<void> {
    const { log, limit = LIMIT_MS } = this.#options;
    const { event, store } = notice;
    const problem = await this.#spawn(command, notice, { at: isoTime(at) ?? '', repeated, limit });
    if (problem === undefined) log.write('debug', `notify: told of ${event}`, { store, event });
    else log.write('warn', `notify: the command ${problem}: nobody was told of ${event}`, { store, event });
  }

  /** What went wrong with the command, or undefined. */
  async #spawn(
    command: string,
    { event, store, about, message, hint, detail }: Notice,
    { at, repeated, limit }: { at: string; repeated: number; limit: number },
  ): Promise<string | undefined> {
    const { host, config } = this.#options;
    const body = { type: 'notice', event, store, about, at, host, message, hint: hint ?? null, repeated };
    const env = environmentOfHook({
      TOMBSTONED_EVENT: event,
      TOMBSTONED_STORE: store,
      TOMBSTONED_AT: at,
      TOMBSTONED_MESSAGE: forEnvironment(message),
      TOMBSTONED_HINT: forEnvironment(hint ?? ''),
      TOMBSTONED_CONFIG: config,
    });
    return new Promise((resolve) => {
      // A group of its own, so that what it has started ends with it.
      const child = spawn('/bin/sh', ['-c', command], {
        cwd: '/',
        env,
        detached: true,
        stdio: ['pipe', 'ignore', 'pipe'],
      });
      let said = '';
      let ended: string | undefined;
      const end = (why: string): void => {
        ended = why;
        killGroup(child.pid);
        child.stderr.destroy(); // somebody in a group of its own may hold it open
      };
      this.#stop = () => end('was ended, as the daemon stops');
      const timer = setTimeout(() => end(`took longer than ${formatDuration(limit)} and was killed`), limit);
      const done = (problem: string | undefined): void => {
        clearTimeout(timer);
        this.#stop = undefined;
        resolve(problem);
      };
      child.stderr.setEncoding('utf8').on('data', (text: string) => {
        said = (said + text).slice(0, MOST_SAID);
      });
      // It need not read what it is told.
      child.stdin.on('error', (error) => {
        if (errnoOf(error) !== 'EPIPE') said = said === '' ? messageOf(error) : said;
      });
      child.stdin.end(`${JSON.stringify({ ...body, detail: detail ?? {} })}\n`);
      child.once('error', (error) => done(`can't be run: ${messageOf(error)}`));
      child.once('close', (code, signal) => {
        if (ended !== undefined) done(ended);
        else if (code === 0) done(undefined);
        else {
          const tail = said.trim() === '' ? '' : ` (${printable(said.trim().replaceAll(/\s+/g, ' '))})`;
          done(`ended with ${signal ?? `exit code ${code}`}${tail}`);
        }
      });
    });
  }
}

function killGroup(pid: number | undefined): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, 'SIGKILL');
  } catch (error) {
    if (errnoOf(error) !== 'ESRCH') throw error; // it has ended
  }
}

/** One line, without what a terminal or an environment would not take. */
function forEnvironment(text: string): string {
  return printable(text).slice(0, MOST_IN_ENVIRONMENT).toWellFormed();
}
