import { resume } from '../../app/release-holds.ts';
import { TombstonedError } from '../../domain/errors.ts';
import { inClaimPlace } from '../claim-places.ts';
import { type Call, type OptionTable, type Page, refuseOperands } from '../command.ts';
import { tellRelease } from '../hold-lines.ts';

export const manual = {
  synopsis: ['resume [--dry-run]', '--url URL resume'],
  description: [
    'Takes every hold on everything away, whoever set it, and says which. Holds on keys,',
    'prefixes and ids stay. A hold that cannot be read counts as one on everything, is not',
    'taken away here, and makes the exit code 5: bring its file back, or release it.',
  ],
  examples: [['resume', 'ends all pauses']],
} as const satisfies Page;

export const options = {
  'dry-run': { says: 'Shows what would be released, and changes nothing.' },
} as const satisfies OptionTable;

export async function run(call: Call<typeof options>): Promise<number> {
  refuseOperands(call, 'resume');
  const { out, options: given } = call;
  return inClaimPlace(call, async (place) => {
    const { released, unclear } = await resume(place, given['dry-run']);
    for (const one of released) tellRelease(out, place.name, one, given['dry-run']);
    if (released.length === 0) out.talk(`${place.name} is not paused: nothing to resume`);
    return unclear.map(({ name, hold }) => {
      const message = `.tombstoned/holds/${name} ${hold.problem ?? ''}: it counts as a hold on everything still`;
      const hint = `bring the file back, or: ${place.ctl} release ${hold.id}`;
      return {
        error: new TombstonedError('blocked', message, { reason: 'hold', key: hold.id, hint }),
        isTold: false,
      };
    });
  });
}
