import { examine } from '../../app/doctor.ts';
import { selectStores } from '../../config/load.ts';
import { printable } from '../../domain/key.ts';
import { type Call, type OptionTable, type Page, refuseOperands } from '../command.ts';
import { configOf } from '../config-of.ts';
import { inEachPlace, withCatalog } from '../opened.ts';
import { untilSignalled } from '../signals.ts';

export const manual = {
  synopsis: ['doctor'],
  description: [
    'Examines each store: whether it is the one that the catalog knows and owns, whether objects',
    'can be moved there, and, in S3, which conditions the store honours, how moves, restores,',
    'leases and purges are guarded by them, and what that leaves open. Writes nothing but scratch',
    'names below .tombstoned/tmp/, which it removes. Exits with 7 when something is not well.',
  ],
  examples: [
    ['doctor', 'all stores'],
    ['--json --store mainnet doctor', 'one of them, for a program'],
  ],
} as const satisfies Page;

export const options = {} as const satisfies OptionTable;

/** Checked, and not well (design, section 7). */
const NOT_WELL = 7;

export async function run(call: Call<typeof options>): Promise<number> {
  refuseOperands(call, 'doctor');
  const { out, options: given } = call;
  const config = configOf(call);
  const stores = selectStores(config, given.store);
  return untilSignalled(out, async (signal) =>
    withCatalog(config, async (catalog) => {
      let isWell = true;
      const code = await inEachPlace({ catalog, stores, out, signal }, async (place) => {
        const store = place.config.name;
        for await (const { check, level, text, remedy } of examine(place)) {
          isWell &&= level !== 'fail';
          out.result({ type: 'finding', store, check, level, text, remedy }, () => {
            const more = remedy === null ? '' : ` (${remedy})`;
            return `${level.padEnd(4)}  ${store}  ${check}: ${printable(text)}${more}`;
          });
        }
        return [];
      });
      return code === 0 && !isWell ? NOT_WELL : code;
    }),
  );
}
