import type { OpenPlace } from '../../app/open.ts';
import type { Difference, Repair } from '../../app/verify/difference.ts';
import { type VerifyOptions, type VerifyResult, verify } from '../../app/verify/verify.ts';
import { selectStores } from '../../config/load.ts';
import { printable } from '../../domain/key.ts';
import { formatSize } from '../../domain/quantities.ts';
import { type Call, type OptionTable, type Page, refuseOperands } from '../command.ts';
import { configOf } from '../config-of.ts';
import { usageError } from '../fail.ts';
import { afterOf, prefixOf } from '../filters.ts';
import { inEachPlace, withCatalog } from '../opened.ts';
import type { Output } from '../output.ts';
import { withProgress } from '../progress.ts';
import { untilSignalled } from '../signals.ts';
import { byReason, counted } from '../wording.ts';

export const manual = {
  synopsis: [
    'verify [--store NAME] [--prefix P] [--repair [--dry-run]]',
    'verify --checksums [--after ID] [--prefix P]',
  ],
  description: [
    'Compares the catalog with the store, in both directions, while everything else goes on:',
    'pending copies without a tombstone and tombstones without their copy, copies that are not',
    'what was tombstoned, objects that are live and pending at once, and what crashes, expired',
    'claims and dead processes have left. Each difference is a line: what is wrong, with what, and',
    'the command that mends it. What changes meanwhile is looked at again before it is told.',
    'docs/verify.md has the list. Exits with 0 when all is well or was mended, 7 when it is not,',
    'and 1 or 5 when it could not be checked.',
  ],
  examples: [
    ['verify', 'all stores'],
    ['verify --repair --dry-run', 'what --repair would do'],
    ['--json verify | jq -c \'select(.problem=="missing-copy")\'', 'for a program'],
    ['--store mainnet verify --checksums --after ID', 'goes on with a reading that was stopped'],
  ],
} as const satisfies Page;

export const options = {
  prefix: { takes: 'P', says: 'Only keys that begin so; nothing of what crashes and claims have left.' },
  checksums: {
    says: 'Reads every pending copy to its end as well: its bytes are counted, and in S3 their\nMD5 is compared where the ETag is one.',
  },
  after: { takes: 'ID', says: 'Reads only copies after this one: where a reading was stopped.' },
  repair: {
    says: 'Mends what can be mended without touching an object: clears old temporary names,\nleft locks and expired exemptions, and records that copies are gone.',
  },
  'dry-run': { says: 'With --repair: says what it would mend, and mends nothing.' },
} as const satisfies OptionTable;

/** Checked, and not well (design, section 7). */
const NOT_WELL = 7;

export async function run(call: Call<typeof options>): Promise<number> {
  refuseOperands(call, 'verify');
  const { out, options: given } = call;
  const repair = given.repair ? (given['dry-run'] ? 'dry' : 'yes') : 'no';
  if (given['dry-run'] && !given.repair)
    throw usageError('--dry-run goes with --repair', 'without --repair nothing is changed');
  if (given.after !== undefined && !given.checksums)
    throw usageError('--after goes with --checksums', 'all else is compared whole, each time');
  const asked = {
    prefix: given.prefix === undefined ? null : prefixOf(given.prefix),
    checksums: given.checksums,
    after: given.after === undefined ? null : afterOf(given.after),
    repair,
  } as const;
  const config = configOf(call);
  const stores = selectStores(config, given.store);
  return untilSignalled(out, async (signal) =>
    withCatalog(config, async (catalog) => {
      let isWell = true;
      let isFirst = true;
      const code = await inEachPlace({ catalog, stores, out, signal }, async (place) => {
        const tolerance = config.clockTolerance;
        const result = await verifyOne(place, { ...asked, tolerance, isFirst, signal }, out);
        isFirst = false;
        isWell &&= result.found === result.repaired;
        return [];
      });
      return code === 0 && !isWell ? NOT_WELL : code;
    }),
  );
}

async function verifyOne(
  place: OpenPlace,
  asked: Omit<VerifyOptions, 'onDifference' | 'onProgress'>,
  out: Output,
): Promise<VerifyResult> {
  const store = place.config.name;
  const result = await withProgress(out, store, async (progress) =>
    verify(place, {
      ...asked,
      onDifference: (difference, repair) => tell(out, store, difference, repair),
      onProgress: (done) => progress.update(done, done),
    }),
  );
  const { copies, rows, live, reading, differences, found, repaired } = result;
  const read = reading === null ? null : { ...reading };
  const dryRun = asked.repair === 'dry';
  out.result(
    {
      type: 'verify',
      store,
      copies,
      rows,
      live,
      checksums: read,
      differences: Object.fromEntries(differences),
      found,
      repaired,
      dryRun,
    },
    () => summary(store, result),
  );
  const after = reading?.after ?? null;
  if (after !== null)
    out.talk(
      `the reading stopped; it goes on with tombstonectl --store ${store} verify --checksums --after ${after}`,
    );
  return result;
}

function tell(out: Output, store: string, difference: Difference, repair: Repair): void {
  out.result({ type: 'difference', store, ...difference, repair }, () => {
    const { problem, key, id, detail, remedy } = difference;
    const about = [key, id].filter((part) => part !== null).map((part) => printable(part));
    return `${problem}  ${about.join('  ')}: ${printable(detail)} (${ENDS[repair ?? 'none'] ?? printable(remedy)})`;
  });
}

/** What is said in the remedy's place. */
const ENDS = {
  done: 'mended',
  'would-be': 'would be mended',
  left: null,
  none: null,
} as const satisfies Record<Exclude<Repair, null> | 'none', string | null>;

function summary(
  store: string,
  { copies, rows, live, reading, differences, found, repaired }: VerifyResult,
): string {
  const compared = `${copies} pending ${copies === 1 ? 'copy' : 'copies'}, ${counted(rows, 'tombstone')} and ${counted(live, 'live object')} compared`;
  const parts = [compared];
  if (reading !== null)
    parts.push(`${reading.read} read (${formatSize(reading.bytes)}), ${reading.compared} by MD5`);
  parts.push(found === 0 ? 'all is well' : `${counted(found, 'difference')}: ${byReason(differences)}`);
  if (repaired > 0) parts.push(`${repaired} mended`);
  return `${store}: ${parts.join('; ')}`;
}
