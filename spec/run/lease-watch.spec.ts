import { expect } from 'chai';
import { stillFor } from '../../lib/run/leases.ts';
import type { Lease } from '../../lib/store/leases.ts';
import { DAY, HOUR, TempPlace } from '../support/place.ts';

const LEASE: Lease = {
  id: 'l-20261122T100000000Z-000001',
  name: 'l-20261122T100000000Z-000001.json',
  holder: 'spec',
  host: 'spec',
  pid: 1,
  prefixes: [''],
  blocks: 'sweep',
  ttlSeconds: 3600,
  acquiredAt: '',
  renewal: 1,
  problem: null,
};

describe('for how long a lease has stood still', () => {
  it('is nothing between the monotonic clocks of two time namespaces', async () => {
    const temp = await TempPlace.make();
    try {
      const place = temp.open();
      const { clock } = temp;
      expect(stillFor(place, LEASE, clock.uptime())).to.equal(0);
      clock.advance(HOUR);
      expect(stillFor(place, LEASE, clock.uptime())).to.equal(HOUR);
      clock.boot = 'spec-boot time:[2]';
      clock.mono += 10 * DAY;
      expect(stillFor(place, LEASE, clock.uptime())).to.equal(0);
    } finally {
      temp.remove();
    }
  });
});
