// Preloaded into a measured process: how late its event loop was at the most, in ms, goes to a file at its end.
import { writeFileSync } from 'node:fs';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { isMainThread } from 'node:worker_threads';

/** Loading the program is no work under load. ms */
const START = 500;
const RESOLUTION = 5;
const { BENCH_LOOP_DELAY: file } = process.env;

if (isMainThread && file !== undefined) {
  const delay = monitorEventLoopDelay({ resolution: RESOLUTION });
  setTimeout(() => delay.enable(), START).unref();
  process.once('exit', () => {
    // It counts the time between its own ticks.
    writeFileSync(file, JSON.stringify({ ms: Math.max(0, delay.max / 1e6 - RESOLUTION) }));
  });
}
