import { expect } from 'chai';
import { untilIn } from '../../lib/cli/hold-lines.ts';
import { DAY, HOUR, TempPlace } from '../support/place.ts';

describe('until when a hold is in force', () => {
  it('is so long from the time that is right, by a clock that is behind', async () => {
    const temp = await TempPlace.make();
    try {
      const { catalog, row } = temp.open();
      const { clock } = temp;
      const place = { known: { catalog, row }, clock };
      catalog.clock.look(clock, null);
      const until = (text: string): number | null => untilIn(place, text, clock.wall + 7 * DAY);
      const right = clock.wall + 7 * DAY;
      expect(until('7d')).to.equal(right);
      clock.wall -= 30 * DAY;
      expect(until('7d')).to.equal(right);
      expect(until('2031-01-01'), 'a time that was named').to.equal(clock.wall + 7 * DAY);
      expect(untilIn({ known: null, clock }, '7d', 1)).to.equal(1);
      expect(untilIn(place, undefined, null)).to.equal(null);
      clock.wall += 60 * DAY;
      expect(until('7d'), 'no sooner').to.equal(clock.wall + 7 * DAY);
      clock.wall -= 30 * DAY + HOUR / 60;
      expect(until('7d'), 'within the tolerance').to.equal(clock.wall + 7 * DAY);
    } finally {
      temp.remove();
    }
  });
});
