import { fstatSync, writeSync } from 'node:fs';
import type { ServiceManager } from '../config/environment.ts';
import { errnoOf, messageOf } from '../domain/errors.ts';
import type { Log } from './log.ts';

/** What systemd is told in one message; sd_notify(3). */
export type Notice = Readonly<Record<string, string>>;

/** What says in which state the service is: two of them never share a message. */
const STATES = ['READY', 'RELOADING', 'STOPPING'];
/** Messages that wait while nobody reads. */
const MOST_WAITING = 10;

/**
 * Tells the service manager, each message a datagram that this process itself writes, so
 * that `NotifyAccess=main` is enough. Node can't make the socket (it has no datagram
 * sockets of AF_UNIX): `systemd/notify-exec` does, and hands it down. What the socket does
 * not take waits for the next message; it never blocks.
 */
export class Notifier {
  readonly #descriptor: number | undefined;
  readonly #log: Log;
  #waiting: Map<string, string>[] = [];
  #isDeaf = false;

  constructor({ descriptor, socket }: ServiceManager, log: Log) {
    this.#log = log;
    this.#descriptor = isSocket(descriptor) ? descriptor : undefined;
    if (this.#descriptor !== undefined) return;
    log.write('warn', `systemd waits for word at ${socket}, and there is no way to send it`, {
      hint: 'start tombstoned through notify-exec, as tombstoned.service does',
    });
  }

  send(notice: Notice): void {
    if (this.#descriptor === undefined) return;
    const last = this.#waiting.at(-1);
    if (last === undefined || (hasState([...last.keys()]) && hasState(Object.keys(notice)))) {
      this.#waiting = [...this.#waiting, new Map(Object.entries(notice))].slice(-MOST_WAITING);
    } else for (const [name, value] of Object.entries(notice)) last.set(name, value);
    this.#sendWaiting(this.#descriptor);
  }

  #sendWaiting(descriptor: number): void {
    for (let next = this.#waiting[0]; next !== undefined; next = this.#waiting[0]) {
      try {
        writeSync(descriptor, [...next].map(([name, value]) => `${name}=${oneLine(value)}\n`).join(''));
      } catch (error) {
        if (errnoOf(error) === 'EAGAIN') return;
        // Once, not at every message: what systemd does about it is its own.
        if (!this.#isDeaf) this.#log.write('warn', `systemd can't be told: ${messageOf(error)}`);
        this.#isDeaf = true;
        this.#waiting = [];
        return;
      }
      this.#isDeaf = false;
      this.#waiting.shift();
    }
  }
}

function isSocket(descriptor: number | undefined): descriptor is number {
  if (descriptor === undefined) return false;
  try {
    return fstatSync(descriptor).isSocket();
  } catch (error) {
    if (errnoOf(error) === 'EBADF') return false;
    throw error;
  }
}

function hasState(names: readonly string[]): boolean {
  return STATES.some((state) => names.includes(state));
}

/** An assignment is a line. */
function oneLine(text: string): string {
  return text.replaceAll(/\s+/g, ' ');
}
