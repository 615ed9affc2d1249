// Replays a seed of the simulation: npm run simulate -- SEED [--trace]. With --from A --count N, runs many.
import { parseArgs } from 'node:util';
import { runSeed } from '../spec/simulation/seed.ts';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    trace: { type: 'boolean', default: false },
    from: { type: 'string' },
    count: { type: 'string', default: '1' },
  },
});
const first = Number(positionals[0] ?? values.from ?? 1);
const began = performance.now();
let failed = 0;
let steps = 0;
for (let seed = first; seed < first + Number(values.count); seed++) {
  const ended = await runSeed(seed, { isTraced: values.trace });
  steps += ended.steps;
  if (values.trace) console.log(`${JSON.stringify(ended.setting)}\n${ended.trace.join('\n')}`);
  if (ended.failure === undefined) continue;
  failed += 1;
  console.error(`seed ${seed}: ${ended.failure.stack}`);
}
const seconds = (performance.now() - began) / 1000;
console.log(`${values.count} seeds, ${failed} failed, ${steps} steps, ${seconds.toFixed(1)} s`);
process.exitCode = failed > 0 ? 1 : 0;
