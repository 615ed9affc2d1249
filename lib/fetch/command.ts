import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { constants } from 'node:os';
import type { Clock } from '../domain/clock.ts';
import { errnoOf, messageOf, TombstonedError } from '../domain/errors.ts';
import { printable } from '../domain/key.ts';

/** What is passed on to a command. */
const PASSED_ON = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT', 'SIGUSR1', 'SIGUSR2'] as const;
/** What a terminal's keys send to all of its foreground processes, a command among them. */
const FROM_KEYS: ReadonlySet<string> = new Set(['SIGINT', 'SIGQUIT', 'SIGHUP']);

const NOT_FOUND = 127;
const NOT_EXECUTABLE = 126;
/** How long a command has after SIGTERM. ms. */
const GRACE_MS = 10_000;

/** Takes the signals that this process gets, for a command that may not run yet. */
export class SignalRelay {
  readonly #stop = new AbortController();
  readonly #onSignal = (signal: NodeJS.Signals): void => this.#take(signal);
  #child: ChildProcess | undefined;
  #first: NodeJS.Signals | undefined;

  constructor() {
    for (const signal of PASSED_ON) process.on(signal, this.#onSignal);
  }

  /** Aborted by a signal that comes while no command runs. */
  get signal(): AbortSignal {
    return this.#stop.signal;
  }

  /** The exit code of the signal that ended it before a command ran. */
  get exitCode(): number | undefined {
    return this.#first === undefined ? undefined : 128 + constants.signals[this.#first];
  }

  /** From now on, signals are this command's. */
  passOnTo(child: ChildProcess): void {
    this.#child = child;
  }

  #take(signal: NodeJS.Signals): void {
    if (this.#child !== undefined) {
      if (!(FROM_KEYS.has(signal) && isInForeground())) this.#child.kill(signal);
      return;
    }
    this.#first ??= signal;
    this.#stop.abort();
  }

  close(): void {
    for (const signal of PASSED_ON) process.off(signal, this.#onSignal);
  }
}

/** Whether this process's group is in the foreground of a terminal: a command has got what its keys send. */
function isInForeground(): boolean {
  // `PID (NAME) STATE PPID PGRP SESSION TTY TPGID …`; a name may have anything in it.
  const stat = readFileSync('/proc/self/stat', 'latin1');
  const [, , group, , , foreground] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return group === foreground;
}

export interface CommandOptions {
  readonly words: readonly [string, ...string[]];
  readonly env: NodeJS.ProcessEnv;
  readonly relay: SignalRelay;
  readonly clock: Clock;
  /** Aborted when the command must end. */
  readonly mustEnd: AbortSignal;
  /** Called then, before the command is told to. */
  readonly onMustEnd: () => void;
}

/** How a command ended: as a shell says it; `error` is why it did not even begin. */
export interface CommandEnd {
  readonly code: number;
  readonly error?: TombstonedError;
}

/** Runs a command on this process's own stdin, stdout and stderr, to its end. */
export async function runCommand(options: CommandOptions): Promise<CommandEnd> {
  const [program, ...args] = options.words;
  const child = spawn(program, args, { stdio: 'inherit', env: options.env });
  const ended = once(child, 'exit');
  try {
    await once(child, 'spawn');
  } catch (error) {
    ended.catch(() => undefined); // it failed with this error
    return notRun(program, error);
  }
  options.relay.passOnTo(child);
  const over = new AbortController();
  const ending = endWhenTold(child, options, over.signal);
  const [code, signal]: unknown[] = await ended;
  over.abort();
  await ending;
  return { code: exitCodeOf(code, signal) };
}

function exitCodeOf(code: unknown, signal: unknown): number {
  if (typeof code === 'number') return code;
  const number = Object.entries(constants.signals).find(([name]) => name === signal)?.[1];
  return 128 + (number ?? 0);
}

/** Ends a command when it must: SIGTERM, and after a grace time SIGKILL. */
async function endWhenTold(
  child: ChildProcess,
  { mustEnd, onMustEnd, clock }: CommandOptions,
  over: AbortSignal,
): Promise<void> {
  if (!mustEnd.aborted) {
    await once(mustEnd, 'abort', { signal: over }).catch((error: unknown) => {
      if (!over.aborted) throw error;
    });
  }
  if (!mustEnd.aborted || over.aborted) return;
  onMustEnd();
  child.kill('SIGTERM');
  await clock.sleep(GRACE_MS, over);
  if (!over.aborted) child.kill('SIGKILL');
}

function notRun(program: string, cause: unknown): CommandEnd {
  const isMissing = errnoOf(cause) === 'ENOENT';
  const why = isMissing ? 'there is no such command' : messageOf(cause);
  return {
    code: isMissing ? NOT_FOUND : NOT_EXECUTABLE,
    error: new TombstonedError('failed', `${printable(program)} can't be run: ${why}`, {
      key: program,
      hint: 'a command has its name, or path, and its arguments after --',
      cause,
    }),
  };
}
