import { writeFileSync } from 'node:fs';
import type { MochaOptions } from 'mocha';
import Mocha from 'mocha';

const { EVENT_RUN_END, EVENT_TEST_PENDING } = Mocha.Runner.constants;

/**
 * Mocha's `spec` output. A run that is cut short (a spec that calls `process.exit`) fails. Where $TEST_RESULT
 * names a file, mocha's own counts go there too, for scripts/test: a line `PASSED FAILED SKIPPED`, then a line
 * for each skipped test.
 */
// oxlint-disable-next-line import/no-default-export -- mocha takes a reporter by its default export
export default class SpecAndCounts extends Mocha.reporters.Spec {
  constructor(runner: Mocha.Runner, options: MochaOptions) {
    super(runner, options);
    const file = process.env['TEST_RESULT'] ?? '';
    const skipped: string[] = [];
    let ended = false;
    runner.on(EVENT_TEST_PENDING, (test) => skipped.push(test.fullTitle()));
    runner.once(EVENT_RUN_END, () => {
      ended = true;
    });
    process.once('exit', () => {
      if (!ended) process.exitCode = 1;
      if (file === '') return;
      const { passes, failures } = this.stats;
      const counts = `${passes} ${failures + (ended ? 0 : 1)} ${skipped.length}`;
      writeFileSync(file, [counts, ...skipped.map((title) => title.replaceAll(/\s+/g, ' ')), ''].join('\n'));
    });
  }
}
