import { expect } from 'chai';
import { isPurge, isSweep, RunningDaemon } from '../daemon/running-daemon.ts';
import { builtProgram } from '../support/built-cli.ts';
import { OLD, TempStore } from '../support/temp-store.ts';
import { ask, samples } from './scrape.ts';

/** So many that the catalog is written by a thread. */
const FILES = 12_000;
/** How many objects a sweep moves, or a purge removes, at once. */
const BATCH = 2000;

describe('health and metrics of a daemon under full load', function () {
  this.timeout(120_000);
  let store: TempStore;
  let daemon: RunningDaemon | undefined;

  before(() => {
    builtProgram('daemon');
  });
  afterEach(async () => {
    await daemon?.remove();
    store.remove();
  });

  it(`are answered many times within each batch of a sweep and a purge of ${FILES} files`, async () => {
    store = new TempStore();
    store.configure({ main: { policies: [OLD] } }, { metrics: { listen: '127.0.0.1:0' } });
    await store.init();
    for (let i = 0; i < FILES; i++) store.write(`d${i % 50}/${i}`, 'x', 7_200_000);
    const running = new RunningDaemon(['--config', store.configFile]);
    daemon = running;
    const { message } = await running.until(({ message: text }) => text.startsWith('metrics are at '));
    const metrics = message.replace('metrics are at ', '');
    const answers = { sweep: 0, purge: 0 };
    const delays: (number | undefined)[] = [];
    const hasEnded = (is: typeof isSweep): boolean => running.lines().some(is);
    while (!hasEnded(isPurge)) {
      const during = hasEnded(isSweep) ? 'purge' : 'sweep';
      const { status } = await ask(metrics.replace('/metrics', '/healthz'));
      expect(status).to.equal(200);
      answers[during]++;
      if (answers[during] % 50 !== 49) continue;
      const scrape = await ask(metrics);
      expect(scrape.status).to.equal(200);
      delays.push(samples(scrape.body)['tombstoned_event_loop_delay_seconds{quantile="1"}']);
    }
    expect(running.lines().find(isSweep)).to.include({ moved: FILES });
    expect(running.lines().find(isPurge)).to.include({ purged: FILES });
    for (const count of [answers.sweep, answers.purge]) expect(count).to.be.above((2 * FILES) / BATCH);
    // How late that is depends on the machine: what our own pieces may take is in store/turns.spec.ts.
    expect(delays.filter((delay) => delay !== undefined).length).to.be.above(0);
  });
});
