import { writeSync } from 'node:fs';

/** Says something to the spec that started this process, at once: it may stop itself right after. */
export function say(message: unknown): void {
  writeSync(1, `${JSON.stringify(message)}\n`);
}
