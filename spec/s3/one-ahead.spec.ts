import { setImmediate } from 'node:timers/promises';
import { expect } from 'chai';
import { oneAhead } from '../../lib/store/s3/one-ahead.ts';

describe('pages of a listing, one ahead', () => {
  let asked: number;
  let ended: number;

  /** Pages 1, 2, …, as a store gives them: each takes a turn. */
  async function* pages(count: number, failing = Infinity): AsyncGenerator<number> {
    try {
      for (let page = 1; page <= count; page++) {
        asked = page;
        await setImmediate();
        if (page === failing) throw new Error(`no page ${page}`);
        yield page;
      }
    } finally {
      ended += 1;
    }
  }

  beforeEach(() => {
    asked = 0;
    ended = 0;
  });

  it('are the same, and each is asked for while the one before is read, and no more', async () => {
    const seen: number[][] = [];
    for await (const page of oneAhead(pages(4))) {
      await setImmediate(); // it is read
      await setImmediate();
      await setImmediate();
      seen.push([page, asked]);
    }
    expect(seen).to.deep.equal([
      [1, 2],
      [2, 3],
      [3, 4],
      [4, 4],
    ]);
    expect(ended).to.equal(1);
    for await (const page of oneAhead(pages(0))) throw new Error(`there is no page ${page}`);
  });

  it('fail when the one that failed is read, and not before', async () => {
    const seen: number[] = [];
    const read = async (): Promise<void> => {
      for await (const page of oneAhead(pages(4, 3))) {
        for (let i = 0; i < 5; i++) await setImmediate(); // nobody hears of the next one here
        seen.push(page);
      }
    };
    const error: unknown = await read().catch((thrown: unknown) => thrown);
    expect(error).to.be.an('error').with.property('message', 'no page 3');
    expect(seen).to.deep.equal([1, 2]);
    expect(ended).to.equal(1);
  });

  for (const failing of [Infinity, 2]) {
    it(`end with who reads them, when that ends early${failing === 2 ? ', though the next one fails' : ''}`, async () => {
      for await (const page of oneAhead(pages(4, failing))) if (page === 1) break;
      expect([asked, ended]).to.deep.equal([2, 1]);
    });
  }
});
