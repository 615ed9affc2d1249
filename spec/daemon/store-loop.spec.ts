import { expect } from 'chai';
import { storeLoop, type Task } from '../../lib/daemon/store-loop.ts';
import { DrivenClock } from '../support/place.ts';

describe('the loop of a store', () => {
  const clock = (): DrivenClock => new DrivenClock();

  /** Runs tasks until a time; gives what began when, by the monotonic clock. */
  async function turnsOf(
    tasks: Readonly<Record<string, { every: number; takes?: number }>>,
    until: number,
  ): Promise<string[]> {
    const time = clock();
    const stop = new AbortController();
    const begun: string[] = [];
    const all = Object.entries(tasks).map(
      ([name, { every, takes = 0 }]): Task => ({
        name,
        every,
        run: async () => {
          if (time.mono >= until) return stop.abort();
          begun.push(`${name} ${time.mono}`);
          time.advance(takes);
        },
      }),
    );
    await storeLoop(all, time, stop.signal);
    return begun;
  }

  it('begins every task at once, and each at its interval', async () => {
    expect(await turnsOf({ sweep: { every: 60_000 }, purge: { every: 25_000 } }, 100_000)).to.deep.equal([
      'sweep 0',
      'purge 0',
      'purge 25000',
      'purge 50000',
      'sweep 60000',
      'purge 75000',
    ]);
  });

  it('does not drift by what tasks take', async () => {
    expect(await turnsOf({ sweep: { every: 10_000, takes: 3000 } }, 31_000)).to.deep.equal([
      'sweep 0',
      'sweep 10000',
      'sweep 20000',
      'sweep 30000',
    ]);
  });

  it('makes one turn of those that were missed', async () => {
    expect(
      await turnsOf({ sweep: { every: 100_000, takes: 50_000 }, purge: { every: 10_000 } }, 80_000),
    ).to.deep.equal(['sweep 0', 'purge 50000', 'purge 51000', 'purge 61000', 'purge 71000']);
  });

  it('lets a second pass between turns, whatever the interval and whatever they take', async () => {
    expect(await turnsOf({ sweep: { every: 0, takes: 4000 } }, 12_000)).to.deep.equal([
      'sweep 0',
      'sweep 5000',
      'sweep 10000',
    ]);
  });

  it('lets no task starve another', async () => {
    const begun = await turnsOf(
      { sweep: { every: 0, takes: 5000 }, purge: { every: 0, takes: 5000 } },
      60_000,
    );
    const sweeps = begun.filter((turn) => turn.startsWith('sweep')).length;
    expect(sweeps).to.be.within(begun.length / 2 - 1, begun.length / 2 + 1);
  });

  it('waits for intervals that are longer than a timer can be', async () => {
    const year = 365 * 86_400_000;
    expect(await turnsOf({ sweep: { every: 10 * year } }, 15 * year)).to.deep.equal([
      'sweep 0',
      `sweep ${10 * year}`,
    ]);
  });

  it('ends while it waits', async () => {
    const stop = new AbortController();
    const time = clock();
    time.sleep = async () => stop.abort();
    let turns = 0;
    const task = {
      name: 'sweep',
      every: 1000,
      run: async () => {
        turns++;
      },
    };
    await storeLoop([task], time, stop.signal);
    expect(turns).to.equal(1);
  });

  it('does nothing when it is to end before it begins', async () => {
    const run = async (): Promise<void> => expect.fail('it ran');
    await storeLoop([{ name: 'sweep', every: 0, run }], clock(), AbortSignal.abort());
  });

  it('ends with what a task throws', async () => {
    const run = async (): Promise<void> => {
      throw new Error('broken');
    };
    const end = await storeLoop(
      [{ name: 'sweep', every: 0, run }],
      clock(),
      new AbortController().signal,
    ).catch(String);
    expect(end).to.equal('Error: broken');
  });
});
