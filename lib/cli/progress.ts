import type { Output } from './output.ts';

/** A progress bar on stderr, where somebody watches it. */
export interface Progress {
  update(done: number, total?: number): void;
  stop(): void;
}

/** Shows a bar while `work` runs; it makes way for lines of talk. */
export async function withProgress<T>(
  out: Output,
  what: string,
  work: (progress: Progress) => Promise<T>,
): Promise<T> {
  const bar = out.isWatched ? await cliBar(out, what) : SILENT;
  try {
    return await work(bar);
  } finally {
    bar.stop();
  }
}

const SILENT: Progress = { update: () => undefined, stop: () => undefined };

async function cliBar(out: Output, what: string): Promise<Progress> {
  const { default: progress } = await import('cli-progress');
  const shape = out.isUnicode ? { full: '█', empty: '░' } : { full: '#', empty: '.' };
  const bar = new progress.SingleBar({
    format: `${what} {bar} {value} of {total}`,
    barCompleteChar: shape.full,
    barIncompleteChar: shape.empty,
    stream: process.stderr,
    clearOnComplete: true,
    // What a second signal would leave behind: a hidden cursor, a terminal that does not wrap.
    hideCursor: false,
    linewrap: true,
    // Ctrl-C is for the command, which ends the bar.
    gracefulExit: false,
  });
  let isShown = false;
  out.onTalk(() => {
    // The next redraw puts the bar below the line of talk.
    if (isShown) process.stderr.write('\r\u001B[K');
  });
  return {
    update: (done, total) => {
      if (!isShown) bar.start(total ?? done, done);
      isShown = true;
      if (total !== undefined) bar.setTotal(total);
      bar.update(done);
    },
    stop: () => {
      out.onTalk(undefined);
      if (isShown) bar.stop();
    },
  };
}
