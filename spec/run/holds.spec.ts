import { expect } from 'chai';
import { refreshHolds } from '../../lib/run/batch.ts';
import type { Place } from '../../lib/run/place.ts';
import { createHold, type Hold } from '../../lib/store/holds.ts';
import { purgeDue, sweepOld } from '../support/phases.ts';
import { DAY, START, TempPlace } from '../support/place.ts';

const HOLD: Hold = {
  id: 'h-20261122T100000000Z-000000',
  kind: 'hold',
  blocks: 'sweep',
  scope: { by: 'keys', keys: ['k'] },
  until: null,
  reason: 'spec',
  by: 'spec',
  host: 'spec-host',
  createdAt: new Date(START).toISOString(),
  problem: null,
};

describe('the cache of holds', () => {
  let temp: TempPlace;
  let place: Place;
  beforeEach(async () => {
    temp = await TempPlace.make();
    temp.write('k', 'old', 3 * DAY);
    place = temp.open();
  });
  afterEach(() => {
    temp.remove();
  });

  it('keeps one that another process adds to store and cache during the look', async () => {
    const { holds } = place.catalog;
    const { scope: _, ...rest } = HOLD;
    const list = place.store.control.list.bind(place.store.control);
    const control = Object.assign(Object.create(place.store.control) as typeof place.store.control, {
      list: async (directory: string) => {
        const names = await list(directory);
        await createHold(place.store.control, HOLD);
        const cached = { ...rest, name: `${HOLD.id}.json`, scope: 'keys', prefix: null } as const;
        place.catalog.transaction(() => holds.add(place.row.n, cached, ['k']));
        return names;
      },
    });
    const store = Object.assign(Object.create(place.store) as typeof place.store, { control });
    await refreshHolds({ ...place, store });
    expect(holds.names(place.row.n)).to.deep.equal([`${HOLD.id}.json`]);
  });

  it('is brought up to date before a dry purge says what would go', async () => {
    await sweepOld(place);
    temp.clock.advance(temp.window + DAY);
    await createHold(place.store.control, HOLD);
    const { purged, kept } = await purgeDue(place, { dryRun: true });
    expect([purged, ...kept]).to.deep.equal([0, ['hold', 1]]);
  });
});
