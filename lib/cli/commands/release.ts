import { releaseHold } from '../../app/release-holds.ts';
import { inClaimPlace, pastFailures } from '../claim-places.ts';
import type { Call, OptionTable, Page } from '../command.ts';
import { tellRelease } from '../hold-lines.ts';
import { idsOf, needTargets } from '../targets.ts';

export const manual = {
  synopsis: ['release HOLD... [--from-file F] [--dry-run]', '--url URL release HOLD...'],
  description: [
    'Takes holds away, and exemptions, by their ids. One that cannot be read goes by what',
    '`holds` shows it as. What is due goes with the next purge.',
  ],
  examples: [
    ['release h-20261122T101500123Z-k3v0q8', 'one that holds has listed'],
    ['--json holds | tombstonectl release --from-file -', 'all of them'],
  ],
} as const satisfies Page;

export const options = {
  'from-file': { takes: 'F', says: 'More ids, one a line, or JSON as holds writes it; - is stdin.' },
  'dry-run': { says: 'Shows what would be released, and changes nothing.' },
} as const satisfies OptionTable;

export async function run(call: Call<typeof options>): Promise<number> {
  const { out, options: given } = call;
  const ids = await idsOf(call, given['from-file']);
  needTargets(ids, 'release', "a hold's id");
  return inClaimPlace(call, async (place, signal) =>
    pastFailures(ids.each(signal), async (id) => {
      const released = await releaseHold(place, id, given['dry-run']);
      tellRelease(out, place.name, released, given['dry-run']);
    }),
  );
}
