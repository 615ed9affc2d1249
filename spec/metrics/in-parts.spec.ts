import { expect } from 'chai';
import { inParts } from '../../lib/app/in-parts.ts';

describe('a count in parts', () => {
  /** Counts to `end`; each part takes `cost` ms for each that it looks at. */
  async function count(end: number, cost: (limit: number) => number, stop = new AbortController()) {
    const limits: number[] = [];
    let time = 0;
    let turns = 0;
    const others = setInterval(() => turns++, 0);
    const isWhole = await inParts<number>(
      (start, limit) => {
        limits.push(limit);
        time += cost(limit);
        const next = (start ?? 0) + limit;
        if (limits.length === 5 && end === Number.POSITIVE_INFINITY) stop.abort();
        return next >= end ? null : next;
      },
      () => time,
      stop.signal,
    );
    clearInterval(others);
    return { limits, isWhole, turns };
  }

  it('looks at more at a time while that is quick, and at less where it is slow', async () => {
    const quick = await count(200_000, () => 1);
    expect(quick.limits.slice(0, 6)).to.deep.equal([1000, 2000, 4000, 8000, 16_000, 20_000]);
    const slow = await count(10_000, () => 40);
    expect(slow.limits.slice(0, 6)).to.deep.equal([1000, 500, 250, 125, 100, 100]);
  });

  it('settles where a part takes about 5 ms, and never comes near 50', async () => {
    const perObject = 0.005;
    const { limits } = await count(100_000, (limit) => limit * perObject);
    expect(Math.max(...limits) * perObject).to.be.below(10);
  });

  it('lets others have their turns between the parts', async () => {
    const { limits, turns } = await count(2_000_000, () => 7);
    expect(limits.length).to.be.above(1000);
    expect(turns).to.be.above(0);
  });

  it('ends between two parts when it is told to', async () => {
    const { limits, isWhole } = await count(Number.POSITIVE_INFINITY, () => 7);
    expect(limits).to.have.length(5);
    expect(isWhole).to.equal(false);
  });
});
