import { EventEmitter } from 'node:events';
import type { Config } from '../config/config.ts';

/** Why a config is read again. */
export type ReloadCause = 'SIGHUP' | 'file';

interface ReloadEvents {
  /** A reload begins. */
  begin: [];
  /** It has ended: what is in force now, and whether that is another config than before. */
  end: [{ config: Config; isChanged: boolean }];
}

/**
 * Reloads of the config: whoever has reason asks for one, the daemon makes them
 * one after the other, and others (a service manager, metrics) are told when one
 * begins and ends.
 */
export class Reloads extends EventEmitter<ReloadEvents> {
  #asked: ReloadCause | undefined;
  #wake = new AbortController();

  /** Asks for a reload; several before it begins are one. */
  ask(cause: ReloadCause): void {
    this.#asked = cause === 'SIGHUP' ? cause : (this.#asked ?? cause);
    this.#wake.abort();
  }

  /** Who asked since the last call, or undefined. */
  take(): ReloadCause | undefined {
    const asked = this.#asked;
    this.#asked = undefined;
    this.#wake = new AbortController();
    return asked;
  }

  /** Aborts when somebody asks. */
  get asked(): AbortSignal {
    return this.#wake.signal;
  }
}
