import { Holding } from '../../app/put-hold.ts';
import { inClaimPlace } from '../claim-places.ts';
import { type Call, type Page, refuseOperands } from '../command.ts';
import { fenceTimeoutOf, HOLD_OPTIONS, reasonOf, tellHold, untilIn, untilOf } from '../hold-lines.ts';

export const manual = {
  synopsis: ['pause [--until T] --reason TEXT', '--url URL pause [--until T] --reason TEXT'],
  description: [
    'Holds everything: nothing is swept or purged until `resume`, or until it ends. It is in',
    'force, and reported, when every batch that was under way before it is over; if one does',
    'not end in time, the exit code is 5, and the pause stays. Needs only the store.',
  ],
  examples: [
    ['pause --reason "disk is being replaced"', 'until resume'],
    ['--url file:///srv/backups/mainnet pause --until 2h --reason upgrade', 'from any host'],
  ],
} as const satisfies Page;

export const options = HOLD_OPTIONS;

export async function run(call: Call<typeof options>): Promise<number> {
  refuseOperands(call, 'pause');
  const { out, options: given } = call;
  const asked = untilOf(given.until);
  const reason = reasonOf(given.reason, 'pause');
  const fenceTimeout = fenceTimeoutOf(given['fence-timeout']);
  return inClaimPlace(call, async (place, signal) => {
    const until = untilIn(place, given.until, asked);
    const holding = new Holding(place, { until, reason, fenceTimeout, dryRun: given['dry-run'], signal });
    await holding.prefix('');
    for (const one of await holding.end((text) => out.talk(text))) tellHold(out, place.name, one);
    return [];
  });
}
