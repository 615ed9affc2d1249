import { closeSync, constants, fstatSync, openSync, writeSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { errnoOf } from '../domain/errors.ts';
import type { Output } from './output.ts';

const STDOUT = 1;
/** How long a full pipe is left alone. ms. */
const PAUSE_MS = 50;

/**
 * Lines to stdout by a command that goes on until a signal: where that is a pipe which
 * nobody empties, it waits without blocking, so that the signal is heard.
 */
export class PatientLines {
  readonly #out: Output;
  /** The same pipe, opened once more: not waiting is a matter of this descriptor alone. */
  readonly #fd: number | undefined;
  #isClosed = false;

  constructor(out: Output) {
    this.#out = out;
    if (!fstatSync(STDOUT).isFIFO()) return;
    try {
      this.#fd = openSync(`/proc/self/fd/${STDOUT}`, constants.O_WRONLY | constants.O_NONBLOCK);
    } catch (error) {
      const code = errnoOf(error);
      if (code === 'ENXIO') this.#isClosed = true;
      // Where /proc is not mounted, or hides this, it writes as any command does.
      else if (code !== 'ENOENT' && code !== 'EACCES') throw error;
    }
  }

  /** Whether nobody reads any more. */
  get isClosed(): boolean {
    return this.#isClosed || this.#out.isClosed;
  }

  async write(lines: readonly string[], signal: AbortSignal): Promise<void> {
    if (lines.length === 0) return;
    if (this.#fd === undefined) {
      for (const line of lines) this.#out.line(line);
      this.#out.flush();
      return;
    }
    const data = Buffer.from(`${lines.join('\n')}\n`);
    for (let from = 0; from < data.length && !signal.aborted && !this.#isClosed; ) {
      try {
        from += writeSync(this.#fd, data, from);
      } catch (error) {
        if (errnoOf(error) === 'EPIPE') this.#isClosed = true;
        else if (errnoOf(error) !== 'EAGAIN') throw error;
        else await paused(signal);
      }
    }
  }

  close(): void {
    if (this.#fd !== undefined) closeSync(this.#fd);
  }
}

async function paused(signal: AbortSignal): Promise<void> {
  try {
    await delay(PAUSE_MS, undefined, { signal });
  } catch (error) {
    if (!signal.aborted) throw error;
  }
}
