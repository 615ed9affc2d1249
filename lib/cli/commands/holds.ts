import { holdsIn, type ListedHold } from '../../app/release-holds.ts';
import { quote } from '../../domain/key.ts';
import { inEachClaimPlace } from '../claim-places.ts';
import { type Call, type OptionTable, type Page, refuseOperands } from '../command.ts';
import { endText, holdObject, scopeText } from '../hold-lines.ts';

export const manual = {
  synopsis: ['holds [--all]', '--url URL holds [--all]'],
  description: [
    'Shows the holds that are in force: what each is on, what it blocks, until when, who set',
    'it and why. With --all also exemptions, which restores set, and what is over.',
  ],
  examples: [
    ['holds', 'what is held, and why'],
    ['--json --url file:///srv/backups/mainnet holds --all', 'all files, for a program'],
  ],
} as const satisfies Page;

export const options = {
  all: { says: 'Exemptions as well, and holds that are over.' },
} as const satisfies OptionTable;

export async function run(call: Call<typeof options>): Promise<number> {
  refuseOperands(call, 'holds');
  const { out, options: given } = call;
  return inEachClaimPlace(call, async (place) => {
    let count = 0;
    for (const one of await holdsIn(place)) {
      const { kind, until } = one.hold;
      const isOver = until !== null && until <= place.clock.now();
      if (!given.all && (isOver || kind === 'exempt')) continue;
      count++;
      out.result(holdObject(place.name, one), () => lineOf(place.name, one, isOver));
    }
    if (count === 0 && !out.isJson) out.talk(`${place.name}: no holds`);
    return [];
  });
}

function lineOf(store: string, { hold, name }: ListedHold, isOver: boolean): string {
  const { id, kind, blocks, by, reason, problem } = hold;
  if (problem !== null)
    return `${quote(id)}  ${store}  .tombstoned/holds/${name} ${problem}: a hold on everything`;
  const end = isOver ? 'over' : endText(hold);
  const what = kind === 'exempt' ? 'exempt' : blocks === 'sweep' ? 'sweeps and purges' : 'purges';
  return `${id}  ${store}  ${scopeText(hold)}  (${what}, ${end}, ${by}: ${reason})`;
}
