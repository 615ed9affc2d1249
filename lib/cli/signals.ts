import { collectAlone } from '../run/small-heap.ts';
import type { Output } from './output.ts';

const EXIT = { SIGINT: 130, SIGTERM: 143 } as const;

/**
 * Runs work that a signal ends after the batch under way. A second signal ends
 * the process at once; the next run recovers what it leaves. Gives the exit code.
 * Quietly where the signal is how the work ends.
 */
export async function untilSignalled(
  out: Output,
  work: (signal: AbortSignal) => Promise<number>,
  { isQuiet = false } = {},
): Promise<number> {
  const controller = new AbortController();
  let code: number | undefined;
  const onSignal = (signal: keyof typeof EXIT): void => {
    if (code !== undefined) process.exit(EXIT[signal]);
    code = EXIT[signal];
    if (!isQuiet) out.talk(`${signal}: stopping after this batch; once more to stop at once`);
    controller.abort();
  };
  process.on('SIGINT', onSignal).on('SIGTERM', onSignal);
  collectAlone(); // with all processors taken it is to hear of them in time
  try {
    const ended = await work(controller.signal);
    return code ?? ended;
  } finally {
    process.off('SIGINT', onSignal).off('SIGTERM', onSignal);
  }
}
