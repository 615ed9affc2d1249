import { availableParallelism } from 'node:os';
import { expect } from 'chai';
import { DRILL_NAMES, firstSeedOf, SEEDS } from './drills.ts';
import { runSeed } from './seed.ts';
import { COMMAND, run } from './test-build.ts';

/** How long to try seeds. s. */
const SECONDS = Number(process.env['SIM_SECONDS'] ?? 15);
/** How many seeds of each drill are tried. */
const DRILLED = Math.ceil(SECONDS / 3);
/** Each run tries others, unless it is told where to begin. */
const FIRST = Number(process.env['SIM_SEED'] ?? Math.floor(Math.random() * 2 ** 31));
/** How far the seeds of two processes are apart. */
const APART = 1_000_000;

describe('The simulation', function () {
  this.timeout((SECONDS + 120) * 1000);

  it(`keeps every promise in all seeds that ${SECONDS} s have room for`, async () => {
    const firsts = Array.from({ length: Math.min(4, availableParallelism()) }, (_, i) => FIRST + i * APART);
    const all = await Promise.all(
      firsts.map(async (from) =>
        run([...COMMAND, '--from', `${from}`, '--seconds', `${SECONDS}`, '--until-failure']),
      ),
    );
    for (const { code, said, wrote } of all) {
      const failed = /^seed (\d+): .*$/m.exec(said);
      const replay = failed === null ? '' : `\n      replay: npm run simulate -- ${failed[1]} --trace`;
      expect(code, `${failed?.[0] ?? said}${replay}`).to.equal(0);
      expect(wrote).to.match(/^[1-9]\d* seeds from \d+ on, 0 failed/m);
      process.stdout.write(`      ${wrote}`);
    }
  });

  it(`keeps every promise in ${DRILLED} seeds of each drill`, async () => {
    for (const drill of DRILL_NAMES) {
      const first = firstSeedOf(drill) + (FIRST % (SEEDS - DRILLED));
      for (let seed = first; seed < first + DRILLED; seed++) {
        const { failure } = await runSeed(seed);
        expect(failure, `${failure?.message}\n      replay: npm run simulate -- ${seed} --trace`).to.equal(
          undefined,
        );
      }
    }
  });

  it('is the same each time a seed is replayed', async () => {
    for (const seed of [1, 2, 3, 4, 5, 6, 7, 8, ...DRILL_NAMES.map(firstSeedOf)]) {
      const once = await runSeed(seed, { isTraced: true });
      const again = await runSeed(seed, { isTraced: true });
      expect(once.trace).to.not.deep.equal([]);
      expect(again.trace).to.deep.equal(once.trace);
    }
  });
});
