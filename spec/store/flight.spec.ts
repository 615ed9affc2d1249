import { expect } from 'chai';
import { Depth, Flight } from '../../lib/store/local/flight.ts';
import { DrivenClock } from '../support/place.ts';

describe('what is asked of a disk before it has answered', () => {
  let clock: DrivenClock;
  let depth: Depth;
  beforeEach(() => {
    clock = new DrivenClock();
    depth = new Depth(clock);
  });

  /** So many end, each after so long, ms. */
  function end(count: number, each: number): void {
    for (let i = 0; i < count; i++) {
      clock.mono += each;
      depth.note();
    }
  }

  it('is 64 at first, and then what the disk does in 50 ms', () => {
    expect(depth.most).to.equal(64);
    end(1000, 0.125);
    expect(depth.most).to.equal(400);
    end(1000, 0.25);
    expect(depth.most).to.equal(200);
  });

  it('is never less than 64, however slow the disk, nor more than 1024', () => {
    end(1000, 0.01);
    expect(depth.most).to.equal(1024);
    end(1000, 20);
    expect(depth.most).to.equal(64);
  });

  it('does not count the time in which the disk was asked for nothing', () => {
    end(1000, 0.125);
    clock.mono += 60_000;
    depth.begin();
    end(1000, 0.125);
    expect(depth.most).to.equal(400);
  });

  it('makes room when half of it has ended, and fails only when none is on its way', async () => {
    const flight = new Flight(depth);
    const ends: { resolve: () => void; reject: (error: Error) => void }[] = [];
    while (!flight.isFull) {
      flight.add(new Promise((resolve, reject) => ends.push({ resolve, reject })));
    }
    expect(ends.length).to.equal(64);
    const said: string[] = [];
    const room = flight.room().then(() => said.push('room'));
    for (const { resolve } of ends.splice(0, 31)) resolve();
    await turns();
    expect(said).to.deep.equal([]);
    ends.shift()?.resolve();
    await room;
    const landed = flight.landed().catch((error: Error) => said.push(error.message));
    ends.shift()?.reject(new Error('the first'));
    ends.shift()?.reject(new Error('the second'));
    await turns();
    expect(said).to.deep.equal(['room']);
    for (const { resolve } of ends) resolve();
    await landed;
    expect(said).to.deep.equal(['room', 'the first']);
  });
});

/** What has ended is seen by then. */
async function turns(): Promise<void> {
  await new Promise((resolve) => setImmediate(resolve));
}
