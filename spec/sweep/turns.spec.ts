import { expect } from 'chai';
import type { OpenBatch } from '../../lib/catalog/tombstones.ts';
import type { LiveObject } from '../../lib/store/store.ts';
import { inLedger } from '../../lib/sweep/sweep.ts';
import { DAY, TempPlace } from '../support/place.ts';

/** What is the case when all has been done that needs no turn of the event loop. */
async function atOnce<T>(look: () => T): Promise<T> {
  for (let i = 0; i < 100; i++) await Promise.resolve();
  return look();
}

describe('a sweep that writes its catalog in its own thread', () => {
  let temp: TempPlace;
  beforeEach(async () => {
    temp = await TempPlace.make();
  });
  afterEach(() => {
    temp.remove();
  });

  it('lets others have their turns before each transaction of a batch', async () => {
    temp.write('a', 'x', 2 * DAY);
    temp.write('b', 'x', 2 * DAY);
    const place = temp.open();
    const { catalog, store, row, clock } = place;
    const objects: LiveObject[] = [];
    for await (const page of store.list('')) objects.push(...page.filter((item) => item.type === 'object'));
    const moving = (): string[] =>
      catalog.tombstones.page({ state: 'moving', limit: 10 }).map(({ key }) => key);
    await inLedger(place, async (run, ledger) => {
      const id = 's-20260101T000000000Z-aaaaaa';
      const now = clock.now();
      const sweep = catalog.sweeps.begin({ id, store: row.n, run: run.n, reason: null, isDry: false, now });
      const cause = catalog.sweeps.cause('old', null);
      await ledger.plan(
        sweep,
        objects.map(({ key, size, revision, modifiedAt }) => {
          return { key, size, revision, modifiedAt, cause, unit: null, isKept: false };
        }),
      );
      const take = { sweep, most: 1, mostBytes: null, asker: 'policy', leases: [], mayWait: false } as const;
      const openOf = ({ open }: { readonly open: OpenBatch | undefined }): OpenBatch => {
        if (open === undefined) throw new Error('nothing was taken');
        return open;
      };

      const taking = ledger.take({ ...take, after: '' });
      expect(await atOnce(moving)).to.deep.equal([]);
      const first = openOf(await taking);
      expect(moving()).to.deep.equal(['a']);

      expect(await store.move(first.moves, { resume: false })).to.deep.equal([{ outcome: 'moved' }]);
      const both = ledger.recordAndTake(first, new Map(), { ...take, after: 'a' });
      expect(await atOnce(moving)).to.deep.equal(['a']);
      const second = openOf(await both);
      expect(moving()).to.deep.equal(['b']);

      await store.move(second.moves, { resume: false });
      const recording = ledger.record(second, new Map());
      expect(await atOnce(moving)).to.deep.equal(['b']);
      await recording;
      expect(moving()).to.deep.equal([]);
    });
  });
});
