// Preloaded into a measured process: how late its event loop was at the most, in ms, goes to a file at its end.
import { writeFileSync } from 'node:fs';
import { performance } from 'node:perf_hooks';
import { isMainThread } from 'node:worker_threads';

/** Loading the program is no work under load. ms */
const START = 500;
const RESOLUTION = 5;
const { BENCH_LOOP_DELAY: file } = process.env;

if (isMainThread && file !== undefined) {
  let last = START;
  let most = 0;
  // A histogram of the event loop's delay knows nothing of what comes after the last turn: of a loop that never had one, 0.
  const tick = () => {
    const now = performance.now();
    most = Math.max(most, now - last - RESOLUTION);
    last = Math.max(last, now);
  };
  setInterval(tick, RESOLUTION).unref();
  process.once('exit', () => {
    tick();
    writeFileSync(file, JSON.stringify({ ms: most }));
  });
}
