import { rmSync } from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import type { Place } from '../../lib/run/place.ts';
import { FAST, pendingFiles, sweepOld } from '../support/phases.ts';
import { age, DAY, TempPlace } from '../support/place.ts';

describe('a sweep', () => {
  let temp: TempPlace;
  let place: Place;
  beforeEach(async () => {
    temp = await TempPlace.make(FAST);
    place = temp.open();
  });
  afterEach(() => {
    temp.remove();
  });

  it('that is stopped while it plans is interrupted, not failed', async () => {
    temp.write('a', 'a', 9 * DAY);
    const result = await sweepOld(place, { signal: AbortSignal.abort() });
    expect(result).to.include({ isCut: true, moved: 0 });
    expect(place.catalog.sweeps.latest(place.row.n, 1)[0]?.state).to.equal('interrupted');
    expect(pendingFiles(temp)).to.deep.equal([]);
  });

  it('that comes too late for many objects names twenty, and counts the others', async () => {
    const keys = Array.from({ length: 25 }, (_, i) => `gone-${i}`);
    for (const key of [...keys, 'there']) temp.write(key, key, 9 * DAY);
    const takesThem = {
      ...age({ name: 'takes-them' }),
      selects: (): boolean => {
        for (const key of keys) rmSync(path.join(temp.root, key), { force: true });
        return false;
      },
    };
    const result = await sweepOld(place, { policies: [age(), takesThem] });
    expect(result).to.include({ moved: 1, abandoned: 25 });
    const told = temp.talk.filter((line) => line.includes('before it was moved'));
    expect(told).to.have.length(20);
    expect(temp.talk.at(-1)).to.include('5 more were gone or changed before they were moved');
  });
});
