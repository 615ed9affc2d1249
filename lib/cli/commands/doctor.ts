import { becomeOwnerOf } from '../../app/become-owner.ts';
import { examine, type Placed } from '../../app/doctor/doctor.ts';
import { failed } from '../../app/doctor/finding.ts';
import { versionFinding } from '../../app/doctor/host.ts';
import type { Config } from '../../config/config.ts';
import { selectStores } from '../../config/load.ts';
import { systemClock } from '../../domain/clock.ts';
import { TombstonedError } from '../../domain/errors.ts';
import { printable } from '../../domain/key.ts';
import { type Call, type OptionTable, type Page, refuseOperands } from '../command.ts';
import { quietConfigOf } from '../config-of.ts';
import type { Output, Style } from '../output.ts';
import { untilSignalled } from '../signals.ts';

export const manual = {
  synopsis: ['doctor'],
  description: [
    'Examines this host, the catalog and each store: permissions, disks (journal, free space,',
    'fsync), the clock, the integrity of the catalog, the units of systemd, and, in S3, which',
    'conditions the store honours, how moves, restores, leases and purges are guarded by them,',
    'and what that leaves open. Each line is ok, warn or fail, with what to do. Writes nothing',
    'but scratch names below .tombstoned/tmp/, which it removes; as root it acts as the owner of',
    'the catalog. Reads the whole catalog: of a large one that takes a while. Exits with 7 when',
    'a line is a fail. See docs/doctor.md.',
  ],
  examples: [
    ['doctor', 'this host, and all stores'],
    ['--json --store mainnet doctor', 'one of them, for a program'],
  ],
} as const satisfies Page;

export const options = {} as const satisfies OptionTable;

/** Checked, and not well (design, section 7). */
const NOT_WELL = 7;

const STYLES = { ok: 'green', warn: 'yellow', fail: 'red' } as const satisfies Record<Placed['level'], Style>;

export async function run(call: Call<typeof options>): Promise<number> {
  refuseOperands(call, 'doctor');
  const { out, options: given } = call;
  const counts = { ok: 0, warn: 0, fail: 0 };
  const tell = (placed: Placed): void => {
    counts[placed.level]++;
    show(out, placed);
  };
  const config = readConfig(call, tell);
  const stores = config === undefined ? [] : selectStores(config, given.store);
  const stopped = await untilSignalled(out, async (signal) => {
    if (config === undefined || !actsAsOwner(config, tell)) tell({ store: null, ...versionFinding() });
    else for await (const placed of examine(config, stores, { clock: systemClock, signal })) tell(placed);
    return 0;
  });
  if (stopped !== 0) return stopped;
  out.result({ type: 'doctor', ...counts }, () => {
    const { ok, warn, fail } = counts;
    return `${ok} ok, ${warn} to be warned of, ${fail} failed`;
  });
  return counts.fail > 0 ? NOT_WELL : 0;
}

/** Becomes the catalog's owner, as commands that write do: what this user may do is what is examined. */
function actsAsOwner({ catalog }: Config, tell: (placed: Placed) => void): boolean {
  try {
    becomeOwnerOf(catalog);
    return true;
  } catch (error) {
    tell({ store: null, ...failed('user', error) });
    return false;
  }
}

/** The config, or a finding in its place: one that can't be read is what is to be told. */
function readConfig(call: Call<typeof options>, tell: (placed: Placed) => void): Config | undefined {
  try {
    return quietConfigOf(call);
  } catch (error) {
    if (!(error instanceof TombstonedError) || error.code !== 'config') throw error;
    tell({ store: null, ...failed('config', error) });
    return undefined;
  }
}

function show(out: Output, { store, check, level, text, remedy }: Placed): void {
  out.result({ type: 'finding', store, check, level, text, remedy }, () => {
    const more = remedy === null ? '' : ` (${printable(remedy)})`;
    return `${out.styled(STYLES[level], level.padEnd(4))}  ${store ?? '-'}  ${check}: ${printable(text)}${more}`;
  });
}
