import { expect } from 'chai';
import { runSeed } from './seed.ts';

/** How long to try seeds: CI looks for a minute, others for less. s. */
const SECONDS = Number(process.env['SIM_SECONDS'] ?? (process.env['CI'] === undefined ? 15 : 60));
/** Each run tries others, unless it is told where to begin. */
const FIRST = Number(process.env['SIM_SEED'] ?? Math.floor(Math.random() * 2 ** 31));

describe('The simulation', function () {
  this.timeout((SECONDS + 60) * 1000);

  it(`keeps every promise in all seeds that ${SECONDS} s have room for`, async () => {
    const began = performance.now();
    let seed = FIRST;
    let steps = 0;
    for (; performance.now() - began < SECONDS * 1000; seed++) {
      const ended = await runSeed(seed);
      steps += ended.steps;
      if (ended.failure === undefined) continue;
      expect.fail(
        `seed ${seed}: ${ended.failure.message}\n      replay: npm run simulate -- ${seed} --trace`,
      );
    }
    expect(steps).to.be.greaterThan(0);
    console.log(`      ${seed - FIRST} seeds from ${FIRST} on, ${steps} steps`);
  });

  it('is the same each time a seed is replayed', async () => {
    for (const seed of [1, 2, 3, 4, 5]) {
      const once = await runSeed(seed, { isTraced: true });
      const again = await runSeed(seed, { isTraced: true });
      expect(once.trace).to.not.be.empty;
      expect(again.trace).to.deep.equal(once.trace);
    }
  });
});
