import { expect } from 'chai';
import { Watchdog } from '../../lib/daemon/watchdog.ts';
import { DrivenClock } from '../support/place.ts';

const LIMIT = 120_000;

describe('the watchdog', () => {
  let clock: DrivenClock;
  let fed: number[];
  let watchdog: Watchdog;

  beforeEach(() => {
    clock = new DrivenClock();
    fed = [];
    watchdog = new Watchdog(clock, LIMIT, { feed: () => fed.push(clock.mono), onBeat: () => undefined });
  });

  it('is fed by a loop that waits for its turn, however long that is', async () => {
    await watchdog.join().sleep(4 * LIMIT);
    expect(clock.mono).to.equal(4 * LIMIT);
    expect(longestGap()).to.equal(LIMIT / 4);
  });

  it('is fed by work that looks at the clock, and no more often than is due', () => {
    const loop = watchdog.join();
    for (let i = 0; i < 2400; i++) {
      clock.advance(500);
      loop.monotonic();
      loop.now();
    }
    expect(longestGap()).to.equal(LIMIT / 4);
    expect(fed).to.have.length(40);
  });

  it('is not fed by time that passes, nor by anything but the loops', () => {
    watchdog.join();
    clock.advance(10 * LIMIT);
    expect(fed).to.deep.equal([]);
  });

  it('starves when one of the loops hangs, however lively the others are', async () => {
    const hung = watchdog.join();
    const lively = watchdog.join();
    clock.advance(LIMIT);
    hung.beat();
    lively.beat();
    expect(fed).to.deep.equal([LIMIT]);
    await lively.sleep(20 * LIMIT);
    expect(fed).to.deep.equal([LIMIT]);
    hung.beat(); // it was only slow
    expect(fed).to.have.length(2);
  });

  it('does not wait for a loop that has ended', async () => {
    const ended = watchdog.join();
    const other = watchdog.join();
    watchdog.leave(ended);
    await other.sleep(LIMIT);
    expect(longestGap()).to.equal(LIMIT / 4);
  });

  it('has a loop’s wait end with its signal', async () => {
    const stop = new AbortController();
    const loop = watchdog.join();
    const sleep = clock.sleep.bind(clock);
    clock.sleep = async (ms) => {
      await sleep(ms);
      if (clock.mono > LIMIT) stop.abort();
    };
    await loop.sleep(100 * LIMIT, stop.signal);
    expect(clock.mono).to.be.below(2 * LIMIT);
  });

  function longestGap(): number {
    return Math.max(...fed.map((at, i) => at - (fed[i - 1] ?? 0)));
  }
});
